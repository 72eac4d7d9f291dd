//! How much a count of rare events says about their rate. Exact bounds of a Poisson mean (Garwood 1936).

/// The 95 % interval of the mean of which `count` were seen: no mean outside it gives so few or so many in more than
/// 2.5 % of cases.
pub fn ci95(count: u64) -> [f64; 2] {
    let k = count as f64;
    [if count == 0 { 0.0 } else { solve(0.975, k - 1.0) }, solve(0.025, k)]
}

/// The mean that is exceeded with 5 % at the most where `count` were seen; 3.0 for none (the "rule of three").
pub fn upper95(count: u64) -> f64 {
    solve(0.05, count as f64)
}

/// The mean at which so few as `k` are seen with the probability `wanted`.
fn solve(wanted: f64, k: f64) -> f64 {
    let (mut low, mut high) = (0.0, 20.0 + 2.0 * k + 10.0 * (k + 1.0).sqrt());
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if at_most(k, middle) > wanted { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Probability of `k` or fewer; it falls as the mean grows. Terms are joined as logarithms: `exp(-mean)` alone is 0 for
/// means beyond 745.
fn at_most(k: f64, mean: f64) -> f64 {
    let mut log_term = -mean;
    let mut log_sum = log_term;
    for i in 1..=k.max(0.0) as u64 {
        log_term += (mean / i as f64).ln();
        log_sum = log_sum.max(log_term) + (-(log_sum - log_term).abs()).exp().ln_1p();
    }
    log_sum.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_agree_with_the_tables() {
        // Garwood's table: 0 -> 0..3.689, 1 -> 0.0253..5.572, 10 -> 4.795..18.39; scipy's chi2.ppf for the last.
        for (count, low, high) in [(0, 0.0, 3.689), (1, 0.0253, 5.572), (10, 4.795, 18.391), (1000, 938.97, 1063.95)] {
            let [a, b] = ci95(count);
            assert!((a - low).abs() < 2e-3 * (1.0 + low) && (b - high).abs() < 2e-3 * (1.0 + high), "{count}: {a} {b}");
        }
        for (count, high) in [(0, 2.9957), (1, 4.7439), (3, 7.7537)] {
            assert!((upper95(count) - high).abs() < 1e-3, "{count}: {}", upper95(count));
        }
    }
}
