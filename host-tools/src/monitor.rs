//! `host-tools monitor --broker HOST:PORT [--device ID] [--username NAME --password-file FILE] [--ca-file FILE]`
//!
//! What devices hear, live, in the terminal: score over time, level, armed, siren, faults, the last alerts. The selected
//! device is asked for every window (`live/set`, which ends by itself a minute after the last asking); of all others the
//! minute's largest score is shown. Keys: arrows choose a device, `s` silences, `t` tests the siren, `q` ends.
//!
//! Where standard output is no terminal: a line for each message, topic and payload, until it is told to end or nobody reads.

mod devices;
mod verdict;
mod view;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use files::tell;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::broker::{BrokerArgs, Line, News};
use devices::Devices;
use view::Screen;

/// How long the keyboard is waited for; then news are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The screen is drawn anew at least this often: times on it pass.
const DRAW: Duration = Duration::from_secs(1);
/// News that are taken in before the screen is drawn again.
const NEWS_AT_ONCE: usize = 2000;
/// How often windows are asked for, and for how long, seconds.
const ASK_LIVE: (Duration, &[u8]) = (Duration::from_secs(30), b"60");

/// How often it is looked whether the terminal is there still, and how long the loop has to end by itself.
const END_EVERY: Duration = Duration::from_secs(1);

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Only this device
    #[arg(long, value_name = "ID")]
    device: Option<String>,
}

/// Runs until the person has seen enough.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let access = args.broker.read()?;
    let drawn = std::io::stdout().is_terminal();
    ensure!(
        !drawn || std::io::stdin().is_terminal(),
        "monitor needs the terminal's keyboard: its input comes from elsewhere"
    );
    if let Some(id) = &args.device {
        ensure!(hub::topics::is_device_id(id), "--device {id:?}: a device id is 1 to 64 of A-Z a-z 0-9 _ -");
    }
    let of = args.device.as_deref().unwrap_or("+");
    let config = args.device.as_ref().map_or("+".to_string(), |id| format!("screamd_{id}"));
    let filters = vec![format!("screamd/{of}/#"), format!("homeassistant/device/{config}/config")];
    let line = Line::open(&access, "screamd-monitor", filters)?;
    let told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_end)).context("signal handler")?;
    }
    let mut monitor = Monitor {
        line,
        broker: format!("{}:{}", access.host, access.port),
        link: Link::Connecting,
        devices: Devices::default(),
        selected: args.device.clone().unwrap_or_default(),
        note: String::new(),
        asked: None,
    };
    if !drawn {
        return monitor.tell(&told_to_end);
    }
    end_with_the_terminal(Arc::clone(&told_to_end)).context("a thread")?;
    // Its panic hook gives the terminal back too.
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let done = monitor.watch(&mut terminal, &told_to_end);
    ratatui::restore();
    done
}

/// The keyboard of a terminal that is gone can hold the loop for ever: what reads it finds its end again and again, at full speed.
fn end_with_the_terminal(told_to_end: Arc<AtomicBool>) -> std::io::Result<()> {
    let watch = move || loop {
        std::thread::sleep(END_EVERY);
        if told_to_end.load(Relaxed) || rustix::termios::tcgetattr(std::io::stdin()).is_err() {
            // Where the loop can end by itself, it does.
            std::thread::sleep(END_EVERY);
            ratatui::restore();
            std::process::exit(0);
        }
    };
    std::thread::Builder::new().name("end".into()).spawn(watch).map(drop)
}

/// Whether there is a broker.
#[derive(Debug, PartialEq)]
enum Link {
    /// The first answer is waited for.
    Connecting,
    Up,
    /// Why not.
    Down(String),
}

struct Monitor {
    line: Line,
    broker: String,
    link: Link,
    devices: Devices,
    selected: String,
    note: String,
    /// The device that was asked for its windows, and when.
    asked: Option<(String, Instant)>,
}

impl Monitor {
    fn watch(&mut self, terminal: &mut DefaultTerminal, told_to_end: &AtomicBool) -> anyhow::Result<()> {
        let mut drawn: Option<Instant> = None;
        while !told_to_end.load(Relaxed) {
            let mut changed = self.take_news();
            self.select_something();
            self.ask_live();
            if event::poll(LOOK).context("the keyboard")? {
                match event::read().context("the keyboard")? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        let control = key.modifiers.contains(KeyModifiers::CONTROL);
                        if self.key(key.code, control) {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
                changed = true;
            }
            if changed || drawn.is_none_or(|at| at.elapsed() >= DRAW) {
                drawn = Some(Instant::now());
                let screen = Screen {
                    broker: &self.broker,
                    link: &self.link,
                    devices: &self.devices,
                    selected: &self.selected,
                    note: &self.note,
                    now: Instant::now(),
                };
                terminal.draw(|frame| view::draw(frame, &screen)).context("the terminal")?;
            }
        }
        Ok(())
    }

    /// For a pipe or a file.
    fn tell(&mut self, told_to_end: &AtomicBool) -> anyhow::Result<()> {
        let mut out = std::io::stdout();
        while !told_to_end.load(Relaxed) {
            let news = self.line.news.recv_timeout(LOOK);
            let gone = matches!(news, Err(RecvTimeoutError::Disconnected));
            ensure!(!gone, "the connection to {} has ended", self.broker);
            if let Ok(news) = news {
                let said = match &news {
                    News::Message { topic, payload } if topic.starts_with("screamd/") => {
                        // Whoever may publish must not reach into the terminal that shows the file.
                        let plain = String::from_utf8_lossy(payload).replace(char::is_control, " ");
                        let topic = topic.replace(char::is_control, " ");
                        writeln!(out, "{topic} {plain}").and_then(|()| out.flush())
                    }
                    News::Down(cause) if !matches!(&self.link, Link::Down(before) if before == cause) => {
                        tell!("no broker at {}: {cause}", self.broker);
                        Ok(())
                    }
                    _ => Ok(()),
                };
                match said {
                    Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                    said => said.context("standard output")?,
                }
                self.take(news);
            }
            self.select_something();
            self.ask_live();
        }
        Ok(())
    }

    fn take_news(&mut self) -> bool {
        let news: Vec<News> = self.line.news.try_iter().take(NEWS_AT_ONCE).collect();
        let changed = !news.is_empty();
        news.into_iter().for_each(|news| self.take(news));
        changed
    }

    fn take(&mut self, news: News) {
        match news {
            News::Up => self.link = Link::Up,
            News::Down(cause) => (self.link, self.asked) = (Link::Down(cause), None),
            News::Message { topic, payload } => self.devices.hear(&topic, &payload, Instant::now()),
        }
    }

    fn select_something(&mut self) {
        if !self.devices.0.contains_key(&self.selected)
            && let Some((first, _)) = self.devices.urgent_first().first()
        {
            self.selected = (*first).to_owned();
        }
    }

    /// One device alone: of a fleet, nobody can look at every window.
    fn ask_live(&mut self) {
        let online = self.devices.0.get(&self.selected).is_some_and(|device| device.online == Some(true));
        let fresh = self.asked.as_ref().is_some_and(|(id, at)| *id == self.selected && at.elapsed() < ASK_LIVE.0);
        if self.link == Link::Up && online && !fresh {
            self.line.publish(&format!("screamd/{}/live/set", self.selected), ASK_LIVE.1, false);
            self.asked = Some((self.selected.clone(), Instant::now()));
        }
    }

    /// True at the end.
    fn key(&mut self, code: KeyCode, control: bool) -> bool {
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if control => return true,
            KeyCode::Down | KeyCode::Tab | KeyCode::Char('j') => self.step(1),
            KeyCode::Up | KeyCode::BackTab | KeyCode::Char('k') => self.step(-1),
            KeyCode::Char('s') => self.press("silence/press"),
            KeyCode::Char('t') => self.press("test_siren/press"),
            _ => {}
        }
        false
    }

    fn step(&mut self, by: isize) {
        let devices = self.devices.urgent_first();
        let at = devices.iter().position(|(id, _)| *id == self.selected).unwrap_or(0);
        let to = at.saturating_add_signed(by).min(devices.len().saturating_sub(1));
        if let Some((id, _)) = devices.get(to) {
            self.selected = (*id).to_owned();
        }
    }

    fn press(&mut self, leaf: &str) {
        let (id, topic) = (&self.selected, format!("screamd/{}/{leaf}", self.selected));
        // What cannot go out now is not kept: nobody wants a siren tested minutes later.
        self.note = if id.is_empty() {
            "no device to send to".into()
        } else if self.link != Link::Up {
            format!("{leaf} not sent: no broker")
        } else if self.devices.0.get(id).is_some_and(|device| device.online == Some(false)) {
            format!("{leaf} not sent: {id} is offline")
        } else if self.line.publish(&topic, b"PRESS", false) {
            format!("{leaf} sent to {id}")
        } else {
            format!("{leaf} not sent: too much waits")
        };
    }
}
