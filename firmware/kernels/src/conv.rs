//! One convolution: its weights as this processor's kernels read them, and the walk over panels and tiles.

use std::sync::atomic::{AtomicU32, Ordering};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

use crate::Arithmetic;
use crate::buffer::Buffer;
use crate::builder::{Picture, Window};
use crate::isa::Kernels;
use crate::plan::Slot;
use crate::tile::{PIXELS_MAX, Tile, TileKernel};
use crate::weights::{Matrix, Order, code_panels, float_panels};
use crate::winograd;

/// Under this many multiplications a layer is not worth waking other threads for.
const PARALLEL_MIN: usize = 400_000;

/// Most positions of a window whose sum an i32 holds, whatever the activations: each product is 255 * 127 at the most.
const INTEGER_POSITIONS_MAX: usize = i32::MAX as usize / (255 * 127);

/// How the layer computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// f32 weights, f32 activations.
    Float,
    /// 8-bit weights, f32 activations.
    Narrow,
    /// 8-bit weights, 8-bit activations.
    Integer,
    /// f32 weights transformed for patches ([`crate::winograd`]), f32 activations.
    Winograd,
}

/// A convolution with its weights packed.
pub(crate) struct Conv {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) window: Window,
    pub(crate) output: Picture,
    /// Values of one pixel of the input, padding included.
    pub(crate) input_stride: usize,
    positions: usize,
    pub(crate) weights: Buffer,
    scale: Buffer,
    pub(crate) bias: Buffer,
    start: Buffer,
    macs: usize,
}

/// Where one run of a layer reads and writes.
pub(crate) struct Places<'a> {
    pub(crate) input: (*const u8, &'a Slot),
    pub(crate) residual: Option<(*const f32, &'a Slot)>,
    pub(crate) output: (*mut f32, &'a Slot),
    /// Scale of the input's activations; 1 where they are f32.
    pub(crate) factor: f32,
    pub(crate) relu: bool,
    /// Takes the output's largest value, as bits.
    pub(crate) largest: &'a AtomicU32,
}

// SAFETY: threads read `input` and `residual`, and write disjoint tiles of `output`; `Conv::run` waits for all of them.
#[allow(unsafe_code)]
unsafe impl Sync for Places<'_> {}

impl Conv {
    /// Packs `weights` (output channel, input channel, row, column) for `kernels`.
    pub(crate) fn new(
        kernels: &Kernels,
        (name, window): (String, Window),
        (input, input_stride, never_negative): (Picture, usize, bool),
        (weights, bias): (&[f32], &[f32]),
        arithmetic: Arithmetic,
    ) -> Self {
        let channels = bias.len();
        let mut matrix = in_window_order(weights, channels, input.channels, input_stride, &window);
        let padded = channels.next_multiple_of(kernels.panel);
        let fill = |values: &[f32], rest: f32| {
            let mut all = vec![rest; padded];
            all[..values.len()].copy_from_slice(values);
            Buffer::of_floats(&all)
        };
        let bias = fill(bias, 0.0);
        let output = window.output(input, channels);
        let mut macs = output.pixels() * channels * input.channels * window.size[0] * window.size[1];
        let mut start = vec![0i32; padded];
        let codes = matrix.codes();
        let integer = codes.is_some()
            && arithmetic == Arithmetic::Integer
            && never_negative
            && input_stride.is_multiple_of(16)
            && matrix.positions <= INTEGER_POSITIONS_MAX;
        let (kind, weights, scale) = match codes {
            _ if !integer && patches_pay(kernels, &window, (input, input_stride), output, codes.is_some()) => {
                matrix = winograd::transform(weights, channels, input.channels, input_stride);
                macs = winograd::grid(output).iter().product::<usize>() * winograd::PLACES * channels * input.channels;
                (Kind::Winograd, float_panels(&matrix, kernels.panel), fill(&[], 1.0))
            }
            Some(codes) => {
                if integer && kernels.zero != 0 {
                    for (start, row) in start.iter_mut().zip(codes.values.chunks_exact(matrix.positions)) {
                        *start = i32::from(kernels.zero) * row.iter().map(|code| i32::from(*code)).sum::<i32>();
                    }
                }
                let (kind, order) = match (integer, kernels.paired) {
                    (false, _) => (Kind::Narrow, Order::Positions),
                    (true, false) => (Kind::Integer, Order::Fours),
                    (true, true) => (Kind::Integer, Order::Pairs),
                };
                (kind, code_panels(&codes, matrix.positions, kernels.panel, order), fill(&codes.scales, 0.0))
            }
            None => (Kind::Float, float_panels(&matrix, kernels.panel), fill(&[], 1.0)),
        };
        let positions = matrix.positions;
        let start = Buffer::of_ints(&start);
        Self { name, kind, window, output, input_stride, positions, weights, scale, bias, start, macs }
    }

    /// Multiplications of one picture, as they are done: fewer than the window's definition says where patches are taken.
    pub(crate) fn macs(&self) -> usize {
        self.macs
    }

    /// Bytes of the packed weights.
    pub(crate) fn bytes(&self) -> usize {
        self.weights.len() + self.scale.len() + self.bias.len() + self.start.len()
    }

    /// Floats that each thread needs to itself meanwhile.
    pub(crate) fn scratch(&self, kernels: &Kernels) -> usize {
        if self.kind == Kind::Winograd { self.patch_scratch(kernels) } else { 0 }
    }

    /// Panels that hold outputs.
    pub(crate) fn panels(&self, kernels: &Kernels) -> usize {
        self.output.channels.div_ceil(kernels.panel)
    }

    /// Computes the layer on as many threads of the current pool as there are buffers of `scratch`.
    pub(crate) fn run(&self, kernels: &Kernels, places: &Places<'_>, scratch: &mut [Buffer]) {
        let threads = if self.macs < PARALLEL_MIN { 1 } else { scratch.len() };
        let kernel = match self.kind {
            Kind::Float => (kernels.float, 4),
            Kind::Narrow => (kernels.narrow, 1),
            Kind::Integer => (kernels.integer, 1),
            Kind::Winograd => return self.run_patches(kernels, places, &mut scratch[..threads]),
        };
        let tiles = self.output.pixels().div_ceil(kernels.pixels_max());
        let panels = self.panels(kernels);
        if threads <= 1 {
            for panel in 0..panels {
                self.run_part(kernels, kernel, places, panel, 0..tiles);
            }
            return;
        }
        // Panels first, since each reads its own weights; a few parts a thread, so that one slow thread holds up little.
        let parts = (threads * 4).div_ceil(panels).clamp(1, tiles);
        (0..panels * parts).into_par_iter().with_max_len(1).for_each(|item| {
            let (panel, part) = (item / parts, item % parts);
            self.run_part(kernels, kernel, places, panel, tiles * part / parts..tiles * (part + 1) / parts);
        });
    }

    /// Some tiles of one panel, by a table of kernels whose weights have so many bytes each.
    #[allow(unsafe_code)]
    fn run_part(
        &self,
        kernels: &Kernels,
        (table, bytes): (&[TileKernel], usize),
        places: &Places<'_>,
        panel: usize,
        tiles: std::ops::Range<usize>,
    ) {
        let pixels = self.output.pixels();
        // As equal as can be: 32 pixels by 6 are five or six each, never 2 at the end.
        let all = pixels.div_ceil(kernels.pixels_max());
        let channel = panel * kernels.panel;
        let (input, from) = places.input;
        let (output, to) = places.output;
        let mut largest = 0f32;
        for index in tiles {
            let first = pixels * index / all;
            let count = pixels * (index + 1) / all - first;
            let (mut starts, mut outputs, mut residuals) = ([0; PIXELS_MAX], [0; PIXELS_MAX], [0; PIXELS_MAX]);
            for place in 0..count {
                let (y, x) = ((first + place) / self.output.width, (first + place) % self.output.width);
                starts[place] = from.window_start(y, x, &self.window);
                outputs[place] = to.at(y, x);
                residuals[place] = places.residual.map_or(0, |(_, slot)| slot.at(y, x));
            }
            // SAFETY: the pointers stay inside their buffers: a panel's share of weights, scale, bias and start begins at
            // its first channel, all four are padded to whole panels (`Conv::new`), and so is every pixel of a slot that
            // a convolution writes (`Builder`), hence of a residual of the same shape.
            let tile = unsafe {
                Tile {
                    input,
                    pixels: starts,
                    row_stride: from.row(),
                    rows: self.window.size[0],
                    run: self.window.size[1] * self.input_stride,
                    weights: self.weights.pointer().add(channel * self.positions * bytes),
                    scale: self.scale.pointer().cast::<f32>().add(channel),
                    bias: self.bias.pointer().cast::<f32>().add(channel),
                    factor: places.factor,
                    start: self.start.pointer().cast::<i32>().add(channel),
                    residual: places.residual.map(|(values, _)| values.add(channel)),
                    residual_pixels: residuals,
                    output: output.add(channel),
                    output_pixels: outputs,
                    relu: places.relu,
                }
            };
            // SAFETY: `kernels` is one that `available` gave for this processor; the tile's windows lie inside the input's
            // slot (`Slot::window_start`), and no two tiles share an output.
            largest = largest.max(unsafe { table[count - 1](&tile) });
        }
        places.note(largest);
    }
}

impl Places<'_> {
    /// Takes a part's largest output.
    pub(crate) fn note(&self, largest: f32) {
        // Bits of floats that are not negative are ordered as the floats are.
        self.largest.fetch_max(largest.to_bits(), Ordering::Relaxed);
    }
}

/// Whether [`crate::winograd`] fits a layer and pays. Its weights are 16 / 9 as many: with few pixels a channel, reading them
/// takes as long as the multiplications that they save. Half a pixel a channel is enough: the first three stages of a
/// ResNet34 over 20 s of sound, the first two over 2 s. 8-bit codes would become f32, seven times the memory: they stay
/// codes but where they are few, in the first two stages of 20 s and the first of 2 s.
fn patches_pay(
    kernels: &Kernels,
    window: &Window,
    (input, stride): (Picture, usize),
    output: Picture,
    codes: bool,
) -> bool {
    let fits = Window { size: [3; 2], stride: [1; 2], before: [1; 2], after: [1; 2] };
    let channels = input.channels.max(output.channels);
    let enough = if codes { 4 * channels } else { channels / 2 };
    *window == fits && stride.is_multiple_of(kernels.panel) && output.pixels() >= enough
}

/// Weights from (output, input, row, column) to (output; row, column, input), the input's channels padded to `stride`.
fn in_window_order(weights: &[f32], channels: usize, inputs: usize, stride: usize, window: &Window) -> Matrix {
    let area = window.size[0] * window.size[1];
    let positions = area * stride;
    let mut values = vec![0.0; channels * positions];
    for (row, source) in values.chunks_exact_mut(positions).zip(weights.chunks_exact(inputs * area)) {
        for (input, plane) in source.chunks_exact(area).enumerate() {
            for (place, value) in plane.iter().enumerate() {
                row[place * stride + input] = *value;
            }
        }
    }
    Matrix { channels, positions, values }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::builder::Builder;
    use crate::isa::available;

    /// One pixel of so many channels, all of the largest activation, by weights of the largest code.
    #[test]
    fn a_sum_that_an_i32_would_not_hold_is_made_in_f32() {
        for (channels, kind) in [(66_304, "conv int8"), (66_320, "conv f32, 8-bit weights")] {
            for kernels in available() {
                let (mut builder, input) = Builder::new(kernels, Arithmetic::Integer, [channels, 1, 1]).unwrap();
                let value = builder.relu(input).unwrap();
                let window = Window { size: [1; 2], stride: [1; 2], before: [0; 2], after: [0; 2] };
                let value = builder.conv("long", value, window, &vec![1.0; channels], &[0.0]).unwrap();
                let value = builder.sum(value).unwrap();
                let network = builder.finish(value).unwrap();
                let case = format!("{} {channels}", kernels.name());
                assert!(network.layers().iter().any(|layer| layer.kind == kind), "{case}");
                let mut workspace = network.workspace();
                let sum = network.run(&mut workspace, &vec![1.0; channels], None, &mut |_| ())[0];
                assert!((sum / channels as f32 - 1.0).abs() < 1e-4, "{case}: {sum}");
            }
        }
    }
}
