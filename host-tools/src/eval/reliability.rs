//! Whether a score is what it says: of the clips that score 0.8, eight in ten should be screams.

use serde::Serialize;

const BINS: usize = 10;

/// Reliability of the scores as probabilities, at this set's share of screams.
#[derive(Serialize)]
pub struct Reliability {
    /// Mean distance of score and truth in each bin, weighted by its clips (expected calibration error).
    pub ece: f64,
    /// Mean square of score minus truth.
    pub brier: f64,
    pub bins: Vec<Bin>,
}

/// Clips of one tenth of the scale.
#[derive(Serialize)]
pub struct Bin {
    pub from: f64,
    pub to: f64,
    pub n: usize,
    pub mean_score: f64,
    /// Share of screams.
    pub positive: f64,
}

/// Of clips with truth and score; bins without a clip are left out.
pub fn of(labelled: &[(bool, f64)]) -> Reliability {
    let truth = |truth: bool| f64::from(u8::from(truth));
    let bins: Vec<Bin> = (0..BINS)
        .filter_map(|bin| {
            let inside = |score: f64| ((score * BINS as f64) as usize).min(BINS - 1) == bin;
            let held: Vec<_> = labelled.iter().filter(|(_, score)| inside(*score)).collect();
            let mean = |sum: f64| sum / held.len() as f64;
            (!held.is_empty()).then(|| Bin {
                from: bin as f64 / BINS as f64,
                to: (bin + 1) as f64 / BINS as f64,
                n: held.len(),
                mean_score: mean(held.iter().map(|(_, score)| score).sum()),
                positive: mean(held.iter().map(|(t, _)| truth(*t)).sum()),
            })
        })
        .collect();
    // Of no clips there is none: 0 over 0.
    let n = labelled.len() as f64;
    Reliability {
        ece: bins.iter().map(|bin| bin.n as f64 * (bin.mean_score - bin.positive).abs()).sum::<f64>() / n,
        brier: labelled.iter().map(|(t, score)| (score - truth(*t)).powi(2)).sum::<f64>() / n,
        bins,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_the_known_ones() {
        let figures = of(&[(true, 1.0), (true, 0.75), (false, 0.75), (false, 0.05)]);
        assert_eq!(figures.bins.iter().map(|bin| bin.n).collect::<Vec<_>>(), [1, 2, 1]);
        assert!((figures.ece - (0.05 + 2.0 * 0.25 + 0.0) / 4.0).abs() < 1e-12, "{}", figures.ece);
        assert!((figures.brier - (0.0625 + 0.5625 + 0.0025) / 4.0).abs() < 1e-12, "{}", figures.brier);
    }
}
