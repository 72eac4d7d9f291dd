//! What happened to this device, alarms and all else, the latest thousand events at the least: `log.jsonl` in the state folder, one JSON object a
//! line, as the hub is told it. It is there where no hub is, and after a power cut; who opens the case and pulls the plug stands in it.
//!
//! `n` counts events for ever. The oldest go once there are twice as many as are kept: the first line's `n` says how many went before it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use files::private_file::{give, write_private};
use rustix::fs::OFlags;
use serde::Deserialize;

/// Events that are kept at the least (EN 50131-1 grade 4 asks for 1,000).
pub const KEPT: usize = 1000;
/// Larger is not ours: twice [`KEPT`] of the hub's largest alerts.
const BYTES_MAX: u64 = 2 * KEPT as u64 * 4096;
/// Events that wait for a disk that refuses.
const WAITING_MAX: usize = KEPT;

/// As much of a line as is read again.
#[derive(Deserialize)]
struct Number {
    n: u64,
}

/// The file's end.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    next: u64,
    /// Of events that are gone and not counted in `next` yet.
    lost: u64,
    lines: usize,
    /// None until the file has been read, and after a failure: what stands in it then has to be seen.
    file: Option<File>,
    waiting: VecDeque<hub::Event>,
}

impl EventLog {
    /// Of this state folder; the disk is touched with the first event.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("log.jsonl"), next: 1, lost: 0, lines: 0, file: None, waiting: VecDeque::new() }
    }

    /// Puts events on the disk; where that refuses they wait, with those before them, for the next call. `lost` came before them and are gone:
    /// missing in the file, and seen there by their numbers.
    ///
    /// # Errors
    /// The path and the system's words.
    pub fn append(&mut self, events: Vec<hub::Event>, lost: u64) -> Result<(), String> {
        self.lost += lost;
        self.waiting.extend(events);
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.retry()
    }

    /// Whether events wait.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes what waits.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn retry(&mut self) -> Result<(), String> {
        let written = self.write();
        written.map_err(|error| {
            self.file = None;
            format!("{}: {error}", self.path.display())
        })
    }

    fn write(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // Somebody may have taken it away.
        let gone = self.file.as_ref().is_some_and(|file| file.metadata().is_ok_and(|found| found.nlink() == 0));
        if self.lines >= 2 * KEPT || self.file.is_none() || gone {
            self.open()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let first = self.next + self.lost;
        let mut text = Vec::new();
        for (n, event) in (first..).zip(&self.waiting) {
            // Cut as the hub's are: an object, which the number goes into.
            let stored = match event.to_stored() {
                Ok(stored) => stored,
                Err(error) => {
                    log::error!("{}: event {} is left out: {error}", self.path.display(), event.id);
                    continue;
                }
            };
            text.extend_from_slice(format!("{{\"n\":{n},").as_bytes());
            text.extend_from_slice(&stored[1..]);
            text.push(b'\n');
        }
        let before = file.metadata()?.len();
        // What stands there in half, or is not known to stand, would stand there twice.
        let written = file.write_all(&text).and_then(|()| file.sync_data());
        written.inspect_err(|_| drop(file.set_len(before)))?;
        (self.next, self.lost) = (first + self.waiting.len() as u64, 0);
        self.lines += self.waiting.len();
        self.waiting.clear();
        Ok(())
    }

    /// Reads the file, cuts off what a power cut left of a line, and the oldest where there are too many.
    fn open(&mut self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        // A link is none of ours: root, who tries the alarm by hand, neither reads nor gives away where it points.
        let text = match std::fs::symlink_metadata(&self.path) {
            Ok(found) if found.is_file() && found.len() <= BYTES_MAX => std::fs::read(&self.path)?,
            Ok(_) => {
                std::fs::rename(&self.path, self.path.with_extension("jsonl.bad"))?;
                Vec::new()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let text = String::from_utf8_lossy(&text[..whole]);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().rev().find_map(|line| serde_json::from_str::<Number>(line).ok());
        self.next = self.next.max(last.map_or(0, |entry| entry.n) + 1);
        let kept = if lines.len() >= 2 * KEPT { &lines[lines.len() - KEPT..] } else { &lines[..] };
        let rest: String = kept.iter().flat_map(|line| [line, "\n"]).collect();
        if rest.len() as u64 != std::fs::metadata(&self.path).map_or(0, |found| found.len()) {
            write_private(&self.path, rest.as_bytes()).map_err(io::Error::other)?;
        }
        self.lines = kept.len();
        let no_link = OFlags::NOFOLLOW.bits() as i32;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(no_link).open(&self.path)?;
        give(&file, folder)?;
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(id: usize) -> hub::Event {
        hub::Event::new(hub::EventType::Tamper, format!("e{id}"), "2026-11-29T12:00:00Z", true)
    }

    /// Numbers and ids in the file.
    fn read(path: &Path) -> Vec<(u64, String)> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.map(|line| (line["n"].as_u64().unwrap(), line["id"].as_str().unwrap().to_string())).collect()
    }

    #[test]
    fn a_thousand_events_are_kept_and_the_oldest_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::new(&dir.path().join("state"));
        (1..=2 * KEPT + 1).for_each(|id| log.append(vec![event(id)], 0).unwrap());
        let found = read(&log.path);
        assert_eq!(found.len(), KEPT + 1);
        assert_eq!(found[0], (KEPT as u64 + 1, format!("e{}", KEPT + 1)), "a thousand went before it");
        assert_eq!(found.last().unwrap().0, 2 * KEPT as u64 + 1);
        // The next start goes on.
        let mut log = EventLog::new(&dir.path().join("state"));
        log.append(vec![event(7)], 0).unwrap();
        assert_eq!(read(&log.path).last().unwrap(), &(2 * KEPT as u64 + 2, "e7".into()));
    }

    #[test]
    fn half_a_line_of_a_power_cut_is_cut_off_and_a_stranger_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = EventLog::new(dir.path());
        log.append(vec![event(1)], 0).unwrap();
        let path = log.path.clone();
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"n\":2,\"event_ty").unwrap();
        let mut log = EventLog::new(dir.path());
        log.append(vec![event(2)], 0).unwrap();
        assert_eq!(read(&path), [(1, "e1".into()), (2, "e2".into())]);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        EventLog::new(dir.path()).append(vec![event(3)], 0).unwrap();
        assert_eq!(read(&path), [(1, "e3".into())]);
    }

    /// Root tries the alarm by hand in a folder that belongs to the service's user.
    #[test]
    fn where_a_link_points_is_neither_read_nor_written() {
        let dir = tempfile::tempdir().unwrap();
        let (path, secret) = (dir.path().join("log.jsonl"), dir.path().join("secret"));
        for content in ["a line of somebody's\n", "half a line"] {
            std::fs::write(&secret, content).unwrap();
            std::os::unix::fs::symlink(&secret, &path).unwrap();
            EventLog::new(dir.path()).append(vec![event(4)], 0).unwrap();
            assert_eq!(read(&path), [(1, "e4".into())]);
            assert_eq!(std::fs::read_to_string(&secret).unwrap(), content);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_a_disk_refuses_is_written_once_it_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("place");
        std::fs::write(&place, "no folder").unwrap();
        let mut log = EventLog::new(&place);
        assert!(log.append(vec![event(1)], 0).unwrap_err().contains("log.jsonl"));
        assert!(log.append(vec![event(2)], 3).is_err() && log.waits());
        std::fs::remove_file(&place).unwrap();
        log.retry().unwrap();
        assert!(!log.waits());
        assert_eq!(read(&log.path), [(4, "e1".into()), (5, "e2".into())], "three were lost");
        // Taken away by somebody, it is begun anew and goes on counting; a detail is cut as for the hub.
        std::fs::remove_file(&log.path).unwrap();
        let mut long = event(3);
        long.detail = Some("x".repeat(100_000));
        log.append(vec![long], 0).unwrap();
        assert_eq!(read(&log.path), [(6, "e3".into())]);
        assert!(std::fs::metadata(&log.path).unwrap().len() < 4096);
    }
}
