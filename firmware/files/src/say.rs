//! What a program says on standard output, and beside it on standard error.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A line could not be written.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// A line on standard output, as `println!`, but that it stops nothing where it cannot be written: what the command was asked
/// to do is done all the same, its files are written, outputs and service are left as they should be. That a reader went away
/// (`| head -1`) is his affair; anything else (a full disk) is said once, and the command has failed at its end: [`refused`].
#[macro_export]
macro_rules! say {
    () => { $crate::say::line(format_args!("")) };
    ($($words:tt)*) => { $crate::say::line(format_args!($($words)*)) };
}

/// See [`say!`](crate::say!).
pub fn line(words: Arguments<'_>) {
    match writeln!(std::io::stdout().lock(), "{words}") {
        Ok(()) => {}
        Err(gone) if gone.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => {
            if !REFUSED.swap(true, Relaxed) {
                // Standard error may be gone as well: no reason to panic.
                let _ = writeln!(std::io::stderr(), "standard output: {error}");
            }
        }
    }
}

/// A line on standard error, as `eprintln!`, but that it ends nothing where it cannot be written: a warning must not take with
/// it the work that it warns of, nor an error its exit status. There is nowhere left to say so.
#[macro_export]
macro_rules! tell {
    ($($words:tt)*) => { $crate::say::beside(format_args!($($words)*)) };
}

/// See [`tell!`](crate::tell!).
pub fn beside(words: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{words}");
}

/// Whether a line was lost otherwise than by a reader who went away.
pub fn refused() -> bool {
    REFUSED.load(Relaxed)
}
