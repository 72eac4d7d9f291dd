//! Where captured sound goes: a ring of samples, and a second, small ring of marks that say where sound is missing.
//!
//! Neither side waits for the other. A full ring drops the newest sound, and the next mark says how much.

use std::time::Duration;

/// Marks that the reader may leave unread.
const MARKS: usize = 64;

/// Something between two samples of the ring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mark {
    /// Samples of the ring before it.
    pub at: u64,
    /// Sound that is missing here.
    pub gap: Duration,
    /// Rate from here on, hertz.
    pub rate_hz: u32,
    /// Which session the sound after it is of, from 1.
    pub session: u32,
}

/// The writing end.
pub struct Sink {
    samples: rtrb::Producer<f32>,
    marks: rtrb::Producer<Mark>,
    pushed: u64,
    /// What the next mark will say.
    next: Mark,
    told: Option<Mark>,
}

/// The reading end.
pub struct Sound {
    /// Samples of one channel.
    pub samples: rtrb::Consumer<f32>,
    /// Look at these before the samples: a mark is written before the sample that it stands before.
    pub marks: rtrb::Consumer<Mark>,
}

/// A ring of `length` samples.
pub fn ring(length: usize) -> (Sink, Sound) {
    let (samples, reader) = rtrb::RingBuffer::new(length);
    let (marks, mark_reader) = rtrb::RingBuffer::new(MARKS);
    let next = Mark { at: 0, gap: Duration::ZERO, rate_hz: 0, session: 0 };
    (Sink { samples, marks, pushed: 0, next, told: None }, Sound { samples: reader, marks: mark_reader })
}

impl Sink {
    /// Sound of another session follows, at this rate.
    pub fn begin_session(&mut self, rate_hz: u32) {
        self.next.rate_hz = rate_hz;
        self.next.session += 1;
    }

    /// Sound of this length is missing before the next sample.
    pub fn gap(&mut self, length: Duration) {
        self.next.gap += length;
    }

    /// Writes `frames` samples, all or none; false where there was no room for them.
    pub fn push(&mut self, frames: usize, samples: impl Iterator<Item = f32>) -> bool {
        let news = self.told.is_none_or(|told| told.session != self.next.session) || !self.next.gap.is_zero();
        let fits = self.samples.slots() >= frames && !(news && self.marks.is_full());
        if fits && let Ok(chunk) = self.samples.write_chunk_uninit(frames) {
            if news {
                let mark = Mark { at: self.pushed, ..self.next };
                // There is room, as just seen, and nobody else writes.
                let _ = self.marks.push(mark);
                self.told = Some(mark);
                self.next.gap = Duration::ZERO;
            }
            self.pushed += chunk.fill_from_iter(samples) as u64;
            return true;
        }
        self.next.gap += Duration::from_secs_f64(frames as f64 / f64::from(self.next.rate_hz.max(1)));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_marked_where_it_is_missing() {
        let (mut sink, mut sound) = ring(8);
        sink.begin_session(1_000);
        assert!(sink.push(6, (0..6).map(|x| x as f32)));
        assert!(!sink.push(4, (6..10).map(|x| x as f32)), "all or none");
        assert!(!sink.push(3, (10..13).map(|x| x as f32)));
        let first = Mark { at: 0, gap: Duration::ZERO, rate_hz: 1_000, session: 1 };
        assert_eq!(sound.marks.pop(), Ok(first));
        assert!(sound.marks.pop().is_err(), "the gap's end is not known before the next sample");
        assert_eq!(std::iter::from_fn(|| sound.samples.pop().ok()).count(), 6);
        assert!(sink.push(1, std::iter::once(13.0)));
        assert_eq!(sound.marks.pop(), Ok(Mark { at: 6, gap: Duration::from_millis(7), ..first }));
        assert!(sink.push(1, std::iter::once(14.0)) && sound.marks.pop().is_err());
    }
}
