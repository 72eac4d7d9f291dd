//! The worker's sessions in a row.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::AtomicU32;

use super::fake_card::FakeCard;
use super::*;

const AGREED: Agreed = Agreed { rate_hz: 48_000, channels: 1, sample: sample::Sample::S16, period: 48 };

/// Gives one frame after its opening, and then none.
fn hiccup() -> FakeCard {
    FakeCard { now: clock::since_boot(), frames: 1, ..FakeCard::default() }
}

#[test]
fn a_card_that_gives_a_little_after_each_opening_is_stalled_all_the_same() {
    let (sink, _sound) = sink::ring(1_000);
    let (status, opened, stalled) = (Status::default(), AtomicU32::new(0), AtomicU32::new(0));
    let notify = |notice| match notice {
        Notice::Opened { .. } if opened.fetch_add(1, Relaxed) > 8 => status.stop.store(true, Relaxed),
        Notice::Stalled { .. } => {
            stalled.fetch_add(1, Relaxed);
            status.stop.store(true, Relaxed);
        }
        _ => {}
    };
    Worker { device: "hiccup", sink, status: &status, notify: &notify }.run(|| Ok((hiccup(), AGREED)));
    assert_eq!((opened.load(Relaxed), stalled.load(Relaxed)), (STALLS, 1));
}

#[test]
fn what_passes_before_the_card_first_comes_is_missing_sound() {
    let (sink, mut sound) = sink::ring(1_000);
    let (status, tries) = (Status::default(), AtomicU32::new(0));
    let notify = |notice| {
        if matches!(notice, Notice::Stalled { .. }) || tries.load(Relaxed) > 3 {
            status.stop.store(true, Relaxed);
        }
    };
    let began = Instant::now();
    let open = || match tries.fetch_add(1, Relaxed) {
        0 | 1 => Err("no such device".to_string()),
        _ => Ok((hiccup(), AGREED)),
    };
    Worker { device: "late", sink, status: &status, notify: &notify }.run(open);
    let mark = sound.marks.pop().unwrap();
    assert_eq!((mark.session, mark.at), (1, 0));
    assert!(mark.gap >= BACK_OFF.0 * 2 && mark.gap <= began.elapsed(), "{:?}", mark.gap);
}

#[test]
fn a_card_that_does_not_answer_is_no_thread_that_stands_still() {
    let (sink, _sound) = sink::ring(1_000);
    let status = Arc::new(Status::default());
    let progress = status.progress();
    let (opening, opens) = std::sync::mpsc::channel();
    let (answer, answers) = std::sync::mpsc::channel::<()>();
    let shared = &*status;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let open = || {
                opening.send(()).unwrap();
                answers.recv().unwrap();
                shared.stop.store(true, Relaxed);
                Err::<(FakeCard, Agreed), _>("no such device".to_string())
            };
            Worker { device: "stuck", sink, status: shared, notify: &|_| {} }.run(open);
        });
        opens.recv().unwrap();
        let looks = [progress(), progress(), progress()];
        assert!(looks.is_sorted_by(|a, b| a < b), "{looks:?}");
        assert_eq!(status.at_card(), Some(1), "the same turn all the time");
        answer.send(()).unwrap();
        thread.join().unwrap();
    });
    assert_eq!(status.at_card(), None);
    assert_eq!(progress(), progress(), "it has ended");
}
