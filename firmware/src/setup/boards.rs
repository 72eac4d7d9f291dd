//! The second question: which board, and which of its lines. What the device tree says is offered first.

use std::io::{BufRead, Write};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::Context;
use files::board::{self, Board, LineOverride, LineOverrides, LineRef};

use super::answers::Lines;
use super::ask::Ask;
use crate::led::{self, LedPattern};
use crate::outputs::{Outputs, show_on_stderr};
use crate::service::Paused;

/// What the firmware or the device tree calls this machine.
const MODEL: &str = "/proc/device-tree/model";
/// How long the LED blinks.
const BLINK: Duration = Duration::from_secs(4);

/// Asks for the board.
///
/// # Errors
/// No board files, or nobody answers.
pub fn question(ask: &mut Ask<impl BufRead, impl Write>) -> anyhow::Result<String> {
    let known = board::list(&board::default_roots());
    anyhow::ensure!(!known.is_empty(), "no board files in boards/ or /usr/share/screamd/boards");
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let machine = machine();
    let likely = recognise(&machine, &names);
    let options: Vec<String> = known
        .iter()
        .map(|(name, path)| match Board::load(path) {
            Ok(board) => format!("{name}  {}", board.description),
            Err(_) => format!("{name}  (its file has mistakes: host-tools boards check)"),
        })
        .collect();
    if !machine.is_empty() && likely == board::DEFAULT_BOARD {
        ask.say(&format!(
            "No board file is for this machine, which calls itself \"{machine}\". With `{likely}` no line is driven and NO SIREN SOUNDS; \
             boards/README.md, \"Adding a board\", says how to make one"
        ));
    }
    ask.say("Boards:");
    let default = names.iter().position(|name| *name == likely).unwrap_or(0);
    let chosen = ask.choice("Which board", &options, default, "--board")?;
    Ok(names[chosen].to_string())
}

/// The microphone that this board's file hints at; that of the board that this machine looks like where none is named.
pub fn hint(name: Option<&str>) -> Option<String> {
    let known = board::list(&board::default_roots());
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let name = name.map_or_else(|| recognise(&machine(), &names).to_string(), String::from);
    let path = board::find(&name, &board::default_roots()).ok()?;
    Board::load(&path).ok()?.audio_device_hint
}

/// What this machine is called by its device tree; nothing on a PC.
fn machine() -> String {
    std::fs::read_to_string(MODEL).unwrap_or_default().trim_matches(['\0', '\n', ' ']).to_string()
}

/// The lines: as given, else asked for, with a blink to see. Nobody is asked where flags have said which board: then the service
/// is not `paused` for it.
///
/// # Errors
/// No such board, or nobody answers.
pub fn lines(
    ask: &mut Ask<impl BufRead, impl Write>,
    name: &str,
    siren: Option<&str>,
    led: Option<&str>,
    paused: Option<&Paused>,
) -> anyhow::Result<Lines> {
    let path = board::find(name, &board::default_roots()).context("--board")?;
    let mut board = Board::load(&path)?;
    let own = |line: &Option<board::OutputLine>| line.as_ref().map(|line| line.line.to_string()).unwrap_or_default();
    let (own_siren, own_led) = (own(&board.siren), own(&board.led));
    let mut lines = Lines { siren: siren.map(String::from), led: led.map(String::from) };
    let Some(paused) = paused.filter(|_| !board.simulated) else { return Ok(lines) };
    for (given, own, what, flag) in [
        (&mut lines.siren, &own_siren, "Siren's line", "--siren-line"),
        (&mut lines.led, &own_led, "LED's line", "--led-line"),
    ] {
        if given.is_none() {
            *given = Some(ask.text(what, own, flag)?).filter(|line| line != own && !line.is_empty());
        }
    }
    let wrong = board.apply("setup", &overrides(&lines));
    anyhow::ensure!(wrong.is_empty(), "{}", detector::keys::words(&wrong));
    if ask.terminal && ask.yes_no("Blink the LED now, to see that it is the one?", true, "--board")? {
        match paused.whole(|stop| blink(&board, stop)) {
            Ok(()) => ask.say("It has blinked; where nothing was seen, its line or its wiring is another"),
            Err(cause) => ask.say(&cause),
        }
    }
    Ok(lines)
}

/// As a site file would say them.
fn overrides(lines: &Lines) -> LineOverrides {
    let of = |line: &Option<String>| LineOverride { line: line.as_deref().map(line_ref), ..LineOverride::default() };
    LineOverrides { siren: of(&lines.siren), led: of(&lines.led), ..LineOverrides::default() }
}

fn line_ref(text: &str) -> LineRef {
    text.parse().map_or_else(|_| LineRef::Name(text.to_string()), LineRef::Offset)
}

/// Every output at its safe level, the LED on and off, and all let go, no later than `stop` says.
fn blink(board: &Board, stop: &AtomicBool) -> Result<(), String> {
    let (mut outputs, problems) = Outputs::open(board, show_on_stderr());
    let began = Instant::now();
    while began.elapsed() < BLINK && !stop.load(Relaxed) {
        let _ = outputs.show_led(LedPattern::Fault, began.elapsed().as_millis() as u64);
        std::thread::sleep(Duration::from_millis(led::TICK_MS_MAX));
    }
    outputs.all_safe();
    drop(outputs);
    if problems.is_empty() {
        return Ok(());
    }
    Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}

/// The board whose name's words all stand in the model's name; the one with most words where several do.
fn recognise<'a>(model: &str, names: &[&'a str]) -> &'a str {
    let mut words: Vec<String> = model.split([' ', '-']).map(str::to_lowercase).collect();
    let says = |word: &str| words.iter().any(|said| said == word);
    // What the makers call them, and whose header they have: the keyboards' is the board's inside, the Orin NX's that of its carrier. Not
    // the AGX Orin's, which is another.
    let kin: Vec<&str> = [("400", "4"), ("500", "5"), ("nvidia", "jetson")]
        .into_iter()
        .chain((says("orin") && says("nx")).then_some(("nx", "nano")))
        .filter(|(said, _)| says(said))
        .map(|(_, meant)| meant)
        .collect();
    words.extend(kin.into_iter().map(String::from));
    let fits = |name: &&&str| name.split('-').all(|word| words.iter().any(|said| said == word));
    let best = names.iter().filter(fits).max_by_key(|name| name.split('-').count());
    best.or_else(|| names.iter().find(|name| **name == board::DEFAULT_BOARD)).copied().unwrap_or(board::DEFAULT_BOARD)
}

#[cfg(test)]
mod tests {
    use super::recognise;

    #[test]
    fn boards_are_recognised_by_what_the_device_tree_says() {
        let names = [
            "generic",
            "jetson-nano",
            "jetson-orin-nano",
            "raspberry-pi-3",
            "raspberry-pi-4",
            "raspberry-pi-5",
            "raspberry-pi-zero-2-w",
        ];
        for (model, expect) in [
            ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4"),
            ("Raspberry Pi 5 Model B Rev 1.0", "raspberry-pi-5"),
            ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry-pi-zero-2-w"),
            ("NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super", "jetson-orin-nano"),
            ("NVIDIA Orin Nano Developer Kit", "jetson-orin-nano"),
            ("NVIDIA Orin NX Developer Kit", "jetson-orin-nano"),
            ("NVIDIA Jetson AGX Orin Developer Kit", "generic"),
            ("NVIDIA Jetson Nano Developer Kit", "jetson-nano"),
            ("Raspberry Pi 3 Model B Plus Rev 1.3", "raspberry-pi-3"),
            ("Raspberry Pi 400 Rev 1.0", "raspberry-pi-4"),
            ("Raspberry Pi 500 Rev 1.0", "raspberry-pi-5"),
            ("Raspberry Pi Compute Module 4 Rev 1.0", "raspberry-pi-4"),
            ("linux,dummy-virt", "generic"),
            ("", "generic"),
        ] {
            assert_eq!(recognise(model, &names), expect, "{model}");
        }
    }
}
