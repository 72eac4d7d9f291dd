//! A simulated card that does its worst, by a seed: every frame that it gave is in the ring, every one that it lost in a
//! mark, and nothing was allocated.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::capture::fake_card::FakeCard;
use crate::capture::sink::{self, Sound};

const RATE_HZ: u32 = 48_000;
const PERIOD: usize = 48;
const AGREED: Agreed = Agreed { rate_hz: RATE_HZ, channels: 1, sample: Sample::S32, period: PERIOD };
/// Frames in the simulated kernel.
const BUFFER: u64 = 10 * PERIOD as u64;

/// Time in frames; each frame's sample is its number. What a step does is drawn.
struct SimCard {
    random: u64,
    /// Now.
    clock: u64,
    /// First frame that has not been read.
    next: u64,
    suspended: bool,
    xrun: bool,
    steps: u64,
    /// Steps after which it is unplugged.
    unplugged_after: u64,
    /// From this step on it never gives a frame.
    dead_after: u64,
    /// How often it fails.
    troubled: bool,
    log: std::rc::Rc<std::cell::RefCell<Log>>,
}

/// What the simulation knows to be true. Filled without allocating.
#[derive(Default)]
struct Log {
    given: u64,
    lost: u64,
    restarts: u64,
}

impl SimCard {
    fn draw(&mut self, below: u64) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn pass(&mut self, frames: u64) {
        self.clock += frames;
        if self.clock - self.next > BUFFER && !self.suspended {
            self.xrun = true;
        }
    }

    fn trouble(&mut self) -> Result<(), Errno> {
        self.steps += 1;
        if self.steps >= self.unplugged_after {
            return Err(Errno::NODEV);
        }
        if self.troubled {
            match self.draw(400) {
                0 => self.pass(BUFFER * 3),
                1 => self.suspended = true,
                2..=9 => return Err(Errno::INTR),
                10..=19 => return Err(Errno::AGAIN),
                _ => {}
            }
        }
        match (self.suspended, self.xrun) {
            (true, _) => Err(Errno::STRPIPE),
            (_, true) => Err(Errno::PIPE),
            _ => Ok(()),
        }
    }

    fn lose_to(&mut self, frame: u64) {
        self.log.borrow_mut().lost += frame - self.next;
        self.next = frame;
    }
}

impl Card for SimCard {
    fn wait(&mut self, limit: Duration) -> Result<bool, Errno> {
        self.trouble()?;
        if self.steps >= self.dead_after {
            self.next = self.clock;
            self.clock += (limit.as_secs_f64() * f64::from(RATE_HZ)) as u64;
            self.next = self.clock;
            // A dead card may claim to be ready.
            return Ok(self.draw(2) == 0);
        }
        if self.draw(50) == 0 {
            return Ok(true);
        }
        // Frames that wait are there at once; else time passes until some have come.
        let frames = if self.clock > self.next { 0 } else { self.draw(2 * PERIOD as u64) };
        self.pass(frames);
        Ok(self.clock > self.next)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        self.trouble()?;
        let room = (bytes.len() / 4) as u64;
        let short = if self.draw(10) == 0 { self.draw(room) + 1 } else { room };
        let frames = short.min(self.clock - self.next);
        if frames == 0 {
            return Err(Errno::AGAIN);
        }
        for (frame, out) in (self.next..).zip(bytes.chunks_exact_mut(4)).take(frames as usize) {
            // 24 bits pass through a float unharmed.
            out.copy_from_slice(&((frame as i32 % (1 << 23)) << 8).to_le_bytes());
        }
        self.next += frames;
        self.log.borrow_mut().given += frames;
        Ok(frames as usize)
    }

    fn waiting(&mut self) -> usize {
        (self.clock - self.next) as usize
    }

    fn restart(&mut self) -> Result<(), Errno> {
        (self.xrun, self.suspended) = (false, false);
        self.lose_to(self.clock);
        self.log.borrow_mut().restarts += 1;
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Errno> {
        self.clock += u64::from(RATE_HZ) / 10;
        match self.draw(4) {
            0 => {
                self.suspended = false;
                self.lose_to(self.clock);
                Ok(())
            }
            1 => Err(Errno::NOSYS),
            _ => Err(Errno::AGAIN),
        }
    }

    fn now(&self) -> Duration {
        Duration::from_nanos((self.clock as f64 / f64::from(RATE_HZ) * 1e9) as u64)
    }

    fn rest(&mut self, time: Duration) {
        self.pass((time.as_secs_f64() * f64::from(RATE_HZ)) as u64);
    }
}

fn card(seed: u64, log: &std::rc::Rc<std::cell::RefCell<Log>>) -> SimCard {
    SimCard {
        random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        clock: 1_000,
        next: 1_000,
        suspended: false,
        xrun: false,
        steps: 0,
        unplugged_after: u64::MAX,
        dead_after: u64::MAX,
        troubled: true,
        log: std::rc::Rc::clone(log),
    }
}

fn seconds(frames: u64) -> f64 {
    frames as f64 / f64::from(RATE_HZ)
}

/// Reads the ring as the listener does: frames must be consecutive but for what the marks say.
#[derive(Default)]
struct Reader {
    taken: u64,
    /// By the marks, in frames.
    missing: f64,
    expected: Option<f64>,
}

impl Reader {
    fn read(&mut self, sound: &mut Sound) {
        const WRAP: f64 = (1 << 23) as f64;
        while let Ok(sample) = sound.samples.pop() {
            let frame = (f64::from(sample) * WRAP).round();
            while sound.marks.peek().is_ok_and(|mark| mark.at == self.taken) {
                let gap = sound.marks.pop().unwrap().gap.as_secs_f64() * f64::from(RATE_HZ);
                self.missing += gap;
                self.expected = self.expected.map(|frame| (frame + gap).round());
            }
            if let Some(expected) = self.expected {
                let apart = (frame - expected).rem_euclid(WRAP);
                assert!(apart.min(WRAP - apart) <= 1.0, "frame {frame} where {expected} was due");
            }
            self.expected = Some(frame + 1.0);
            self.taken += 1;
        }
    }
}

#[test]
fn a_million_random_steps_lose_no_frame_unmarked_and_allocate_nothing() {
    const STEPS: u64 = 1_000_000;
    const SLICE: u64 = 2_000;
    let log = std::rc::Rc::default();
    // Less than a slice may bring: the ring overflows as well.
    let (mut sink, mut sound) = sink::ring(16_000);
    let (status, mut reader) = (Status::default(), Reader::default());
    let mut session = Session::new(card(1, &log), AGREED);
    for slice in 1..=STEPS / SLICE {
        session.card.unplugged_after = slice * SLICE;
        let mut end = End::Stopped;
        let counted = allocation_counter::measure(|| end = session.run(&mut sink, &mut None, &status));
        assert_eq!(end, End::Lost(Errno::NODEV), "slice {slice}");
        assert_eq!(counted.count_total, 0, "slice {slice}: allocated inside a session");
        reader.read(&mut sound);
    }
    let (given, lost, restarts) = (log.borrow().given, log.borrow().lost, log.borrow().restarts);
    let full = status.full_frames.load(Relaxed);
    assert_eq!(reader.taken + full, given);
    assert!(restarts > 1_000 && full > 10_000, "{restarts} restarts, {full} frames without room are no test");
    // A loss after the last frame has not been told yet.
    let (missing_s, lost_s) = (reader.missing / f64::from(RATE_HZ), seconds(lost + full));
    assert!(missing_s <= lost_s + 1e-3 && missing_s >= lost_s - 3.0, "{missing_s} s told of {lost_s} s");
}

#[test]
fn an_xruns_gap_is_as_long_as_what_was_lost() {
    let log = std::rc::Rc::default();
    let mut card = card(1, &log);
    (card.troubled, card.unplugged_after) = (false, 1_000);
    let mut session = Session::new(card, AGREED);
    let (mut sink, mut sound) = sink::ring(1_000_000);
    let status = Status::default();
    session.run(&mut sink, &mut None, &status);
    // Nobody reads for two seconds, as with SIGSTOP.
    session.card.pass(2 * u64::from(RATE_HZ));
    session.card.unplugged_after = 2_000;
    let end = session.run(&mut sink, &mut None, &status);
    assert_eq!((end, status.xruns.load(Relaxed)), (End::Lost(Errno::NODEV), 1));
    let mut reader = Reader::default();
    reader.read(&mut sound);
    let missing_s = reader.missing / f64::from(RATE_HZ);
    assert!((missing_s - seconds(log.borrow().lost)).abs() < 1e-4, "{missing_s}");
    assert!((2.0..2.02).contains(&missing_s), "{missing_s}");
}

#[test]
fn a_card_that_gives_nothing_is_stalled_within_a_second_and_a_half() {
    for seed in 1..=100 {
        let log = std::rc::Rc::default();
        let mut card = card(seed, &log);
        (card.troubled, card.dead_after) = (false, seed * 3);
        let mut session = Session::new(card, AGREED);
        let (mut sink, _sound) = sink::ring(1_000_000);
        let mut last_heard = None;
        let end = session.run(&mut sink, &mut last_heard, &Status::default());
        assert_eq!(end, End::Stalled(Duration::from_secs(1)));
        let silent = session.card.now() - session.fed;
        assert!(silent < Duration::from_millis(1_500), "{silent:?}");
        assert_eq!(session.heard, log.borrow().given > 0);
    }
    let slow = Agreed { period: 9_600, ..AGREED };
    assert_eq!(Session::new(card(1, &std::rc::Rc::default()), slow).stalled, Duration::from_millis(1_600));
}

#[test]
fn the_time_between_two_sessions_is_a_gap_too() {
    let log = std::rc::Rc::default();
    let (mut sink, mut sound) = sink::ring(1_000_000);
    let mut last_heard = None;
    let mut first = card(3, &log);
    (first.troubled, first.unplugged_after) = (false, 100);
    let mut session = Session::new(first, AGREED);
    session.run(&mut sink, &mut last_heard, &Status::default());
    let mut second = card(4, &log);
    let back = session.card.clock + 5 * u64::from(RATE_HZ);
    (second.troubled, second.unplugged_after, second.clock, second.next) = (false, 100, back, back);
    Session::new(second, AGREED).run(&mut sink, &mut last_heard, &Status::default());
    let marks: Vec<_> = std::iter::from_fn(|| sound.marks.pop().ok()).collect();
    assert_eq!(marks.iter().map(|mark| mark.session).collect::<Vec<_>>(), [1, 2]);
    let gap_s = marks[1].gap.as_secs_f64();
    assert!((5.0..5.1).contains(&gap_s), "{gap_s}");
}

#[test]
fn sessions_that_hear_nothing_tell_what_is_missing_once() {
    let (mut sink, mut sound) = sink::ring(1_000);
    let mut last_heard = None;
    let mut hear = |now_s, frames| {
        let card = FakeCard { now: Duration::from_secs(now_s), frames, ..FakeCard::default() };
        Session::new(card, AGREED).run(&mut sink, &mut last_heard, &Status::default());
    };
    hear(10, 1);
    // Each is stalled after a second; between them nobody listens.
    (2..10).for_each(|session| hear(10 * session, 0));
    hear(100, 1);
    let gap = std::iter::from_fn(|| sound.marks.pop().ok()).map(|mark| mark.gap).sum::<Duration>();
    // Its frame came when the first wait was over, and so did the last one's.
    assert_eq!(gap, Duration::from_secs(90) - WAIT_MAX);
}

#[test]
fn what_is_missing_before_a_card_is_lost_is_told_once_too() {
    let (mut sink, mut sound) = sink::ring(1_000);
    let (mut last_heard, status) = (None, Status::default());
    let mut first = Session::new(FakeCard { frames: 1, ..FakeCard::default() }, AGREED);
    first.run(&mut sink, &mut last_heard, &status);
    // An xrun that each restart brings back: time passes, no frame comes, the card is given up.
    let mut second = Session::new(FakeCard { now: first.card.now, fails: true, ..FakeCard::default() }, AGREED);
    assert_eq!(second.run(&mut sink, &mut last_heard, &status), End::Lost(Errno::PIPE));
    let mut third = Session::new(FakeCard { now: second.card.now, frames: 1, ..FakeCard::default() }, AGREED);
    third.run(&mut sink, &mut last_heard, &status);
    let gap = std::iter::from_fn(|| sound.marks.pop().ok()).map(|mark| mark.gap).sum::<Duration>();
    assert_eq!(gap, second.card.now - WAIT_MAX);
}

#[test]
fn a_stop_ends_it() {
    let (mut sink, _sound) = sink::ring(1_000_000);
    let status = Status::default();
    status.stop.store(true, Relaxed);
    let mut session = Session::new(card(1, &std::rc::Rc::default()), AGREED);
    assert_eq!(session.run(&mut sink, &mut None, &status), End::Stopped);
}

#[test]
fn a_card_that_fails_at_each_restart_is_given_up_and_takes_no_core_until_then() {
    let (mut sink, _sound) = sink::ring(1_000);
    let mut session = Session::new(FakeCard { fails: true, ..FakeCard::default() }, AGREED);
    let end = session.run(&mut sink, &mut None, &Status::default());
    assert_eq!((end, session.card.restarts), (End::Lost(Errno::PIPE), RESTARTS.0));
    assert!(session.card.now >= RESTARTS.1 * (RESTARTS.0 - 1), "{:?}", session.card.now);
}

/// Suspended, resumed, suspended: a driver that flaps.
#[test]
fn a_card_that_is_suspended_again_and_again_is_given_up_too() {
    let (mut sink, _sound) = sink::ring(1_000);
    let mut session = Session::new(FakeCard { flaps: true, ..FakeCard::default() }, AGREED);
    let end = session.run(&mut sink, &mut None, &Status::default());
    assert_eq!(end, End::Lost(Errno::STRPIPE));
    assert!(session.card.now >= RESTARTS.1 * (RESTARTS.0 - 1), "{:?}", session.card.now);
}

/// A USB device that is stuck: each request is answered after seconds. Only a session of its own is heard of again.
#[test]
fn a_card_that_takes_seconds_to_begin_anew_is_opened_anew() {
    let (mut sink, _sound) = sink::ring(1_000);
    let status = Status::default();
    let stuck = FakeCard { fails: true, restart_takes: Duration::from_secs(5), ..FakeCard::default() };
    let mut session = Session::new(stuck, AGREED);
    assert_eq!(session.run(&mut sink, &mut None, &status), End::Lost(Errno::TIMEDOUT));
    assert_eq!((session.card.restarts, status.at_card()), (1, None));
}
