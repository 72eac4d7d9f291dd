//! Values that move over time: pitch, loudness, formants.

/// The value at `t_s` of a curve through `(seconds, value)` points in order, with level tangents at the points; constant
/// before the first and after the last.
pub fn at(points: &[(f64, f64)], t_s: f64) -> f64 {
    let next = points.partition_point(|(point_s, _)| *point_s <= t_s);
    match (next.checked_sub(1).and_then(|last| points.get(last)), points.get(next)) {
        (None, None) => 0.0,
        (None, Some((_, value))) | (Some((_, value)), None) => *value,
        (Some((from_s, from)), Some((to_s, to))) => from + (to - from) * smooth((t_s - from_s) / (to_s - from_s)),
    }
}

/// Hermite's step from 0 to 1.
fn smooth(x: f64) -> f64 {
    x * x * (3.0 - 2.0 * x)
}
