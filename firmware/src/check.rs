//! `screamd check`: every problem in one run, and which source of each value won.

use std::path::Path;

use detector::model::Executor;
use files::model_dir;
use files::site::Site;
use files::{say, tell};

use crate::settings::{self, Paths, Settings};

/// Prints what is wrong, or what is in force; true where all is well.
pub fn run(paths: &Paths) -> bool {
    let settings = match Settings::load(paths) {
        Ok(settings) => settings,
        Err(wrong) => {
            wrong.iter().for_each(|problem| tell!("{problem}"));
            // The weights are checked all the same where the manifest is fine: every problem in one run.
            let dir = paths.model_dir();
            if let Ok(manifest) = model_dir::read_manifest(&dir)
                && let Err(error) = model_dir::load_weights(&dir, &manifest, Executor::SingleThread)
            {
                tell!("{error}");
            }
            // And the folders, by what of the site file can be read.
            if let (Some(site), _) = Site::load_rest(&paths.config) {
                folders_take_files(&paths.config, &site);
            }
            return false;
        }
    };
    let mut well = true;
    if let Err(error) = model_dir::load_weights(&settings.model_dir, &settings.manifest, Executor::SingleThread) {
        tell!("{error}");
        well = false;
    }
    if settings.site.mqtt_enabled()
        && let Err(error) = crate::broker::ready(&settings, Vec::new()).and_then(|options| {
            options.check()?;
            // The material itself, as the session would take it.
            let taken = options.access.tls.as_ref().map(hub::tls_config).transpose();
            taken.map(drop).map_err(|cause| anyhow::anyhow!("tls: {cause}"))
        })
    {
        tell!("{}: `mqtt`: {error:#}", paths.config.display());
        well = false;
    }
    well &= folders_take_files(&paths.config, &settings.site);
    let no_microphone = settings::no_microphone(&paths.config, &settings.site);
    settings.warnings.iter().chain(&no_microphone).for_each(|warning| tell!("warning: {warning}"));
    say!("{:16} {:28} from", "key", "value");
    for (key, value, origin) in &settings.origins {
        say!("{key:16} {value:28} {origin}");
    }
    if !settings.site.siren.quiet_hours.is_empty() {
        say!("quiet hours are local time: here it is {}", crate::clock::local_words());
    }
    say!("{}: {}", paths.config.display(), if well { "fine" } else { "not usable" });
    well
}

/// Says what is wrong with the site's folders; false where no folder can be there.
fn folders_take_files(config: &Path, site: &Site) -> bool {
    let mut well = true;
    for (name, dir) in [("events.dir", &site.events.dir), ("state.dir", &site.state.dir)] {
        // Made by whoever runs, so that it is theirs; where it is not there yet, the folder above must take it.
        // A relative folder's last ancestor has no name.
        let above = dir.ancestors().map(here).find(|above| above.exists()).unwrap_or(dir);
        if !above.is_dir() {
            tell!("{}: `{name}`: {}: is a file, and no folder can be there", config.display(), above.display());
            well = false;
        } else if let Err(error) = tempfile(above) {
            tell!("warning: {}: `{name}`: {}: {error}", config.display(), dir.display());
        }
    }
    well
}

/// The folder that an empty path means.
fn here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// A file can be made here and removed.
fn tempfile(dir: &Path) -> std::io::Result<()> {
    let probe = dir.join(format!(".check-{}", std::process::id()));
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}
