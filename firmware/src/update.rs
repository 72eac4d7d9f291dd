//! `screamd update`: a signed release beside the running one, and back by itself where it does not come up.
//!
//! ```text
//! a person:      screamd update apply BUNDLE ----------------------+
//! Home Assistant: update/install -> agent (service) -> request -> serve (root)
//!                                                                  +-> `release` crate: current -> new, on trial
//! each start:    begin (root, counts) -> exec (service) -> the release's own screamd run -> agent -> health
//!                                                          serve (root) <- health: good, or back and restart
//! ```
//! The service asks and reports; root alone applies and judges; both are this program of the package, release 0, which no
//! update replaces. `exec` is what the unit starts: it hands over to the release that is `current`.

pub mod agent;
mod fetch;
mod launch;
pub use launch::hand_over;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use files::{say, tell};
use release::store::{Fit, Step, Store};
use release::trial::{Health, Now};
use semver::Version;

use crate::EXIT_CONFIG;
use files::site::Site;

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// The device's files are below this folder
    #[arg(long, global = true, default_value = "/")]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Checks a bundle, unpacks it beside the running release and makes it the current one, on trial
    Apply {
        /// Made by `host-tools bundle`
        bundle: PathBuf,
        /// Also where it is older than what runs
        #[arg(long)]
        allow_downgrade: bool,
        /// A public key to trust this once, beside those in /etc/screamd/update-keys
        #[arg(long = "key")]
        keys: Vec<PathBuf>,
    },
    /// What runs, what it would go back to, how the last update ended
    Status {
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Back to the release before
    Rollback,
    /// Looks at `[update] url` now; a bundle that fits is placed where the hub can ask for it
    Fetch,
    /// Before each start of the service: counts it, and goes back after the third that failed
    #[command(hide = true)]
    Begin,
    /// Starts the current release in place of this program
    #[command(hide = true)]
    Exec {
        /// Arguments of that release's screamd
        #[arg(last = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// As root: applies what the service has asked for, judges what is on trial, ends when nothing is left
    #[command(hide = true)]
    Serve,
}

/// Does it.
pub fn run(args: &Args) -> ExitCode {
    let device = Device::below(&args.root);
    match &args.command {
        Command::Apply { bundle, allow_downgrade, keys } => device.apply(bundle, *allow_downgrade, keys),
        Command::Status { json } => device.status(*json),
        Command::Rollback => device.rollback(),
        Command::Fetch => device.fetch(),
        Command::Begin => launch::begin(&device),
        Command::Exec { args } => launch::exec(&device, args),
        Command::Serve => serve::serve(&device),
    }
}

/// A device's places, all below its root.
pub struct Device {
    root: PathBuf,
    store: Store,
}

impl Device {
    fn below(root: &Path) -> Self {
        // The program that `exec` starts runs in another folder.
        let root = std::path::absolute(root).unwrap_or_else(|_| root.to_path_buf());
        Self { store: Store::below(&root), root }
    }

    /// `path`, an absolute one, below the root.
    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn keys(&self) -> PathBuf {
        self.path("/etc/screamd/update-keys")
    }

    /// What the running release says of itself; gone after a reboot.
    fn health(&self) -> PathBuf {
        self.path("/run/screamd/health.json")
    }

    fn site(&self) -> Option<Site> {
        detector::keys::whole(Site::load_known(&self.path("/etc/screamd/site.toml"))).ok()
    }

    /// What is left of a site file with mistakes: the service runs with its last good one, and still takes updates.
    fn rest_of_site(&self) -> Site {
        Site::load_rest(&self.path("/etc/screamd/site.toml")).0.unwrap_or_default()
    }

    /// Where bundles are placed, and where the service asks: below the state folder, which is the service's own.
    fn inbox(&self) -> PathBuf {
        self.below_root(&self.rest_of_site().state.dir).join(INBOX)
    }

    /// A path of the site file. Inside a root that is not `/`, it may name its paths either way.
    fn below_root(&self, path: &Path) -> PathBuf {
        if path.starts_with(&self.root) { path.to_path_buf() } else { self.path(&path.to_string_lossy()) }
    }

    /// Trusted keys, and `also`; none is an error that says where they belong.
    fn trusted(&self, also: &[PathBuf]) -> Result<Vec<release::keys::TrustedKey>, release::Refused> {
        let mut keys = release::keys::in_folder(&self.keys())?;
        for path in also {
            keys.push(release::keys::read(path)?);
        }
        if keys.is_empty() { Err(release::Refused::at(&self.keys(), release::Cause::NoKeys)) } else { Ok(keys) }
    }

    /// This machine is the device, and systemd runs it.
    fn is_live(&self) -> bool {
        self.root == Path::new("/") && Path::new("/run/systemd/system").is_dir()
    }

    fn try_apply(
        &self,
        bundle: &Path,
        allow_downgrade: bool,
        keys: &[PathBuf],
    ) -> Result<release::store::Release, release::Refused> {
        let site = self.rest_of_site();
        let package = package_version();
        let fit = Fit { package: &package, arch: std::env::consts::ARCH, board: site.board_name(), allow_downgrade };
        let step = &mut |step| {
            log::info!(
                "{}: {}",
                bundle.display(),
                match step {
                    Step::Copied => "copied",
                    Step::Verified => "signature and manifest fit this device",
                    Step::Unpacked => "unpacked and stored",
                    Step::Switched => "current from the next start on",
                }
            );
        };
        self.store.apply(bundle, &self.trusted(keys)?, &fit, read_health(&self.health()), step)
    }

    fn apply(&self, bundle: &Path, allow_downgrade: bool, keys: &[PathBuf]) -> ExitCode {
        // A person may name a link; what others place is opened as it is.
        let found = bundle.canonicalize();
        let bundle = found.as_deref().unwrap_or(bundle);
        let before = self.store.current().map_or_else(|| "the package's release".into(), |release| release.id);
        match self.try_apply(bundle, allow_downgrade, keys) {
            Ok(release) => {
                say!("{} is current, on trial; {before} comes back where it does not come up", release.id);
                if self.is_live() {
                    serve::restart();
                    serve::watch();
                }
                ExitCode::SUCCESS
            }
            Err(refused) => {
                tell!("{refused}");
                match refused.cause {
                    release::Cause::NoKeys | release::Cause::BadKey(_) => ExitCode::from(EXIT_CONFIG),
                    _ => ExitCode::FAILURE,
                }
            }
        }
    }

    fn fetch(self) -> ExitCode {
        let Some(site) = self.site() else {
            tell!("{}: cannot be read; see `screamd check`", self.path("/etc/screamd/site.toml").display());
            return ExitCode::from(EXIT_CONFIG);
        };
        let inbox = self.inbox();
        let board = site.board_name().to_string();
        let fetch =
            fetch::Fetch { device: std::sync::Arc::new(self), update: site.update, inbox: inbox.clone(), board };
        match fetch.by_hand() {
            Ok(fetch::Fetched::Same) => say!("nothing new"),
            Ok(fetch::Fetched::New(offer)) => {
                say!("{}: version {}", inbox.join(offer.file).display(), offer.version)
            }
            Err(error) => {
                tell!("{error}");
                return match error {
                    fetch::FetchError::NoUrl | fetch::FetchError::Ca(..) => ExitCode::from(EXIT_CONFIG),
                    _ => ExitCode::FAILURE,
                };
            }
        }
        ExitCode::SUCCESS
    }

    fn rollback(&self) -> ExitCode {
        match self.store.rollback() {
            Ok(outcome) => {
                say!("{}: {}", outcome.release, outcome.detail);
                if self.is_live() {
                    serve::restart();
                }
                ExitCode::SUCCESS
            }
            Err(cause) => {
                tell!("{}: {cause}", self.store.folder().display());
                ExitCode::FAILURE
            }
        }
    }

    fn status(&self, json: bool) -> ExitCode {
        let version = |release: Option<&release::store::Release>| {
            release.map_or_else(|| package_version().to_string(), |release| release.manifest.version.to_string())
        };
        let (current, good, previous) = (self.store.current(), self.store.good(), self.store.previous());
        let id = |release: &Option<release::store::Release>| {
            release.as_ref().map_or_else(|| release::store::PACKAGE.to_string(), |release| release.id.clone())
        };
        let trial = self.store.running_trial();
        if json {
            let status = serde_json::json!({
                "package": package_version().to_string(), "version": version(current.as_ref()), "current": id(&current),
                "on_trial": trial.is_some(), "starts": trial.map_or(0, |trial| trial.starts), "good": id(&good),
                "previous": previous.map(|release| release.id), "last": self.store.last(),
            });
            say!("{status}");
            return ExitCode::SUCCESS;
        }
        say!("package   {} (release 0)", package_version());
        say!("current   {}{}", id(&current), if trial.is_some() { ", on trial" } else { "" });
        if let Some(trial) = trial {
            say!("starts    {} of {}", trial.starts, release::limits::TRIAL_STARTS);
            say!("back to   {}", id(&good));
        }
        if let Some(previous) = previous {
            say!("previous  {}", previous.id);
        }
        if let Some(last) = self.store.last() {
            say!("last      {} {}: {}", last.release, if last.ok { "is good" } else { "failed" }, last.detail);
        }
        ExitCode::SUCCESS
    }
}

/// Below the state folder.
const INBOX: &str = "update";
/// In the inbox: the name of the bundle that is to be applied.
const REQUEST: &str = "request";
/// What a bundle's name ends with.
const BUNDLE_ENDING: &str = "bundle";
/// A health file, bytes.
const HEALTH_BYTES_MAX: u64 = 4096;

/// Of this program, which is the package's.
fn package_version() -> Version {
    // Cargo takes no version that is none.
    Version::parse(env!("CARGO_PKG_VERSION")).unwrap_or_else(|_| Version::new(0, 0, 0))
}

fn now() -> Now {
    Now { boot_id: crate::clock::boot_id().unwrap_or_default(), uptime_ms: crate::clock::uptime_ms() }
}

fn read_health(path: &Path) -> Option<Health> {
    serde_json::from_str(&release::read_foreign(path, HEALTH_BYTES_MAX)?).ok()
}
