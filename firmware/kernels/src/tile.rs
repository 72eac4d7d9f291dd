//! The inner loops: a few pixels by one panel of channels, written once over [`Isa`].

use crate::isa::Isa;

/// Most pixels in a tile of any family.
pub(crate) const PIXELS_MAX: usize = 8;

/// What one call computes. Pointers, since rows of a picture and of its border are not one slice a pixel, and several
/// threads write disjoint tiles of one output.
pub(crate) struct Tile {
    /// The input: f32 or activations.
    pub(crate) input: *const u8,
    /// Where in it each pixel's window begins, in values.
    pub(crate) pixels: [usize; PIXELS_MAX],
    /// Values from one row of a window to the next.
    pub(crate) row_stride: usize,
    /// Rows of the window.
    pub(crate) rows: usize,
    /// Values in a row of the window (a multiple of 4 for integer kernels).
    pub(crate) run: usize,
    /// The panel: `rows * run` by channels, in the order that the kernel reads.
    pub(crate) weights: *const u8,
    /// What a channel's sum is multiplied by, and what is added after that.
    pub(crate) scale: *const f32,
    pub(crate) bias: *const f32,
    /// What `scale` is multiplied by before: the scale of the activations, or 1.
    pub(crate) factor: f32,
    /// Where the sum of integer kernels begins.
    pub(crate) start: *const i32,
    /// Added to the output, where there is one, at these places.
    pub(crate) residual: Option<*const f32>,
    pub(crate) residual_pixels: [usize; PIXELS_MAX],
    pub(crate) output: *mut f32,
    pub(crate) output_pixels: [usize; PIXELS_MAX],
    /// Negative outputs become 0.
    pub(crate) relu: bool,
}

/// Computes a tile; gives the largest output, or 0 where all are below.
///
/// # Safety
/// The processor has the family's instructions, and the tile's pointers are valid for all that its sizes name: for each
/// pixel of the kernel `rows` runs of input, `panel` values of output and residual; `rows * run * panel` weights; `panel`
/// of scale, bias and start. Nobody else reads or writes the outputs meanwhile.
pub(crate) type TileKernel = unsafe fn(&Tile) -> f32;

/// In f32; `NARROW`: from 8-bit weights.
///
/// # Safety
/// [`TileKernel`].
#[allow(unsafe_code)]
#[inline(always)]
pub(crate) unsafe fn float<I: Isa, const VECTORS: usize, const PIXELS: usize, const NARROW: bool>(tile: &Tile) -> f32 {
    // SAFETY: the caller's promise; every place read or written is one that the tile names.
    unsafe { finish::<I, VECTORS, PIXELS>(tile, &float_sums::<I, VECTORS, PIXELS, NARROW>(tile)) }
}

/// In f32, the sums as they are, for [`crate::winograd`] to go on with: no scale, bias, residual nor ReLU. Gives 0.
///
/// # Safety
/// [`TileKernel`], but that scale, bias, start and residual are not read.
#[allow(unsafe_code)]
#[inline(always)]
pub(crate) unsafe fn products<I: Isa, const VECTORS: usize, const PIXELS: usize>(tile: &Tile) -> f32 {
    // SAFETY: as above.
    unsafe {
        let sums = float_sums::<I, VECTORS, PIXELS, false>(tile);
        for (sums, pixel) in sums.iter().zip(tile.output_pixels) {
            for (vector, sum) in sums.iter().enumerate() {
                I::store(tile.output.add(pixel + vector * I::LANES), *sum);
            }
        }
    }
    0.0
}

/// # Safety
/// [`TileKernel`].
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn float_sums<I: Isa, const VECTORS: usize, const PIXELS: usize, const NARROW: bool>(
    tile: &Tile,
) -> [[I::Floats; VECTORS]; PIXELS] {
    // SAFETY: as above.
    unsafe {
        let mut sums = [[I::zero(); VECTORS]; PIXELS];
        let mut weights = tile.weights;
        for row in 0..tile.rows {
            let mut input = [tile.input.cast::<f32>(); PIXELS];
            for (pixel, start) in input.iter_mut().zip(tile.pixels) {
                *pixel = pixel.add(start + row * tile.row_stride);
            }
            let mut k = 0;
            while I::LANEWISE && k + 4 <= tile.run {
                let mut four = [I::zero(); PIXELS];
                for (values, pixel) in four.iter_mut().zip(input) {
                    *values = I::load(pixel.add(k));
                }
                lane::<I, VECTORS, PIXELS, NARROW, 0>(&mut weights, &four, &mut sums);
                lane::<I, VECTORS, PIXELS, NARROW, 1>(&mut weights, &four, &mut sums);
                lane::<I, VECTORS, PIXELS, NARROW, 2>(&mut weights, &four, &mut sums);
                lane::<I, VECTORS, PIXELS, NARROW, 3>(&mut weights, &four, &mut sums);
                k += 4;
            }
            // All of it where lanes have no names; a run of the first layer may be no multiple of four.
            while k < tile.run {
                let column = column::<I, VECTORS, NARROW>(&mut weights);
                for pixel in 0..PIXELS {
                    let value = I::splat(input[pixel].add(k));
                    for vector in 0..VECTORS {
                        sums[pixel][vector] = I::fused(value, column[vector], sums[pixel][vector]);
                    }
                }
                k += 1;
            }
        }
        sums
    }
}

/// One position of the window: its weights times one lane of each pixel's values.
///
/// # Safety
/// [`TileKernel`].
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn lane<I: Isa, const VECTORS: usize, const PIXELS: usize, const NARROW: bool, const LANE: i32>(
    weights: &mut *const u8,
    four: &[I::Floats; PIXELS],
    sums: &mut [[I::Floats; VECTORS]; PIXELS],
) {
    // SAFETY: as above.
    unsafe {
        let column = column::<I, VECTORS, NARROW>(weights);
        for (sums, values) in sums.iter_mut().zip(four) {
            for (sum, weights) in sums.iter_mut().zip(column) {
                *sum = I::fused_lane::<LANE>(*values, weights, *sum);
            }
        }
    }
}

/// The panel's weights at the next position.
///
/// # Safety
/// [`TileKernel`].
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn column<I: Isa, const VECTORS: usize, const NARROW: bool>(weights: &mut *const u8) -> [I::Floats; VECTORS] {
    // SAFETY: as above.
    unsafe {
        let bytes = if NARROW { 1 } else { 4 };
        let mut column = [I::zero(); VECTORS];
        for (vector, value) in column.iter_mut().enumerate() {
            let at = weights.add(vector * I::LANES * bytes);
            *value = if NARROW { I::widen(at.cast()) } else { I::load(at.cast()) };
        }
        *weights = weights.add(VECTORS * I::LANES * bytes);
        column
    }
}

/// In 8-bit integers with exact 32-bit sums.
///
/// # Safety
/// [`TileKernel`].
#[allow(unsafe_code)]
#[inline(always)]
pub(crate) unsafe fn integer<I: Isa, const VECTORS: usize, const PIXELS: usize>(tile: &Tile) -> f32 {
    // SAFETY: as above.
    unsafe {
        let mut start = [I::sums(tile.start); VECTORS];
        for (vector, sum) in start.iter_mut().enumerate() {
            *sum = I::sums(tile.start.add(vector * I::LANES));
        }
        let mut sums = [start; PIXELS];
        let mut weights = tile.weights.cast::<i8>();
        for row in 0..tile.rows {
            let mut input = [tile.input; PIXELS];
            for (pixel, start) in input.iter_mut().zip(tile.pixels) {
                *pixel = pixel.add(start + row * tile.row_stride);
            }
            let mut k = 0;
            while k < tile.run {
                let mut column = [I::codes(weights); VECTORS];
                for (vector, codes) in column.iter_mut().enumerate().skip(1) {
                    *codes = I::codes(weights.add(vector * I::LANES * 4));
                }
                for pixel in 0..PIXELS {
                    let quad = I::quad(input[pixel].add(k));
                    for vector in 0..VECTORS {
                        sums[pixel][vector] = I::dot(sums[pixel][vector], quad, column[vector]);
                    }
                }
                weights = weights.add(VECTORS * I::LANES * 4);
                k += 4;
            }
        }
        let mut floats = [[I::zero(); VECTORS]; PIXELS];
        for pixel in 0..PIXELS {
            for vector in 0..VECTORS {
                floats[pixel][vector] = I::to_floats(sums[pixel][vector]);
            }
        }
        finish::<I, VECTORS, PIXELS>(tile, &floats)
    }
}

/// Scale, bias, residual, ReLU, store. Product and sum are rounded apart, so that integer layers agree on all processors.
///
/// # Safety
/// [`TileKernel`].
#[allow(unsafe_code, clippy::needless_range_loop)]
#[inline(always)]
unsafe fn finish<I: Isa, const VECTORS: usize, const PIXELS: usize>(
    tile: &Tile,
    sums: &[[I::Floats; VECTORS]; PIXELS],
) -> f32 {
    // SAFETY: as above.
    unsafe {
        let factor = I::splat(&raw const tile.factor);
        let mut most = I::zero();
        for vector in 0..VECTORS {
            let channel = vector * I::LANES;
            let scale = I::mul(I::load(tile.scale.add(channel)), factor);
            let bias = I::load(tile.bias.add(channel));
            for pixel in 0..PIXELS {
                let value = I::add(I::mul(sums[pixel][vector], scale), bias);
                let residual = tile.residual.map(|residual| residual.add(tile.residual_pixels[pixel] + channel));
                let output = tile.output.add(tile.output_pixels[pixel] + channel);
                most = put::<I>(value, residual, tile.relu, output, most);
            }
        }
        largest_lane::<I>(most)
    }
}

/// Residual, ReLU, store; gives the larger of the outputs and `most`.
///
/// # Safety
/// The processor has the family's instructions; a vector can be read from `residual` and written to `output`.
#[allow(unsafe_code)]
#[inline(always)]
pub(crate) unsafe fn put<I: Isa>(
    mut value: I::Floats,
    residual: Option<*const f32>,
    relu: bool,
    output: *mut f32,
    most: I::Floats,
) -> I::Floats {
    // SAFETY: the caller's promise.
    unsafe {
        if let Some(residual) = residual {
            value = I::add(value, I::load(residual));
        }
        if relu {
            value = I::max(value, I::zero());
        }
        I::store(output, value);
        I::max(value, most)
    }
}

/// The largest of a vector, or 0 where all are below.
///
/// # Safety
/// The processor has the family's instructions.
#[allow(unsafe_code)]
#[inline(always)]
pub(crate) unsafe fn largest_lane<I: Isa>(most: I::Floats) -> f32 {
    const { assert!(I::LANES <= 16, "a vector is stored whole below") };
    let mut lanes = [0f32; 16];
    // SAFETY: the caller's promise; `lanes` holds the widest vector.
    unsafe { I::store(lanes.as_mut_ptr(), most) };
    let mut largest = 0f32;
    for lane in &lanes[..I::LANES] {
        largest = if *lane > largest { *lane } else { largest };
    }
    largest
}

/// Weights of [`spin`]: half of the smallest L1 data cache.
const SPIN_BYTES: usize = 16 * 1024;

/// [`crate::Kernels::spin`] with one family's table, whose weights have so many bytes.
#[allow(unsafe_code)]
pub(crate) fn spin(table: &[TileKernel], panel: usize, weight_bytes: usize, rounds: usize) -> usize {
    let run = SPIN_BYTES / weight_bytes / panel;
    let pixels = table.len();
    let input = crate::buffer::Buffer::floats(run * pixels);
    let weights = crate::buffer::Buffer::filled(SPIN_BYTES, 0);
    let channels = crate::buffer::Buffer::floats(panel);
    let mut output = crate::buffer::Buffer::floats(panel * pixels);
    let places = |step: usize| std::array::from_fn(|pixel| pixel.min(pixels - 1) * step);
    let tile = Tile {
        input: input.pointer(),
        pixels: places(run),
        row_stride: 0,
        rows: 1,
        run,
        weights: weights.pointer(),
        scale: channels.pointer().cast(),
        bias: channels.pointer().cast(),
        factor: 1.0,
        start: channels.pointer().cast(),
        residual: None,
        residual_pixels: [0; PIXELS_MAX],
        output: output.pointer_mut().cast(),
        output_pixels: places(panel),
        relu: true,
    };
    let mut largest = 0f32;
    for _ in 0..rounds {
        // SAFETY: the table is one that `available` gave for this processor; the buffers hold what the tile's sizes name,
        // the input and the rest in f32, which is as much as any kernel reads.
        largest += unsafe { std::hint::black_box(table[pixels - 1])(std::hint::black_box(&tile)) };
    }
    std::hint::black_box(largest);
    rounds * run * panel * pixels
}
