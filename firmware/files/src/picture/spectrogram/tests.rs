use super::super::tests::decode;
use super::*;

const FRAMES: usize = 501;
const N_MELS: usize = 64;

/// Quiet noise, and from 7 s to 10 s a harmonic sound whose pitch falls: log2 power as the front end gives it.
fn scene(centres: &[f32]) -> Vec<f32> {
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let mut cells = vec![0.0; FRAMES * N_MELS];
    for (i, cell) in cells.iter_mut().enumerate() {
        let (band, t) = (i / FRAMES, (i % FRAMES) as f32 * 16.0 / (FRAMES - 1) as f32);
        let mut power = 0.02 * (0.2 + noise()) * 0.96f32.powi(band as i32);
        if (7.0..10.0).contains(&t) {
            let pitch = 1300.0 - 120.0 * (t - 7.0) + 60.0 * (t * 30.0).sin();
            for harmonic in 1..6 {
                let away = (centres[band] / (pitch * harmonic as f32)).log2() * 14.0;
                power += 400.0 / harmonic as f32 * (-away * away).exp() * (-(t - 7.0)).exp();
            }
        }
        *cell = (power + 1e-10).log2();
    }
    cells
}

fn centres() -> Vec<f32> {
    (1..=N_MELS).map(|i| 700.0 * (10f32.powf(i as f32 * 2840.0 / 65.0 / 2595.0) - 1.0)).collect()
}

fn draw(look_at: impl Fn(&mut Spectrogram<'_>)) -> Result<Vec<u8>, PictureError> {
    let centres = centres();
    let log_mel = scene(&centres);
    let scores: Vec<_> = [0.02, 0.03, 0.11, 0.06, 0.93, 0.98, 0.71, 0.08]
        .into_iter()
        .enumerate()
        .map(|(i, score)| WindowScore { t_end_s: 140.0 + 2.0 * i as f64, score, masked: i == 6 })
        .collect();
    let mut picture = Spectrogram {
        log_mel: &log_mel,
        n_mels: N_MELS,
        frames: FRAMES,
        mel_centres_hz: &centres,
        t_start_s: 138.4,
        t_end_s: 154.4,
        scores: &scores,
        threshold_on: 0.8,
        alarm_t_s: Some(150.0),
        title: "Hallway (hall-1)   2026-07-30 12:34:56 UTC   score 0.98   -14.2 dBFS",
    };
    look_at(&mut picture);
    picture.to_png()
}

/// With SCREAMD_LOOK=FOLDER the pictures are left there for somebody to look at.
fn keep(name: &str, png: &[u8]) {
    if let Some(folder) = std::env::var_os("SCREAMD_LOOK") {
        std::fs::write(Path::new(&folder).join(name), png).unwrap();
    }
}

fn pixel_at(rgb: &[u8], x: i32, y: i32) -> Rgb {
    let i = (y * WIDTH + x) as usize * 3;
    rgb[i..i + 3].try_into().unwrap()
}

#[test]
fn a_scream_is_bright_where_it_is_and_the_alarm_has_a_line() {
    let png = draw(|_| {}).unwrap();
    keep("scream.png", &png);
    let (width, height, rgb) = decode(&png);
    assert_eq!((width, height), (WIDTH as u32, HEIGHT as u32));
    let at = |t: f64, y: i32| {
        let x = LEFT + ((t - 138.4) / 16.0 * f64::from(PANEL_WIDTH - 1)) as i32;
        pixel_at(&rgb, x, y)
    };
    assert_eq!(at(150.0, SOUND_TOP + 20), HIT_LINE);
    // 1,260 Hz, a third of a second into the scream, against the same band before it.
    let y = SOUND_TOP + SOUND_HEIGHT - 1 - (0.413 * f64::from(SOUND_HEIGHT)) as i32;
    let (loud, quiet) = (at(145.7, y), at(142.0, y));
    assert!(loud[1] > 150 && quiet[1] < 120, "{loud:?} {quiet:?}");
    // The window that ended at 148 s was a hit, the one before it was none.
    assert_eq!((at(147.5, BOTTOM - 4), at(145.5, BOTTOM - 4)), (HIT_FILL, QUIET_FILL));
    // The one that ended at 152 s holds the device's own siren.
    assert_eq!(at(151.5, BOTTOM - 4), MASKED_FILL);
}

/// What is written at an alarm's start ends with the window that decided, and a window's last frame stands before its end.
#[test]
fn an_alarm_at_the_very_end_has_its_line_and_its_dot() {
    const DECIDED: [WindowScore; 2] = [
        WindowScore { t_end_s: 152.4, score: 0.1, masked: false },
        WindowScore { t_end_s: 154.43, score: 0.95, masked: false },
    ];
    let png = draw(|p| (p.scores, p.alarm_t_s) = (&DECIDED, Some(154.43))).unwrap();
    keep("at-its-start.png", &png);
    let (.., rgb) = decode(&png);
    assert_eq!(pixel_at(&rgb, LEFT + PANEL_WIDTH - 2, SOUND_TOP + 20), HIT_LINE);
    // The dot's lower edge, under the line of its step.
    assert_eq!(pixel_at(&rgb, LEFT + PANEL_WIDTH - 1, score_y(0.95) + 3), HIT_LINE);
    let png = draw(|p| (p.scores, p.alarm_t_s) = (&[], Some(155.0))).unwrap();
    assert!(!decode(&png).2.chunks(3).any(|pixel| pixel == HIT_LINE), "an alarm that is not in the picture");
}

#[test]
fn every_sound_has_a_picture() {
    static SILENCE: [f32; N_MELS * FRAMES] = [-33.2; N_MELS * FRAMES];
    let png = draw(|p| {
        (p.log_mel, p.scores, p.alarm_t_s) =
            (&SILENCE, &[WindowScore { t_end_s: 4.0, score: 0.0, masked: false }], None);
        (p.t_start_s, p.t_end_s, p.title) = (0.0, 4.0, "\u{d604}\u{ad00} k\u{fc}che");
    });
    keep("silence.png", &png.unwrap());
    const UNKNOWN: [WindowScore; 1] = [WindowScore { t_end_s: 1_814_400.9, score: f32::NAN, masked: false }];
    let long = draw(|p| {
        (p.t_start_s, p.t_end_s) = (1_814_400.25, 1_814_401.0);
        (p.scores, p.alarm_t_s, p.threshold_on) = (&UNKNOWN, Some(3.0), 0.875);
        p.title = "a title that is far too long for one line of a picture, as a zone's name might be \
                   where somebody pastes a whole address into it, with the floor";
    });
    keep("long.png", &long.unwrap());
    for cells in [&[f32::NAN; 64][..], &[0.0; 64]] {
        let png = draw(|p| (p.log_mel, p.frames) = (cells, 1));
        keep("one-frame.png", &png.unwrap());
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let error = |change: fn(&mut Spectrogram<'_>)| draw(change).unwrap_err().to_string();
    assert_eq!(error(|p| p.frames = 500), "log_mel: there are 32064 and not 32000");
    assert_eq!(error(|p| p.mel_centres_hz = &[]), "mel_centres_hz: there are 0 and not 64");
    assert_eq!(error(|p| p.t_end_s = 1.0), "the picture would run from 138.4 s to 1 s");
    assert!(error(|p| p.n_mels = 0).contains("0 bands"));
    assert!(error(|p| p.t_start_s = f64::NAN).contains("NaN"));
}

#[test]
fn ticks_are_round() {
    for (least, expect) in [(0.11, 0.2), (0.5, 0.5), (1.0, 1.0), (1.8, 2.0), (2.3, 5.0), (60.0, 100.0)] {
        assert!((round_step(least) - expect).abs() < 1e-9, "{least}");
    }
}
