//! x86-64: AVX-512 with VNNI (Cascade Lake, Ice Lake, Zen 4 and later), and AVX2 with FMA (since 2013).
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use crate::isa::Kernels;

pub(crate) use avx2::AVX2;
pub(crate) use avx512::AVX512_VNNI;

mod avx512 {
    use super::*;
    use crate::isa::{Isa, tiles};

    /// 32 registers of 16 channels: 24 sums, 4 columns of weights.
    pub(crate) struct Avx512Vnni;

    // SAFETY of every block here: the trait's promise, that the processor has the instructions and that pointers are valid
    // for what the function's text says; all loads and stores are of the unaligned kind.
    impl Isa for Avx512Vnni {
        type Floats = __m512;
        type Sums = __m512i;
        type Codes = __m512i;
        type Quad = __m512i;
        const LANES: usize = 16;
        const ZERO: u8 = 0;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, values: __m512) {
            unsafe { _mm512_storeu_ps(to, values) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> __m512 {
            unsafe { _mm512_set1_ps(from.read()) }
        }
        #[inline(always)]
        unsafe fn fused(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(from: *const i8) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn sums(from: *const i32) -> __m512i {
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn to_floats(sums: __m512i) -> __m512 {
            unsafe { _mm512_cvtepi32_ps(sums) }
        }
        #[inline(always)]
        unsafe fn codes(from: *const i8) -> __m512i {
            unsafe { _mm512_loadu_si512(from.cast()) }
        }
        #[inline(always)]
        unsafe fn quad(from: *const u8) -> __m512i {
            unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
        }
        #[inline(always)]
        unsafe fn dot(sums: __m512i, quad: __m512i, codes: __m512i) -> __m512i {
            unsafe { _mm512_dpbusd_epi32(sums, quad, codes) }
        }
        #[inline(always)]
        unsafe fn quantise(from: *const f32, inverse: f32, to: *mut u8) {
            unsafe {
                let scaled = _mm512_mul_ps(_mm512_loadu_ps(from), _mm512_set1_ps(inverse));
                // Rounds to even as the processor always does, and saturates; negatives are cut first.
                let whole = _mm512_max_epi32(_mm512_cvtps_epi32(scaled), _mm512_setzero_si512());
                _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(whole));
            }
        }
    }

    tiles!(
        AVX512_VNNI, Avx512Vnni, "avx512-vnni", 4,
        (#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]), [1 2 3 4 5 6]
    );
}

mod avx2 {
    use super::*;
    use crate::isa::{Isa, tiles};

    /// 16 registers of 8 channels: 12 sums, 2 columns of weights.
    pub(crate) struct Avx2;

    // SAFETY of every block here: as above.
    impl Isa for Avx2 {
        type Floats = __m256;
        type Sums = __m256i;
        /// Weights 0 and 2 of each channel, and 1 and 3, as 16 bits: products of bytes summed in 16 bits would saturate.
        type Codes = (__m256i, __m256i);
        type Quad = (__m256i, __m256i);
        const LANES: usize = 8;
        const ZERO: u8 = 0;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, values: __m256) {
            unsafe { _mm256_storeu_ps(to, values) }
        }
        #[inline(always)]
        unsafe fn splat(from: *const f32) -> __m256 {
            unsafe { _mm256_set1_ps(from.read()) }
        }
        #[inline(always)]
        unsafe fn fused(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn widen(from: *const i8) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn sums(from: *const i32) -> __m256i {
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
        #[inline(always)]
        unsafe fn to_floats(sums: __m256i) -> __m256 {
            unsafe { _mm256_cvtepi32_ps(sums) }
        }
        #[inline(always)]
        unsafe fn codes(from: *const i8) -> (__m256i, __m256i) {
            unsafe {
                let all = _mm256_loadu_si256(from.cast());
                (_mm256_srai_epi16(_mm256_slli_epi16(all, 8), 8), _mm256_srai_epi16(all, 8))
            }
        }
        #[inline(always)]
        unsafe fn quad(from: *const u8) -> (__m256i, __m256i) {
            unsafe {
                let all = _mm256_set1_epi32(from.cast::<i32>().read_unaligned());
                (_mm256_and_si256(all, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(all, 8))
            }
        }
        #[inline(always)]
        unsafe fn dot(sums: __m256i, quad: (__m256i, __m256i), codes: (__m256i, __m256i)) -> __m256i {
            unsafe {
                let even = _mm256_madd_epi16(quad.0, codes.0);
                let odd = _mm256_madd_epi16(quad.1, codes.1);
                _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
            }
        }
        #[inline(always)]
        unsafe fn quantise(from: *const f32, inverse: f32, to: *mut u8) {
            unsafe {
                let inverse = _mm256_set1_ps(inverse);
                let first = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from), inverse));
                let second = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from.add(8)), inverse));
                // Packing works on halves: 0123 of both, then 4567 of both.
                let words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0b11_01_10_00);
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
                _mm_storeu_si128(to.cast(), bytes);
            }
        }
    }

    tiles!(AVX2, Avx2, "avx2", 2, (#[target_feature(enable = "avx2,fma")]), [1 2 3 4 5 6]);
}
