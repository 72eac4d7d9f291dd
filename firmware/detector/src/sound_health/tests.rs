//! Sounds of sick and of well microphones, as a table.

use super::*;

const RATE_HZ: u32 = 16_000;

/// Noise of `rms` in 16 bits, the same for the same seed.
fn noise(seconds: f64, rms: f64, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(state >> 8) / f64::from(1 << 24) - 0.5
    };
    // Four uniforms, of variance 1/12 each, are near enough to a normal number.
    let normal = std::iter::repeat_with(move || (0..4).map(|_| uniform()).sum::<f64>() * 3f64.sqrt());
    normal.map(|x| quantised(x * rms)).take((seconds * f64::from(RATE_HZ)) as usize).collect()
}

fn quantised(x: f64) -> f32 {
    ((x * 32_768.0).round().clamp(-32_768.0, 32_767.0) / 32_768.0) as f32
}

fn tone(seconds: f64, hz: f64, amplitude: f64) -> Vec<f32> {
    let w = std::f64::consts::TAU * hz / f64::from(RATE_HZ);
    (0..(seconds * f64::from(RATE_HZ)) as usize).map(|i| quantised(amplitude * (w * i as f64).sin())).collect()
}

fn tiled(seconds: f64, piece: &[f32]) -> Vec<f32> {
    piece.iter().copied().cycle().take((seconds * f64::from(RATE_HZ)) as usize).collect()
}

fn mapped(sound: Vec<f32>, f: impl Fn(f32) -> f32) -> Vec<f32> {
    sound.into_iter().map(f).collect()
}

fn with_bit(sample: f32) -> f32 {
    f32::from((sample * 32_768.0) as i16 | 0x0400) / 32_768.0
}

/// What comes to stand and what is over, with the second at which it was told.
fn findings(health: &mut SoundHealth, sound: &[f32]) -> Vec<(Defect, bool, f64)> {
    let mut found = Vec::new();
    for (index, piece) in sound.chunks(777).enumerate() {
        let t_s = ((index + 1) * 777).min(sound.len()) as f64 / f64::from(RATE_HZ);
        health.push(piece, |finding| found.push((finding.defect, finding.stands, t_s)));
    }
    found
}

#[test]
fn sick_microphones_are_named_after_a_minute_and_well_again_soon() {
    let scream = tone(1.0, 1_200.0, 0.5).into_iter().zip(noise(1.0, 0.02, 9)).map(|(a, b)| a + b).collect::<Vec<_>>();
    let check = |name: &str, sound: Vec<f32>, expect: &[Defect]| {
        let mut health = SoundHealth::new(RATE_HZ, None);
        let found = findings(&mut health, &sound);
        let mut named: Vec<_> = found.iter().map(|(defect, stands, _)| (*defect, *stands)).collect();
        named.sort_by_key(|(defect, _)| *defect as u8);
        assert_eq!(named, expect.iter().map(|defect| (*defect, true)).collect::<Vec<_>>(), "{name}");
        assert!(found.iter().all(|(.., t_s)| (59.9..=62.6).contains(t_s)), "{name}: {found:?}");
        let well = findings(&mut health, &noise(15.0, 0.01, 5));
        assert_eq!(well.len(), expect.len(), "{name}: {well:?}");
        assert!(well.iter().all(|(_, stands, _)| !stands), "{name}: {well:?}");
    };
    use Defect::*;
    check("zeros", vec![0.0; 63 * RATE_HZ as usize], &[Zeros]);
    check("one value", vec![quantised(0.01); 63 * RATE_HZ as usize], &[Repeating]);
    check("full offset", vec![quantised(0.5); 63 * RATE_HZ as usize], &[Repeating, Offset, Clipping]);
    check("20 ms again and again", tiled(63.0, &noise(0.02, 0.01, 1)), &[Repeating]);
    check("a second again and again", tiled(63.0, &noise(1.0, 0.01, 1)), &[Repeating]);
    check("two seconds again and again", tiled(63.0, &noise(2.0, 1e-3, 1)), &[Repeating]);
    check("a scream again and again", tiled(63.0, &scream), &[Repeating]);
    check("offset", mapped(noise(63.0, 0.02, 1), |x| x + 0.1), &[Offset]);
    check("negative offset", mapped(noise(63.0, 0.001, 1), |x| x - 0.06), &[Offset]);
    check("clipped noise", mapped(noise(63.0, 0.1, 1), |x| (x * 20.0).clamp(-1.0, 0.999_97)), &[Clipping]);
    check("clipped tone", mapped(tone(63.0, 440.0, 0.5), |x| (x * 4.0).clamp(-1.0, 0.999_97)), &[Clipping]);
    check("clipped low", mapped(noise(63.0, 0.1, 1), |x| (x * 5.0).clamp(-0.5, 0.5)), &[Clipping]);
    check("a stuck bit", mapped(noise(63.0, 0.02, 1), with_bit), &[StuckBit]);
}

#[test]
fn well_microphones_raise_nothing() {
    let check = |name: &str, sound: Vec<f32>| {
        let found = findings(&mut SoundHealth::new(RATE_HZ, None), &sound);
        assert!(found.is_empty(), "{name}: {found:?}");
    };
    check("quiet room", noise(180.0, 3e-4, 1));
    check("very quiet room", noise(180.0, 2e-5, 2));
    // A step of 16 bits now and then, else zeros.
    check("near silence", noise(180.0, 7e-6, 3));
    check("loud noise", noise(180.0, 0.2, 4));
    check("a usual offset", mapped(noise(180.0, 3e-3, 5), |x| x + 0.02));
    check("eight bits", mapped(noise(180.0, 0.05, 6), |x| (x * 128.0).round() / 128.0));
    for hz in [50.0, 440.0, 997.0, 1_000.0, 3_300.0] {
        // The lowest one is one cycle a repetition: with the noise that any microphone adds.
        let hum = tone(70.0, hz, 0.9).into_iter().zip(noise(70.0, 1e-4, 7)).map(|(a, b)| a + b).collect();
        check(&format!("{hz} Hz and noise"), hum);
        if hz > 100.0 {
            check(&format!("{hz} Hz"), tone(70.0, hz, 0.25));
            check(&format!("{hz} Hz, loud"), tone(70.0, hz, 0.99));
        }
    }
    check("silence of 50 s", [noise(30.0, 1e-3, 1), vec![0.0; 50 * 16_000], noise(30.0, 1e-3, 2)].concat());
    let shouted = |i: u32| [noise(2.0, 0.01, i), mapped(noise(1.0, 0.3, i), |x| (x * 9.0).clamp(-1.0, 1.0))].concat();
    check("shouts that clip", (0..60).flat_map(shouted).collect());
}

#[test]
fn a_short_sound_shows_what_every_block_of_it_shows() {
    let check = |sound: &[f32], expect: &[Defect]| {
        assert_eq!(shown(sound, RATE_HZ).collect::<Vec<_>>(), expect);
    };
    check(&vec![0.0; 32_000], &[Defect::Zeros]);
    check(&mapped(noise(2.0, 0.02, 1), |x| x - 0.1), &[Defect::Offset]);
    check(&noise(2.0, 1e-3, 1), &[]);
    check(&[vec![0.0; 24_000], noise(0.5, 1e-3, 1)].concat(), &[]);
    check(&[], &[]);
}

#[test]
fn what_was_over_before_its_minute_raises_nothing() {
    let mut health = SoundHealth::new(RATE_HZ, None);
    // More than half of a minute's blocks, as the fault asks; then half a minute of a working microphone.
    let mut sound = tiled(40.0, &noise(1.0, 0.01, 1));
    sound.extend(noise(40.0, 0.01, 2));
    assert_eq!(findings(&mut health, &sound), []);
}

#[test]
fn a_defect_that_comes_and_goes_is_no_storm() {
    let mut health = SoundHealth::new(RATE_HZ, None);
    let mut count = 0;
    for round in 0..20 {
        count += findings(&mut health, &vec![0.0; 62 * RATE_HZ as usize]).len();
        count += findings(&mut health, &noise(3.0, 1e-3, round)).len();
    }
    assert_eq!(count, 40, "one fault and one restore a round");
    for round in 0..20 {
        count += findings(&mut health, &vec![0.0; 40 * RATE_HZ as usize]).len();
        count += findings(&mut health, &noise(1.0, 1e-3, round)).len();
    }
    assert_eq!(count, 40, "less than a minute raises nothing");
}

#[test]
fn covered_by_the_sites_floor_for_twelve_hours() {
    let (open, muffled) = (noise(0.05, 1e-3, 1), noise(0.05, 1e-4, 1));
    let (level_dbfs, high_dbfs) = levels_dbfs(&open, RATE_HZ);
    assert!((level_dbfs + 60.0).abs() < 0.5 && high_dbfs < level_dbfs, "{level_dbfs} {high_dbfs}");
    let floor = Floor { level_dbfs: level_dbfs - 6.0, high_dbfs: high_dbfs - 6.0 };
    let mut cover = Cover::new(floor, RATE_HZ);
    // Levels alone count: a block of a twentieth of a second stands for one of half a second.
    let mut check = |sound: &[f32], minutes: u32, expect: &[bool]| {
        let told: Vec<bool> = (0..minutes * MINUTE).filter_map(|_| cover.push(sound)).collect();
        assert_eq!(told, expect, "{minutes} minutes");
    };
    // One that is well is said once.
    check(&open, 3, &[false]);
    check(&muffled, 719, &[]);
    check(&muffled, 1, &[true]);
    check(&muffled, 100, &[]);
    check(&open, 1, &[false]);
    // A night of eleven hours.
    check(&muffled, 660, &[]);
    check(&open, 2, &[]);
}

#[test]
fn a_quiet_sound_with_its_high_band_is_not_covered() {
    let mut cover = Cover::new(Floor { level_dbfs: -40.0, high_dbfs: -80.0 }, RATE_HZ);
    let sound = noise(0.05, 1e-3, 1);
    let told: Vec<bool> = (0..800 * MINUTE).filter_map(|_| cover.push(&sound)).collect();
    assert_eq!(told, [false]);
}

#[test]
fn a_new_rate_keeps_what_stands() {
    let mut health = SoundHealth::new(48_000, None);
    assert_eq!(findings(&mut health, &vec![0.0; 61 * 48_000]).len(), 1);
    health.set_rate(RATE_HZ);
    let found = findings(&mut health, &noise(3.0, 1e-3, 1));
    assert_eq!(
        found.iter().map(|(defect, stands, _)| (*defect, *stands)).collect::<Vec<_>>(),
        [(Defect::Zeros, false)]
    );
}

/// An offset stays where a microphone is covered: with it in the level, no cover would ever be seen on a cheap card.
#[test]
fn a_cards_offset_is_no_level() {
    let sound: Vec<f32> = (0..32_000).map(|n| if n % 3 == 0 { 2e-4 } else { -1e-4 }).collect();
    let offset: Vec<f32> = sound.iter().map(|sample| sample + 0.01).collect();
    let ((level, high), (with_offset, high_with_offset)) = (levels_dbfs(&sound, 16_000), levels_dbfs(&offset, 16_000));
    assert!((level - with_offset).abs() < 0.1 && level < -70.0, "{level} and {with_offset} dBFS");
    // The filter takes a moment to forget it.
    assert!((high - high_with_offset).abs() < 6.0, "{high} and {high_with_offset} dBFS");
}
