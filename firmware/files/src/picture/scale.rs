//! Enlarging or shrinking a picture of cells to pixels by area: every pixel is the mean of the cells that it covers.
//!
//! Enlarged, cells stay what they are, of even size and with clean edges; shrunk, no frame is skipped, so a short
//! scream in a long picture cannot fall between two pixels.

/// Which cells a pixel covers: the first one, and the share of each from there on (together 1).
pub(super) struct Cover {
    first: usize,
    shares: Vec<f32>,
}

/// The covers of `pixels` pixels that span the cell coordinates `from..to`; cell `i` covers `i..i + 1`.
pub(super) fn covers(pixels: usize, cells: usize, from: f64, to: f64) -> Vec<Cover> {
    let step = (to - from) / pixels as f64;
    let edge = |pixel: usize| (from + step * pixel as f64).clamp(0.0, cells as f64);
    (0..pixels)
        .map(|pixel| {
            let (start, end) = (edge(pixel), edge(pixel + 1));
            let first = (start as usize).min(cells - 1);
            let last = (end.ceil() as usize).clamp(first + 1, cells);
            let share = |cell: usize| ((end.min((cell + 1) as f64) - start.max(cell as f64)) / (end - start)) as f32;
            // Within one cell there is nothing to share, and no width to divide by where the pixel has none.
            let shares = if last == first + 1 { vec![1.0] } else { (first..last).map(share).collect() };
            Cover { first, shares }
        })
        .collect()
}

/// The value of the pixel at `row` and `column` of the picture `cells`, whose rows are `stride` long.
pub(super) fn pixel(cells: &[f32], stride: usize, row: &Cover, column: &Cover) -> f32 {
    let mut sum = 0.0;
    for (i, share) in row.shares.iter().enumerate() {
        let start = (row.first + i) * stride + column.first;
        let across = cells[start..start + column.shares.len()].iter();
        sum += share * across.zip(&column.shares).map(|(v, s)| v * s).sum::<f32>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(cells: &[f32], pixels: usize, from: f64, to: f64) -> Vec<f32> {
        let row = &covers(1, 1, 0.0, 1.0)[0];
        let columns = covers(pixels, cells.len(), from, to);
        columns.iter().map(|column| pixel(cells, cells.len(), row, column)).collect()
    }

    #[test]
    fn cells_keep_their_values_enlarged_and_are_averaged_shrunk() {
        assert_eq!(line(&[1.0, 3.0], 4, 0.0, 2.0), [1.0, 1.0, 3.0, 3.0]);
        assert_eq!(line(&[1.0, 3.0], 3, 0.0, 2.0), [1.0, 2.0, 3.0]);
        assert_eq!(line(&[1.0, 3.0, 5.0, 7.0], 2, 0.0, 4.0), [2.0, 6.0]);
        assert_eq!(line(&[1.0, 3.0], 2, 0.5, 1.5), [1.0, 3.0]);
        assert_eq!(line(&[4.0], 3, 0.0, 1.0), [4.0; 3]);
    }

    #[test]
    fn shares_always_make_one_whole() {
        for (pixels, cells) in [(790, 126), (790, 862), (7, 7), (3, 1000), (1, 1)] {
            for cover in covers(pixels, cells, 0.5, cells as f64 - 0.5) {
                let sum: f32 = cover.shares.iter().sum();
                assert!((sum - 1.0).abs() < 1e-4, "{pixels} {cells}: {sum}");
                assert!(cover.first + cover.shares.len() <= cells);
            }
        }
    }
}
