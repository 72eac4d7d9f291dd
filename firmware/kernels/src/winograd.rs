//! Winograd's minimal filtering F(2x2, 3x3) (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015,
//! section 4.1): a 3x3 window at four places takes 16 multiplications a channel instead of 36.
//!
//! `Y = At [(G g Gt) * (Bt d B)] A`: `g` are the window's 3x3 weights, `d` is a patch of 4x4 input pixels, `Y` the 2x2 output
//! pixels in its middle, `*` multiplies place by place and is summed over input channels. `G g Gt` is made once
//! ([`transform`]). The matrices hold 0, 1, -1 and 1/2, so patches and outputs take additions alone and rounding hardly
//! grows. F(4x4, 3x3) takes 36 multiplications where four of these take 64, with 2.25 times their weights and ten times their
//! rounding.

use crate::builder::Picture;
use crate::isa::Isa;
use crate::tile;
use crate::weights::Matrix;

/// Places of a patch, hence products of one input and one output channel.
pub(crate) const PLACES: usize = 16;

/// Output pixels from one patch to the next, down and across.
pub(crate) const STEP: usize = 2;

/// Patches down and across.
pub(crate) fn grid(output: Picture) -> [usize; 2] {
    [output.height.div_ceil(STEP), output.width.div_ceil(STEP)]
}

/// Weights of 3x3 windows, (output; input, row, column), as (output; place, input): `G g Gt`, the input's channels padded to
/// `stride`.
pub(crate) fn transform(weights: &[f32], channels: usize, inputs: usize, stride: usize) -> Matrix {
    let positions = PLACES * stride;
    let mut values = vec![0.0; channels * positions];
    for (row, source) in values.chunks_exact_mut(positions).zip(weights.chunks_exact(inputs * 9)) {
        for (input, window) in source.chunks_exact(9).enumerate() {
            let g = |y: usize, x: usize| f64::from(window[y * 3 + x]);
            let down: [[f64; 3]; 4] = transposed(std::array::from_fn(|x| weights_of([g(0, x), g(1, x), g(2, x)])));
            for (y, line) in down.into_iter().enumerate() {
                for (x, value) in weights_of(line).into_iter().enumerate() {
                    row[(y * 4 + x) * stride + input] = value as f32;
                }
            }
        }
    }
    Matrix { channels, positions, values }
}

/// `G` times three weights.
fn weights_of([a, b, c]: [f64; 3]) -> [f64; 4] {
    [a, (a + b + c) / 2.0, (a - b + c) / 2.0, c]
}

fn transposed(columns: [[f64; 4]; 3]) -> [[f64; 3]; 4] {
    std::array::from_fn(|y| std::array::from_fn(|x| columns[x][y]))
}

/// A patch of the input, and where `Bt d B` goes.
pub(crate) struct Patch {
    pub(crate) input: *const f32,
    /// Where its rows and columns begin, from `input` on, in values.
    pub(crate) rows: [usize; 4],
    pub(crate) columns: [usize; 4],
    /// A multiple of the family's lanes.
    pub(crate) channels: usize,
    pub(crate) to: *mut f32,
    /// Values from one place of `to` to the next.
    pub(crate) step: usize,
}

/// What makes the outputs of one patch and panel.
pub(crate) struct Square {
    /// The sums of products, place by place.
    pub(crate) sums: *const f32,
    /// Values from one place of `sums` to the next.
    pub(crate) step: usize,
    pub(crate) bias: *const f32,
    pub(crate) residual: Option<*const f32>,
    /// Values from one pixel of the residual to the one below and beside it.
    pub(crate) residual_steps: [usize; 2],
    pub(crate) output: *mut f32,
    pub(crate) output_steps: [usize; 2],
    /// 1 or 2 pixels down and across: at the picture's end half a square lies outside.
    pub(crate) size: [usize; 2],
    pub(crate) relu: bool,
}

/// `Bt d B` of one patch.
///
/// # Safety
/// The processor has the family's instructions; `channels` values can be read at every place of the patch and written at
/// every place of `to`, which nobody else reads meanwhile.
#[allow(unsafe_code, clippy::needless_range_loop)]
#[inline(always)]
pub(crate) unsafe fn gather<I: Isa>(patch: &Patch) {
    // SAFETY: the caller's promise.
    unsafe {
        for channel in (0..patch.channels).step_by(I::LANES) {
            let mut lines = [[I::zero(); 4]; 4];
            for (line, row) in lines.iter_mut().zip(patch.rows) {
                let at = |x: usize| I::load(patch.input.add(row + patch.columns[x] + channel));
                *line = patch_of::<I>([at(0), at(1), at(2), at(3)]);
            }
            for x in 0..4 {
                let column = patch_of::<I>([lines[0][x], lines[1][x], lines[2][x], lines[3][x]]);
                for (y, value) in column.into_iter().enumerate() {
                    I::store(patch.to.add((y * 4 + x) * patch.step + channel), value);
                }
            }
        }
    }
}

/// `Bt` times four pixels.
///
/// # Safety
/// The processor has the family's instructions.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn patch_of<I: Isa>([a, b, c, d]: [I::Floats; 4]) -> [I::Floats; 4] {
    // SAFETY: the caller's promise.
    unsafe { [I::sub(a, c), I::add(b, c), I::sub(c, b), I::sub(b, d)] }
}

/// `At m A`, bias, residual, ReLU; gives the largest output, or 0 where all are below.
///
/// # Safety
/// The processor has the family's instructions; the panel's values can be read at every place of `sums`, from `bias` and at
/// the residual's pixels, and written at the output's, which nobody else reads or writes meanwhile.
#[allow(unsafe_code, clippy::needless_range_loop)]
#[inline(always)]
pub(crate) unsafe fn scatter<I: Isa, const VECTORS: usize>(square: &Square) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut most = I::zero();
        for channel in (0..VECTORS * I::LANES).step_by(I::LANES) {
            let at = |place: usize| I::load(square.sums.add(place * square.step + channel));
            let mut lines = [[I::zero(); 2]; 4];
            for (y, line) in lines.iter_mut().enumerate() {
                *line = outputs_of::<I>([at(y * 4), at(y * 4 + 1), at(y * 4 + 2), at(y * 4 + 3)]);
            }
            let bias = I::load(square.bias.add(channel));
            for x in 0..square.size[1] {
                let column = outputs_of::<I>([lines[0][x], lines[1][x], lines[2][x], lines[3][x]]);
                for (y, value) in column.into_iter().enumerate().take(square.size[0]) {
                    let place = |steps: [usize; 2]| y * steps[0] + x * steps[1] + channel;
                    let residual = square.residual.map(|residual| residual.add(place(square.residual_steps)));
                    let output = square.output.add(place(square.output_steps));
                    most = tile::put::<I>(I::add(value, bias), residual, square.relu, output, most);
                }
            }
        }
        tile::largest_lane::<I>(most)
    }
}

/// `At` times four sums.
///
/// # Safety
/// The processor has the family's instructions.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn outputs_of<I: Isa>([a, b, c, d]: [I::Floats; 4]) -> [I::Floats; 2] {
    // SAFETY: the caller's promise.
    unsafe { [I::add(I::add(a, b), c), I::sub(I::sub(b, c), d)] }
}
