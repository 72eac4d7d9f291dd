//! The operations between convolutions: a few percent of the work, in plain Rust over slices of channels.

use crate::builder::{Picture, Window};
use crate::plan::Slot;

/// The larger, or `b` where `a` is not a number; in a form that becomes one instruction.
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// A picture given channel by channel, into `to`.
pub(crate) fn load(picture: &[f32], shape: Picture, to: (&mut [f32], &Slot)) {
    let (out, slot) = to;
    for (channel, plane) in picture.chunks_exact(shape.pixels()).enumerate() {
        for (y, row) in plane.chunks_exact(shape.width).enumerate() {
            let start = slot.at(y, 0) + channel;
            for (x, value) in row.iter().enumerate() {
                out[start + x * slot.stride] = *value;
            }
        }
    }
}

/// The largest of each window, its border left out; gives the largest of all, or 0.
pub(crate) fn max_pool(window: &Window, from: (&[f32], &Slot), to: (&mut [f32], &Slot)) -> f32 {
    let ((input, source), (output, slot)) = (from, to);
    let mut largest = 0f32;
    for y in 0..slot.height {
        let rows = inside(y * window.stride[0], window.before[0], window.size[0], source.height);
        for x in 0..slot.width {
            let columns = inside(x * window.stride[1], window.before[1], window.size[1], source.width);
            let out = &mut output[slot.at(y, x)..][..slot.stride];
            out.fill(f32::NEG_INFINITY);
            for row in rows.clone() {
                for column in columns.clone() {
                    let pixel = &input[source.at(row, column)..][..slot.stride];
                    for (out, value) in out.iter_mut().zip(pixel) {
                        *out = larger(*value, *out);
                    }
                }
            }
            largest = out.iter().fold(largest, |most, value| larger(*value, most));
        }
    }
    largest
}

/// The part of a window that lies on the picture, along one axis.
fn inside(start: usize, before: usize, size: usize, extent: usize) -> std::ops::Range<usize> {
    start.saturating_sub(before)..(start + size - before).min(extent)
}

/// Negative values become 0; gives the largest.
pub(crate) fn relu(from: (&[f32], &Slot), to: (&mut [f32], &Slot)) -> f32 {
    let ((input, source), (output, slot)) = (from, to);
    let mut largest = 0f32;
    for y in 0..slot.height {
        let run = slot.width * slot.stride;
        let rows = output[slot.at(y, 0)..][..run].iter_mut().zip(&input[source.at(y, 0)..][..run]);
        for (out, value) in rows {
            *out = larger(*value, 0.0);
            largest = larger(*out, largest);
        }
    }
    largest
}

/// The sum of two pictures; gives the largest, or 0.
pub(crate) fn add(a: (&[f32], &Slot), b: (&[f32], &Slot), to: (&mut [f32], &Slot), relu: bool) -> f32 {
    let ((first, one), (second, other), (output, slot)) = (a, b, to);
    let floor = if relu { 0.0 } else { f32::NEG_INFINITY };
    let mut largest = 0f32;
    for y in 0..slot.height {
        let run = slot.width * slot.stride;
        let inputs = first[one.at(y, 0)..][..run].iter().zip(&second[other.at(y, 0)..][..run]);
        for (out, (a, b)) in output[slot.at(y, 0)..][..run].iter_mut().zip(inputs) {
            *out = larger(a + b, floor);
            largest = larger(*out, largest);
        }
    }
    largest
}

/// The sum of each channel's pixels.
pub(crate) fn sum(from: (&[f32], &Slot), to: &mut [f32]) {
    let (input, slot) = from;
    to.fill(0.0);
    for y in 0..slot.height {
        for x in 0..slot.width {
            let pixel = &input[slot.at(y, x)..][..slot.stride];
            for (sum, value) in to.iter_mut().zip(pixel) {
                *sum += value;
            }
        }
    }
}

/// Weights (output, input) times `from`, plus `bias`.
pub(crate) fn dense(weights: &[f32], bias: &[f32], from: &[f32], to: &mut [f32]) {
    let rows = weights.chunks_exact(from.len());
    for ((out, row), bias) in to.iter_mut().zip(rows).zip(bias) {
        // Eight sums beside each other, so that the compiler may use vectors.
        let mut sums = [0f32; 8];
        let (row, row_rest) = row.as_chunks::<8>();
        let (values, values_rest) = from.as_chunks::<8>();
        for (weights, values) in row.iter().zip(values) {
            for ((sum, weight), value) in sums.iter_mut().zip(weights).zip(values) {
                *sum += weight * value;
            }
        }
        let rest: f32 = row_rest.iter().zip(values_rest).map(|(weight, value)| weight * value).sum();
        *out = bias + sums.iter().sum::<f32>() + rest;
    }
}
