//! `screamd selftest`: microphone, inference, LED, siren and broker, each once, as a table; exit 0 where nothing failed.
//!
//! It drives the same lines and opens the same card as the service does. As root it stops the service for that time and
//! starts it again, whatever happens; the siren is off on every way out, Ctrl-C and panic included.

mod checks;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use files::{say, tell};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::EXIT_CONFIG;
use crate::inputs::Inputs;
use crate::outputs::{Outputs, show_on_stderr};
use crate::service;
use crate::settings::{Paths, Settings};

/// Arguments.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub paths: Paths,
    /// Leaves the siren alone
    #[arg(long)]
    pub no_siren: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It works; with figures.
    Ok(String),
    /// It does not; with the cause.
    Failed(String),
    /// Not tried; with the reason.
    Skipped(String),
}

/// A signal that asks for an end.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            if let Err(error) = signal_hook::flag::register(signal, Arc::clone(&flag)) {
                log::warn!("signal {signal}: {error}");
            }
        }
        Self(flag)
    }

    /// A signal has come.
    pub fn asked(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Sleeps, no longer than until a signal comes.
    pub fn sleep(&self, time: Duration) {
        let until = Instant::now() + time;
        while !self.asked() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10).min(time));
        }
    }
}

/// Runs every check.
pub fn run(args: &Args) -> ExitCode {
    let settings = match Settings::load(&args.paths) {
        Ok(settings) => settings,
        Err(wrong) => {
            wrong.iter().for_each(|problem| tell!("{problem}"));
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let stop = Stop::on_signals();
    // In this order, so that the lines are let go of before the service wants them again.
    let _service = service::Paused::new("this test");
    let (mut outputs, problems) = Outputs::open(&settings.board, show_on_stderr());
    let (mut inputs, input_problems) = Inputs::open(&settings.board);
    let problems = [problems, input_problems].concat();

    let mut failed = false;
    let mut row = |name: &str, check: &mut dyn FnMut() -> Verdict| {
        if stop.asked() {
            return;
        }
        let (word, detail) = match check() {
            Verdict::Ok(detail) => ("ok", detail),
            Verdict::Failed(detail) => ("failed", detail),
            Verdict::Skipped(detail) => ("skipped", detail),
        };
        failed |= word == "failed";
        say!("{name:<12} {word:<8} {detail}");
    };
    row("microphone", &mut || checks::microphone(&settings, &args.paths.config, &stop));
    row("inference", &mut || checks::inference(&settings));
    row("led", &mut || checks::led(&mut outputs, &settings.board, &problems, &stop));
    row("siren", &mut || match args.no_siren {
        true => Verdict::Skipped("--no-siren".into()),
        false => checks::siren(&outputs, &settings.board, &problems, &stop),
    });
    if settings.board.fault.is_some() {
        row("fault relay", &mut || checks::fault_relay(&mut outputs, &problems, &stop));
    }
    if settings.board.inputs().next().is_some() && !settings.board.simulated {
        row("inputs", &mut || checks::inputs(&mut inputs, &problems, &stop));
    }
    row("broker", &mut || checks::broker(&settings, &stop));
    outputs.all_safe();
    if stop.asked() {
        say!("interrupted; the outputs are at their safe levels");
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
