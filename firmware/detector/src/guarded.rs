//! Work on a file's say-so that must not end the program: tract panics on graphs that no exporter writes (a stride of 0, no node at all).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Sets a panic hook that a panic which [`guarded`] catches does not reach.
pub fn set_hook(hook: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info| {
        if !GUARDED.get() {
            hook(info);
        }
    }));
}

/// From now on the hook that is set says nothing of such a panic. For `main`, before other hooks.
pub fn leave_to_guards() {
    set_hook(std::panic::take_hook());
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
        assert_eq!(guarded(|| GUARDED.get()), Ok(true));
        let divide = |by: usize| guarded(move || 1 / std::hint::black_box(by));
        assert!(divide(0).unwrap_err().contains("divide by zero"));
        assert_eq!((divide(1), GUARDED.get()), (Ok(1), false));
        let inner = guarded(|| guarded(|| panic!("inner")).map_err(|words| (words, GUARDED.get())));
        assert_eq!(inner.unwrap().unwrap_err(), ("inner".to_string(), true));
    }
}
