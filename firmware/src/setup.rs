//! `screamd setup`: questions on microphone, board and hub, each answered by a flag too, and a checked site file.
//!
//! 1. Which microphone: what is plugged in is listed, and its level is shown while somebody claps.
//! 2. Which board and lines: the board is recognised, and its LED blinks to be seen.
//! 3. Which hub: those that announce themselves are listed, and it is tried at once. And whether pictures of events are kept.
//!
//! It ends with `check`, the site file and, where a person wants it, `selftest`.
//!
//! Nothing is written before all is answered and `check` is content: Ctrl-C at any moment leaves everything as it was. The
//! siren's line is opened at its safe level alone, for the LED's blink, and let go. As root the running service, which holds the microphone and
//! the lines, is stopped while they are asked for, and started again on every way out.

mod answers;
mod ask;
mod boards;
mod found;
mod hub;
mod meter;
mod microphones;
mod site_text;

use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use files::private_file::write_private;
use files::{say, tell};

use crate::EXIT_CONFIG;
use crate::service::Paused;
use crate::settings::Paths;
use answers::{Answers, Hub};
use ask::Ask;

/// Arguments; what is given is not asked.
#[derive(clap::Args)]
pub struct Args {
    /// The site file to write; one that is there is kept beside it as FILE.before
    #[arg(long, default_value = "site.toml")]
    out: PathBuf,
    /// The microphone: "hw:CARD=Device", "usb:1-1.3"; never a card number
    #[arg(long)]
    audio: Option<String>,
    /// A name in boards/
    #[arg(long)]
    board: Option<String>,
    /// The siren's line, where it is not the board's
    #[arg(long)]
    siren_line: Option<String>,
    /// The LED's line, where it is not the board's
    #[arg(long)]
    led_line: Option<String>,
    /// The broker's name or address
    #[arg(long)]
    mqtt_host: Option<String>,
    /// [default: 1883, with --mqtt-ca-file 8883]
    #[arg(long, conflicts_with = "no_mqtt")]
    mqtt_port: Option<u16>,
    /// At the broker
    #[arg(long, conflicts_with = "no_mqtt")]
    mqtt_username: Option<String>,
    /// Holds the password, readable by the service alone
    #[arg(long, requires = "mqtt_username")]
    mqtt_password_file: Option<PathBuf>,
    /// The broker's authority: TLS
    #[arg(long, conflicts_with = "no_mqtt")]
    mqtt_ca_file: Option<PathBuf>,
    /// No hub: nobody but the siren is told
    #[arg(long, conflicts_with = "mqtt_host")]
    no_mqtt: bool,
    /// Where the device hangs, for people
    #[arg(long)]
    zone: Option<String>,
    /// Its name at the hub [default: the board's serial number]
    #[arg(long)]
    device_id: Option<String>,
    /// Whether a picture of each event is kept
    #[arg(long)]
    pictures: Option<bool>,
    /// Model folder, for the check
    #[arg(long)]
    model: Option<PathBuf>,
    /// At the end: every part of the device, all but the siren, or nothing [default: asked in a terminal, else nothing]
    #[arg(long, value_enum)]
    selftest: Option<Selftest>,
}

/// What is tried at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Selftest {
    /// Everything; the siren sounds for a blip
    Full,
    /// Everything but the siren
    Silent,
    /// Nothing
    No,
}

/// Asks, tries, writes, checks.
pub fn run(args: &Args) -> ExitCode {
    match asked(args) {
        // By its own rules for signals and for the service.
        Ok(Some(Selftest::No)) => {
            say!("next: screamd selftest --config {}", args.out.display());
            ExitCode::SUCCESS
        }
        Ok(Some(wanted)) => {
            let paths = Paths { config: args.out.clone(), model: args.model.clone(), board: None, trial: false };
            crate::selftest::run(&crate::selftest::Args { paths, no_siren: wanted == Selftest::Silent })
        }
        Ok(None) => ExitCode::from(EXIT_CONFIG),
        Err(error) => {
            tell!("{error:#}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

/// The site file, written where `check` is content (else none), and which selftest is wanted. The file stands whatever that finds.
fn asked(args: &Args) -> anyhow::Result<Option<Selftest>> {
    let (stdin, stderr) = (std::io::stdin(), std::io::stderr());
    let terminal = stdin.is_terminal();
    let mut ask = Ask::new(stdin.lock(), stderr.lock(), terminal);
    let tried = args.audio.is_none() || args.board.is_none();
    let paused = tried.then(|| Paused::until_signalled("these questions"));
    let answers = answers(args, &mut ask, paused.as_ref())?;
    Ok(write(args, &answers)?.then(|| selftest(args, &mut ask)))
}

fn answers(
    args: &Args,
    ask: &mut Ask<impl std::io::BufRead, impl std::io::Write>,
    paused: Option<&Paused>,
) -> anyhow::Result<Answers> {
    let audio = match &args.audio {
        Some(device) => device.clone(),
        None => microphones::question(ask, boards::hint(args.board.as_deref()).as_deref())?,
    };
    files::card_name::stable(&audio, Some(Path::new(files::card_name::CARDS)))
        .map_err(|(cause, hint)| anyhow::anyhow!("--audio: {cause} ({hint})"))?;
    let board = match &args.board {
        Some(name) => name.clone(),
        None => boards::question(ask)?,
    };
    let lines = boards::lines(
        ask,
        &board,
        args.siren_line.as_deref(),
        args.led_line.as_deref(),
        paused.filter(|_| args.board.is_none()),
    )?;
    let hub = match (&args.mqtt_host, args.no_mqtt) {
        (_, true) => None,
        (Some(host), false) => Some(Hub {
            host: host.clone(),
            port: args.mqtt_port,
            username: args.mqtt_username.clone(),
            password_file: args.mqtt_password_file.clone(),
            ca_file: args.mqtt_ca_file.clone(),
        }),
        (None, false) => hub::question(ask, args)?,
    };
    if let Some(hub) = &hub {
        // A hub that is not there today is no reason to write no site file: the device keeps its alerts until it is.
        match hub::try_out(hub) {
            Ok(()) => ask.say(&format!("hub {}: takes this device", hub.host)),
            Err(cause) => ask.say(&format!("warning: hub {cause}")),
        }
    }
    let pictures = match args.pictures {
        Some(kept) => kept,
        None => {
            let question =
                "Keep a picture of each event? It stays on the device; it can be turned back into rough sound";
            match ask.yes_no(question, true, "--pictures true|false") {
                // A script that answers what has no default is asked for no more.
                Err(_) if ask.ended && !ask.terminal => true,
                answered => answered?,
            }
        }
    };
    Ok(Answers {
        audio,
        board,
        lines,
        hub,
        pictures,
        zone: args.zone.clone().unwrap_or_default(),
        device_id: args.device_id.clone(),
    })
}

/// Writes beside, checks, and only then puts in place; true where the check is content.
fn write(args: &Args, answers: &Answers) -> anyhow::Result<bool> {
    let beside = with_ending(&args.out, "new");
    write_private(&beside, site_text::of(answers).as_bytes())?;
    // No secret stands in it, and the service is another user.
    let place = || -> anyhow::Result<bool> {
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644))?;
        let paths = Paths { config: beside.clone(), model: args.model.clone(), board: None, trial: false };
        if !crate::check::run(&paths) {
            return Ok(false);
        }
        if args.out.exists() {
            std::fs::copy(&args.out, with_ending(&args.out, "before"))?;
        }
        std::fs::rename(&beside, &args.out)?;
        Ok(true)
    };
    let placed = place().with_context(|| args.out.display().to_string());
    if !matches!(placed, Ok(true)) {
        let _ = std::fs::remove_file(&beside);
        tell!("{}: not written", args.out.display());
        return placed;
    }
    say!("{}: written", args.out.display());
    Ok(true)
}

/// The last question.
fn selftest(args: &Args, ask: &mut Ask<impl std::io::BufRead, impl std::io::Write>) -> Selftest {
    match args.selftest {
        Some(wanted) => wanted,
        None if !ask.terminal => Selftest::No,
        None => {
            let options = ["full  the siren sounds for a blip", "silent  all but the siren", "no  later"];
            match ask.choice("Selftest now", &options.map(str::to_string), 0, "--selftest") {
                Ok(0) => Selftest::Full,
                Ok(1) => Selftest::Silent,
                _ => Selftest::No,
            }
        }
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}
