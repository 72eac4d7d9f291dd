//! What a program says on standard output.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// A line on standard output, as `println!`, but that a reader who went away (`| head -1`) stops nothing: what the command was asked
/// to do is done all the same, and its files are written. Where standard output cannot take it otherwise (a full disk), that
/// is an error: exit 1.
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
            eprintln!("standard output: {error}");
            std::process::exit(1);
        }
    }
}
