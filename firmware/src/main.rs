//! `screamd`, the acoustic scream alarm: all I/O, threads and clocks live here; `detector` decides, `hub` tells.
//!
//! Start reading at `control`, the one loop that everything meets in; `listen` is the way from sound to score.

mod broker;
mod capture;
mod check;
mod clock;
mod control;
mod crash;
mod credentials;
mod event_log;
mod events;
mod faults;
mod history;
mod inputs;
mod last_good;
mod led;
mod lines;
mod listen;
mod logging;
mod notify;
mod outputs;
mod pace;
mod queued;
mod quiet;
mod recorder;
mod run;
mod saved;
mod selftest;
mod service;
mod settings;
mod setup;
mod starts;
mod state_lock;
mod supervisor;
mod timeline;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use files::{say, tell};
use settings::Paths;

/// Bad usage or configuration.
const EXIT_CONFIG: u8 = 2;

#[derive(Parser)]
#[command(name = "screamd", version, about = "Acoustic scream alarm", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Listens, decides, sounds the siren, tells the hub
    Run(run::Args),
    /// Every problem of site, board and model in one run; exit 0 or 2
    Check(Paths),
    /// Microphone, inference, LED, siren and broker, each once; exit 0, 1 (a check failed) or 2 (configuration refused)
    Selftest(selftest::Args),
    /// Drives every output to its safe level and exits; 1 where a line is held by another, 2 where site or board file is refused
    SafeOutputs(SafeOutputs),
    /// The installer's questions, each by a flag too; writes a checked site file
    Setup(setup::Args),
    /// A signed release beside the running one; goes back by itself where the new one does not come up
    Update(update::Args),
}

#[derive(clap::Args)]
struct SafeOutputs {
    /// Site file: says which board, and which lines
    #[arg(long)]
    config: Option<PathBuf>,
    /// Board file
    #[arg(long)]
    board: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    detector::guarded::leave_to_guards();
    match &cli.command {
        Command::Run(_) => logging::queued(),
        _ => logging::direct(),
    }
    if matches!(cli.command, Command::Check(_) | Command::Selftest(_)) {
        update::hand_over();
    }
    let ended = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(paths) if check::run(&paths) => ExitCode::SUCCESS,
        Command::Check(_) => ExitCode::from(EXIT_CONFIG),
        Command::Selftest(args) => selftest::run(&args),
        Command::SafeOutputs(args) => safe_outputs(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Update(args) => update::run(&args),
    };
    logging::flush();
    if files::say::refused() { ExitCode::FAILURE } else { ended }
}

fn safe_outputs(args: &SafeOutputs) -> ExitCode {
    // The dead process ran with a site file that was good then. Today's may name other lines, or be broken.
    let held = args.config.as_deref().map(|config| last_good::boards(config, args.board.as_deref()));
    let today = settings::board_of(args.config.as_deref(), args.board.as_deref());
    let boards: Vec<_> = held.iter().flatten().chain(today.iter()).collect();
    // Driven before a word is said: who reads may be gone.
    let (driven, held_by_another) = match outputs::safe_outputs(&boards) {
        Ok(driven) => (driven, None),
        Err(error) => (error.driven.clone(), Some(error)),
    };
    let wrong = today.err().unwrap_or_default();
    wrong.iter().for_each(|problem| tell!("{problem}"));
    driven.iter().for_each(|line| say!("{line}"));
    held_by_another.iter().for_each(|error| tell!("{error}"));
    match (held_by_another, wrong.is_empty()) {
        (Some(_), _) => ExitCode::FAILURE,
        (None, true) => ExitCode::SUCCESS,
        (None, false) => ExitCode::from(EXIT_CONFIG),
    }
}
