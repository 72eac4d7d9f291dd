//! Shoebox rooms: impulse responses by the image-source method (Allen and Berkley 1979), as models/training/rooms.py.

use rand::Rng;
use realfft::RealFftPlanner;

const SPEED_OF_SOUND_M_S: f64 = 343.0;
/// Length of a response.
const RESPONSE_S: f64 = 0.5;
/// Images on each side along an axis, at the most.
const REACH_MAX: f64 = 14.0;
/// Nothing is nearer to the microphone, metres.
const NEAREST_M: f64 = 0.3;

/// A room with a microphone in it. Lengths in metres.
#[derive(Debug, Clone)]
pub struct Room {
    size: [f64; 3],
    microphone: [f64; 3],
    /// Share of the amplitude that a wall sends back.
    reflection: f64,
}

impl Room {
    /// A long room, such as a corridor hall or an open-plan floor, in which a source can be ten metres away.
    pub fn long(rng: &mut impl Rng) -> Self {
        let size = [rng.random_range(11.5..14.0), rng.random_range(4.0..9.0), rng.random_range(2.4..3.6)];
        let absorption: f64 = rng.random_range(0.15..0.5);
        let microphone = [0.6, size[1] * rng.random_range(0.3..0.7), rng.random_range(1.0..2.0)];
        Self { size, microphone, reflection: (1.0 - absorption).sqrt() }
    }

    /// The response to a source `distance_m` away along the room. Direct sound at sample 0, with the amplitude 1 that it has at
    /// one metre divided by the distance.
    pub fn response(&self, distance_m: f64, rate_hz: u32, rng: &mut impl Rng) -> Vec<f32> {
        let source = [self.microphone[0] + distance_m, self.microphone[1], self.microphone[2]];
        let rate_hz = f64::from(rate_hz);
        let mut response = vec![0.0; (RESPONSE_S * rate_hz) as usize];
        let reach = self.size.map(|size| (RESPONSE_S * SPEED_OF_SOUND_M_S / (2.0 * size)).ceil().min(REACH_MAX) as i32);
        for x in images(reach[0]) {
            for y in images(reach[1]) {
                for z in images(reach[2]) {
                    let mut square = 0.0;
                    let mut bounces = 0;
                    for (axis, (number, mirrored)) in [x, y, z].into_iter().enumerate() {
                        let side = if mirrored { -source[axis] } else { source[axis] };
                        let place = side + 2.0 * f64::from(number) * self.size[axis];
                        square += (place - self.microphone[axis]).powi(2);
                        bounces += (number - i32::from(mirrored)).abs() + number.abs();
                    }
                    let length_m = square.sqrt().max(NEAREST_M);
                    let delay = ((length_m - distance_m) / SPEED_OF_SOUND_M_S * rate_hz).round();
                    if !(0.0..response.len() as f64).contains(&delay) {
                        continue;
                    }
                    // A random sign stands in for the phase that real walls give; it keeps the tail from ringing.
                    let sign = if bounces > 1 && rng.random_bool(0.5) { -1.0 } else { 1.0 };
                    response[delay as usize] += sign * self.reflection.powi(bounces) / length_m;
                }
            }
        }
        response.into_iter().map(|tap| tap as f32).collect()
    }
}

/// Images along one axis: the number of the room's copy, and whether it is mirrored.
fn images(reach: i32) -> impl Iterator<Item = (i32, bool)> + Clone {
    (-reach..=reach).flat_map(|number| [(number, false), (number, true)])
}

/// `sound` through `response`, as long as both together.
pub fn convolve(sound: &[f32], response: &[f32]) -> Vec<f32> {
    let length = sound.len() + response.len();
    let n = length.next_power_of_two();
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, inverse) = (planner.plan_fft_forward(n), planner.plan_fft_inverse(n));
    let spectrum = |samples: &[f32]| {
        let mut padded = forward.make_input_vec();
        padded[..samples.len()].copy_from_slice(samples);
        let mut spectrum = forward.make_output_vec();
        // The lengths are the plan's own: there is nothing to refuse.
        let done = forward.process(&mut padded, &mut spectrum);
        debug_assert!(done.is_ok());
        spectrum
    };
    let mut product = spectrum(sound);
    for (a, b) in product.iter_mut().zip(spectrum(response)) {
        *a *= b;
    }
    let mut out = inverse.make_output_vec();
    let done = inverse.process(&mut product, &mut out);
    debug_assert!(done.is_ok());
    out.truncate(length);
    out.iter_mut().for_each(|x| *x /= n as f32);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    #[test]
    fn convolution_is_what_it_is_by_hand() {
        let out = convolve(&[1.0, 2.0, 0.0, -1.0], &[1.0, 0.5]);
        let expect = [1.0, 2.5, 1.0, -1.0, -0.5, 0.0];
        assert!(out.len() == 6 && out.iter().zip(expect).all(|(a, b)| (a - b).abs() < 1e-5), "{out:?}");
    }

    #[test]
    fn farther_away_the_direct_sound_weakens_against_the_room() {
        let room = Room::long(&mut SmallRng::seed_from_u64(1));
        let ratio_db = |distance_m: f64| {
            let response = room.response(distance_m, 16_000, &mut SmallRng::seed_from_u64(2));
            assert!((f64::from(response[0]) - 1.0 / distance_m).abs() < 0.02, "{distance_m} m: {}", response[0]);
            let tail: f32 = response[1..].iter().map(|x| x * x).sum();
            10.0 * (response[0] * response[0] / tail).log10()
        };
        let (near, middle, far) = (ratio_db(1.0), ratio_db(5.0), ratio_db(10.0));
        assert!(near > middle + 6.0 && middle > far + 2.0, "{near} {middle} {far} dB");
    }
}
