//! Work on a file's say-so that must not end the program: tract panics on graphs that no exporter writes (a stride of 0, no node at all).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the panic at hand, in this thread, is one that [`guarded`] catches: a panic hook has nothing to say of it.
pub fn is_guarded() -> bool {
    GUARDED.get()
}

/// From now on the panic hook that is set says nothing of a panic that [`guarded`] catches. For `main`, before other hooks.
pub fn leave_to_guards() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_guarded() {
            report(info);
        }
    }));
}

/// What `work` makes.
///
/// # Errors
/// The words of its panic.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = GUARDED.replace(true);
    // What it was at work on is dropped, or never seen again.
    let made = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    made.map_err(|panic| {
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        words.unwrap_or("a panic without words").to_string()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_words() {
        assert_eq!(guarded(is_guarded), Ok(true));
        let divide = |by: usize| guarded(move || 1 / std::hint::black_box(by));
        assert!(divide(0).unwrap_err().contains("divide by zero"));
        assert_eq!((divide(1), is_guarded()), (Ok(1), false));
        let inner = guarded(|| guarded(|| panic!("inner")).map_err(|words| (words, is_guarded())));
        assert_eq!(inner.unwrap().unwrap_err(), ("inner".to_string(), true));
    }
}
