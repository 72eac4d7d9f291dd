//! aarch64: NEON, which every core has (Cortex-A53, A57, A72), and its 8-bit dot product (A76, A78AE and later).
#![allow(unsafe_code)]

use std::arch::aarch64::*;
use std::arch::asm;

use crate::isa::Kernels;

pub(crate) use dotprod::DOTPROD;
pub(crate) use plain::NEON;

/// What both families share: all but `dot`. Activations are kept less 128, since NEON multiplies signed bytes; the sums
/// begin at 128 times the channel's weights to make up for it.
macro_rules! common {
    () => {
        type Floats = float32x4_t;
        type Sums = int32x4_t;
        type Codes = int8x16_t;
        type Quad = int8x16_t;
        const LANES: usize = 4;
        const LANEWISE: bool = true;
        const ZERO: u8 = 0x80;

        #[inline(always)]
        unsafe fn zero() -> float32x4_t {
            unsafe { vdupq_n_f32(0.0) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> float32x4_t {
            unsafe { vld1q_f32(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, values: float32x4_t) {
            unsafe { vst1q_f32(to, values) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> float32x4_t {
            unsafe { vld1q_dup_f32(from) }
        }
        #[inline(always)]
        unsafe fn fused(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            unsafe { vfmaq_f32(c, a, b) }
        }
        #[inline(always)]
        unsafe fn fused_lane<const LANE: i32>(
            values: float32x4_t,
            weights: float32x4_t,
            sums: float32x4_t,
        ) -> float32x4_t {
            unsafe { vfmaq_laneq_f32::<LANE>(sums, weights, values) }
        }
        #[inline(always)]
        unsafe fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vaddq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vsubq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmulq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
            unsafe { vmaxnmq_f32(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(from: *const i8) -> float32x4_t {
            unsafe {
                let four = vreinterpret_s8_u32(vdup_n_u32(from.cast::<u32>().read_unaligned()));
                vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(four))))
            }
        }
        #[inline(always)]
        unsafe fn sums(from: *const i32) -> int32x4_t {
            unsafe { vld1q_s32(from) }
        }
        #[inline(always)]
        unsafe fn to_floats(sums: int32x4_t) -> float32x4_t {
            unsafe { vcvtq_f32_s32(sums) }
        }
        #[inline(always)]
        unsafe fn codes(from: *const i8) -> int8x16_t {
            unsafe { vld1q_s8(from) }
        }
        #[inline(always)]
        unsafe fn quantise(from: *const f32, inverse: f32, to: *mut u8) {
            unsafe {
                // Rounds to even; a negative value becomes 0, and narrowing saturates.
                let part = |at| vqmovn_u32(vcvtnq_u32_f32(vmulq_n_f32(vld1q_f32(from.add(at)), inverse)));
                let low = vqmovn_u16(vcombine_u16(part(0), part(4)));
                let high = vqmovn_u16(vcombine_u16(part(8), part(12)));
                vst1q_u8(to, veorq_u8(vcombine_u8(low, high), vdupq_n_u8(0x80)));
            }
        }
    };
}

mod plain {
    use super::*;
    use crate::isa::{Isa, tiles};

    /// 32 registers of 4 channels: 16 sums, 4 columns of weights.
    pub(crate) struct Neon;

    // SAFETY of every block here: the trait's promise, that pointers are valid for what the function's text says; NEON is
    // part of every aarch64 Linux.
    impl Isa for Neon {
        common!();

        const PAIRED: bool = true;

        #[inline(always)]
        unsafe fn quad(from: *const u8) -> int8x16_t {
            // Activations 0 and 1 four times, then 2 and 3 four times.
            const PLACES: [u8; 16] = [0, 1, 0, 1, 0, 1, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3];
            unsafe {
                let four = vreinterpretq_s8_u32(vld1q_dup_u32(from.cast()));
                vqtbl1q_s8(four, vld1q_u8(PLACES.as_ptr()))
            }
        }
        #[inline(always)]
        unsafe fn dot(sums: int32x4_t, quad: int8x16_t, codes: int8x16_t) -> int32x4_t {
            unsafe {
                // Two products fit 16 bits: 2 x 128 x 127 is below 32,768.
                let first = vmull_s8(vget_low_s8(codes), vget_low_s8(quad));
                vpadalq_s16(sums, vmlal_high_s8(first, codes, quad))
            }
        }
    }

    tiles!(NEON, Neon, "neon", 4, (), [1 2 3 4]);
}

mod dotprod {
    use super::*;
    use crate::isa::{Isa, tiles};

    /// With SDOT.
    pub(crate) struct Dotprod;

    // SAFETY of every block here: as above; `available` hands this family out only where the processor has SDOT.
    impl Isa for Dotprod {
        common!();

        #[inline(always)]
        unsafe fn quad(from: *const u8) -> int8x16_t {
            unsafe { vreinterpretq_s8_u32(vld1q_dup_u32(from.cast())) }
        }
        #[inline(always)]
        unsafe fn dot(mut sums: int32x4_t, quad: int8x16_t, codes: int8x16_t) -> int32x4_t {
            // The intrinsic is not stable yet.
            unsafe {
                asm!(
                    ".arch_extension dotprod",
                    "sdot {sums:v}.4s, {codes:v}.16b, {quad:v}.16b",
                    sums = inout(vreg) sums, codes = in(vreg) codes, quad = in(vreg) quad,
                    options(pure, nomem, nostack, preserves_flags)
                );
            }
            sums
        }
    }

    tiles!(DOTPROD, Dotprod, "neon-dotprod", 4, (#[target_feature(enable = "dotprod")]), [1 2 3 4 5 6]);
}
