"""Prints firmware/detector/src/viridis.rs: Viridis as matplotlib's imsave writes it.

    python models/training/viridis.py > firmware/detector/src/viridis.rs

The bytes are read back from a PNG that imsave itself wrote, not computed from matplotlib's floating-point
table: imsave truncates (lut * 255), it does not round, and a table made by rounding is off by one in places.
Last made with matplotlib 3.10.8.
"""

import io
import sys

import matplotlib.image
import numpy as np

HEAD = '''//! Viridis, the colours of the reference system's pictures, as matplotlib's `imsave` writes them.
//!
//! Printed by models/training/viridis.py; change that and not this file. The bytes are truncated
//! (`lut * 255`), not rounded, because that is what a network trained on saved pictures has seen.

/// Red, green and blue (0..=255) of the 256 steps, from the lowest value (dark violet) to the highest (yellow).
pub const VIRIDIS: [[u8; 3]; 256] = ['''

TAIL = '''];

/// The step of [`VIRIDIS`] that stands for `value`: 256 equal steps over 0..1.
///
/// Values outside 0..1 are clipped, 1.0 is the last step, and NaN is step 0 (matplotlib would leave such a
/// pixel transparent, which a network's input cannot be).
#[must_use]
pub fn index(value: f32) -> usize {
    // A cast from float saturates and takes NaN to 0, so only the upper end needs a bound.
    ((value * 256.0) as usize).min(255)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_matplotlibs_steps() {
        for (value, expect) in [
            (0.0, 0),
            (-0.1, 0),
            (f32::NEG_INFINITY, 0),
            (f32::NAN, 0),
            (0.003_906_2, 0),
            (0.003_906_25, 1),
            (0.5, 128),
            (0.999_9, 255),
            (1.0, 255),
            (1.5, 255),
            (f32::INFINITY, 255),
        ] {
            assert_eq!(index(value), expect, "{value}");
        }
    }

    #[test]
    fn ends_and_middle_are_the_known_colours() {
        assert_eq!(VIRIDIS[0], [68, 1, 84]);
        assert_eq!(VIRIDIS[128], %s);
        assert_eq!(VIRIDIS[255], [253, 231, 36]);
    }
}
'''


def table() -> np.ndarray:
    """The 256 x 3 bytes (uint8), through a PNG that imsave wrote."""
    # The middle of each step: no value stands on a border, so rounding cannot move one.
    steps = (np.arange(256)[None, :] + 0.5) / 256
    saved = io.BytesIO()
    matplotlib.image.imsave(saved, steps, vmin=0, vmax=1, cmap="viridis", format="png")
    saved.seek(0)
    # imread divides 8-bit samples by 255; rounding gives the bytes back exactly.
    return np.rint(matplotlib.image.imread(saved)[0, :, :3] * 255).astype(np.uint8)


def main() -> None:
    rows = [f"[{r}, {g}, {b}]" for r, g, b in table().tolist()]
    print(HEAD)
    for row in rows:
        print(f"    {row},")
    sys.stdout.write(TAIL % rows[128])


if __name__ == "__main__":
    main()
