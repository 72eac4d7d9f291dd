//! The walk of a [`crate::winograd`] layer: some patches at a time, so that what lies between its three steps stays in the
//! L2 cache.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};

use crate::buffer::Buffer;
use crate::conv::{Conv, Places};
use crate::isa::Kernels;
use crate::tile::{PIXELS_MAX, Tile};
use crate::winograd::{PLACES, Patch, STEP, Square, grid};

/// Most patches of a block: 200 KiB of them at 128 channels. Each block reads the layer's weights once.
const PATCHES_MAX: usize = 24;

/// Floats left free between one place's data and the next's: powers of two apart, all 16 would fall into the same set of the
/// L1 data cache.
const PLACE_GAP: usize = 16;

impl Conv {
    /// Floats that a block needs: the transformed patches, then a panel's sums.
    pub(crate) fn patch_scratch(&self, kernels: &Kernels) -> usize {
        PLACES * (PATCHES_MAX * (self.input_stride + kernels.panel) + 2 * PLACE_GAP)
    }

    /// Computes the layer, a thread for each buffer of `scratch`.
    pub(crate) fn run_patches(&self, kernels: &Kernels, places: &Places<'_>, scratch: &mut [Buffer]) {
        let patches: usize = grid(self.output).iter().product();
        // As equal as can be, and as many for each thread where there are enough.
        let blocks = patches.div_ceil(PATCHES_MAX).next_multiple_of(scratch.len()).min(patches);
        let next = AtomicUsize::new(0);
        let work = |scratch: &mut Buffer| {
            loop {
                let block = next.fetch_add(1, Ordering::Relaxed);
                if block >= blocks {
                    break;
                }
                let range = patches * block / blocks..patches * (block + 1) / blocks;
                self.run_block(kernels, places, scratch, range);
            }
        };
        match scratch {
            [one] => work(one),
            many => many.par_iter_mut().with_max_len(1).for_each(work),
        }
    }

    /// Some patches, through all panels.
    #[allow(unsafe_code)]
    fn run_block(&self, kernels: &Kernels, places: &Places<'_>, scratch: &mut Buffer, range: std::ops::Range<usize>) {
        let (channels, panel_width, count) = (self.input_stride, kernels.panel, range.len());
        let across = grid(self.output)[1];
        let corner = |patch: usize| [patch / across * STEP, patch % across * STEP];
        let (patch_step, sum_step) = (count * channels + PLACE_GAP, count * panel_width + PLACE_GAP);
        let (patches, sums) = scratch.as_floats_mut().split_at_mut(PLACES * patch_step);

        let (input, from) = places.input;
        assert!(from.border >= 1 && sums.len() >= PLACES * sum_step, "a layer's slots and scratch are made for it");
        for (nth, patch) in range.clone().enumerate() {
            let [y, x] = corner(patch);
            // SAFETY: a patch lies inside the picture and its border (`lines`), which is at least 1 (asserted); the 16 places
            // of the `nth` lie in `patches`, `channels` values each, and `channels` is a multiple of the lanes
            // (`patches_pay`); `kernels` is one that `available` gave for this processor.
            unsafe {
                (kernels.gather)(&Patch {
                    input: input.cast::<f32>().add(from.window_start(y, x, &self.window)),
                    rows: lines(y, self.output.height).map(|row| row * from.row()),
                    columns: lines(x, self.output.width).map(|column| column * from.stride),
                    channels,
                    to: patches.as_mut_ptr().add(nth * channels),
                    step: patch_step,
                });
            }
        }

        let groups = count.div_ceil(kernels.pixels_max());
        let each = |step: usize| -> [usize; PIXELS_MAX] { std::array::from_fn(|pixel| pixel * step) };
        // Made once: at 64 channels a kernel is done in 400 cycles, and filling this in takes a tenth of that.
        let mut tile = Tile {
            input: std::ptr::null(),
            pixels: each(channels),
            row_stride: 0,
            rows: 1,
            run: channels,
            weights: std::ptr::null(),
            scale: std::ptr::null(),
            bias: std::ptr::null(),
            factor: 1.0,
            start: std::ptr::null(),
            residual: None,
            residual_pixels: [0; PIXELS_MAX],
            output: std::ptr::null_mut(),
            output_pixels: each(panel_width),
            relu: false,
        };
        let mut largest = 0f32;
        for panel in 0..self.panels(kernels) {
            let channel = panel * panel_width;
            for place in 0..PLACES {
                let weights = (channel * PLACES + place * panel_width) * channels * 4;
                for group in 0..groups {
                    let first = count * group / groups;
                    let pixels = count * (group + 1) / groups - first;
                    // SAFETY: patches and sums of `first` and the `pixels` after it lie in their slices (`patch_scratch`), a
                    // panel's weights of one place are `channels * panel_width` (`winograd::transform`); this kernel reads
                    // nothing else.
                    unsafe {
                        tile.input = patches.as_ptr().add(place * patch_step + first * channels).cast();
                        tile.weights = self.weights.pointer().add(weights);
                        tile.output = sums.as_mut_ptr().add(place * sum_step + first * panel_width);
                        kernels.products[pixels - 1](&tile);
                    }
                }
            }
            let (output, to) = places.output;
            for (nth, patch) in range.clone().enumerate() {
                let [y, x] = corner(patch);
                // SAFETY: the sums of the `nth` patch were made above; pixels of output and residual are of the picture, and
                // every pixel holds whole panels, as the bias does (`Builder`, `Conv::new`); no two patches share an output.
                largest = largest.max(unsafe {
                    (kernels.scatter)(&Square {
                        sums: sums.as_ptr().add(nth * panel_width),
                        step: sum_step,
                        bias: self.bias.pointer().cast::<f32>().add(channel),
                        residual: places.residual.map(|(values, slot)| values.add(slot.at(y, x) + channel)),
                        residual_steps: places.residual.map_or([0; 2], |(_, slot)| [slot.row(), slot.stride]),
                        output: output.add(to.at(y, x) + channel),
                        output_steps: [to.row(), to.stride],
                        size: [STEP.min(self.output.height - y), STEP.min(self.output.width - x)],
                        relu: places.relu,
                    })
                });
            }
        }
        places.note(largest);
    }
}

/// The four rows (or columns) of a patch whose outputs begin at `at`, from its first on. At the end of an odd picture the last
/// would lie beyond the border: the one before stands in for it, since only an output outside the picture depends on it.
fn lines(at: usize, extent: usize) -> [usize; 4] {
    std::array::from_fn(|line| line.min(extent + 1 - at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_patch_lies_beyond_the_border_of_one() {
        for extent in 1..10 {
            for at in (0..extent).step_by(STEP) {
                // Counted from the border's first line on, the picture's last has the number `extent`.
                for (line, found) in lines(at, extent).into_iter().enumerate() {
                    let inside = at + line <= extent + 1;
                    assert!(at + found <= extent + 1, "line {line} of the patch at {at} of {extent}");
                    assert!(!inside || found == line, "line {line} of the patch at {at} of {extent}");
                }
            }
        }
        assert_eq!(lines(2, 3), [0, 1, 2, 2]);
    }
}
