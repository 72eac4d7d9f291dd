//! A progress bar for what takes more than two seconds.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar of `total` steps on standard error; nothing where that is no terminal.
pub fn bar(total: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), target());
    let style = ProgressStyle::with_template("{prefix} [{bar:40}] {pos}/{len} {elapsed} (left {eta}) {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.set_prefix(what.to_string());
    bar
}

/// A bar of steps that take minutes each: it stands there before the first has ended, and its clock shows that it goes on.
pub fn slow_bar(total: u64, what: &str) -> ProgressBar {
    let bar = bar(total, what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A spinner for what has no steps to count.
pub fn spinner(what: &str) -> ProgressBar {
    let spinner = spinner_on(target(), what);
    spinner.enable_steady_tick(Duration::from_millis(200));
    spinner
}

fn spinner_on(target: ProgressDrawTarget, what: &str) -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, target);
    // Without it, it would be drawn as a bar of no length, which stands still and says nothing.
    let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
    spinner.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    spinner.set_message(what.to_string());
    spinner
}

fn target() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(5)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Paper(Arc<Mutex<String>>);

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, words: &str) -> io::Result<()> {
            self.write_str(words)
        }
        fn write_str(&self, words: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(words);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_spinner_says_what_it_waits_for() {
        let paper = Paper::default();
        let spinner = spinner_on(ProgressDrawTarget::term_like(Box::new(paper.clone())), "the quiet room");
        spinner.tick();
        let shown = paper.0.lock().unwrap().clone();
        assert!(shown.contains("the quiet room") && !shown.contains("0/0"), "{shown}");
    }
}
