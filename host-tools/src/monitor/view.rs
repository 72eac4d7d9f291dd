//! The screen: what is known, drawn. Reads everything, changes nothing.

use std::time::Instant;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, TableState, Widget};

use super::Link;
use super::devices::{Device, Devices, Score};
use super::verdict::Verdict;

/// Lines of the box that says what a device is doing, and of the last alerts where there is room.
const STATE: u16 = 5;
const ALERTS: u16 = 8;
/// Lines of a box with nothing in it; smaller ones are not drawn.
const BORDERS: u16 = 2;
/// The level's bar begins here and ends at full scale, dBFS.
const LEVEL_FLOOR_DBFS: f64 = -80.0;
/// Eighths of a cell.
const EIGHTHS: [&str; 9] = [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Everything that is shown.
pub struct Screen<'a> {
    /// `host:port`.
    pub broker: &'a str,
    /// Whether there is a broker.
    pub link: &'a Link,
    /// All of them.
    pub devices: &'a Devices,
    /// The one whose details are shown.
    pub selected: &'a str,
    /// What the last key did.
    pub note: &'a str,
    /// Now.
    pub now: Instant,
}

/// Draws it.
pub fn draw(frame: &mut Frame, screen: &Screen) {
    let [head, table, state, bars, alerts, keys] = areas(frame.area(), screen.devices.0.len());
    frame.render_widget(header(screen), head);
    if table.height > BORDERS {
        draw_table(frame, table, screen);
    }
    match screen.devices.0.get(screen.selected) {
        Some(device) => {
            frame.render_widget(states(screen.selected, device), state);
            draw_bars(frame, bars, device, screen.now);
            if alerts.height > BORDERS {
                frame.render_widget(last_alerts(device), alerts);
            }
        }
        None => {
            let who = if screen.selected.is_empty() { "a device" } else { screen.selected };
            frame.render_widget(Line::from(format!(" waiting for {who} to say something ...")).dim(), state);
        }
    }
    let help = " q quit  ↑↓ device  s silence  t test siren".to_string();
    frame.render_widget(Line::from(vec![help.dim(), Span::from(format!("   {}", screen.note)).bold()]), keys);
}

/// First line, table, state, scores, alerts, last line. The table of several devices gets half of what is free, the alerts
/// half of the rest: in a small terminal each shows less, and none is squeezed out by another.
fn areas(area: Rect, devices: usize) -> [Rect; 6] {
    let free = area.height.saturating_sub(1 + STATE + 1);
    // Its borders and its header.
    let wanted = u16::try_from(devices).unwrap_or(u16::MAX).saturating_add(BORDERS + 1);
    let table = if devices > 1 { wanted.min(free / 2) } else { 0 };
    let alerts = ALERTS.min((free - table) / 2);
    Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(table),
        Constraint::Length(STATE),
        Constraint::Min(0),
        Constraint::Length(alerts),
        Constraint::Length(1),
    ])
    .areas(area)
}

fn header(screen: &Screen) -> Line<'static> {
    let link = match screen.link {
        Link::Connecting => Span::from("connecting").dim(),
        Link::Up => Span::from("connected").green(),
        Link::Down(cause) => Span::from(format!("no broker: {cause}; trying again")).red().bold(),
    };
    let count = screen.devices.0.len();
    let online = screen.devices.0.values().filter(|device| device.online == Some(true)).count();
    let mut line = vec![
        Span::from(" screamd monitor ").bold(),
        Span::from(format!(" {} ", screen.broker)),
        link,
        Span::from(format!("   {online} of {count} online")).dim(),
    ];
    // Of many devices the table shows a few: who needs somebody is counted where everybody looks.
    for urgent in Verdict::URGENT {
        let count = screen.devices.0.values().filter(|device| Verdict::of(device) == urgent).count();
        if count > 0 {
            line.push(Span::from(format!("   {count} {}", urgent.word())).fg(colour(urgent)).bold());
        }
    }
    Line::from(line)
}

fn on_off(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "ON",
        Some(false) => "off",
        None => "?",
    }
}

fn colour(verdict: Verdict) -> Color {
    match verdict {
        Verdict::Scream | Verdict::Alarm | Verdict::Offline => Color::Red,
        Verdict::Deaf => Color::Magenta,
        Verdict::Fault => Color::Yellow,
        Verdict::Unknown => Color::DarkGray,
        Verdict::Disarmed => Color::Blue,
        Verdict::Well => Color::Green,
    }
}

/// The verdict as it stands everywhere: its word in its colour.
fn word(verdict: Verdict) -> Span<'static> {
    Span::from(verdict.word()).fg(colour(verdict)).bold()
}

fn draw_table(frame: &mut Frame, area: Rect, screen: &Screen) {
    let devices = screen.devices.urgent_first();
    let rows = devices.iter().map(|(id, device)| {
        let score = device.score().map_or("-".into(), |score| format!("{:.3}", score.score));
        let level = device.level_dbfs.map_or("-".into(), |level| format!("{level:.1} dBFS"));
        let offline = (device.online == Some(false)).then_some("offline");
        let wrong: Vec<_> = offline.into_iter().chain(device.faults.keys().map(String::as_str)).collect();
        Row::new([
            Cell::from(*id),
            Cell::from(device.zone.clone()),
            Cell::from(word(Verdict::of(device))),
            Cell::from(score),
            Cell::from(level),
            Cell::from(on_off(device.armed)),
            Cell::from(on_off(device.siren)),
            Cell::from(wrong.join(" ")),
        ])
    });
    let longest = devices.iter().map(|(id, _)| id.len()).max().unwrap_or(0);
    let widths = [
        Constraint::Length(longest.clamp(6, 20) as u16),
        Constraint::Max(16),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(11),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Min(6),
    ];
    let shown = usize::from(area.height.saturating_sub(BORDERS + 1));
    let title = if shown < devices.len() {
        format!(" {shown} of {} devices, those that need somebody first ", devices.len())
    } else {
        " devices ".to_owned()
    };
    let head = ["device", "zone", "is", "score", "level", "armed", "siren", "faults"];
    let table = Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().dim()))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
        .block(Block::bordered().title(title));
    let selected = devices.iter().position(|(id, _)| *id == screen.selected);
    frame.render_stateful_widget(table, area, &mut TableState::default().with_selected(selected));
}

fn states<'a>(id: &'a str, device: &'a Device) -> Paragraph<'a> {
    let (verdict, gone) = (Verdict::of(device), device.online == Some(false));
    let lit = |name: &str, value: Option<bool>, colour: Color| {
        let span = Span::from(format!("{name} {}   ", on_off(value)));
        if value == Some(true) { span.fg(colour).bold() } else { span }
    };
    let mut level = vec![Span::from("level ")];
    match device.level_dbfs {
        Some(dbfs) => {
            let filled = ((dbfs / LEVEL_FLOOR_DBFS).clamp(0.0, 1.0) * 40.0).round() as usize;
            level.push(Span::from("█".repeat(40 - filled)).cyan());
            level.push(Span::from("·".repeat(filled)).dim());
            level.push(Span::from(format!(" {dbfs:.1} dBFS")));
        }
        None => level.push("?".dim()),
    }
    let health = device.telemetry.as_ref().map(|telemetry| {
        let figure = |key: &str| telemetry[key].to_string();
        format!(
            "windows {}  dropped {}  xruns {}  inference p95 {} ms  outbox {}  refused {}",
            figure("windows"),
            figure("dropped"),
            figure("xruns"),
            figure("inference_ms_p95"),
            figure("outbox"),
            figure("refused")
        )
    });
    let faults = device.faults.iter().map(|(name, detail)| format!("{name} {detail}")).collect::<Vec<_>>().join("; ");
    let below = if faults.is_empty() {
        Line::from(health.unwrap_or_else(|| "health figures come once a minute".into())).dim()
    } else {
        Line::from(format!("FAULT {faults}")).yellow().bold()
    };
    Paragraph::new(vec![
        Line::from(vec![
            lit("armed", device.armed, Color::Green),
            lit("siren", device.siren, Color::Red),
            lit("scream", device.scream, Color::Red),
            lit("alarm", device.alarm, Color::Red),
            lit("microphone", device.hears, Color::Green),
        ]),
        Line::from(level),
        below,
    ])
    .block(Block::bordered().title(Line::from(vec![
        Span::from(format!(" {} ({id}) ", device.zone)).bold(),
        word(verdict),
        Span::from(if gone && verdict != Verdict::Offline { " offline " } else { " " }),
    ])))
}

fn draw_bars(frame: &mut Frame, area: Rect, device: &Device, now: Instant) {
    // Of a device that fell silent the bars are still what they were.
    let live = device.score().map_or_else(|| device.is_live(now), |score| score.live);
    let what = if live { "score of each window" } else { "largest score of each minute" };
    let latest = device.score().map_or("none yet".into(), |score| format!("{:.3}", score.score));
    let threshold = device.threshold.map_or(String::new(), |threshold| format!(", threshold {threshold}"));
    let block = Block::bordered().title(format!(" {what}: {latest}{threshold} "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    frame.render_widget(Bars { scores: device.scores.iter().rev(), threshold: device.threshold }, inner);
}

/// The newest at the right, one column each; the threshold as a line behind them.
struct Bars<I> {
    scores: I,
    threshold: Option<f64>,
}

impl<'a, I: Iterator<Item = &'a Score>> Widget for Bars<I> {
    fn render(self, area: Rect, buf: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let eighths_max = f64::from(area.height) * 8.0;
        if let Some(threshold) = self.threshold {
            let row = ((1.0 - threshold.clamp(0.0, 1.0)) * f64::from(area.height)) as u16;
            for x in area.left()..area.right() {
                buf[(x, area.top() + row.min(area.height - 1))].set_symbol("┄").set_fg(Color::DarkGray);
            }
        }
        for (x, score) in (area.left()..area.right()).rev().zip(self.scores) {
            let hit = self.threshold.is_some_and(|threshold| score.score >= threshold);
            let colour = if hit { Color::Red } else { Color::Green };
            // What is scored is seen, however small.
            let eighths = ((score.score.clamp(0.0, 1.0) * eighths_max).round() as usize).max(1);
            for row in 0..usize::from(area.height) {
                let part = eighths.saturating_sub(row * 8).min(8);
                if part > 0 {
                    buf[(x, area.bottom() - 1 - row as u16)].set_symbol(EIGHTHS[part]).set_fg(colour);
                }
            }
        }
    }
}

fn last_alerts(device: &Device) -> Paragraph<'_> {
    let lines = device.alerts.iter().map(|alert| {
        let colour = match alert.kind.as_str() {
            "scream_start" | "tamper" => Color::Red,
            "fault" => Color::Yellow,
            "answer" => Color::DarkGray,
            _ => Color::Reset,
        };
        // 2026-01-02T03:04:05.678Z: the second is enough.
        let time = alert.t_utc.get(..19).map_or(String::new(), |time| time.replace('T', " "));
        Line::from(vec![
            Span::from(format!("{time:<20}")).dim(),
            Span::from(format!("{:<13}", alert.kind)).fg(colour).bold(),
            Span::from(alert.text.as_str()),
        ])
    });
    Paragraph::new(lines.collect::<Vec<_>>()).block(Block::bordered().title(" last alerts (UTC) "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn drawn(devices: &Devices, selected: &str, link: &Link, size: (u16, u16)) -> String {
        let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
        let screen = Screen { broker: "hub:1883", link, devices, selected, note: "noted", now: Instant::now() };
        terminal.draw(|frame| draw(frame, &screen)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..size.1).map(row).collect::<Vec<_>>().join("\n")
    }

    fn two() -> Devices {
        let mut devices = Devices::default();
        for (topic, payload) in [
            ("screamd/hall-1/status", "online"),
            ("screamd/hall-1/armed/state", "ON"),
            ("screamd/hall-1/threshold/state", "0.8"),
            ("screamd/hall-1/live", r#"{"score":0.1,"level_dbfs":-40}"#),
            ("screamd/hall-1/live", r#"{"score":1.0,"level_dbfs":-40}"#),
            (
                "screamd/hall-1/event",
                r#"{"event_type":"scream_start","t_utc":"2026-01-02T03:04:05.678Z","score":0.97}"#,
            ),
            ("screamd/hall-2/status", "offline"),
        ] {
            devices.hear(topic, payload.as_bytes(), Instant::now());
        }
        devices
    }

    #[test]
    fn what_is_known_is_on_the_screen() {
        let shown = drawn(&two(), "hall-1", &Link::Up, (100, 32));
        for part in [
            "hub:1883 connected",
            "1 of 2 online   1 OFFLINE",
            "armed ON",
            "-40.0 dBFS",
            "score of each window: 1.000, threshold 0.8",
            "2026-01-02 03:04:05 scream_start score 0.970",
            "q quit",
            "noted",
        ] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
        // The full bar stands at the right edge from bottom to top, the small one beside it.
        let columns = shown.lines().filter(|line| line.ends_with("█│")).count();
        // Less first and last line, table, state, alerts and the box's own borders.
        let inner = 32 - 1 - 1 - 5 - 5 - 8 - 2;
        assert_eq!(columns, inner, "{shown}");
    }

    #[test]
    fn the_bars_of_a_device_that_fell_silent_keep_their_name() {
        let mut devices = two();
        devices.0.get_mut("hall-1").unwrap().online = Some(false);
        let later = Instant::now() + std::time::Duration::from_secs(3600);
        let mut terminal = Terminal::new(TestBackend::new(100, 32)).unwrap();
        terminal.draw(|frame| draw_bars(frame, frame.area(), &devices.0["hall-1"], later)).unwrap();
        assert!(terminal.backend().to_string().contains("score of each window: 1.000"));
    }

    #[test]
    fn nothing_known_and_no_broker() {
        let shown = drawn(&Devices::default(), "hall-1", &Link::Down("refused".into()), (80, 24));
        assert!(shown.contains("no broker: refused; trying again") && shown.contains("waiting for hall-1"), "{shown}");
        // Before the first answer nothing has failed.
        let shown = drawn(&Devices::default(), "", &Link::Connecting, (80, 24));
        assert!(shown.contains("hub:1883 connecting") && !shown.contains("no broker"), "{shown}");
    }

    /// Of a fleet, the table shows those that need somebody and says that there are more.
    #[test]
    fn who_needs_somebody_stands_at_the_top_of_a_large_fleet() {
        let mut devices = Devices::default();
        for i in 0..60 {
            devices.hear(&format!("screamd/d{i:02}/status"), b"online", Instant::now());
        }
        devices.hear("screamd/d40/audio/status", b"offline", Instant::now());
        devices.hear("screamd/d50/scream/state", b"ON", Instant::now());
        // Torn off the wall while it sounded.
        devices.hear("screamd/d50/status", b"offline", Instant::now());
        let shown = drawn(&devices, "d00", &Link::Up, (100, 32));
        assert!(shown.contains(" 9 of 60 devices, those that need somebody first "), "{shown}");
        let row = |id: &str| shown.lines().position(|line| line.starts_with(&format!("│{id} ")));
        assert_eq!((row("d50"), row("d40"), row("d00"), row("d07")), (Some(3), Some(4), Some(5), None), "{shown}");
        assert!(shown.contains("59 of 60 online   1 SCREAM   1 DEAF"), "{shown}");
        assert!(shown.lines().nth(3).unwrap().contains("SCREAM") && shown.lines().nth(3).unwrap().contains("offline"));
    }

    /// A small terminal still shows a line of everything.
    #[test]
    fn nothing_is_squeezed_out_of_a_small_terminal() {
        let shown = drawn(&two(), "hall-1", &Link::Up, (60, 21));
        for part in ["devices", "│hall-1", "armed ON", "score of each window", "scream_start", "q quit"] {
            assert!(shown.contains(part), "{part} in\n{shown}");
        }
    }

    #[test]
    fn any_size_is_drawn() {
        for size in [(1, 1), (20, 5), (40, 12), (300, 90)] {
            drawn(&two(), "hall-1", &Link::Up, size);
        }
    }
}
