//! Figures for those who watch: the first line, one line per window, telemetry.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use hub::Telemetry;

use super::{Control, Health};
use crate::lines::Line;
use crate::listen::Report;

impl Control {
    pub(super) fn tell_health(&mut self) {
        // No window since the last time: the level stays, since 0 would be full scale.
        let level_dbfs = self.health.level_dbfs;
        let health = std::mem::replace(&mut self.health, Health { level_dbfs, ..Health::default() });
        let Some(hub) = &self.parts.hub else { return };
        let mut times = health.inference_ms;
        times.sort_by(f64::total_cmp);
        let p95 = times.get((times.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0);
        let rounded = |value: f64| (value * 1e3).round() / 1e3;
        let thermal = self.parts.settings.board.thermal_path().and_then(|path| std::fs::read_to_string(path).ok());
        let manifest = &self.parts.settings.manifest;
        hub.telemetry(Telemetry {
            score_max: health.score_max,
            level_dbfs: rounded(health.level_dbfs),
            inference_ms_p95: rounded(p95),
            windows: self.windows,
            skipped: self.skipped,
            dropped: self.dropped_windows(),
            xruns: self.xruns(),
            outbox: hub.outbox_len() as u64,
            refused: hub.refused(),
            alerts_lost: hub.dropped(),
            cpu_c: thermal.and_then(|text| text.trim().parse::<f64>().ok()).map(|milli| milli / 1000.0),
            uptime_s: self.began.elapsed().as_secs(),
            version: env!("CARGO_PKG_VERSION").into(),
            model: format!("{} {}", manifest.name, manifest.version),
        });
    }

    pub(super) fn dropped_windows(&self) -> u64 {
        self.listener.as_ref().map_or(0, |listener| listener.counters.dropped.load(Relaxed))
    }

    pub(super) fn xruns(&self) -> u64 {
        self.parts.capture_status.as_ref().map_or(0, |status| status.xruns.load(Relaxed))
    }

    pub(super) fn say_start(&self) {
        let settings = &self.parts.settings;
        self.lines.write(&Line::Start {
            version: env!("CARGO_PKG_VERSION"),
            model: &settings.manifest.name,
            model_version: &settings.manifest.version,
            model_sha256: &settings.manifest.sha256,
            board: &settings.board.name,
            device_id: &settings.device_id,
            window_s: settings.manifest.front_end.window_s,
            stride_s: settings.decision.stride_s,
            source: &self.parts.source_name,
        });
    }

    pub(super) fn say_window(&self, report: &Report, masked: bool) {
        let labels = &self.parts.settings.manifest.labels;
        let scores: BTreeMap<&str, f64> =
            labels.iter().map(String::as_str).zip(report.scores.iter().copied()).collect();
        self.lines.write(&Line::Window {
            seq: report.span.seq,
            t_start_s: report.t_start_s,
            t_end_s: report.t_end_s,
            scores,
            score: report.score.unwrap_or(0.0),
            level_dbfs: report.level_dbfs,
            front_end_ms: report.front_end_ms,
            inference_ms: report.inference_ms,
            gap: report.gap,
            masked,
            skipped: report.skipped,
        });
    }
}
