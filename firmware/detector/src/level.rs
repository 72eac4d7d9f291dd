//! Level of a window.

/// No window is reported quieter than this, dBFS.
pub const LEVEL_DBFS_MIN: f32 = -120.0;

/// RMS of `samples` in dB relative to full scale (a square wave of amplitude 1 is 0 dBFS), at least [`LEVEL_DBFS_MIN`].
pub fn level_dbfs(samples: &[f32]) -> f32 {
    let sum: f64 = samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    power_dbfs(sum / samples.len().max(1) as f64)
}

/// A mean square in dB relative to full scale, at least [`LEVEL_DBFS_MIN`].
pub fn power_dbfs(mean_square: f64) -> f32 {
    ((10.0 * mean_square.max(1e-30).log10()) as f32).max(LEVEL_DBFS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_levels() {
        let check = |samples: &[f32], expect: f32| assert!((level_dbfs(samples) - expect).abs() < 1e-3, "{samples:?}");
        check(&[1.0, -1.0], 0.0);
        check(&[0.1, -0.1], -20.0);
        check(&[0.0; 4], -120.0);
        check(&[], -120.0);
    }
}
