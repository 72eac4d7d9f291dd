//! Plain Rust: the reference that the vector kernels are tested against, and the way out on a processor with none of them.
#![allow(unsafe_code)]

use crate::isa::{Isa, Kernels, tiles};

/// A family with no instruction of its own: arrays of 8.
pub(crate) struct Plain;

const LANES: usize = 8;

fn each(f: impl Fn(usize) -> f32) -> [f32; LANES] {
    std::array::from_fn(f)
}

// SAFETY of every block here: the trait's promise, that pointers are valid for what the function's text says.
impl Isa for Plain {
    type Floats = [f32; LANES];
    type Sums = [i32; LANES];
    type Codes = [[i8; 4]; LANES];
    type Quad = [u8; 4];
    const LANES: usize = LANES;
    const ZERO: u8 = 0;

    unsafe fn zero() -> Self::Floats {
        [0.0; LANES]
    }
    unsafe fn load(from: *const f32) -> Self::Floats {
        unsafe { from.cast::<Self::Floats>().read_unaligned() }
    }
    unsafe fn store(to: *mut f32, values: Self::Floats) {
        unsafe { to.cast::<Self::Floats>().write_unaligned(values) }
    }
    unsafe fn splat(from: *const f32) -> Self::Floats {
        [unsafe { from.read() }; LANES]
    }
    // Not `mul_add`: where the processor has no such instruction it is a slow call.
    unsafe fn fused(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats {
        each(|i| a[i] * b[i] + c[i])
    }
    unsafe fn add(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(|i| a[i] + b[i])
    }
    unsafe fn sub(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(|i| a[i] - b[i])
    }
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(|i| a[i] * b[i])
    }
    unsafe fn max(a: Self::Floats, b: Self::Floats) -> Self::Floats {
        each(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    unsafe fn widen(from: *const i8) -> Self::Floats {
        unsafe { from.cast::<[i8; LANES]>().read() }.map(f32::from)
    }
    unsafe fn sums(from: *const i32) -> Self::Sums {
        unsafe { from.cast::<Self::Sums>().read_unaligned() }
    }
    unsafe fn to_floats(sums: Self::Sums) -> Self::Floats {
        sums.map(|sum| sum as f32)
    }
    unsafe fn codes(from: *const i8) -> Self::Codes {
        unsafe { from.cast::<Self::Codes>().read() }
    }
    unsafe fn quad(from: *const u8) -> Self::Quad {
        unsafe { from.cast::<Self::Quad>().read() }
    }
    unsafe fn dot(mut sums: Self::Sums, quad: Self::Quad, codes: Self::Codes) -> Self::Sums {
        for (sum, codes) in sums.iter_mut().zip(codes) {
            for (code, value) in codes.into_iter().zip(quad) {
                *sum += i32::from(code) * i32::from(value);
            }
        }
        sums
    }
    unsafe fn quantise(from: *const f32, inverse: f32, to: *mut u8) {
        for i in 0..16 {
            unsafe { to.add(i).write((from.add(i).read() * inverse).round_ties_even() as u8) };
        }
    }
}

tiles!(PLAIN, Plain, "plain", 2, (), [1 2 3 4]);
