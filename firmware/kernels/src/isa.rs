//! What a processor must bring, and the choice among the processors that this build knows.

use crate::tile::TileKernel;
use crate::winograd::{Patch, Square};

/// Vector instructions of one processor family. A trait of small functions: the tile kernels in [`crate::tile`] are
/// written once over it and instantiated under the right `#[target_feature]`, into which everything here is inlined.
///
/// # Safety
/// Every function may be called only where the processor has the family's instructions; pointers must be valid for the
/// number of values named, and aligned as one of them is; those of `quad` to 4.
#[allow(unsafe_code)]
pub(crate) trait Isa {
    /// [`Self::LANES`] f32, one an output channel.
    type Floats: Copy;
    /// [`Self::LANES`] i32 sums, one an output channel.
    type Sums: Copy;
    /// 8-bit weights of [`Self::LANES`] channels, 4 a channel, made ready for `dot`.
    type Codes: Copy;
    /// 4 activations of one pixel, for every channel.
    type Quad: Copy;
    /// Channels in a vector.
    const LANES: usize;
    /// Whether `codes` wants the first two of each channel's four weights for four channels, then the other two.
    const PAIRED: bool = false;
    /// Whether instructions can name a lane: then [`Isa::load`] brings four values of a pixel at once.
    const LANEWISE: bool = false;
    /// The byte that stands for an activation of 0. A family that multiplies signed bytes alone keeps activations less 128.
    const ZERO: u8;

    unsafe fn zero() -> Self::Floats;
    unsafe fn load(from: *const f32) -> Self::Floats;
    unsafe fn store(to: *mut f32, values: Self::Floats);
    /// One value, for every channel.
    unsafe fn splat(from: *const f32) -> Self::Floats;
    /// `a * b + c`, rounded once where the processor can.
    unsafe fn fused(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// `values[LANE] * weights + sums`; only of families that are [`Isa::LANEWISE`].
    unsafe fn fused_lane<const LANE: i32>(
        values: Self::Floats,
        weights: Self::Floats,
        sums: Self::Floats,
    ) -> Self::Floats {
        unsafe { Self::fused(values, weights, sums) }
    }
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// [`Self::LANES`] 8-bit weights as f32.
    unsafe fn widen(from: *const i8) -> Self::Floats;

    unsafe fn sums(from: *const i32) -> Self::Sums;
    unsafe fn to_floats(sums: Self::Sums) -> Self::Floats;
    /// `LANES * 4` weights.
    unsafe fn codes(from: *const i8) -> Self::Codes;
    /// 4 activations.
    unsafe fn quad(from: *const u8) -> Self::Quad;
    /// `sums + weights . activations`, over the 4 of each channel, exact.
    unsafe fn dot(sums: Self::Sums, quad: Self::Quad, codes: Self::Codes) -> Self::Sums;
    /// 16 activations, `round(x * inverse)` (ties to even) within 0..255, stored as `dot` wants them.
    unsafe fn quantise(from: *const f32, inverse: f32, to: *mut u8);
}

/// The kernels of one processor family.
#[derive(Debug)]
pub struct Kernels {
    pub(crate) name: &'static str,
    /// Output channels in a panel.
    pub(crate) panel: usize,
    pub(crate) zero: u8,
    pub(crate) paired: bool,
    /// By pixels in the tile, less one.
    pub(crate) float: &'static [TileKernel],
    pub(crate) narrow: &'static [TileKernel],
    pub(crate) integer: &'static [TileKernel],
    /// Sums of f32 alone, and the two ends of [`crate::winograd`] around them.
    pub(crate) products: &'static [TileKernel],
    pub(crate) gather: unsafe fn(&Patch),
    pub(crate) scatter: unsafe fn(&Square) -> f32,
    /// Values (a multiple of 16) to activations: from, how many, inverse scale, to.
    pub(crate) quantise: unsafe fn(*const f32, usize, f32, *mut u8),
}

impl Kernels {
    /// The best that this processor can run.
    pub fn best() -> &'static Self {
        available()[0]
    }

    /// Name of the processor family.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Computes tiles over and over whose data never leave the L1 data cache, and gives how many multiplications that were:
    /// whoever reads a clock around it knows the most that these kernels can do on this machine.
    pub fn spin(&self, arithmetic: crate::Arithmetic, rounds: usize) -> usize {
        let (table, weight_bytes) = match arithmetic {
            crate::Arithmetic::Float => (self.float, 4),
            crate::Arithmetic::Integer => (self.integer, 1),
        };
        crate::tile::spin(table, self.panel, weight_bytes, rounds)
    }

    pub(crate) fn pixels_max(&self) -> usize {
        self.float.len()
    }
}

/// All that this processor can run, best first; plain Rust is the last of them.
pub fn available() -> Vec<&'static Kernels> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
        {
            all.push(&crate::x86::AVX512_VNNI);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            all.push(&crate::x86::AVX2);
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            all.push(&crate::neon::DOTPROD);
        }
        all.push(&crate::neon::NEON);
    }
    all.push(&crate::scalar::PLAIN);
    all
}

/// Makes the table of one family: `tiles!(NAME, Family, "its name", vectors in a panel, (attributes), [pixels...])`.
macro_rules! tiles {
    ($table:ident, $isa:ty, $name:literal, $vectors:literal, ($(#[$feature:meta])?), [$($pixels:literal)*]) => {
        #[allow(unsafe_code)]
        mod table {
            use super::*;
            use crate::tile::{self, Tile};
            use crate::winograd::{self, Patch, Square};

            // SAFETY (all of these): called only through the table, which `available` hands out where the processor has
            // the features; who makes the tile, patch or square answers for its pointers.
            $(#[$feature])?
            unsafe fn float<const PIXELS: usize>(tile: &Tile) -> f32 {
                unsafe { tile::float::<$isa, $vectors, PIXELS, false>(tile) }
            }
            $(#[$feature])?
            unsafe fn narrow<const PIXELS: usize>(tile: &Tile) -> f32 {
                unsafe { tile::float::<$isa, $vectors, PIXELS, true>(tile) }
            }
            $(#[$feature])?
            unsafe fn integer<const PIXELS: usize>(tile: &Tile) -> f32 {
                unsafe { tile::integer::<$isa, $vectors, PIXELS>(tile) }
            }
            $(#[$feature])?
            unsafe fn products<const PIXELS: usize>(tile: &Tile) -> f32 {
                unsafe { tile::products::<$isa, $vectors, PIXELS>(tile) }
            }
            $(#[$feature])?
            unsafe fn gather(patch: &Patch) {
                unsafe { winograd::gather::<$isa>(patch) }
            }
            $(#[$feature])?
            unsafe fn scatter(square: &Square) -> f32 {
                unsafe { winograd::scatter::<$isa, $vectors>(square) }
            }
            $(#[$feature])?
            unsafe fn quantise(from: *const f32, count: usize, inverse: f32, to: *mut u8) {
                for at in (0..count).step_by(16) {
                    unsafe { <$isa>::quantise(from.add(at), inverse, to.add(at)) };
                }
            }

            const _: () = assert!([$($pixels),*].len() <= tile::PIXELS_MAX, "a tile has room for so many pixels");

            pub(crate) static TABLE: Kernels = Kernels {
                name: $name,
                panel: $vectors * <$isa>::LANES,
                zero: <$isa>::ZERO,
                paired: <$isa>::PAIRED,
                float: &[$(float::<$pixels>),*],
                narrow: &[$(narrow::<$pixels>),*],
                integer: &[$(integer::<$pixels>),*],
                products: &[$(products::<$pixels>),*],
                gather,
                scatter,
                quantise,
            };
        }
        pub(crate) use table::TABLE as $table;
    };
}
pub(crate) use tiles;
