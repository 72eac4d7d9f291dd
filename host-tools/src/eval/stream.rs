//! Stream figures: what the product makes of hours of sound, with its votes, hold and cooldown.
//!
//! A *soundscape* is a long bed (`bed`) with the split's screams set into it, each cut as in the clip figures, 0 to 20 dB
//! over the bed's level at its place (seeded) or as far as full scale lets it, since a microphone's does not grow with a loud room; so far
//! apart that no cooldown hides the next (`snr_db` is what came of it). A scream is *found* by an alarm
//! that starts while a window that decides can hold some of it; the time to the alarm runs from its *onset*, the first
//! moment within 20 dB of its loudest, to the end of the deciding window. False alarms are counted over scream-free sound:
//! the background recordings, or the bed of clips alone where there are none. Recall at a rate is told where one alarm at least
//! is expected in the hours; that is an estimate, and beside it stands the rate that they *show*, with 95 % confidence. A scream in the incident or the cooldown of a false alarm counts as
//! missed, so recall falls again at low thresholds.

use std::path::Path;

use anyhow::Context;
use detector::manifest::{Decision, Manifest, Votes};
use detector::model::Model;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rayon::prelude::*;
use serde::Serialize;

use super::bed::{self, Bed};
use super::bootstrap::found_interval;
use super::clips;
use super::lay::rms;
use super::table::Clip;
use crate::calibrate::lowest;
use crate::poisson;
use crate::trace::{self, Cores, Trace};

/// Screams of one soundscape: short enough to hold in memory, long enough to be a stream. One where a cooldown is longer than
/// [`APART_S_MAX`].
const SCREAMS: usize = 8;
const SNR_DB: std::ops::Range<f32> = 0.0..20.0;
/// A bed quieter than this counts as so loud: a scream in a silent room is no whisper. RMS of full scale, -45 dB.
const QUIET: f32 = 5.6e-3;
/// Of several screams in one soundscape, from one's end to the next one's start, at the most; and around one alone. Seconds.
const APART_S_MAX: f64 = 300.0;
/// Rates at which recall is looked up: a half an hour, one a day, one a week.
const RATES: [(&str, f64); 3] = [("0.5 per hour", 0.5), ("1 per day", 1.0 / 24.0), ("1 per week", 1.0 / 168.0)];
/// Settings of the sweep.
const VOTES: [Votes; 5] = [
    Votes { needed: 1, of: 1 },
    Votes { needed: 1, of: 2 },
    Votes { needed: 2, of: 2 },
    Votes { needed: 2, of: 3 },
    Votes { needed: 3, of: 4 },
];
const THRESHOLDS: [f64; 8] = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];
const HOLDS_S: [f64; 3] = [5.0, 10.0, 20.0];

/// The stream figures, at the manifest's decision where nothing else is said.
#[derive(Serialize)]
pub struct Figures {
    /// Scream-free sound behind the false alarms.
    pub hours: f64,
    pub alarms: u64,
    pub per_hour: f64,
    /// Exact Poisson interval of the rate.
    pub ci95: [f64; 2],
    /// Soundscapes behind the recall.
    pub soundscape_hours: f64,
    /// Alarms in them that no scream explains.
    pub soundscape_false_alarms: u64,
    pub events: usize,
    pub found: usize,
    pub recall: f64,
    /// Of the recall, by group; none without screams.
    pub recall_ci95: Option<[f64; 2]>,
    /// Of the screams over their beds; none without screams.
    pub snr_db: Option<Snr>,
    pub onset_to_alarm_s: Option<Delay>,
    pub rates: Vec<AtRate>,
    pub sweep: Vec<Setting>,
}

/// From onset to alarm, seconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Delay {
    pub median: f64,
    pub p95: f64,
}

/// How far the screams lie over their beds, dB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Snr {
    pub p5: f32,
    pub median: f32,
    pub p95: f32,
}

impl Snr {
    /// Nearest rank.
    fn of(mut snrs_db: Vec<f32>) -> Option<Self> {
        snrs_db.sort_by(f32::total_cmp);
        let at = |q: f64| snrs_db[((q * snrs_db.len() as f64).ceil() as usize).clamp(1, snrs_db.len()) - 1];
        (!snrs_db.is_empty()).then(|| Self { p5: at(0.05), median: at(0.5), p95: at(0.95) })
    }
}

/// Recall at a rate of false alarms.
#[derive(Serialize)]
pub struct AtRate {
    pub rate: &'static str,
    pub per_hour: f64,
    /// The lowest threshold that keeps the rate in these hours; none where the hours do not allow to say.
    pub threshold: Option<f64>,
    pub recall: Option<f64>,
    pub onset_to_alarm_s: Option<Delay>,
    /// The largest rate that so few alarms in these hours leave possible, with 95 % confidence.
    pub shown_per_hour: Option<f64>,
    /// Scream-free hours in which the rate lets one alarm be expected.
    pub hours_needed: f64,
    /// Scream-free hours that show the rate, without an alarm in them (the rule of three).
    pub hours_to_show: f64,
}

/// Another setting of the decision, to choose from.
#[derive(Serialize)]
pub struct Setting {
    pub votes: Votes,
    pub hold_s: f64,
    pub threshold: f64,
    pub alarms: u64,
    pub per_hour: f64,
    pub recall: f64,
    pub onset_to_alarm_s: Option<Delay>,
}

/// Onset and end of a scream, seconds.
pub type Scream = (f64, f64);

/// A soundscape that was heard.
pub struct Soundscape {
    trace: Trace,
    events: Vec<Scream>,
    /// Of each scream.
    groups: Vec<String>,
    /// Of each scream over its bed.
    snrs_db: Vec<f32>,
}

/// Whether an alarm that starts at `t_s` can be for a scream: the deciding window, `reach_s` long, holds some of it.
pub fn belongs(t_s: f64, (onset_s, end_s): Scream, reach_s: f64) -> bool {
    t_s > onset_s && t_s < end_s + reach_s
}

/// Lays all screams of `rows` into soundscapes of `bed` and hears them.
pub fn hear(
    manifest: &Manifest,
    model: &Model,
    folder: &Path,
    rows: &[&Clip],
    cut_s: f64,
    bed: &Bed,
) -> anyhow::Result<Vec<Soundscape>> {
    let bar = crate::progress::slow_bar(rows.len() as u64, "stream");
    let each = if apart_s(manifest) > APART_S_MAX { 1 } else { SCREAMS };
    let count = rows.len().div_ceil(each).max(1);
    let heard = rows
        .par_chunks(each)
        .enumerate()
        .map(|(number, rows)| {
            let screams: Vec<Vec<f32>> =
                rows.iter().map(|row| clips::cut(manifest, folder, &row.file, cut_s)).collect::<anyhow::Result<_>>()?;
            // Beds begin at different files, as far apart as there are.
            let Laid { sound, events, snrs_db } = lay(manifest, bed, (number, number * bed.files() / count), &screams)?;
            let trace = Trace::of_sound(manifest, model, &sound, Cores::One).context("a soundscape")?;
            bar.inc(rows.len() as u64);
            let groups = rows.iter().map(|row| row.group().to_owned()).collect();
            Ok(Soundscape { trace, events, groups, snrs_db })
        })
        .collect();
    bar.finish_and_clear();
    heard
}

/// From one scream's end to the next one's start, so that no cooldown hides it, seconds.
fn apart_s(manifest: &Manifest) -> f64 {
    let decision = manifest.decision;
    // The sweep's longest hold may not reach the next scream either.
    let hold_s = HOLDS_S.into_iter().fold(decision.hold_s, f64::max);
    hold_s + decision.cooldown_s + 2.0 * manifest.front_end.window_s
}

/// A soundscape before it is heard.
struct Laid {
    sound: Vec<f32>,
    events: Vec<Scream>,
    snrs_db: Vec<f32>,
}

/// Soundscape `number`, whose bed begins with file `first`, and onset and end of each scream in it.
fn lay(manifest: &Manifest, bed: &Bed, (number, first): (usize, usize), screams: &[Vec<f32>]) -> anyhow::Result<Laid> {
    let rate_hz = f64::from(manifest.front_end.sample_rate_hz);
    let samples = |seconds: f64| (seconds * rate_hz).round() as usize;
    // One scream alone needs no more.
    let apart_s = apart_s(manifest).min(APART_S_MAX);
    // Each its own: where there are more soundscapes than files, several begin with one.
    let mut rng = SmallRng::seed_from_u64(first.max(number) as u64);
    let mut starts = Vec::with_capacity(screams.len());
    let mut end = 0;
    for scream in screams {
        // Up to five seconds more, so that screams meet windows at every phase.
        let start = end + samples(apart_s + rng.random_range(0.0..5.0));
        starts.push(start);
        end = start + scream.len();
    }
    let mut sound = bed.stretch(first, end + samples(apart_s))?;
    let (mut events, mut snrs_db) = (Vec::with_capacity(screams.len()), Vec::with_capacity(screams.len()));
    for (scream, start) in screams.iter().zip(starts) {
        let level = rms(&sound[start..start + scream.len()]);
        let peak = scream.iter().fold(1e-9f32, |peak, x| peak.max(x.abs()));
        let gain = bed::gain_over(scream, level.max(QUIET), rng.random_range(SNR_DB)).min(1.0 / peak);
        snrs_db.push(20.0 * (gain * rms(scream).max(1e-9) / level.max(1e-9)).log10());
        bed::add(&mut sound, start, scream, gain);
        events.push(((start + onset(scream, samples(0.02))) as f64 / rate_hz, (start + scream.len()) as f64 / rate_hz));
    }
    sound.iter_mut().for_each(|x| *x = x.clamp(-1.0, 1.0));
    Ok(Laid { sound, events, snrs_db })
}

/// The first sample of the first block within 20 dB of the loudest.
fn onset(scream: &[f32], block: usize) -> usize {
    let levels: Vec<f32> = scream.chunks(block.max(1)).map(rms).collect();
    let loudest = levels.iter().copied().fold(0.0, f32::max);
    levels.iter().position(|level| *level >= 0.1 * loudest).unwrap_or(0) * block
}

/// What a decision makes of the soundscapes.
struct Judged {
    found: usize,
    /// Of no screams not a number, which JSON writes as null.
    recall: f64,
    recall_ci95: Option<[f64; 2]>,
    delay: Option<Delay>,
    false_alarms: u64,
}

fn judge(manifest: &Manifest, soundscapes: &[Soundscape], decision: Decision) -> Judged {
    let reach_s = manifest.front_end.window_s;
    let (mut delays, mut found, mut false_alarms) = (Vec::new(), Vec::new(), 0);
    for soundscape in soundscapes {
        let starts = soundscape.trace.starts(decision);
        let explained = |t_s: f64| soundscape.events.iter().any(|event| belongs(t_s, *event, reach_s));
        false_alarms += starts.iter().filter(|t_s| !explained(**t_s)).count() as u64;
        for (event, group) in soundscape.events.iter().zip(&soundscape.groups) {
            let start = starts.iter().find(|t_s| belongs(**t_s, *event, reach_s));
            delays.extend(start.map(|t_s| t_s - event.0));
            found.push((group.as_str(), start.is_some()));
        }
    }
    delays.sort_by(f64::total_cmp);
    // Nearest rank.
    let at = |q: f64| delays[((q * delays.len() as f64).ceil() as usize).clamp(1, delays.len()) - 1];
    Judged {
        found: delays.len(),
        recall: delays.len() as f64 / found.len() as f64,
        recall_ci95: found_interval(found),
        delay: (!delays.is_empty()).then(|| Delay { median: at(0.5), p95: at(0.95) }),
        false_alarms,
    }
}

/// All figures, from soundscapes and scream-free sound that have been heard.
pub fn figures(manifest: &Manifest, soundscapes: &[Soundscape], quiet: &[Trace]) -> Figures {
    let own = manifest.decision;
    let (hours, alarms) = (trace::hours(quiet), trace::count(quiet, own));
    let [low, high] = poisson::ci95(alarms);
    let judged = judge(manifest, soundscapes, own);
    let rates = RATES.into_iter().map(|(rate, per_hour)| {
        let allowed = (per_hour * hours + 1e-9).floor() as u64;
        let decision = (allowed > 0).then(|| lowest(own, quiet, allowed)).flatten();
        let at = decision.map(|decision| judge(manifest, soundscapes, decision));
        AtRate {
            rate,
            per_hour,
            threshold: decision.map(|decision| decision.threshold_on),
            recall: at.as_ref().map(|at| at.recall),
            onset_to_alarm_s: at.and_then(|at| at.delay),
            shown_per_hour: decision.map(|decision| poisson::upper95(trace::count(quiet, decision)) / hours),
            hours_needed: 1.0 / per_hour,
            hours_to_show: 3.0 / per_hour,
        }
    });
    let by_votes =
        VOTES.into_iter().flat_map(|votes| THRESHOLDS.into_iter().map(move |threshold| (votes, own.hold_s, threshold)));
    let by_hold = HOLDS_S.into_iter().map(|hold_s| (own.votes, hold_s, own.threshold_on));
    let sweep = by_votes.chain(by_hold).map(|(votes, hold_s, threshold_on)| {
        let threshold_off = own.threshold_off.min(threshold_on);
        let decision = Decision { votes, hold_s, threshold_on, threshold_off, ..own };
        let (judged, alarms) = (judge(manifest, soundscapes, decision), trace::count(quiet, decision));
        Setting {
            votes,
            hold_s,
            threshold: threshold_on,
            alarms,
            per_hour: alarms as f64 / hours,
            recall: judged.recall,
            onset_to_alarm_s: judged.delay,
        }
    });
    Figures {
        hours,
        alarms,
        per_hour: alarms as f64 / hours,
        ci95: [low / hours, high / hours],
        soundscape_hours: trace::hours(soundscapes.iter().map(|soundscape| &soundscape.trace)),
        soundscape_false_alarms: judged.false_alarms,
        events: soundscapes.iter().map(|soundscape| soundscape.events.len()).sum(),
        found: judged.found,
        recall: judged.recall,
        recall_ci95: judged.recall_ci95,
        snr_db: Snr::of(soundscapes.iter().flat_map(|soundscape| soundscape.snrs_db.iter().copied()).collect()),
        onset_to_alarm_s: judged.delay,
        rates: rates.collect(),
        sweep: sweep.collect(),
    }
}

/// Recall against false alarms an hour, a point a threshold, for the manifest's votes.
pub fn curve(manifest: &Manifest, soundscapes: &[Soundscape], quiet: &[Trace]) -> Vec<(f64, f64)> {
    let hours = trace::hours(quiet);
    (1..100)
        .map(|percent| {
            let threshold_on = f64::from(percent) / 100.0;
            let threshold_off = manifest.decision.threshold_off.min(threshold_on);
            let decision = Decision { threshold_on, threshold_off, ..manifest.decision };
            (trace::count(quiet, decision) as f64 / hours, judge(manifest, soundscapes, decision).recall)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_onset_is_where_it_gets_loud() {
        let scream = [vec![0.001; 100], vec![0.2; 100], vec![1.0; 100]].concat();
        assert_eq!(onset(&scream, 20), 100);
        assert_eq!(onset(&[0.0; 50], 20), 0);
    }

    #[test]
    fn an_alarm_belongs_to_the_scream_in_its_window() {
        let event = (10.0, 12.0);
        for (t_s, expect) in [(9.9, false), (10.5, true), (13.0, true), (15.9, true), (16.0, false)] {
            assert_eq!(belongs(t_s, event, 4.0), expect, "{t_s}");
        }
    }
}
