//! `host-tools report --events DIR --out FILE.html [--model DIR]`: what a device heard, as one page.
//!
//! DIR is a device's events folder, or a copy of it. The page stands alone: pictures and short clips are inside it, it
//! loads nothing and runs no script, and it can be printed. It is as private as the recordings (a spectrogram can be
//! turned back into rough sound), so it is written for its owner alone.
//!
//! Pictures and sound of the newest incidents, until they fill `--max-mib`: a device that may keep 200 MiB of them would give
//! a page that no browser opens. The older ones are counted and listed all the same.
//!
//! Under each incident's picture stands what its score rests on (`evidence`), where the model that heard it is the one named
//! with `--model`, models/default if none is. A record that cannot be read is listed with its cause; an empty folder gives
//! a page that says so. Times are this machine's local time, with UTC beside them.

mod chart;
mod evidence;
mod page;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use files::event_record::{EventRecord, RECORD_BYTES_MAX, SCHEMA, is_plain_name};
use files::model_dir;
use files::private_file::{PrivateFile, write_private};
use files::say;
use indicatif::ProgressBar;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;

use evidence::Explainer;
use page::Page;

/// A picture's file, bytes: the device's own are about 100 kB.
const PICTURE_BYTES_MAX: u64 = 8 << 20;
/// A clip's file, bytes: two minutes at 16 kHz. Longer sound would make the page too heavy to open.
const CLIP_BYTES_MAX: u64 = 4 << 20;

/// Writes the page about the events in `events` to `out` (mode 0600), with pictures and sound of at most about `max_mib`.
///
/// # Errors
/// Where `events` cannot be listed or `out` cannot be written. A broken record is no error: the page lists it.
pub fn run(events: &Path, out: &Path, model: Option<&Path>, max_mib: u16) -> Result<()> {
    let mut progress = Progress::new();
    let folder = Folder::read(events, &mut progress)?;
    // Tried and taken away again: whether the page can be written is known before it is made.
    drop(PrivateFile::create(out)?);
    let zone = TimeZone::system();
    let about = Page { events, folder: &folder, zone: &zone, bytes_max: usize::from(max_mib).saturating_mul(1 << 20) };
    let page = made(&about, model, &mut progress)?;
    // All at once: explaining takes seconds an incident, and whoever ends it meanwhile leaves no half of a page behind.
    write_private(out, &page)?;
    progress.finish();
    let (incidents, broken) = (folder.incidents.len(), folder.broken.len());
    say!("{}: incidents {incidents}, records that could not be read {broken}", out.display());
    Ok(())
}

/// The page in memory.
fn made(about: &Page, model: Option<&Path>, progress: &mut Progress) -> Result<Vec<u8>> {
    let mut explainer = match model {
        Some(dir) => Some(Explainer::load(dir)?),
        // Nobody asked for this one: without it the page is made all the same.
        None => Explainer::load(&model_dir::find(Path::new("models/default"))).ok(),
    };
    let mut page = Vec::new();
    about.write(&mut page, explainer.as_mut(), progress)?;
    Ok(page)
}

/// What stands in an events folder.
struct Folder {
    /// Newest first; those from before the clock was set come last.
    incidents: Vec<Incident>,
    /// File name and cause.
    broken: Vec<(String, String)>,
}

/// One record and the time in it.
struct Incident {
    record: EventRecord,
    start: Timestamp,
}

impl Folder {
    fn read(events: &Path, progress: &mut Progress) -> Result<Self> {
        let cannot_list = || format!("{}: cannot list the events folder", events.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(events).with_context(cannot_list)? {
            let name = entry.with_context(cannot_list)?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".json") && !name.starts_with('.') {
                names.push(name);
            }
        }
        names.sort();
        let mut folder = Self { incidents: Vec::new(), broken: Vec::new() };
        for (i, name) in names.iter().enumerate() {
            progress.step("reading", i, names.len());
            match read_record(&events.join(name)) {
                Ok(incident) => folder.incidents.push(incident),
                Err(cause) => folder.broken.push((name.clone(), format!("{cause:#}"))),
            }
        }
        folder.incidents.sort_by_key(|incident| std::cmp::Reverse((incident.record.clock_set, incident.start)));
        Ok(folder)
    }
}

fn read_record(path: &Path) -> Result<Incident> {
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    let bytes = read_file(path, RECORD_BYTES_MAX)?;
    // The form first: of another one, the complaint about a missing field would lead nowhere.
    let head: Head = serde_json::from_slice(&bytes).context("is no event record")?;
    anyhow::ensure!(head.schema == SCHEMA, "is of schema {}, this program reads {SCHEMA}", head.schema);
    let record: EventRecord = serde_json::from_slice(&bytes).context("is no event record")?;
    let start = record.t_utc.parse().with_context(|| format!("`t_utc` is {:?}", record.t_utc))?;
    Ok(Incident { record, start })
}

/// The bytes of a file that a record names, if it is one of the folder's own, small enough and what it should be.
fn attachment(events: &Path, name: &str, magic: &[u8], bytes_max: u64) -> Result<Vec<u8>> {
    anyhow::ensure!(is_plain_name(name), "its name leads out of the folder");
    let bytes = read_file(&events.join(name), bytes_max)?;
    anyhow::ensure!(bytes.starts_with(magic), "it is not what its name says");
    Ok(bytes)
}

fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    // Neither a link (it may lead anywhere) nor a pipe (it may never end).
    anyhow::ensure!(fs::symlink_metadata(path)?.is_file(), "it is not a plain file");
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= bytes_max, "it has more than {} MiB", bytes_max >> 20);
    Ok(bytes)
}

/// A progress bar that shows itself once the work has taken two seconds.
struct Progress {
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    const QUIET: Duration = Duration::from_secs(2);

    fn new() -> Self {
        Self { started: Instant::now(), bar: None }
    }

    fn step(&mut self, what: &'static str, done: usize, of: usize) {
        if self.bar.is_none() && self.started.elapsed() < Self::QUIET {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| crate::progress::bar(of as u64, what));
        bar.set_prefix(what);
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;
