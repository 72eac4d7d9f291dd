//! All files of a start together: site, board, model, credentials. `run` needs them right, `check` names all that is wrong.
//!
//! Precedence: command line over what the hub set over site over board over model manifest over built-in.

use std::path::{Path, PathBuf};

use detector::keys::{self, KeyError};
use detector::manifest::{Decision, Manifest};
use files::board::{self, Board, LineOverrides};
use files::model_dir;

use crate::credentials;
use crate::saved::Saved;
use files::site::Site;

/// What the command line says.
#[derive(Debug, Clone, clap::Args)]
pub struct Paths {
    /// Site file
    #[arg(long)]
    pub config: PathBuf,
    /// Model folder [default: models/default, here or in /usr/share/screamd]
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Board file [default: the site's board, else boards/generic.toml]
    #[arg(long)]
    pub board: Option<PathBuf>,
    /// A recording is tried: on an installed device a site file that names no state folder changes nothing that the device keeps.
    #[arg(skip)]
    pub trial: bool,
}

impl Paths {
    /// The model's folder, found where it stands.
    pub fn model_dir(&self) -> PathBuf {
        model_dir::find(self.model.as_deref().unwrap_or(Path::new("models/default")))
    }
}

/// Everything that stands in files, checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The site file.
    pub site: Site,
    /// The board with the site's lines.
    pub board: Board,
    /// The model's folder.
    pub model_dir: PathBuf,
    /// The model's manifest.
    pub manifest: Manifest,
    /// Thresholds and times in force.
    pub decision: Decision,
    /// What the hub has set.
    pub saved: Saved,
    /// The state folder is this site file's: what the hub sets, the latch, the log of events and the last good site file are written there.
    pub keeps_state: bool,
    /// Another `screamd` has that folder, and this one is none of its business ([`Settings::yield_to_another`]).
    pub yields: bool,
    /// Armed at the start.
    pub armed: bool,
    /// This device.
    pub device_id: String,
    /// Value, and who said so, for `check`.
    pub origins: Vec<(&'static str, String, &'static str)>,
    /// What works and is not wise.
    pub warnings: Vec<String>,
    /// Files that the hub's session needs and that cannot be read: empty but where [`Settings::load_without_hub`] let it pass.
    pub unreadable: Vec<String>,
}

impl Settings {
    /// Reads and checks everything but the weights.
    ///
    /// # Errors
    /// Every problem in words: file, key, cause, hint.
    pub fn load(paths: &Paths) -> Result<Self, Vec<String>> {
        let mut settings = Self::load_without_hub(paths)?;
        match std::mem::take(&mut settings.unreadable) {
            wrong if wrong.is_empty() => Ok(settings),
            wrong => Err(wrong),
        }
    }

    /// As [`Settings::load`], for a device that must be an alarm also where its password or certificate is gone.
    ///
    /// # Errors
    /// Every other problem.
    pub fn load_without_hub(paths: &Paths) -> Result<Self, Vec<String>> {
        // What is left of a file with mistakes is checked all the same: every problem in one run.
        Self::of(paths, Site::load_rest(&paths.config))
    }

    /// As [`Settings::load_without_hub`], for the copy of a site file that checked, maybe in another release: what is not known
    /// of it here must not cost the alarm.
    ///
    /// # Errors
    /// Every other problem.
    pub fn load_copy(paths: &Paths) -> Result<Self, Vec<String>> {
        Self::of(paths, Site::load_known(&paths.config))
    }

    fn of(paths: &Paths, (site, mistakes): (Option<Site>, Vec<KeyError>)) -> Result<Self, Vec<String>> {
        let mut wrong = Vec::new();
        let words = |errors: Vec<KeyError>| errors.iter().map(ToString::to_string).collect::<Vec<_>>();
        wrong.extend(words(mistakes));
        let board = load_board(&paths.config, paths.board.as_deref(), site.as_ref())
            .map_err(|errors| wrong.extend(errors))
            .ok();
        let model_dir = paths.model_dir();
        let manifest = model_dir::read_manifest(&model_dir)
            .map_err(|error| wrong.extend(error.to_string().lines().map(String::from)))
            .ok();
        let file = paths.config.display().to_string();
        let mut unreadable = Vec::new();
        for (key, path) in site.iter().flat_map(Site::secret_files) {
            let found = credentials::find(path);
            if let Err(error) = std::fs::File::open(&found) {
                unreadable.push(format!(
                    "{file}: `{key}`: {}: {error} (a path, or a name in $CREDENTIALS_DIRECTORY or, for root, \
                     /etc/credstore/screamd.NAME)",
                    found.display()
                ));
            }
        }
        if board.is_none() || manifest.is_none() {
            wrong.extend(site.iter().flat_map(|site| words(site.decision_mistakes(&file))));
        }
        let (Some(site), Some(board), Some(manifest)) = (site, board, manifest) else {
            wrong.extend(unreadable);
            return Err(wrong);
        };

        let mut decision = site.decision(&manifest.decision);
        wrong.extend(words(decision.mistakes(&file)));
        if !wrong.is_empty() {
            wrong.extend(unreadable);
            return Err(wrong);
        }
        let keeps_state = !paths.trial || site.states("state.dir");
        let saved = Saved::load(&site.state.dir);
        let mut saved = if keeps_state { saved } else { saved.numbers_alone() };
        let (siren, own) = (&site.siren, &site.decision);
        saved.forget_changed(site.stated_armed(), own.threshold_on, own.cooldown_s);
        if !siren.remote_disarm {
            saved.forget_less_alert(decision.threshold_on, decision.cooldown_s);
        }
        if let Some(threshold_on) = saved.threshold_on(site.decision.threshold_on) {
            // The lower one follows it down, and up again, in the alarm.
            decision.threshold_on = threshold_on;
        }
        decision.cooldown_s = saved.cooldown_s(site.decision.cooldown_s).unwrap_or(decision.cooldown_s);
        let armed = saved.armed(site.stated_armed()).unwrap_or(site.siren.armed);
        // A disarming ends it, the site file's as well.
        if saved.latched && !armed {
            (saved.latched, saved.forgotten) = (false, true);
        }
        let device_id = site.device_id.clone().unwrap_or_else(serial_number);
        let origins = origins(paths, &site, &saved, [&manifest.decision, &decision], armed, &device_id, &board);
        let mut warnings = warnings(&file, &site);
        if site.siren.on_s > f64::from(board.siren_on_s_max) {
            warnings.push(format!(
                "{file}: `siren.on_s` {} is cut to the board's siren_on_s_max, {}",
                site.siren.on_s, board.siren_on_s_max
            ));
        }
        warnings.extend(no_siren(&file, &site, &board));
        if board.simulated && site.line_overrides() != LineOverrides::default() {
            warnings.push(format!(
                "{file}: `board`: \"{}\" has no lines, those of the site file drive and read nothing",
                board.name
            ));
        }
        warnings.extend(manifest.unheard(&decision, &file).map(|error| error.to_string()));
        Ok(Self {
            site,
            board,
            model_dir,
            manifest,
            decision,
            saved,
            keeps_state,
            yields: false,
            armed,
            device_id,
            origins,
            warnings,
            unreadable,
        })
    }

    /// Another `screamd` keeps the state folder: this one changes nothing there, ends no incident of the other's, and has no hub, whose broker knows
    /// one client of this name, and whose states are the other's.
    pub fn yield_to_another(&mut self) {
        (self.yields, self.keeps_state) = (true, false);
        self.saved = std::mem::take(&mut self.saved).numbers_alone();
        self.site.mqtt.enabled = Some(false);
        self.site.update.url.clear();
    }
}

/// What `check` says of a site without a microphone; `run` refuses it where it would listen to one.
pub fn no_microphone(file: &Path, site: &Site) -> Option<String> {
    site.audio.device.is_none().then(|| {
        format!(
            "{}: `audio.device`: missing, only `--wav` works (such as \"hw:CARD=Device\"; `arecord -L` lists names)",
            file.display()
        )
    })
}

/// A device that listens and has no line to drive is an alarm that nobody hears; a recording that is tried needs none.
fn no_siren(file: &str, site: &Site, board: &Board) -> Option<String> {
    let listens = site.audio.device.is_some();
    (listens && board.simulated).then(|| {
        format!(
            "{file}: `board`: with \"{}\" no line is driven and NO SIREN SOUNDS \
             (name the board, such as board = \"raspberry-pi-5\")",
            board.name
        )
    })
}

/// The board of a site file, a board file, or both: for `safe-outputs`, which needs no model.
///
/// # Errors
/// Every problem in words.
pub fn board_of(config: Option<&Path>, board: Option<&Path>) -> Result<Board, Vec<String>> {
    let site = config
        .map(Site::load)
        .transpose()
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    load_board(config.unwrap_or(Path::new("--config")), board, site.as_ref())
}

/// The board of a site file that another release may have written; none where that does not check.
pub fn known_board_of(config: &Path, board: Option<&Path>) -> Option<Board> {
    let site = keys::whole(Site::load_known(config)).ok()?;
    load_board(config, board, Some(&site)).ok()
}

fn load_board(config: &Path, board: Option<&Path>, site: Option<&Site>) -> Result<Board, Vec<String>> {
    let path = match (board, site.and_then(|site| site.board.as_deref())) {
        (Some(path), _) => path.to_path_buf(),
        (None, name) => board::find(name.unwrap_or(board::DEFAULT_BOARD), &board::default_roots())
            .map_err(|error| vec![format!("{}: `board`: {error}", config.display())])?,
    };
    let mut board =
        Board::load(&path).map_err(|error| error.problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    if let Some(site) = site {
        let wrong = board.apply(&config.display().to_string(), &site.line_overrides());
        // A board without lines has none to override; a site file tried out with a recording need not be rewritten.
        if !wrong.is_empty() && !board.simulated {
            return Err(wrong.iter().map(ToString::to_string).collect());
        }
    }
    Ok(board)
}

fn origins(
    paths: &Paths,
    site: &Site,
    saved: &Saved,
    [manifest, decision]: [&Decision; 2],
    armed: bool,
    device_id: &str,
    board: &Board,
) -> Vec<(&'static str, String, &'static str)> {
    let own = &site.decision;
    let by = |hub: bool, site: bool| {
        if hub {
            "hub"
        } else if site {
            "site"
        } else {
            "model manifest"
        }
    };
    let stated = |key: &str, otherwise| if site.states(key) { "site" } else { otherwise };
    let hub_threshold = saved.threshold_on(own.threshold_on).is_some();
    let board_by = if paths.board.is_some() { "command line" } else { stated("board", "built-in") };
    let armed_by = if saved.armed(site.stated_armed()).is_some() { "hub" } else { stated("siren.armed", "built-in") };
    // The lower threshold follows the upper one down, whoever moved that.
    let threshold_off = decision.threshold_off.min(decision.threshold_on);
    let follows = threshold_off < own.threshold_off.unwrap_or(manifest.threshold_off);
    let off_by =
        if follows { by(hub_threshold, own.threshold_on.is_some()) } else { by(false, own.threshold_off.is_some()) };
    let on_s_max = f64::from(board.siren_on_s_max);
    let on_s_by = if site.siren.on_s > on_s_max { "board" } else { stated("siren.on_s", "built-in") };
    let mut rows = vec![
        ("device_id", device_id.to_string(), stated("device_id", "serial number")),
        ("board", board.name.clone(), board_by),
        (
            "model",
            paths.model.as_deref().unwrap_or(Path::new("models/default")).display().to_string(),
            if paths.model.is_some() { "command line" } else { "built-in" },
        ),
        ("armed", armed.to_string(), armed_by),
        ("threshold_on", decision.threshold_on.to_string(), by(hub_threshold, own.threshold_on.is_some())),
        ("threshold_off", threshold_off.to_string(), off_by),
        ("votes", format!("{} of {}", decision.votes.needed, decision.votes.of), by(false, own.votes.is_some())),
        ("stride_s", decision.stride_s.to_string(), by(false, own.stride_s.is_some())),
        ("hold_s", decision.hold_s.to_string(), by(false, own.hold_s.is_some())),
        (
            "cooldown_s",
            decision.cooldown_s.to_string(),
            by(saved.cooldown_s(own.cooldown_s).is_some(), own.cooldown_s.is_some()),
        ),
        ("siren on_s", site.siren.on_s.min(on_s_max).to_string(), on_s_by),
        ("siren_on_s_max", board.siren_on_s_max.to_string(), "board"),
    ];
    let outputs = board.outputs().map(|(table, line)| (table, &line.line, line.active_low));
    let inputs = board.inputs().map(|(table, line)| (table, &line.line, line.active_low));
    let lines = outputs.chain(inputs).filter(|_| !board.simulated);
    rows.extend(lines.map(|(table, line, active_low)| {
        let words = if active_low { format!("{line}, active low") } else { line.to_string() };
        (table, words, line_by(site, table))
    }));
    rows
}

fn line_by(site: &Site, table: &str) -> &'static str {
    let own = ["line", "chip", "active_low"].iter().any(|key| site.states(&format!("{table}.{key}")));
    if own { "site" } else { "board" }
}

fn warnings(file: &str, site: &Site) -> Vec<String> {
    let mut warnings = Vec::new();
    let here = |host: &str| {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        ["localhost", "ip6-localhost", "ip6-loopback"].contains(&name.as_str())
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let away = site.mqtt.host.as_deref().is_some_and(|host| !here(host));
    if site.mqtt_enabled() && site.mqtt.password_file.is_some() && site.mqtt.tls.is_none() && away {
        warnings.push(format!(
            "{file}: `mqtt.password_file`: the password goes over the network unencrypted (add [mqtt.tls])"
        ));
    }
    for path in site.mqtt.password_file.iter().chain(site.mqtt.tls.iter().flat_map(|tls| &tls.key_file)) {
        if let Some(cause) = credentials::warning(path).filter(|_| site.mqtt_enabled()) {
            warnings.push(format!("{file}: `mqtt`: {cause}"));
        }
    }
    if let Some(path) = site.update.ca_file.as_deref().map(credentials::find)
        && let Err(error) = std::fs::File::open(&path)
    {
        warnings.push(format!("{file}: `update.ca_file`: {}: {error}; no update can be fetched", path.display()));
    }
    if !site.mqtt_enabled() {
        warnings.push(format!("{file}: `mqtt`: off, nobody but the siren is told"));
    }
    warnings
}

/// The board's serial number, else what tells this machine from others.
fn serial_number() -> String {
    let read =
        |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim_matches(['\0', '\n', ' ']).to_string());
    let clean =
        |text: String| text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect::<String>();
    // A machine-id is not to be shown around (man machine-id); a part of it tells machines apart as well.
    let machine = read("/etc/machine-id")
        .map(|id| detector::model::sha256_hex(format!("screamd {id}").as_bytes())[..12].to_string());
    [read("/proc/device-tree/serial-number"), machine]
        .into_iter()
        .flatten()
        .map(clean)
        .find(|id| !id.is_empty())
        .unwrap_or_else(|| "screamd".into())
}
