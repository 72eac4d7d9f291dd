//! The page itself. Every text from a record goes through [`Esc`]: a zone's name or a file's is somebody else's text.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use files::event_record::{EventRecord, EventWindow};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ZonedDateTime, civil};

use super::chart::{self, Bar};
use super::evidence::{Explained, Explainer};
use super::{CLIP_BYTES_MAX, Folder, Incident, PICTURE_BYTES_MAX, Progress, attachment};

/// More bars than this are too thin to read: days are then taken together.
const DAY_BARS_MAX: i64 = 45;
/// A table of scores longer than this is folded.
const ROWS_OPEN_MAX: usize = 16;
/// Labels in the table of scores: those that scored highest.
const LABELS_MAX: usize = 5;

/// A text as HTML shows it: nothing in it is markup, in an element or in a quoted attribute.
pub(super) struct Esc<'a>(pub(super) &'a str);

impl Display for Esc<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() && c != '\n' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// What the page is about. Its methods write it part by part.
pub(super) struct Page<'a> {
    /// Where pictures and sound lie.
    pub(super) events: &'a Path,
    pub(super) folder: &'a Folder,
    /// Times are shown in it.
    pub(super) zone: &'a TimeZone,
    /// Incidents in full fill at most about so much; the older ones stand in the table alone.
    pub(super) bytes_max: usize,
}

/// The highest score of an incident that was a hit or could have been one: windows with the device's own siren are none.
fn highest(record: &EventRecord) -> f32 {
    let windows = record.windows.iter().filter(|window| !window.masked).map(|window| window.score);
    windows.fold(record.start.score, f32::max)
}

/// Of sorted values; of an even count the mean of the middle two.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = *sorted.get((sorted.len() - 1) / 2)?;
    Some((lower + upper) / 2.0)
}

impl Page<'_> {
    /// Writes the whole page.
    pub(super) fn write(
        &self,
        w: &mut impl Write,
        explainer: Option<&mut Explainer>,
        progress: &mut Progress,
    ) -> io::Result<()> {
        // Before the table: its links lead to those that are there.
        let (articles, in_full) = self.incidents(explainer, progress)?;
        self.head(w)?;
        let count = self.folder.incidents.len();
        if count == 0 {
            writeln!(w, "<p class=\"note\">No incident is recorded in this folder.</p>")?;
        } else {
            self.summary(w)?;
            self.list(w, in_full)?;
        }
        self.broken(w)?;
        if count > 0 {
            writeln!(w, "<section aria-labelledby=\"incidents\"><h2 id=\"incidents\">The incidents</h2>")?;
            if in_full < count {
                writeln!(
                    w,
                    "<p class=\"note\">The newest {in_full} of {count} stand here in full: more than {} MiB would open \
                     slowly. Pictures and sound of the others lie in the events folder; <code>--max-mib</code> takes more in.</p>",
                    self.bytes_max >> 20
                )?;
            }
            w.write_all(&articles)?;
            writeln!(w, "</section>")?;
        }
        writeln!(
            w,
            "</main>\n<footer><p>Made by host-tools {} on {}. An aid, not a certified alarm. This page holds what the \
             device heard: a spectrogram can be turned back into rough sound, so keep it as you would keep a recording.\
             </p></footer>\n</body></html>",
            env!("CARGO_PKG_VERSION"),
            self.local(Timestamp::now()).strftime("%-d %B %Y, %H:%M %Z")
        )
    }

    /// The newest incidents in full, and how many those are: the newest one always, and as many as `bytes_max` has room for.
    fn incidents(
        &self,
        mut explainer: Option<&mut Explainer>,
        progress: &mut Progress,
    ) -> io::Result<(Vec<u8>, usize)> {
        let incidents = &self.folder.incidents;
        let mut articles = Vec::new();
        for (i, incident) in incidents.iter().enumerate() {
            progress.step("writing", i, incidents.len());
            let before = articles.len();
            self.incident(&mut articles, i, incident, explainer.as_deref_mut())?;
            if i > 0 && articles.len() > self.bytes_max {
                articles.truncate(before);
                return Ok((articles, i));
            }
        }
        Ok((articles, incidents.len()))
    }

    fn head(&self, w: &mut impl Write) -> io::Result<()> {
        let folder = self.events.display().to_string();
        let zone = match self.zone.iana_name() {
            Some(name) => name.to_owned(),
            None if self.zone.is_unknown() => "UTC".to_owned(),
            None => self.local(Timestamp::now()).strftime("%Z").to_string(),
        };
        // The policy is a second wall behind the escaping: even a hole in it could load and run nothing.
        writeln!(
            w,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; media-src data:; \
             style-src 'unsafe-inline'\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Incidents in {0}</title>\n<style>\n{1}</style></head>\n<body>\n<header><h1>What the device heard</h1>\n\
             <p class=\"soft\">Events folder <code>{0}</code>. Times in {2}.</p></header>\n<main>",
            Esc(&folder),
            include_str!("style.css"),
            Esc(&zone)
        )
    }

    fn summary(&self, w: &mut impl Write) -> io::Result<()> {
        let incidents = &self.folder.incidents;
        let count = |test: fn(&EventRecord) -> bool| incidents.iter().filter(|i| test(&i.record)).count().to_string();
        // Where nothing sounded, no time to the siren is told.
        let sounded = incidents.iter().filter(|i| i.record.siren_sounded);
        let mut latencies: Vec<f64> = sounded.map(|i| i.record.start.latency_ms).collect();
        latencies.sort_by(f64::total_cmp);
        let median = median(&latencies).map_or_else(|| "-".into(), |ms| format!("{ms:.0} ms"));
        let highest = incidents.iter().map(|i| highest(&i.record)).fold(0.0, f32::max);
        writeln!(w, "<section aria-labelledby=\"summary\"><h2 id=\"summary\">Summary</h2>")?;
        let dated: Vec<_> = incidents.iter().filter(|i| i.record.clock_set).map(|i| self.local(i.start)).collect();
        if let (Some(last), Some(first)) = (dated.first(), dated.last()) {
            let (first, last) = (first.strftime("%-d %B %Y"), last.strftime("%-d %B %Y"));
            writeln!(w, "<p>From {first} to {last}.</p>")?;
        }
        writeln!(w, "<dl class=\"figures\">")?;
        for (name, value) in [
            ("Incidents", incidents.len().to_string()),
            ("Siren sounded", count(|r| r.siren_sounded)),
            ("While disarmed", count(|r| !r.armed)),
            ("In quiet hours", count(|r| r.quiet_hours)),
            ("Highest score", format!("{highest:.2}")),
            ("Window's end to siren, median", median),
        ] {
            writeln!(w, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
        }
        writeln!(w, "</dl>")?;
        if dated.len() < incidents.len() {
            let unset = incidents.len() - dated.len();
            writeln!(
                w,
                "<p class=\"note\">{unset} from before the clock was set: not in the charts, and last below.</p>"
            )?;
        }
        if !dated.is_empty() {
            writeln!(w, "<div class=\"charts\">")?;
            let (heading, bars) = by_day(&dated);
            chart::write(w, "by-day", &heading, &bars)?;
            chart::write(w, "by-hour", "Incidents by hour of day", &by_hour(&dated))?;
            writeln!(w, "</div>")?;
        }
        self.zones(w)?;
        writeln!(w, "</section>")
    }

    fn zones(&self, w: &mut impl Write) -> io::Result<()> {
        // Per zone: incidents, sirens, and the newest incident (the list runs from new to old).
        let mut zones = BTreeMap::<&str, (usize, usize, &Incident)>::new();
        for incident in &self.folder.incidents {
            let zone = zones.entry(&incident.record.zone).or_insert((0, 0, incident));
            zone.0 += 1;
            zone.1 += usize::from(incident.record.siren_sounded);
        }
        let mut zones: Vec<_> = zones.into_iter().collect();
        zones.sort_by_key(|(_, zone)| std::cmp::Reverse(zone.0));
        writeln!(
            w,
            "<h3>By zone</h3><div class=\"wide\"><table><thead><tr><th scope=\"col\">Zone</th><th scope=\"col\" \
             class=\"n\">Incidents</th><th scope=\"col\" class=\"n\">Siren sounded</th><th scope=\"col\">Newest</th></tr>\
             </thead><tbody>"
        )?;
        for (name, (incidents, sirens, newest)) in zones {
            writeln!(
                w,
                "<tr><th scope=\"row\">{}</th><td class=\"n\">{incidents}</td><td class=\"n\">{sirens}</td><td>{}</td></tr>",
                Esc(or_none(name, "(no name)")),
                self.time(newest)
            )?;
        }
        writeln!(w, "</tbody></table></div>")
    }

    /// Every incident in a line; those in full are linked.
    fn list(&self, w: &mut impl Write, in_full: usize) -> io::Result<()> {
        writeln!(
            w,
            "<section aria-labelledby=\"list\"><h2 id=\"list\">At a glance</h2><div class=\"wide\"><table class=\"list\">\
             <thead><tr><th scope=\"col\">Start</th><th scope=\"col\">Zone</th><th scope=\"col\" class=\"n\">Score</th>\
             <th scope=\"col\">Label</th><th scope=\"col\" class=\"n\">Lasted</th><th scope=\"col\">Siren</th></tr></thead><tbody>"
        )?;
        for (i, incident) in self.folder.incidents.iter().enumerate() {
            let record = &incident.record;
            let time = self.time(incident);
            let time = if i < in_full { format!("<a href=\"#i{i}\">{time}</a>") } else { time };
            writeln!(
                w,
                "<tr><th scope=\"row\">{time}</th><td>{}</td><td class=\"n\">{:.2}</td><td>{}</td>\
                 <td class=\"n\">{}</td><td>{}</td></tr>",
                Esc(or_none(&record.zone, "(no name)")),
                record.start.score,
                Esc(&record.start.label),
                lasted(record).map_or_else(|| "no end recorded".to_owned(), |s| format!("{s:.0} s")),
                siren(record)
            )?;
        }
        writeln!(w, "</tbody></table></div></section>")
    }

    fn broken(&self, w: &mut impl Write) -> io::Result<()> {
        if self.folder.broken.is_empty() {
            return Ok(());
        }
        writeln!(
            w,
            "<section aria-labelledby=\"broken\"><h2 id=\"broken\">Records that could not be read</h2>\
             <div class=\"wide\"><table class=\"cause\"><thead><tr><th scope=\"col\">File</th><th scope=\"col\">Cause</th></tr></thead><tbody>"
        )?;
        for (file, cause) in &self.folder.broken {
            writeln!(w, "<tr><th scope=\"row\"><code>{}</code></th><td>{}</td></tr>", Esc(file), Esc(cause))?;
        }
        writeln!(w, "</tbody></table></div></section>")
    }

    fn incident(
        &self,
        w: &mut impl Write,
        i: usize,
        incident: &Incident,
        explainer: Option<&mut Explainer>,
    ) -> io::Result<()> {
        let record = &incident.record;
        let start = &record.start;
        writeln!(
            w,
            "<article aria-labelledby=\"i{i}\"><h3 id=\"i{i}\">{}, {}</h3>\n<ul class=\"marks\">\
             <li class=\"mark hit\">{} {:.2}</li><li class=\"mark{}\">Siren: {}</li><li class=\"mark\">{}</li>{}{}</ul>",
            self.time(incident),
            Esc(or_none(&record.zone, "(no zone)")),
            Esc(&start.label),
            start.score,
            if record.siren_sounded { " on" } else { "" },
            siren(record),
            if record.armed { "Armed" } else { "Disarmed" },
            if record.quiet_hours { "<li class=\"mark\">Quiet hours</li>" } else { "" },
            if record.clock_set { "" } else { "<li class=\"mark\">Clock was not set</li>" },
        )?;
        self.picture(w, record, explainer)?;
        self.clip(w, record)?;
        writeln!(w, "<dl class=\"facts\">")?;
        let to_siren = if record.siren_sounded { format!("{:.0} ms", start.latency_ms) } else { "-".to_owned() };
        let end = match &record.end {
            Some(end) => format!("{} at {:.1} s", end.t_utc, end.t_s),
            None => "none recorded: still going, or the device went off".to_owned(),
        };
        for (name, value) in [
            ("Start", format!("{} at {:.1} s", record.t_utc, start.t_s)),
            ("End", end),
            ("Lasted", lasted(record).map_or_else(|| "unknown".to_owned(), |s| format!("{s:.1} s"))),
            ("Level", format!("{:.1} dBFS", start.level_dbfs)),
            ("Window's end to siren", to_siren),
            ("Threshold", format!("{} on, {} off", record.threshold_on, record.threshold_off)),
            ("Device", format!("{} ({})", or_none(&record.device_id, "?"), or_none(&record.board, "?"))),
            ("Model", format!("{}, {}", record.model, record.model_sha256.chars().take(12).collect::<String>())),
            ("Incident", record.id.clone()),
        ] {
            writeln!(w, "<div><dt>{name}</dt><dd>{}</dd></div>", Esc(&value))?;
        }
        writeln!(w, "</dl>")?;
        scores(w, record)?;
        writeln!(w, "</article>")
    }

    fn picture(&self, w: &mut impl Write, record: &EventRecord, explainer: Option<&mut Explainer>) -> io::Result<()> {
        let Some(name) = &record.picture else {
            return writeln!(w, "<p class=\"note\">No picture was kept.</p>");
        };
        match attachment(self.events, name, b"\x89PNG\r\n\x1a\n", PICTURE_BYTES_MAX) {
            Ok(bytes) => {
                writeln!(
                    w,
                    "<figure><img alt=\"Spectrogram: the sound around the alarm at {:.1} s, with the score under it, which \
                 reached {:.2} for {} against a threshold of {}.{}\" src=\"data:image/png;base64,{}\"></figure>",
                    record.start.t_s,
                    highest(record),
                    Esc(&record.start.label),
                    record.threshold_on,
                    if record.windows.is_empty() { "" } else { " The table below has the numbers." },
                    BASE64_STANDARD.encode(&bytes)
                )?;
                explainer.map_or(Ok(()), |explainer| evidence(w, record, &explainer.explain(record, &bytes)))
            }
            Err(cause) => missing(w, "picture", name, &cause),
        }
    }

    fn clip(&self, w: &mut impl Write, record: &EventRecord) -> io::Result<()> {
        let Some(name) = &record.clip else { return Ok(()) };
        match attachment(self.events, name, b"RIFF", CLIP_BYTES_MAX) {
            Ok(bytes) => writeln!(
                w,
                "<audio controls preload=\"metadata\" aria-label=\"The sound of incident {}\" src=\"data:audio/wav;base64,{}\"></audio>",
                Esc(&record.id),
                BASE64_STANDARD.encode(bytes)
            ),
            Err(cause) => missing(w, "sound", name, &cause),
        }
    }

    /// The start for a person, with UTC for a machine.
    fn time(&self, incident: &Incident) -> String {
        let local = self.local(incident.start).strftime("%-d %b %Y, %H:%M:%S").to_string();
        let unset = if incident.record.clock_set { "" } else { " (clock not set)" };
        format!("<time datetime=\"{}\">{local}</time>{unset}", incident.start)
    }

    fn local(&self, time: Timestamp) -> ZonedDateTime {
        time.to_zoned_datetime(self.zone.clone())
    }
}

fn scores(w: &mut impl Write, record: &EventRecord) -> io::Result<()> {
    let windows = &record.windows;
    if windows.is_empty() {
        return writeln!(w, "<p class=\"note\">No window is recorded.</p>");
    }
    let labels = labels(windows, &record.start.label);
    let folded = windows.len() > ROWS_OPEN_MAX;
    if folded {
        writeln!(w, "<details><summary>Scores of {} windows</summary>", windows.len())?;
    }
    writeln!(
        w,
        "<div class=\"wide\"><table><caption>Scores</caption><thead><tr><th scope=\"col\" class=\"n\">Window</th>\
         <th scope=\"col\" class=\"n\">From (s)</th><th scope=\"col\" class=\"n\">To (s)</th><th scope=\"col\" class=\"n\">Score</th>\
         <th aria-hidden=\"true\"></th>"
    )?;
    for label in &labels {
        write!(w, "<th scope=\"col\" class=\"n\">{}</th>", Esc(label))?;
    }
    writeln!(w, "<th scope=\"col\" class=\"n\">Level (dBFS)</th><th scope=\"col\">Notes</th></tr></thead><tbody>")?;
    for window in windows {
        let hit = f64::from(window.score) >= record.threshold_on && !window.masked;
        write!(
            w,
            "<tr{}><th scope=\"row\" class=\"n\">{}</th><td class=\"n\">{:.1}</td><td class=\"n\">{:.1}</td><td class=\"n\">{:.2}</td>\
             <td aria-hidden=\"true\"><span class=\"scale\"><span style=\"width:{:.0}%\"></span></span></td>",
            if hit { " class=\"hit\"" } else { "" },
            window.seq,
            window.t_start_s,
            window.t_end_s,
            window.score,
            window.score.clamp(0.0, 1.0) * 100.0
        )?;
        for label in &labels {
            match window.scores.get(*label) {
                Some(score) => write!(w, "<td class=\"n\">{score:.2}</td>")?,
                None => write!(w, "<td></td>")?,
            }
        }
        let notes = [(hit, "hit"), (window.masked, "own siren"), (window.gap, "sound lost")];
        let notes: Vec<_> = notes.iter().filter(|(is, _)| *is).map(|(_, note)| *note).collect();
        writeln!(w, "<td class=\"n\">{:.1}</td><td>{}</td></tr>", window.level_dbfs, notes.join(", "))?;
    }
    writeln!(w, "</tbody></table></div>{}", if folded { "</details>" } else { "" })
}

/// The labels that scored highest in these windows: the alarm's own, then the highest first.
fn labels<'a>(windows: &'a [EventWindow], own: &str) -> Vec<&'a str> {
    let mut highest = BTreeMap::<&str, f32>::new();
    for (label, score) in windows.iter().flat_map(|window| &window.scores) {
        let best = highest.entry(label).or_insert(*score);
        *best = best.max(*score);
    }
    let mut labels: Vec<_> = highest.into_iter().collect();
    labels.sort_by(|a, b| (b.0 == own).cmp(&(a.0 == own)).then(b.1.total_cmp(&a.1)));
    labels.into_iter().take(LABELS_MAX).map(|(label, _)| label).collect()
}

/// What the score rests on, or why that is not shown.
fn evidence(w: &mut impl Write, record: &EventRecord, explained: &anyhow::Result<Explained>) -> io::Result<()> {
    let explained = match explained {
        Ok(explained) => explained,
        Err(cause) => {
            let cause = format!("{cause:#}");
            return writeln!(w, "<p class=\"note\">What the score rests on is not shown: {}.</p>", Esc(&cause));
        }
    };
    let rests = match explained.peak {
        Some((t_s, hz)) => format!("most of all on what was heard at {t_s:.2} s around {hz:.0} Hz"),
        None => "on nothing in particular".to_owned(),
    };
    writeln!(
        w,
        "<figure><img alt=\"The window that decided, with what its score rests on marked: {rests}.\" \
         src=\"data:image/png;base64,{}\"><figcaption class=\"soft\">The score rests {rests}. Worked out again from the \
         picture's numbers, which are rounded: score {:.2}, {:.2} on the device.</figcaption></figure>",
        BASE64_STANDARD.encode(&explained.png),
        explained.score,
        record.start.score
    )
}

fn missing(w: &mut impl Write, what: &str, name: &str, cause: &anyhow::Error) -> io::Result<()> {
    let cause = format!("{cause:#}");
    writeln!(w, "<p class=\"note\">The {what} <code>{}</code> is not shown: {}.</p>", Esc(name), Esc(&cause))
}

fn siren(record: &EventRecord) -> &'static str {
    match (record.siren_sounded, record.armed, record.quiet_hours) {
        (true, ..) => "sounded",
        (_, false, _) => "off, disarmed",
        (.., true) => "off, quiet hours",
        _ => "off",
    }
}

/// From the start to the end by the sound's own time, seconds.
fn lasted(record: &EventRecord) -> Option<f64> {
    record.end.as_ref().map(|end| (end.t_s - record.start.t_s).max(0.0))
}

fn or_none<'a>(text: &'a str, none: &'a str) -> &'a str {
    if text.trim().is_empty() { none } else { text }
}

/// Bars from the first day to the last, each of one day or, where that would be too many, of several.
fn by_day(dated: &[ZonedDateTime]) -> (String, Vec<Bar>) {
    let days: Vec<civil::Date> = dated.iter().map(|time| time.date()).collect();
    let (Some(first), Some(last)) = (days.iter().min(), days.iter().max()) else {
        return (String::new(), Vec::new());
    };
    let span = first.duration_until(*last).as_hours() / 24 + 1;
    let together = (span + DAY_BARS_MAX - 1) / DAY_BARS_MAX;
    let day = |n: i64| first.checked_add(SignedDuration::from_hours(n * 24)).unwrap_or(*last);
    let mut bars: Vec<_> = (0..span)
        .step_by(together as usize)
        .map(|n| {
            let (from, to) = (day(n), day((n + together - 1).min(span - 1)));
            let meaning = if from == to {
                from.strftime("%-d %B %Y").to_string()
            } else {
                format!("{} to {}", from.strftime("%-d %B %Y"), to.strftime("%-d %B %Y"))
            };
            Bar { name: from.strftime("%-d %b").to_string(), meaning, count: 0 }
        })
        .collect();
    for date in &days {
        let n = first.duration_until(*date).as_hours() / 24;
        bars[(n / together) as usize].count += 1;
    }
    let heading =
        if together == 1 { "Incidents by day".to_owned() } else { format!("Incidents by day, {together} days a bar") };
    (heading, bars)
}

fn by_hour(dated: &[ZonedDateTime]) -> Vec<Bar> {
    let mut bars: Vec<_> = (0..24)
        .map(|hour| Bar { name: hour.to_string(), meaning: format!("{hour:02}:00 to {hour:02}:59"), count: 0 })
        .collect();
    for time in dated {
        bars[time.hour() as usize].count += 1;
    }
    bars
}
