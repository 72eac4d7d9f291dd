//! A network, operation by operation, from whoever reads the graph.

use crate::Arithmetic;
use crate::conv::Conv;
use crate::isa::Kernels;
use crate::network::Network;
use crate::plan;

/// Most values that one buffer, or one layer's weights, may hold: 20 s of sound through 64 channels are a hundredth of that.
const VALUES_MAX: usize = 1 << 28;

/// A border that no usual window exceeds; [`Builder::conv`] looks at its own.
const BORDER_USUAL: usize = 8;

/// Why an operation was not taken: the graph does not fit this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused(pub &'static str);

/// What an operation made, for the next to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value(usize);

/// Channels of height x width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) channels: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Picture {
    pub(crate) fn pixels(self) -> usize {
        self.height * self.width
    }
}

/// The window of a convolution or of a pool: rows first, then columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Rows above and columns left of the picture.
    pub before: [usize; 2],
    /// Rows below and columns right of it.
    pub after: [usize; 2],
}

impl Window {
    fn fits(&self, input: Picture) -> bool {
        let extent = [input.height, input.width];
        (0..2).all(|axis| {
            self.size[axis] > 0
                && self.stride[axis] > 0
                // Every window sees something of the picture, and the border is never wider than a window.
                && self.before[axis].max(self.after[axis]) < self.size[axis]
                && extent[axis] + self.before[axis] + self.after[axis] >= self.size[axis]
        })
    }

    pub(crate) fn output(&self, input: Picture, channels: usize) -> Picture {
        let along = |axis: usize, extent: usize| {
            (extent + self.before[axis] + self.after[axis] - self.size[axis]) / self.stride[axis] + 1
        };
        Picture { channels, height: along(0, input.height), width: along(1, input.width) }
    }

    pub(crate) fn border(&self) -> usize {
        self.before.into_iter().chain(self.after).max().unwrap_or(0)
    }
}

pub(crate) enum Op {
    Input,
    Conv {
        x: Value,
        conv: usize,
    },
    MaxPool {
        x: Value,
        window: Window,
    },
    Relu {
        x: Value,
    },
    Add {
        a: Value,
        b: Value,
    },
    /// The sum of each channel's pixels.
    Sum {
        x: Value,
    },
    /// Weights (output, input) times a vector, plus a bias.
    Dense {
        x: Value,
        weights: Vec<f32>,
        bias: Vec<f32>,
    },
}

pub(crate) struct Made {
    pub(crate) op: Op,
    pub(crate) shape: Picture,
    /// Values of one pixel, padding included.
    pub(crate) stride: usize,
    pub(crate) never_negative: bool,
    /// A vector is not taken where a picture is wanted, nor the other way round.
    pub(crate) vector: bool,
}

/// Collects operations; [`Builder::finish`] fuses and places them.
pub struct Builder {
    kernels: &'static Kernels,
    arithmetic: Arithmetic,
    /// Sizes are checked, weights are not packed.
    dry: bool,
    made: Vec<Made>,
    convs: Vec<Conv>,
}

impl Value {
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

impl Builder {
    /// For a picture of `channels` x `height` x `width`, given channel by channel.
    ///
    /// # Errors
    /// Where nothing is left of the picture.
    pub fn new(
        kernels: &'static Kernels,
        arithmetic: Arithmetic,
        [channels, height, width]: [usize; 3],
    ) -> Result<(Self, Value), Refused> {
        let mut builder = Self { kernels, arithmetic, dry: false, made: Vec::new(), convs: Vec::new() };
        let shape = Picture { channels, height, width };
        let input = builder.make(Op::Input, shape, channels, false, false)?;
        Ok((builder, input))
    }

    /// Only finds out whether a graph fits: weights are looked at and not kept, and [`Builder::finish`] refuses.
    pub fn dry(mut self) -> Self {
        self.dry = true;
        self
    }

    /// Channels, height and width of what an operation made; a vector has height and width 1.
    pub fn shape(&self, value: Value) -> [usize; 3] {
        self.made.get(value.0).map_or([0; 3], |made| [made.shape.channels, made.shape.height, made.shape.width])
    }

    /// A convolution with `bias.len()` output channels, weights (output, input, row, column).
    ///
    /// # Errors
    /// Where sizes do not fit or a weight is not finite.
    pub fn conv(
        &mut self,
        name: &str,
        x: Value,
        window: Window,
        weights: &[f32],
        bias: &[f32],
    ) -> Result<Value, Refused> {
        let input = self.picture(x)?;
        let (shape, stride, never_negative) = (input.shape, input.stride, input.never_negative);
        if !window.fits(shape) {
            return Err(Refused("a window that does not fit its picture"));
        }
        // The input's buffer is made with this border (`plan`), which may be wider than what `make` has counted on.
        if !fits_a_buffer(shape, stride, window.border()) {
            return Err(Refused("a picture that is too much with its border"));
        }
        let per_channel = shape.channels * window.size[0] * window.size[1];
        if bias.is_empty() || per_channel.checked_mul(bias.len()) != Some(weights.len()) {
            return Err(Refused("a convolution with another number of weights"));
        }
        if weights.iter().chain(bias).any(|x| !x.is_finite()) {
            return Err(Refused("a weight that is not finite"));
        }
        // Packed, output channels are padded to whole panels and input channels as their picture is.
        let area = window.size[0].checked_mul(window.size[1]).and_then(|area| area.checked_mul(stride));
        let packed = area.and_then(|area| area.checked_mul(bias.len().checked_next_multiple_of(self.kernels.panel)?));
        if packed.is_none_or(|values| values > VALUES_MAX) {
            return Err(Refused("weights that are too many once they are packed"));
        }
        if self.dry {
            let stride = bias.len().next_multiple_of(self.kernels.panel);
            return self.make(Op::Conv { x, conv: 0 }, window.output(shape, bias.len()), stride, false, false);
        }
        let source = (shape, stride, never_negative);
        let conv = Conv::new(self.kernels, (name.to_string(), window), source, (weights, bias), self.arithmetic);
        let output = conv.output;
        self.convs.push(conv);
        let stride = output.channels.next_multiple_of(self.kernels.panel);
        self.make(Op::Conv { x, conv: self.convs.len() - 1 }, output, stride, false, false)
    }

    /// The largest value of each window, its border left out.
    ///
    /// # Errors
    /// Where the window does not fit.
    pub fn max_pool(&mut self, x: Value, window: Window) -> Result<Value, Refused> {
        let input = self.picture(x)?;
        let (shape, stride, never_negative) = (input.shape, input.stride, input.never_negative);
        if !window.fits(shape) {
            return Err(Refused("a window that does not fit its picture"));
        }
        self.make(Op::MaxPool { x, window }, window.output(shape, shape.channels), stride, never_negative, false)
    }

    /// Negative values become 0.
    ///
    /// # Errors
    /// Where `x` is no picture.
    pub fn relu(&mut self, x: Value) -> Result<Value, Refused> {
        let input = self.picture(x)?;
        let (shape, stride) = (input.shape, input.stride);
        self.make(Op::Relu { x }, shape, stride, true, false)
    }

    /// The sum of two pictures.
    ///
    /// # Errors
    /// Where they have not one shape.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value, Refused> {
        let (first, second) = (self.picture(a)?, self.picture(b)?);
        if first.shape != second.shape || first.stride != second.stride {
            return Err(Refused("a sum of two shapes"));
        }
        let never_negative = first.never_negative && second.never_negative;
        let (shape, stride) = (first.shape, first.stride);
        self.make(Op::Add { a, b }, shape, stride, never_negative, false)
    }

    /// The sum of each channel's pixels: a vector.
    ///
    /// # Errors
    /// Where `x` is no picture.
    pub fn sum(&mut self, x: Value) -> Result<Value, Refused> {
        let channels = self.picture(x)?.shape.channels;
        self.make(Op::Sum { x }, Picture { channels, height: 1, width: 1 }, channels, false, true)
    }

    /// A dense layer over a vector, weights (output, input).
    ///
    /// # Errors
    /// Where sizes do not fit or a weight is not finite.
    pub fn dense(&mut self, x: Value, weights: Vec<f32>, bias: Vec<f32>) -> Result<Value, Refused> {
        let input = self.made.get(x.0).filter(|made| made.vector).ok_or(Refused("a dense layer over no vector"))?;
        if bias.is_empty() || input.shape.channels.checked_mul(bias.len()) != Some(weights.len()) {
            return Err(Refused("a dense layer with another number of weights"));
        }
        if weights.iter().chain(&bias).any(|x| !x.is_finite()) {
            return Err(Refused("a weight that is not finite"));
        }
        let outputs = bias.len();
        let shape = Picture { channels: outputs, height: 1, width: 1 };
        self.make(Op::Dense { x, weights, bias }, shape, outputs, false, true)
    }

    /// The network that puts out `value`, a vector.
    ///
    /// # Errors
    /// Where it is none.
    pub fn finish(self, value: Value) -> Result<Network, Refused> {
        let Self { kernels, made, convs, dry, .. } = self;
        if dry {
            return Err(Refused("a dry run has no network"));
        }
        if !made.get(value.0).is_some_and(|made| made.vector) {
            return Err(Refused("an output that is no vector"));
        }
        let plan = plan::plan(&made, &convs, value);
        Ok(Network::new(kernels, made, convs, plan))
    }

    fn picture(&self, value: Value) -> Result<&Made, Refused> {
        self.made.get(value.0).filter(|made| !made.vector).ok_or(Refused("no picture where one is wanted"))
    }

    fn make(
        &mut self,
        op: Op,
        shape: Picture,
        stride: usize,
        never_negative: bool,
        vector: bool,
    ) -> Result<Value, Refused> {
        if shape.height == 0 || shape.width == 0 || shape.channels == 0 || !fits_a_buffer(shape, stride, BORDER_USUAL) {
            return Err(Refused("a picture of no size, or of too much"));
        }
        self.made.push(Made { op, shape, stride, never_negative, vector });
        Ok(Value(self.made.len() - 1))
    }
}

/// Whether a picture with a border on each side is no more than [`VALUES_MAX`].
fn fits_a_buffer(shape: Picture, stride: usize, border: usize) -> bool {
    let along = |extent: usize| extent.checked_add(border.checked_mul(2)?);
    let pixels = along(shape.height).and_then(|height| height.checked_mul(along(shape.width)?));
    pixels.and_then(|pixels| pixels.checked_mul(stride)).is_some_and(|values| values <= VALUES_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_border_that_makes_too_much_of_a_picture_is_refused() {
        // Of one pixel, by a window of one row: the border lies on all sides.
        let conv = |columns: usize, dry: bool| {
            let (builder, input) = Builder::new(Kernels::best(), Arithmetic::Float, [1, 1, 1]).unwrap();
            let mut builder = if dry { builder.dry() } else { builder };
            let window = Window { size: [1, columns], stride: [1; 2], before: [0, columns - 1], after: [0; 2] };
            builder.conv("wide", input, window, &vec![0.5; columns], &[0.0]).map(|value| builder.shape(value))
        };
        for dry in [true, false] {
            assert_eq!(conv(100, dry), Ok([1, 1, 1]));
            // (1 + 2 * 8191)^2 values are just below the bound, (1 + 2 * 8192)^2 just above.
            assert_eq!(conv(8_192, dry), Ok([1, 1, 1]));
            assert!(matches!(conv(8_193, dry), Err(Refused(why)) if why.contains("border")), "dry: {dry}");
        }
    }
}
