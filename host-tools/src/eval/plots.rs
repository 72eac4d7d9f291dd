//! The figures as pictures: `det.png`, `roc.png`, `reliability.png`, `classes.png`, with stream figures `stream.png`, with
//! `--full` `noise.png`, and `worst.png`, the errors to look at.

use std::path::Path;

use detector::manifest::Manifest;

use super::clips::Scored;
use super::figures::Point;
use super::{Report, figures, worst};
use crate::chart::{Axis, BLUE, Bar, Chart, GREEN, ORANGE, Scale, Series, title, write_bars};

/// A class that is flagged more often than this is drawn in the colour of a warning.
const FLAGGED_MAX: f64 = 0.10;

const SHARES: [(f64, &str); 6] = [(0.0, "0"), (0.2, "0.2"), (0.4, "0.4"), (0.6, "0.6"), (0.8, "0.8"), (1.0, "1")];
const DET_TICKS: [(f64, &str); 8] =
    [(0.001, "0.1"), (0.005, "0.5"), (0.01, "1"), (0.02, "2"), (0.05, "5"), (0.1, "10"), (0.2, "20"), (0.4, "40")];

/// Draws all into `folder`. `stream` is recall against false alarms an hour.
pub fn write(
    folder: &Path,
    manifest: &Manifest,
    data: &Path,
    report: &Report,
    scored: &[Scored],
    stream: Option<&[(f64, f64)]>,
) -> anyhow::Result<()> {
    let laid = figures::labelled(scored, |clip| clip.score);
    let whole = figures::labelled(scored, |clip| clip.whole);
    let curves =
        [("cut and laid", BLUE, figures::curve(&laid)), ("whole, zero-padded", ORANGE, figures::curve(&whole))];
    // Of screams alone, or of others alone, there is no such curve.
    if report.clips.has_both() {
        roc(folder, report, &curves)?;
        det(folder, report, &curves)?;
    }
    reliability(folder, report)?;
    classes(folder, report)?;
    // Nor any recall of no screams.
    if report.clips.n_pos > 0 {
        if let Some(points) = stream {
            stream_curve(folder, report, points)?;
        }
        noise(folder, report)?;
    }
    worst::write(&folder.join("worst.png"), manifest, data, scored, report.cut_s)
}

type Curves<'a> = [(&'a str, [u8; 3], Vec<Point>); 2];

/// The point at the manifest's threshold.
fn operating(report: &Report) -> (f64, f64) {
    let clips = &report.clips;
    (1.0 - (2.0 * clips.balanced_accuracy - clips.recall), clips.recall)
}

fn roc(folder: &Path, report: &Report, curves: &Curves) -> anyhow::Result<()> {
    let mut series: Vec<Series> = curves
        .iter()
        .map(|(name, colour, points)| Series {
            name,
            colour: *colour,
            points: points.iter().map(|point| (point.false_positive_rate, point.recall)).collect(),
            joined: true,
            dots: false,
        })
        .collect();
    series.push(Series {
        name: "at the manifest's threshold",
        colour: GREEN,
        points: vec![operating(report)],
        joined: false,
        dots: true,
    });
    let title = title(&report.model, &format!("ROC, area {:.4}", report.clips.roc_auc));
    let chart = Chart {
        title: &title,
        x: Axis { name: "other clips flagged, share", scale: Scale::Linear(0.0, 1.0), ticks: &SHARES },
        y: Axis { name: "screams found, share", scale: Scale::Linear(0.0, 1.0), ticks: &SHARES },
        series,
    };
    chart.write(&folder.join("roc.png"))
}

fn det(folder: &Path, report: &Report, curves: &Curves) -> anyhow::Result<()> {
    let (wrong, recall) = operating(report);
    let mut series: Vec<Series> = curves
        .iter()
        .map(|(name, colour, points)| Series {
            name,
            colour: *colour,
            points: points.iter().map(|point| (point.false_positive_rate, 1.0 - point.recall)).collect(),
            joined: true,
            dots: false,
        })
        .collect();
    series.push(Series {
        name: "at the manifest's threshold",
        colour: GREEN,
        points: vec![(wrong, 1.0 - recall)],
        joined: false,
        dots: true,
    });
    let title = title(&report.model, "detection error trade-off");
    let scale = Scale::Probit(0.0007, 0.55);
    let chart = Chart {
        title: &title,
        x: Axis { name: "other clips flagged, %", scale, ticks: &DET_TICKS },
        y: Axis { name: "screams missed, %", scale, ticks: &DET_TICKS },
        series,
    };
    chart.write(&folder.join("det.png"))
}

fn reliability(folder: &Path, report: &Report) -> anyhow::Result<()> {
    let bins = &report.reliability.bins;
    let title = title(&report.model, &format!("reliability, calibration error {:.3}", report.reliability.ece));
    let chart = Chart {
        title: &title,
        x: Axis { name: "score", scale: Scale::Linear(0.0, 1.0), ticks: &SHARES },
        y: Axis {
            name: "screams among the clips of that score, share",
            scale: Scale::Linear(0.0, 1.0),
            ticks: &SHARES,
        },
        series: vec![
            Series {
                name: "what a probability says",
                colour: ORANGE,
                points: vec![(0.0, 0.0), (1.0, 1.0)],
                joined: true,
                dots: false,
            },
            Series {
                name: "this model",
                colour: BLUE,
                points: bins.iter().map(|bin| (bin.mean_score, bin.positive)).collect(),
                joined: true,
                dots: true,
            },
        ],
    };
    chart.write(&folder.join("reliability.png"))
}

fn classes(folder: &Path, report: &Report) -> anyhow::Result<()> {
    let share = |class: &figures::ClassFigures| class.flagged as f64 / class.n as f64;
    let mut classes: Vec<_> = report.classes.iter().collect();
    classes.sort_by(|a, b| share(b).total_cmp(&share(a)).then(b.n.cmp(&a.n)));
    let bars: Vec<Bar> = classes
        .into_iter()
        .map(|class| Bar {
            name: if class.class.is_empty() { "(no class)".into() } else { class.class.clone() },
            share: share(class),
            note: format!("{} of {}", class.flagged, class.n),
            colour: match share(class) {
                _ if class.screams => BLUE,
                share if share > FLAGGED_MAX => ORANGE,
                _ => GREEN,
            },
        })
        .collect();
    let title = title(&report.model, &format!("clips at threshold {} or above, by class", report.clips.threshold));
    write_bars(&folder.join("classes.png"), &title, "flagged, %  (screams blue; others orange above 10 %)", &bars)
}

/// False alarms an hour over `hours`, from under the lowest rate that can be counted in them: the edge is for none at all.
fn rates(hours: f64) -> (Scale, Vec<(f64, &'static str)>) {
    let low = (0.5 / hours).min(0.1);
    let ticks = [(0.001, "0.001"), (0.01, "0.01"), (0.1, "0.1"), (0.5, "0.5"), (1.0, "1"), (5.0, "5")];
    let ticks = ticks.into_iter().chain([(10.0, "10"), (50.0, "50"), (100.0, "100")]);
    (Scale::Log(low, 100.0), ticks.filter(|tick| tick.0 >= low).collect())
}

fn stream_curve(folder: &Path, report: &Report, points: &[(f64, f64)]) -> anyhow::Result<()> {
    let title = title(&report.model, "screams found against false alarms");
    let (scale, ticks) = rates(report.stream.as_ref().map_or(0.0, |stream| stream.hours));
    let chart = Chart {
        title: &title,
        x: Axis { name: "false alarms an hour (left edge: none)", scale, ticks: &ticks },
        y: Axis { name: "screams found, share", scale: Scale::Linear(0.0, 1.0), ticks: &SHARES },
        series: vec![
            Series {
                name: "thresholds 0.01 to 0.99",
                colour: BLUE,
                points: points.to_vec(),
                joined: true,
                dots: false,
            },
            Series {
                name: "the manifest's decision",
                colour: GREEN,
                points: report.stream.iter().map(|stream| (stream.per_hour, stream.recall)).collect(),
                joined: false,
                dots: true,
            },
        ],
    };
    chart.write(&folder.join("stream.png"))
}

fn noise(folder: &Path, report: &Report) -> anyhow::Result<()> {
    let (Some(noise), Some(distance)) = (&report.noise, &report.distance) else { return Ok(()) };
    let snrs = noise.snrs.iter().map(|at| (format!("{} dB", at.snr_db), at.found, at.recall));
    let distances = distance.distances.iter().map(|at| (format!("{} m", at.distance_m), at.found, at.recall));
    let bars: Vec<Bar> = snrs
        .map(|row| (row, BLUE))
        .chain(distances.map(|row| (row, GREEN)))
        .map(|((name, found, share), colour)| Bar { name, share, note: format!("{found} of {}", noise.n), colour })
        .collect();
    let title = title(&report.model, "screams found in noise and from a distance");
    write_bars(&folder.join("noise.png"), &title, "found, %  (SNR blue; distance in simulated rooms green)", &bars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_none_stands_on_the_edge_for_none() {
        for (hours, ticks, first) in
            [(0.0, 7, 0.1), (3.0, 7, 0.1), (24.0, 7, 0.1), (60.0, 8, 0.01), (168.0, 8, 0.01), (1000.0, 9, 0.001)]
        {
            let (scale, drawn) = rates(hours);
            assert_eq!((drawn.len(), drawn[0].0), (ticks, first), "{hours} h");
            assert_eq!((scale.place(0.0), scale.place(100.0)), (0.0, 1.0), "{hours} h");
            assert!(drawn.iter().all(|(rate, _)| (0.0..=1.0).contains(&scale.place(*rate))));
            // One alarm in all hours.
            assert!(hours == 0.0 || scale.place(1.0 / hours) > 0.05, "{hours} h: {}", scale.place(1.0 / hours));
        }
    }
}
