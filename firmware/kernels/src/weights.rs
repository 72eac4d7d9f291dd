//! Weights of a convolution as the kernels read them.
//!
//! A panel holds some output channels. Float and narrow panels go position by position through the window (row, column,
//! input channel; for [`crate::winograd`] place, input channel), all channels of the panel at each; integer panels go four positions at a time, in the [`Order`] that the
//! processor's instructions want.

use crate::buffer::Buffer;

/// Largest code: symmetric, so that a product with an activation less 128 fits 16 bits twice.
const CODE_MAX: f32 = 127.0;
/// How far a weight may lie from a code to be that code, in codes: some roundings of f32 at 127, no more.
const CODE_SLACK: f32 = 1e-3;

/// Output channels by (row, column, input channel).
pub(crate) struct Matrix {
    pub(crate) channels: usize,
    pub(crate) positions: usize,
    pub(crate) values: Vec<f32>,
}

/// 8-bit codes and a scale for each output channel.
pub(crate) struct Codes {
    pub(crate) values: Vec<i8>,
    pub(crate) scales: Vec<f32>,
}

impl Matrix {
    /// The weights as 8-bit codes where they *are* such codes, each channel's largest 127: nothing is rounded here. That is
    /// how `host-tools convert --weights int8` makes them, and they come here widened to f32.
    pub(crate) fn codes(&self) -> Option<Codes> {
        let mut values = Vec::with_capacity(self.values.len());
        let mut scales = Vec::with_capacity(self.channels);
        for row in self.values.chunks_exact(self.positions) {
            let scale = row.iter().fold(0f32, |most, x| most.max(x.abs())) / CODE_MAX;
            // Of what is smaller there is no inverse: all of it is 0, which it is to every sum.
            let scale = if scale < f32::MIN_POSITIVE { 0.0 } else { scale };
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            for value in row {
                let code = value * inverse;
                if (code - code.round()).abs() > CODE_SLACK {
                    return None;
                }
                values.push(code.round() as i8);
            }
            scales.push(scale);
        }
        Some(Codes { values, scales })
    }
}

/// f32 panels.
pub(crate) fn float_panels(matrix: &Matrix, panel: usize) -> Buffer {
    let mut buffer = Buffer::floats(matrix.channels.div_ceil(panel) * panel * matrix.positions);
    let out = buffer.as_floats_mut();
    for (channel, row) in matrix.values.chunks_exact(matrix.positions).enumerate() {
        let base = channel / panel * panel * matrix.positions + channel % panel;
        for (position, value) in row.iter().enumerate() {
            out[base + position * panel] = *value;
        }
    }
    buffer
}

/// How an 8-bit panel lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Position by position, as f32 panels do: for narrow kernels.
    Positions,
    /// Four positions of a channel beside each other.
    Fours,
    /// The first two of four positions for four channels, then the other two.
    Pairs,
}

/// 8-bit panels; positions are padded to whole fours where they lie so.
pub(crate) fn code_panels(codes: &Codes, positions: usize, panel: usize, order: Order) -> Buffer {
    let channels = codes.scales.len();
    let padded = positions.next_multiple_of(if order == Order::Positions { 1 } else { 4 });
    let mut buffer = Buffer::filled(channels.div_ceil(panel) * panel * padded, 0);
    let out = buffer.as_bytes_mut();
    for (channel, row) in codes.values.chunks_exact(positions).enumerate() {
        let base = channel / panel * panel * padded;
        let lane = channel % panel;
        for (position, code) in row.iter().enumerate() {
            let (four, place) = (position / 4 * panel * 4, position % 4);
            let at = match order {
                Order::Positions => position * panel + lane,
                Order::Fours => four + lane * 4 + place,
                Order::Pairs => four + lane / 4 * 16 + place / 2 * 8 + lane % 4 * 2 + place % 2,
            };
            out[base + at] = code.cast_unsigned();
        }
    }
    buffer
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn weights_that_are_codes_are_found_and_others_left_alone() {
        let scale = 0.003_1_f32;
        let values: Vec<f32> = [127, -3, 0, 64, -127, 1].iter().map(|code| *code as f32 * scale).collect();
        let codes = Matrix { channels: 2, positions: 3, values: values.clone() }.codes().unwrap();
        assert_eq!(codes.values, [127, -3, 0, 64, -127, 1]);
        assert!((codes.scales[0] / scale - 1.0).abs() < 1e-6);
        let mut other = values;
        other[1] *= 1.05;
        assert!(Matrix { channels: 2, positions: 3, values: other }.codes().is_none());
        let next_to_nothing = Matrix { channels: 1, positions: 3, values: vec![-1e-38, 0.0, 1e-39] }.codes().unwrap();
        assert_eq!((&next_to_nothing.values[..], next_to_nothing.scales[0]), (&[0; 3][..], 0.0));
        let nothing = Matrix { channels: 1, positions: 2, values: vec![0.0; 2] }.codes().unwrap();
        assert_eq!((nothing.values, nothing.scales), (vec![0, 0], vec![0.0]));
    }

    #[test]
    fn panels_lie_as_the_kernels_read_them() {
        // Channel c, position p has the value 10 c + p.
        let matrix = Matrix {
            channels: 3,
            positions: 4,
            values: (0..3).flat_map(|c| (0..4).map(move |p| (10 * c + p) as f32)).collect(),
        };
        let floats = float_panels(&matrix, 2);
        assert_eq!(floats.as_floats()[..8], [0.0, 10.0, 1.0, 11.0, 2.0, 12.0, 3.0, 13.0]);
        assert_eq!(floats.as_floats()[8..12], [20.0, 0.0, 21.0, 0.0]);
        let codes = Codes { values: matrix.values.iter().map(|x| *x as i8).collect(), scales: vec![1.0; 3] };
        assert_eq!(code_panels(&codes, 4, 2, Order::Fours).as_bytes_mut()[..8], [0, 1, 2, 3, 10, 11, 12, 13]);
        assert_eq!(code_panels(&codes, 4, 2, Order::Positions).as_bytes_mut()[..4], [0, 10, 1, 11]);
        let pairs = code_panels(&codes, 4, 4, Order::Pairs).as_bytes_mut()[..16].to_vec();
        assert_eq!(pairs, [0, 1, 10, 11, 20, 21, 0, 0, 2, 3, 12, 13, 22, 23, 0, 0]);
    }
}
