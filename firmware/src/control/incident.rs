//! An incident as people and the hub are told of it.

use detector::alarm::Us;
use files::event_record::{EventEnd, EventRecord, EventStart, EventWindow, SCHEMA};
use hub::{EventType, ScreamAttributes, State};

use super::Control;
use crate::clock;
use crate::history;
use crate::lines::Line;
use crate::listen::Report;
use crate::recorder::{Job, Storage};
use crate::saved::OpenIncident;

/// Seconds of picture before the deciding window.
const BEFORE_S: f64 = 4.0;

/// What is kept of a running incident.
pub struct Incident {
    record: EventRecord,
    label: String,
    latency_ms: f64,
    /// Where the window that decided begins, seconds of the sound.
    from_s: f64,
    /// Until then, seconds of the sound, its beginning is still known as a picture, and as sound. It is written once more before
    /// each, which then leaves.
    known_until_s: Vec<f64>,
}

/// A window as the record keeps it.
pub fn window_of(report: &Report, labels: &[String], masked: bool) -> EventWindow {
    EventWindow {
        seq: report.span.seq,
        t_start_s: report.t_start_s,
        t_end_s: report.t_end_s,
        score: report.score.unwrap_or(0.0) as f32,
        scores: labels.iter().cloned().zip(report.scores.iter().map(|score| *score as f32)).collect(),
        level_dbfs: report.level_dbfs,
        masked,
        gap: report.gap,
    }
}

impl Control {
    /// The siren has been switched; now words, states, the record.
    pub(super) fn incident_starts(&mut self, report: &Report, t_us: Us, score: f64, announced: bool, sounded: bool) {
        let latency_ms = report.complete.elapsed().as_secs_f64() * 1000.0;
        self.alarms += 1;
        let id = format!("{}-{}", self.boot, self.alarms);
        let settings = &self.parts.settings;
        let label = settings.manifest.labels.get(report.label).cloned().unwrap_or_default();
        let t_s = t_us as f64 / 1e6;
        self.lines.write(&Line::Alarm {
            id: &id,
            state: "start",
            t_s,
            score,
            label: &label,
            latency_ms,
            siren: sounded,
        });

        let t_utc = clock::now_utc();
        let model = format!("{} {}", settings.manifest.name, settings.manifest.version);
        let level_dbfs = (f64::from(report.level_dbfs) * 10.0).round() / 10.0;
        let attributes = ScreamAttributes {
            id: id.clone(),
            score,
            label: label.clone(),
            level_dbfs,
            t_utc: t_utc.clone(),
            model: model.clone(),
        };
        // Before the state that a hub acts on: it reads them then.
        self.state(State::Attributes(attributes.clone()));
        self.state(State::Scream(true));
        let event = announced.then(|| {
            let mut event = self.event(EventType::ScreamStart, id.clone());
            event.t_utc.clone_from(&t_utc);
            (event.score, event.label, event.level_dbfs, event.model) =
                (Some(score), Some(label.clone()), Some(level_dbfs), Some(model.clone()));
            event.seq = Some(report.span.seq);
            event
        });
        let record = EventRecord {
            schema: SCHEMA,
            id,
            t_utc,
            clock_set: clock::is_set(),
            zone: settings.site.zone.clone(),
            device_id: settings.device_id.clone(),
            board: settings.board.name.clone(),
            model,
            model_sha256: settings.manifest.sha256.clone(),
            threshold_on: self.alarm.decision().threshold_on,
            threshold_off: self.alarm.decision().threshold_off,
            armed: self.alarm.armed(),
            quiet_hours: self.quiet_now,
            siren_sounded: sounded,
            start: EventStart {
                t_s,
                score: score as f32,
                label: label.clone(),
                level_dbfs: report.level_dbfs,
                latency_ms,
            },
            end: None,
            windows: Vec::new(),
            picture: None,
            clip: None,
        };
        if let Some(event) = event {
            self.saved.incident = Some(OpenIncident { id: event.id.clone(), score, label: label.clone() });
            self.alert(event);
        }
        // Before the picture, which takes longer to draw than a kill takes to come: the next start must know of the incident.
        self.saved.latched = self.alarm.latched();
        self.saved.attributes = Some(attributes);
        self.save();
        self.hand_in();
        let from_s = report.t_start_s;
        let pre_roll_s = self.parts.settings.site.events.pre_roll_s;
        let known_until_s = vec![from_s - BEFORE_S + history::PICTURE_S, from_s - pre_roll_s + history::CLIP_S];
        let mut incident = Incident { record, label, latency_ms, from_s, known_until_s };
        incident.record.windows = self.history.windows_since(from_s - BEFORE_S);
        self.write(&incident);
        self.incident = Some(incident);
    }

    /// A window came. A long incident outlives what is known of its sound: what followed its beginning is written while that is
    /// still there, and is not lost where the program is killed.
    pub(super) fn incident_goes_on(&mut self, report: &Report) {
        let next_s = report.t_end_s + self.parts.settings.decision.stride_s;
        let Some(mut incident) = self.incident.take() else { return };
        let before = incident.known_until_s.len();
        incident.known_until_s.retain(|until_s| next_s <= *until_s);
        if incident.known_until_s.len() < before {
            self.write(&incident);
        }
        self.incident = Some(incident);
    }

    /// The hold is over, or the program ends.
    pub(super) fn incident_ends(&mut self, t_us: Us, score: f64, announced: bool) {
        self.state(State::Scream(false));
        let Some(mut incident) = self.incident.take() else { return };
        let t_s = t_us as f64 / 1e6;
        let Incident { record, label, latency_ms, .. } = &mut incident;
        self.lines.write(&Line::Alarm {
            id: &record.id,
            state: "end",
            t_s,
            score,
            label,
            latency_ms: *latency_ms,
            siren: false,
        });
        record.end = Some(EventEnd { t_s, t_utc: clock::now_utc() });
        if announced {
            let ended = OpenIncident { id: record.id.clone(), score, label: label.clone() };
            self.tell_end(ended, None);
        }
        self.write(&incident);
    }

    /// The program was killed in an incident: whoever was told of its start is told of its end, by the same id.
    pub(super) fn end_incident_of_before(&mut self) {
        if let Some(incident) = self.saved.incident.clone() {
            self.tell_end(incident, Some("the program had ended during it".into()));
        }
    }

    fn tell_end(&mut self, incident: OpenIncident, detail: Option<String>) {
        let mut event = self.event(EventType::ScreamEnd, incident.id);
        (event.score, event.label, event.detail) = (Some(incident.score), Some(incident.label), detail);
        self.alert(event);
        self.saved.incident = None;
        self.save();
    }

    /// Hands record, picture and sound to the recorder.
    fn write(&mut self, incident: &Incident) {
        let (events, from_s) = (&self.parts.settings.site.events, incident.from_s);
        let mut record = incident.record.clone();
        let latest = self.history.windows_since(from_s - BEFORE_S);
        // A long incident has outlived the window that decided it, which shows why: the record keeps it in front of the latest.
        let first = latest.first().map_or(u64::MAX, |window| window.seq);
        record.windows.retain(|window| window.seq < first);
        record.windows.extend(latest);
        let mut stretch = self.history.stretch(from_s - BEFORE_S, from_s - events.pre_roll_s);
        // A long incident has outlived what it began with: what was written then shows why, and stays.
        stretch.keep_if_from(from_s);
        let rate_hz = self.parts.settings.manifest.front_end.sample_rate_hz;
        let job = Job::Incident { record: Box::new(record), stretch: Box::new(stretch), rate_hz };
        if self.give(job).is_some() {
            self.to_write.insert(Storage::Events);
            let cause = format!("the disk does not keep up: incident {} is not written", incident.record.id);
            self.storage(Storage::Events, Err(cause));
        }
    }
}
