//! A board is a file: `boards/<name>.toml` says which GPIO lines, microphone, cores and C library a board has.
//!
//! - *chip*: a GPIO controller, found by its label. Its number (`gpiochip4`) changes between kernels and is refused.
//! - *line*: one pin of a chip, by the name that the device tree gives it, or by its offset.
//! - *level*: always logical here; `active_low` alone says which voltage that is.
//! - *safe level*: what a line is driven to before anything else, at exit and after a crash. A siren sounds, an LED
//!   lights and a fault relay holds at the other level.
//!
//! Text becomes a [`Board`] here and nowhere else; who drives the lines is `outputs.rs` of the firmware.

use detector::keys::{self, KeyError};
use serde::Deserialize;
use std::path::{Path, PathBuf};

mod check;
mod values;

pub(crate) use check::unstable_chip;
pub use values::{Bias, Labels, Level, LineRef};

/// Board files larger than this are refused unread.
pub const BOARD_BYTES_MAX: u64 = 64 * 1024;
/// No board may let its siren sound longer than this (15 minutes, the longest that local rules commonly allow).
pub const SIREN_ON_S_LIMIT: u32 = 900;
/// What a site file's board is where it names none.
pub const DEFAULT_BOARD: &str = "generic";

/// One board, as its file describes it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// Version of this format: 1.
    pub schema: u32,
    /// The file's name without `.toml`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// Outputs are shown in the terminal and nothing is driven: any PC.
    #[serde(default)]
    pub simulated: bool,
    /// Label of the GPIO chip, or several of which the first that exists is taken.
    #[serde(default)]
    pub chip: Labels,
    /// The siren's line.
    pub siren: Option<OutputLine>,
    /// The LED's line.
    pub led: Option<OutputLine>,
    /// A relay that holds while all is well, so that a cut wire, a crash and a power cut all show as a fault.
    pub fault: Option<OutputLine>,
    /// A contact of the case; active is a tamper.
    pub tamper: Option<InputLine>,
    /// A button that silences the present incident.
    pub silence: Option<InputLine>,
    /// The longest that the siren may sound at a stretch, in seconds.
    pub siren_on_s_max: u32,
    /// What `screamd setup` offers first as the microphone, where it is plugged in; never a card number.
    pub audio_device_hint: Option<String>,
    /// Frames in one ALSA period.
    pub period_frames: u32,
    /// CPU cores, for people; 0: whatever the machine has. Inference takes one of them.
    #[serde(default)]
    pub cores: u32,
    /// Type of the CPU's thermal zone (`/sys/class/thermal/*/type`), or several; or a path that begins with `/`.
    #[serde(default)]
    pub thermal_zone: Labels,
    /// What `-C target-cpu` to give for a build of one's own; the released binary runs on every board.
    pub target_cpu: Option<String>,
    /// The oldest glibc among the systems that this board's maker supports.
    pub glibc_min: Option<String>,
    /// One inference may take this long on this board.
    pub latency_budget_ms: u32,
    /// Where the facts in the file come from.
    pub sources: Vec<String>,
}

/// A line that is driven.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputLine {
    /// Which line.
    pub line: LineRef,
    /// The chip, where it is not the board's.
    #[serde(default)]
    pub chip: Labels,
    /// Active is the low voltage.
    #[serde(default)]
    pub active_low: bool,
    /// The level at which nothing can happen.
    #[serde(default)]
    pub safe_level: Level,
    /// The pin of the 40-pin header, for people with a wire in their hand.
    pub header_pin: Option<u32>,
}

/// A line that is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputLine {
    /// Which line.
    pub line: LineRef,
    /// The chip, where it is not the board's.
    #[serde(default)]
    pub chip: Labels,
    /// Active is the low voltage.
    #[serde(default)]
    pub active_low: bool,
    /// The resistor inside the chip.
    #[serde(default)]
    pub bias: Bias,
    /// The pin of the 40-pin header, for people with a wire in their hand.
    pub header_pin: Option<u32>,
}

/// What a site file may say about one line; what it leaves out stays the board's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LineOverride {
    /// Another line.
    pub line: Option<LineRef>,
    /// Another chip, for a line that is not on the board's own.
    pub chip: Option<Labels>,
    /// Another polarity.
    pub active_low: Option<bool>,
}

impl LineOverride {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A site file's overrides of all lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineOverrides {
    /// `[siren]`
    pub siren: LineOverride,
    /// `[led]`
    pub led: LineOverride,
    /// `[fault]`
    pub fault: LineOverride,
    /// `[tamper]`
    pub tamper: LineOverride,
    /// `[silence]`
    pub silence: LineOverride,
}

/// Every problem of a board file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", keys::words(.problems))]
pub struct BoardError {
    /// At least one.
    pub problems: Vec<KeyError>,
}

impl From<KeyError> for BoardError {
    fn from(problem: KeyError) -> Self {
        Self { problems: vec![problem] }
    }
}

impl Board {
    /// Parses and checks the `text` of `file`.
    ///
    /// # Errors
    /// Every problem.
    pub fn parse(file: &str, text: &str) -> Result<Self, BoardError> {
        let checked = keys::parse_checked(file, text, |board: &Self| check::problems(board, file, text));
        checked.map_err(|problems| BoardError { problems })
    }

    /// Reads a board file.
    ///
    /// # Errors
    /// As [`Board::parse`], and where the file cannot be read.
    pub fn load(path: &Path) -> Result<Self, BoardError> {
        let file = path.display().to_string();
        let unreadable = |cause: String| KeyError { file: file.clone(), line: None, key: None, cause, hint: None };
        let size = std::fs::metadata(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?.len();
        if size > BOARD_BYTES_MAX {
            return Err(unreadable(format!("{size} bytes, a board file has {BOARD_BYTES_MAX} at most")).into());
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(format!("cannot be read: {error}")))?;
        Self::parse(&file, &text)
    }

    /// Puts a site `file`'s lines in place of the board's. A line that the board does not have is made, with what is
    /// safe: outputs inactive; inputs against ground with a pull-up, so that a button is active when pressed (low), and a
    /// tamper contact, closed while all is well, when it opens or its wire is cut (high).
    ///
    /// Returns what cannot be done. With a simulated board nothing is changed and the board stays usable: such a
    /// problem is a warning where a recording is played, and an error where a siren is expected.
    pub fn apply(&mut self, file: &str, overrides: &LineOverrides) -> Vec<KeyError> {
        let named = [
            ("siren", &overrides.siren),
            ("led", &overrides.led),
            ("fault", &overrides.fault),
            ("tamper", &overrides.tamper),
            ("silence", &overrides.silence),
        ];
        let mut problems = Vec::new();
        for (table, given) in named.into_iter().filter(|(_, given)| !given.is_empty()) {
            if self.simulated {
                let cause =
                    format!("the lines of board `{}` are simulated: this one is never driven or read", self.name);
                problems.push(
                    KeyError::new(file, &format!("{table}.line"), cause)
                        .hint("name the board, such as board = \"raspberry-pi-5\""),
                );
                continue;
            }
            let applied = match table {
                "siren" => override_output(&mut self.siren, given),
                "led" => override_output(&mut self.led, given),
                "fault" => override_output(&mut self.fault, given),
                "tamper" => override_input(&mut self.tamper, given, false),
                _ => override_input(&mut self.silence, given, true),
            };
            if !applied {
                let cause = format!("board `{}` has no {table} line that this could change", self.name);
                problems.push(
                    KeyError::new(file, &format!("{table}.line"), cause).hint("give `line` too, such as \"GPIO17\""),
                );
            }
        }
        problems.extend(check::clashes(self, file));
        problems
    }

    /// The outputs that the board has, each with its table's name, the siren first.
    pub fn outputs(&self) -> impl Iterator<Item = (&'static str, &OutputLine)> {
        [("siren", &self.siren), ("led", &self.led), ("fault", &self.fault)]
            .into_iter()
            .filter_map(|(name, line)| Some((name, line.as_ref()?)))
    }

    /// The inputs that the board has, each with its table's name.
    pub fn inputs(&self) -> impl Iterator<Item = (&'static str, &InputLine)> {
        [("tamper", &self.tamper), ("silence", &self.silence)]
            .into_iter()
            .filter_map(|(name, line)| Some((name, line.as_ref()?)))
    }

    /// The labels of the chip that a line stands on: its own, else the board's.
    pub fn chip_of<'a>(&'a self, own: &'a Labels) -> &'a Labels {
        if own.0.is_empty() { &self.chip } else { own }
    }

    /// The file that holds the CPU's temperature in thousandths of a degree, where this machine has it.
    pub fn thermal_path(&self) -> Option<PathBuf> {
        self.thermal_zone.0.iter().find_map(|wanted| {
            if wanted.starts_with('/') {
                return Path::new(wanted).exists().then(|| PathBuf::from(wanted));
            }
            // By type: the zones' numbers differ between kernels (zone 0 of a Jetson Nano is not its CPU).
            let zones = std::fs::read_dir("/sys/class/thermal").ok()?;
            zones.flatten().map(|zone| zone.path()).find_map(|zone| {
                let kind = std::fs::read_to_string(zone.join("type")).ok()?;
                (kind.trim() == wanted).then(|| zone.join("temp"))
            })
        })
    }
}

fn override_output(slot: &mut Option<OutputLine>, given: &LineOverride) -> bool {
    if let (None, Some(line)) = (&slot, &given.line) {
        *slot = Some(OutputLine {
            line: line.clone(),
            chip: Labels::default(),
            active_low: false,
            safe_level: Level::Inactive,
            header_pin: None,
        });
    }
    let Some(line) = slot else { return false };
    given.over(&mut line.line, &mut line.chip, &mut line.active_low, &mut line.header_pin);
    true
}

fn override_input(slot: &mut Option<InputLine>, given: &LineOverride, active_low: bool) -> bool {
    if let (None, Some(line)) = (&slot, &given.line) {
        *slot = Some(InputLine {
            line: line.clone(),
            chip: Labels::default(),
            active_low,
            bias: Bias::PullUp,
            header_pin: None,
        });
    }
    let Some(line) = slot else { return false };
    given.over(&mut line.line, &mut line.chip, &mut line.active_low, &mut line.header_pin);
    true
}

impl LineOverride {
    /// What is given takes the place of the board's; another line has another pin, which nobody knows.
    fn over(&self, line: &mut LineRef, chip: &mut Labels, active_low: &mut bool, header_pin: &mut Option<u32>) {
        if let Some(wanted) = &self.line {
            if line != wanted {
                *header_pin = None;
            }
            line.clone_from(wanted);
        }
        if let Some(wanted) = &self.chip {
            chip.clone_from(wanted);
        }
        *active_low = self.active_low.unwrap_or(*active_low);
    }
}

/// No board of that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// board `{0}`: a name is 1 to 64 letters, digits, hyphens or underscores
    #[error("board `{0}`: a name is 1 to 64 letters, digits, hyphens or underscores")]
    Name(String),
    /// no board `{name}` in {looked_in}; known: {known}
    #[error("no board `{name}` in {looked_in}; known: {known}")]
    Missing {
        /// As given.
        name: String,
        /// The folders, with commas.
        looked_in: String,
        /// The boards there, with commas.
        known: String,
    },
}

/// Where boards are looked for: the working directory, the package's folder, then boards of one's own, which no package or
/// update replaces.
pub fn default_roots() -> [&'static Path; 3] {
    [Path::new("."), Path::new("/usr/share/screamd"), Path::new("/etc/screamd")]
}

/// The file of the board `name`: `boards/<name>.toml` under the first of `roots` that has it.
///
/// # Errors
/// Where the name is none or no folder has it.
pub fn find(name: &str, roots: &[&Path]) -> Result<PathBuf, FindError> {
    // Checked before a path is made of it: a site file must not name files elsewhere.
    if !check::is_name(name) {
        return Err(FindError::Name(name.to_string()));
    }
    let candidates = roots.iter().map(|root| root.join("boards").join(format!("{name}.toml")));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| FindError::Missing {
        name: name.to_string(),
        looked_in: roots.iter().map(|root| root.join("boards").display().to_string()).collect::<Vec<_>>().join(", "),
        known: match list(roots) {
            known if known.is_empty() => "none".to_string(),
            known => known.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "),
        },
    })
}

/// Every board under `roots`, by name; one that stands in two is the first root's.
pub fn list(roots: &[&Path]) -> Vec<(String, PathBuf)> {
    let mut boards: Vec<(String, PathBuf)> = Vec::new();
    for root in roots {
        for path in std::fs::read_dir(root.join("boards")).into_iter().flatten().flatten().map(|entry| entry.path()) {
            let Some(name) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()) else { continue };
            if path.extension().is_some_and(|ending| ending == "toml") && !boards.iter().any(|(seen, _)| *seen == name)
            {
                boards.push((name, path));
            }
        }
    }
    boards.sort();
    boards
}

#[cfg(test)]
mod tests;
