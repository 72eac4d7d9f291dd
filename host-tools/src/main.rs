//! The bench beside `screamd`: convert a trained model, see what the network sees, measure accuracy and latency, look at
//! what the device heard. One file per subcommand; each begins with its manual page.
//!
//! Exit status: 0 done; 1 the answer is no (over the budget, refused, lost); 2 there is no answer (bad usage, a file that cannot be read,
//! a model that does not fit).

// `files::tell!` instead: a warning that cannot be written ends nothing.
#![warn(clippy::print_stderr)]

mod audio;
mod bench;
mod boards;
mod broker;
mod bundle;
mod calibrate;
mod chart;
mod convert;
mod deb;
mod eval;
mod explain;
mod features;
mod fleet;
mod measured;
mod monitor;
mod npy;
mod out_file;
mod poisson;
mod progress;
mod provision;
mod quant_check;
mod report;
mod rooms;
mod scene;
mod score;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "host-tools", version, about = "The bench beside screamd", arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The very picture that the network sees, as numbers (.npy) or to look at (.png)
    Features(features::Args),
    /// A trained network (ONNX) and its manifest become a model folder
    Convert(convert::Args),
    /// Whether a smaller model may take another's place; exit 1 where it may not
    QuantCheck(quant_check::Args),
    /// A site's own threshold and votes, from recordings of its everyday sound
    Calibrate(calibrate::Args),
    /// What an alarm rests on: when, and in which bands
    Explain(explain::Args),
    /// Accuracy on labelled clips, false alarms per hour on background sound
    Eval(eval::Args),
    /// Latency of each stage, load time and memory; exit 1 where p99 is over the budget
    Bench(bench::Args),
    /// Incidents of a device as one self-contained page
    Report {
        /// The device's events folder
        #[arg(long)]
        events: PathBuf,
        /// The page to write
        #[arg(long)]
        out: PathBuf,
        /// The model that heard them, to show what each score rests on; models/default where none is named
        #[arg(long, value_parser = model_place)]
        model: Option<PathBuf>,
        /// Pictures and sound of the newest incidents, as many as this holds, MiB; the others are listed
        #[arg(long, value_name = "MIB", default_value_t = 64)]
        max_mib: u16,
    },
    /// What devices hear, live, in the terminal
    Monitor(monitor::Args),
    /// Many simulated devices at one broker: alert latency, lost and doubled; exit 1 where one was lost
    Fleet(fleet::Args),
    /// The demo's own sound: a quiet home in which somebody screams, from formulae alone
    Scene(scene::Args),
    /// What a model hears in a recording, window by window
    Score(score::Args),
    /// A signed update of a package; `bundle keygen` makes the key pair
    Bundle(bundle::Args),
    /// The files that make a Raspberry Pi OS card a device, in a folder or in an image
    Provision(provision::Args),
    /// Board files
    Boards {
        #[command(subcommand)]
        command: BoardsCommand,
    },
}

#[derive(Subcommand)]
enum BoardsCommand {
    /// Checks every file of boards/
    Check,
}

/// A model folder: in the working directory, else where the package puts them.
fn model_place(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(files::model_dir::find(text.as_ref()))
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    detector::guarded::leave_to_guards();
    let done = match command {
        Command::Features(args) => features::run(&args).map(|()| true),
        Command::Convert(args) => convert::run(&args).map(|()| true),
        Command::QuantCheck(args) => quant_check::run(&args),
        Command::Calibrate(args) => calibrate::run(&args).map(|()| true),
        Command::Explain(args) => explain::run(&args).map(|()| true),
        Command::Eval(args) => eval::run(&args).map(|()| true),
        Command::Bench(args) => bench::run(&args),
        Command::Monitor(args) => monitor::run(&args).map(|()| true),
        Command::Fleet(args) => fleet::run(&args),
        Command::Report { events, out, model, max_mib } => {
            report::run(&events, &out, model.as_deref(), max_mib).map(|()| true)
        }
        Command::Scene(args) => scene::run(&args).map(|()| true),
        Command::Score(args) => score::run(&args).map(|()| true),
        Command::Bundle(args) => bundle::run(&args).map(|()| true),
        Command::Provision(args) => provision::run(&args).map(|()| true),
        Command::Boards { command: BoardsCommand::Check } => boards::check(),
    };
    match done {
        // As grep and diff have it: 1 is an answer, 2 is none.
        Ok(_) if files::say::refused() => ExitCode::from(2),
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            files::tell!("host-tools: {error:#}");
            ExitCode::from(2)
        }
    }
}
