//! Why a start ended badly, kept over the restart: a device that crashes at night and is back in a second is still one
//! that somebody must know of.
//!
//! The thread that panics writes its words, and so does the supervisor when it starves the watchdog; the next start tells
//! them as the fault `Crashed`. A process that is killed from outside, or loses its power, leaves no words.

use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use files::private_file::write_private;

const NAME: &str = "crash.txt";
/// Words are cut here.
const CHARS_MAX: usize = 500;
const BYTES_MAX: u64 = 4 * CHARS_MAX as u64;
/// How long a process that ends waits for the disk: it may be what hangs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where the words are kept; nowhere for a person at a terminal, who reads them there.
#[derive(Debug, Clone, Default)]
pub struct Crash(Option<PathBuf>);

impl Crash {
    /// In the state folder.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self(Some(state_dir.join(NAME)))
    }

    /// Keeps `reason` for the next start.
    pub fn keep(&self, reason: &str) {
        let Some(file) = self.0.clone() else { return };
        let words = one_line(reason);
        let (done, written) = sync_channel(1);
        let write = move || {
            let _ = done.send(write_private(&file, words.as_bytes()).is_ok());
        };
        if std::thread::Builder::new().name("crash".into()).spawn(write).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }

    /// What was kept is not so: the stage goes on, or the service has been told to end.
    pub fn forget(&self) {
        if let Some(file) = &self.0 {
            let _ = std::fs::remove_file(file);
        }
    }

    /// What the start before kept, once.
    pub fn take(&self) -> Option<String> {
        let words = release::read_foreign(self.0.as_ref()?, BYTES_MAX);
        self.forget();
        words.map(|words| one_line(&words)).filter(|words| !words.is_empty())
    }
}

/// One line, fit for a log and a message, whoever wrote the file.
fn one_line(words: &str) -> String {
    let clean = words.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(CHARS_MAX).collect::<String>().trim().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_are_told_once_in_one_line_and_cut() {
        let dir = tempfile::tempdir().unwrap();
        let crash = Crash::in_dir(dir.path());
        assert_eq!(crash.take(), None);
        crash.keep("thread `listen`, src/listen.rs:7:\nno \u{1b}[31mframe");
        assert_eq!(crash.take().unwrap(), "thread `listen`, src/listen.rs:7: no  [31mframe");
        assert_eq!(crash.take(), None, "once");
        crash.keep(&"ä".repeat(2 * CHARS_MAX));
        assert_eq!(crash.take().unwrap().chars().count(), CHARS_MAX);
        crash.keep("it goes on after all");
        crash.forget();
        assert_eq!(crash.take(), None);
    }

    #[test]
    fn what_cannot_be_kept_or_read_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Crash::default().keep("at a terminal");
        assert_eq!(Crash::default().take(), None);
        let nowhere = Crash::in_dir(&dir.path().join("missing"));
        nowhere.keep("no folder");
        assert_eq!(nowhere.take(), None);
        std::fs::write(dir.path().join(NAME), vec![b'x'; BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(Crash::in_dir(dir.path()).take(), None, "too large to be ours");
        std::fs::write(dir.path().join(NAME), [0xff, 0xfe]).unwrap();
        assert_eq!(Crash::in_dir(dir.path()).take(), None, "no text");
    }
}
