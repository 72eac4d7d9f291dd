//! NumPy's `.npy`, version 1.0: a header of text and raw little-endian floats.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

/// Writes `values` of `shape` as float32, C order.
pub fn write(path: &Path, shape: &[usize], values: &[f32]) -> anyhow::Result<()> {
    // Python's tuples: a comma behind a single number, none behind the last of several.
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if dims.len() == 1 { "," } else { "" };
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}{comma}), }}", dims.join(", "));
    // Magic (6), version (2) and length (2) stand before the header; the data begins on a multiple of 64.
    header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
    header.push('\n');
    let mut bytes = Vec::with_capacity(10 + header.len() + 4 * values.len());
    bytes.extend_from_slice(b"\x93NUMPY\x01\x00");
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let named = || format!("{}: cannot be written", path.display());
    std::fs::File::create(path).and_then(|mut file| file.write_all(&bytes)).with_context(named)
}
