//! What a start falls back to (`run --last-good`): a device that boots with a broken file must still be an alarm.
//!
//! Every start that goes well keeps a copy of its site file in the state folder. Where the site file (or what it names)
//! does not check, that copy is taken, also by an older release that does not know each of its keys; where the model is
//! refused, the package's own. Both are said as faults.

use std::path::{Path, PathBuf};

use detector::model::{Executor, Model};
use files::board::Board;
use files::model_dir;

use crate::faults::Fault;
use crate::settings::{self, Paths, Settings};
use files::site::{self, Site};

/// The copy's name in the state folder.
const COPY: &str = "site.last-good.toml";
/// The copy of one that has run for as long as makes a start a good one: a file may check and crash all the same.
const PROVEN: &str = "site.proven.toml";
/// The package's own model.
const PACKAGE_MODEL: &str = "/usr/share/screamd/models/default";

/// What a start stands on.
pub struct Startup {
    /// Files, checked.
    pub settings: Settings,
    /// The network.
    pub model: Model,
    /// What was refused, and why, where something else stands in for it.
    pub faults: Vec<(Fault, String)>,
}

/// Where the sound comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// The site file's microphone: one that names none is no site file to listen with.
    Microphone,
    /// A recording.
    Recording,
}

impl SourceKind {
    fn fits(self, settings: Settings, config: &Path) -> Result<Settings, Vec<String>> {
        if self == Self::Microphone && settings.site.audio.device.is_none() {
            return Err(vec![format!(
                "{}: `audio.device`: missing (or give a recording: --wav FILE)",
                config.display()
            )]);
        }
        Ok(settings)
    }
}

/// Loads everything that `paths` name.
///
/// # Errors
/// Every problem in words.
pub fn load(paths: &Paths, source: SourceKind) -> Result<Startup, Vec<String>> {
    with_model(source.fits(Settings::load(paths)?, &paths.config)?)
}

/// As [`load`], also where the hub's session lacks its password or certificate: that is told once it can be, and until then the
/// siren is the alarm.
fn without_hub(
    paths: &Paths,
    source: SourceKind,
    load: fn(&Paths) -> Result<Settings, Vec<String>>,
) -> Result<Startup, Vec<String>> {
    let mut startup = with_model(source.fits(load(paths)?, &paths.config)?)?;
    startup.faults.extend(startup.settings.unreadable.drain(..).map(|cause| (Fault::PathDown, cause)));
    Ok(startup)
}

fn with_model(settings: Settings) -> Result<Startup, Vec<String>> {
    let model = model_dir::load_weights(&settings.model_dir, &settings.manifest, Executor::SingleThread)
        .map_err(|error| vec![error.to_string()])?;
    Ok(Startup { settings, model, faults: Vec::new() })
}

/// As [`load`], with what stands in for a refused file.
///
/// # Errors
/// Every problem of the files that were asked for, where nothing can stand in.
pub fn load_or_fall_back(paths: &Paths, source: SourceKind) -> Result<Startup, Vec<String>> {
    fall_back(paths, source, Path::new(PACKAGE_MODEL))
}

fn fall_back(paths: &Paths, source: SourceKind, package_model: &Path) -> Result<Startup, Vec<String>> {
    let wrong = match load(paths, source) {
        Ok(startup) => return Ok(startup),
        Err(wrong) => wrong,
    };
    let mut faults = Vec::new();
    let mut paths = paths.clone();
    let model = paths.model_dir();
    if let Err(error) = model_dir::load(&model, Executor::SingleThread) {
        faults.push((Fault::ModelInvalid, format!("{error}; running with {}", package_model.display())));
        paths.model = Some(package_model.to_path_buf());
    }
    let mut settings: fn(&Paths) -> _ = Settings::load_without_hub;
    let checked = settings(&paths).and_then(|settings| source.fits(settings, &paths.config));
    if let Err(problems) = checked {
        let Some(copy) = find(COPY, &paths.config) else { return Err(wrong) };
        let detail = format!("{}; running with {}", problems.join("; "), copy.display());
        faults.push((Fault::ConfigInvalid, detail));
        (paths.config, settings) = (copy, Settings::load_copy);
    }
    match without_hub(&paths, source, settings) {
        Ok(startup) => {
            faults.extend(startup.faults);
            Ok(Startup { faults, ..startup })
        }
        Err(_) => Err(wrong),
    }
}

/// Where the count of starts is kept: known before anything else is loaded, since loading may be what crashes.
pub fn state_dir(config: &Path) -> PathBuf {
    let checked = detector::keys::whole(Site::load_known(config)).ok().map(|site| site.state.dir);
    checked.or_else(|| state_dirs(config).next()).unwrap_or_default()
}

/// For a start that comes after many that crashed: the site file that last ran well and the package's own model. Where either
/// is missing, what was asked for.
///
/// # Errors
/// Every problem of the files that were asked for, where nothing can stand in.
pub fn safe(paths: &Paths, source: SourceKind, state_dir: &Path, crashes: usize) -> Result<Startup, Vec<String>> {
    safe_with(paths, source, state_dir, crashes, Path::new(PACKAGE_MODEL))
}

fn safe_with(
    paths: &Paths,
    source: SourceKind,
    state_dir: &Path,
    crashes: usize,
    package_model: &Path,
) -> Result<Startup, Vec<String>> {
    let mut careful = paths.clone();
    let proven = state_dir.join(PROVEN);
    let mut settings: fn(&Paths) -> _ = Settings::load_without_hub;
    if proven.is_file() {
        (careful.config, settings) = (proven, Settings::load_copy);
    }
    if package_model.is_dir() {
        careful.model = Some(package_model.to_path_buf());
    }
    let (mut startup, config) = match without_hub(&careful, source, settings) {
        Ok(startup) => (startup, careful.config),
        Err(_) => (fall_back(paths, source, package_model)?, paths.config.clone()),
    };
    let detail = format!(
        "{crashes} starts in a row ended badly; running with {} and {}",
        config.display(),
        startup.settings.manifest.name
    );
    startup.faults.push((Fault::CrashLoop, detail));
    Ok(startup)
}

/// Keeps the file that `site` was read from, because it checks.
pub fn keep(config: &Path, site: &Site) {
    keep_as(COPY, config, site);
}

/// Keeps the file that `site` was read from, because the device has run with it.
pub fn keep_proven(config: &Path, site: &Site) {
    keep_as(PROVEN, config, site);
}

/// Written only where it differs, to spare the flash.
fn keep_as(name: &str, config: &Path, site: &Site) {
    let copy = site.state.dir.join(name);
    let Ok(text) = model_dir::read_text(config) else { return };
    // The file may have been edited since it was read: only what has been checked is kept.
    if Site::parse(COPY, &text).ok().as_ref() != Some(site) {
        return;
    }
    if copy == config || std::fs::read_to_string(&copy).is_ok_and(|kept| kept == text) {
        return;
    }
    let written = std::fs::create_dir_all(&site.state.dir)
        .map_err(|error| error.to_string())
        .and_then(|()| files::private_file::write_private(&copy, text.as_bytes()).map_err(|error| error.to_string()));
    if let Err(cause) = written {
        log::warn!("{}: the site file is not kept for `run --last-good`: {cause}", copy.display());
    }
}

/// The boards of the site files that a start may have fallen back to, else of today's, for `safe-outputs`: whose lines a dead
/// process may have held. That may have been of a newer release than this one, which is the package's.
pub fn boards(config: &Path, board: Option<&Path>) -> Vec<Board> {
    let kept = [PROVEN, COPY].into_iter().filter_map(|name| find(name, config));
    let kept: Vec<_> = kept.filter_map(|copy| settings::known_board_of(&copy, board)).collect();
    if kept.is_empty() { settings::known_board_of(config, board).into_iter().collect() } else { kept }
}

/// A copy, where there is one.
fn find(name: &str, config: &Path) -> Option<PathBuf> {
    state_dirs(config).map(|dir| dir.join(name)).find(|copy| copy.is_file())
}

/// Where the state folder of a file that does not check may be: what the file still says, what the service manager says, the
/// usual one.
fn state_dirs(config: &Path) -> impl Iterator<Item = PathBuf> {
    let stated = model_dir::read_text(config).ok().and_then(|text| stated_dir(&text));
    let managed = std::env::var("STATE_DIRECTORY").ok().and_then(|list| list.split(':').next().map(PathBuf::from));
    // A test is no device: what somebody's own trial left on this machine is not its.
    let usual = (!cfg!(test)).then(|| site::State::default().dir);
    stated.into_iter().chain(managed).chain(usual)
}

/// `[state] dir` of a file that may be no TOML any more.
fn stated_dir(text: &str) -> Option<PathBuf> {
    let mut section = "";
    text.lines().map(str::trim).find_map(|line| {
        if line.starts_with('[') {
            section = line.split('#').next().unwrap_or("").trim();
        }
        let (key, value) = line.split_once('=')?;
        let wanted = (section == "[state]" && key.trim() == "dir") || (section.is_empty() && key.trim() == "state.dir");
        let mut quoted = value.trim().split(['"', '\'']);
        (wanted && quoted.next() == Some("")).then(|| quoted.next().map(PathBuf::from)).flatten()
    })
}

#[cfg(test)]
mod tests;
