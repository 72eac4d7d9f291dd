//! The last `window_s` of sound, kept in one fixed buffer, handed out every `stride_s`.

/// Where a window lies in the sound, in samples from the start of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Number of the window, from 0.
    pub seq: u64,
    /// First sample.
    pub start: u64,
    /// One past the last sample.
    pub end: u64,
}

/// A sliding window over a stream of samples.
pub struct SlidingWindow {
    buffer: Vec<f32>,
    filled: usize,
    /// Samples between two windows; a fraction is kept, so that starts do not drift.
    stride: f64,
    span: Span,
    /// Samples to drop before the next window begins: a stride longer than the window.
    skip: u64,
}

impl SlidingWindow {
    /// `window` and `stride` in samples, both at least 1.
    pub fn new(window: usize, stride: f64) -> Self {
        let window = window.max(1);
        Self {
            buffer: vec![0.0; window],
            filled: 0,
            stride: stride.max(1.0),
            span: Span { seq: 0, start: 0, end: window as u64 },
            skip: 0,
        }
    }

    /// Takes samples until a window is full. Returns those it did not take, and the window's place where one is full;
    /// [`Self::samples`] holds it until the next call.
    pub fn push<'a>(&mut self, samples: &'a [f32]) -> (&'a [f32], Option<Span>) {
        if samples.is_empty() {
            return (samples, None);
        }
        if self.filled == self.buffer.len() {
            self.slide();
        }
        let dropped = (self.skip.min(samples.len() as u64)) as usize;
        self.skip -= dropped as u64;
        let samples = &samples[dropped..];
        let take = (self.buffer.len() - self.filled).min(samples.len());
        self.buffer[self.filled..self.filled + take].copy_from_slice(&samples[..take]);
        self.filled += take;
        (&samples[take..], (self.filled == self.buffer.len()).then_some(self.span))
    }

    /// The window's samples, oldest first.
    pub fn samples(&self) -> &[f32] {
        &self.buffer
    }

    /// How many zeros a source that ends now is padded with, so that every sample is scored: to the next window's end,
    /// at least one window; none where it ended with a window.
    pub fn missing(&self) -> usize {
        self.buffer.len() - self.filled
    }

    fn slide(&mut self) {
        let seq = self.span.seq + 1;
        let start = (seq as f64 * self.stride).round() as u64;
        let shift = start - self.span.start;
        let window = self.buffer.len();
        if shift < window as u64 {
            self.buffer.copy_within(shift as usize.., 0);
            self.filled = window - shift as usize;
        } else {
            self.filled = 0;
            self.skip = shift - window as u64;
        }
        self.span = Span { seq, start, end: start + window as u64 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes 0, 1, 2.. in pieces of `piece` and lists the windows' spans; checks that each holds its own samples.
    fn spans(window: usize, stride: f64, samples: usize, piece: usize) -> (Vec<(u64, u64)>, usize) {
        let sound: Vec<f32> = (0..samples).map(|x| x as f32).collect();
        let mut sliding = SlidingWindow::new(window, stride);
        let mut found = Vec::new();
        for mut part in sound.chunks(piece) {
            while !part.is_empty() {
                let (rest, span) = sliding.push(part);
                part = rest;
                if let Some(span) = span {
                    assert_eq!(span.seq, found.len() as u64);
                    let expected: Vec<f32> = (span.start..span.end).map(|x| x as f32).collect();
                    assert_eq!(sliding.samples(), expected);
                    found.push((span.start, span.end));
                }
            }
        }
        (found, sliding.missing())
    }

    #[test]
    fn windows_lie_a_stride_apart_whatever_the_pieces() {
        for piece in [1, 3, 7, 100] {
            assert_eq!(spans(8, 4.0, 20, piece), (vec![(0, 8), (4, 12), (8, 16), (12, 20)], 0));
            assert_eq!(spans(8, 4.0, 21, piece), (vec![(0, 8), (4, 12), (8, 16), (12, 20)], 3));
            assert_eq!(spans(8, 4.0, 5, piece), (vec![], 3));
            assert_eq!(spans(4, 10.0, 25, piece), (vec![(0, 4), (10, 14), (20, 24)], 4));
            assert_eq!(spans(4, 2.5, 12, piece), (vec![(0, 4), (3, 7), (5, 9), (8, 12)], 0));
        }
    }

    #[test]
    fn an_empty_source_is_one_window_short() {
        assert_eq!(SlidingWindow::new(8, 4.0).missing(), 8);
    }
}
