//! What a board file's values must hold beyond their types: every problem in one go.

use super::{Board, Labels, LineRef, SIREN_ON_S_LIMIT};
use detector::keys::KeyError;
use std::ops::RangeInclusive;

/// The boards' names: they become file names and stand in MQTT payloads.
pub(super) fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Every problem of a parsed board.
pub(super) fn problems(board: &Board, file: &str, text: &str) -> Vec<KeyError> {
    let mut found = Vec::new();
    let mut say = |key: &str, cause: String, hint: &str| {
        found.push(KeyError::new(file, key, cause).hint(hint));
    };

    if board.schema != 1 {
        say("schema", format!("{} is not known", board.schema), "this version reads schema = 1");
    }
    if !is_name(&board.name) {
        say(
            "name",
            format!("\"{}\" is no board name", board.name),
            "1 to 64 letters, digits, hyphens or underscores, as the file's name",
        );
    }
    if board.description.trim().is_empty() {
        say("description", "empty".into(), "one line that tells people which board this is");
    }
    for (key, value, range) in ranges(board) {
        if !range.contains(&value) {
            let hint = format!("{} to {}", range.start(), range.end());
            say(key, format!("{value} is out of range"), &hint);
        }
    }
    if let Some(glibc) = &board.glibc_min
        && !is_glibc(glibc)
    {
        say("glibc_min", format!("\"{glibc}\" is no version of glibc"), "such as \"2.31\"");
    }
    if let Some(device) = &board.audio_device_hint
        && names_a_card_number(device)
    {
        let hint = "name the card, such as \"hw:CARD=Device\", or its port, such as \"usb:1-1.3\"";
        say("audio_device_hint", format!("\"{device}\" goes by the card's number, which changes"), hint);
    }
    lines(board, &mut say);
    found.extend(clashes(board, file));

    for problem in &mut found {
        problem.line = problem.key.as_deref().and_then(|key| line_of(text, key));
    }
    found
}

fn ranges(board: &Board) -> [(&'static str, u32, RangeInclusive<u32>); 4] {
    [
        ("siren_on_s_max", board.siren_on_s_max, 1..=SIREN_ON_S_LIMIT),
        // Under 2 ms at 16 kHz no board keeps up; over half a second the period itself is the latency.
        ("period_frames", board.period_frames, 32..=8192),
        ("cores", board.cores, 0..=256),
        // Above the stride of 2 s every second window would be dropped.
        ("latency_budget_ms", board.latency_budget_ms, 10..=2000),
    ]
}

fn lines(board: &Board, say: &mut impl FnMut(&str, String, &str)) {
    let chips = [("", &board.chip)];
    let own = board.outputs().map(|(table, line)| (table, &line.chip, &line.line));
    let own: Vec<_> = own.chain(board.inputs().map(|(table, line)| (table, &line.chip, &line.line))).collect();
    for (table, chip) in chips.into_iter().chain(own.iter().map(|(table, chip, _)| (*table, *chip))) {
        for (cause, hint) in chip.0.iter().filter_map(|label| unstable_chip(label)) {
            say(&dotted(table, "chip"), cause, hint);
        }
    }
    for (table, _, line) in &own {
        if let LineRef::Name(name) = line
            && name.trim().is_empty()
        {
            say(&dotted(table, "line"), "empty".into(), "a name such as \"GPIO17\", or an offset such as 17");
        }
    }
    if board.simulated {
        if let Some((table, ..)) = own.first() {
            let hint = "leave the line out, or `simulated`";
            say(&dotted(table, "line"), "a simulated board drives and reads no line".into(), hint);
        }
        return;
    }
    if board.siren.is_none() {
        say("siren.line", "missing".into(), "the siren's line, or simulated = true");
    }
    if let Some((table, ..)) = own.iter().find(|(_, chip, _)| board.chip_of(chip).0.is_empty()) {
        say(
            "chip",
            format!("missing, and [{table}] names none of its own"),
            "the label that `gpiodetect` prints in brackets",
        );
    }
    if board.sources.is_empty() {
        say("sources", "none".into(), "say where the chip's label and the lines' names come from");
    }
}

/// Why a chip's label is none that stays: cause and hint.
pub(crate) fn unstable_chip(label: &str) -> Option<(String, &'static str)> {
    if label.trim().is_empty() {
        Some(("an empty label".into(), "as `gpiodetect` prints it in brackets"))
    } else if label.starts_with("gpiochip") || label.starts_with("/dev/") {
        let hint = "name the chip by its label, as `gpiodetect` prints it in brackets";
        Some((format!("`{label}` is a number that changes between kernels"), hint))
    } else {
        None
    }
}

/// Two tables that name one line. Also asked after a site file's overrides.
pub(super) fn clashes(board: &Board, file: &str) -> Vec<KeyError> {
    let outputs = board.outputs().map(|(table, line)| (table, board.chip_of(&line.chip), &line.line));
    let inputs = board.inputs().map(|(table, line)| (table, board.chip_of(&line.chip), &line.line));
    let all: Vec<(&str, &Labels, &LineRef)> = outputs.chain(inputs).collect();
    let mut found = Vec::new();
    for (index, (table, chip, line)) in all.iter().enumerate() {
        if let Some((other, ..)) = all[..index].iter().find(|(_, c, l)| c == chip && l == line) {
            let cause = format!("line {line} is [{other}]'s already");
            found.push(KeyError::new(file, &dotted(table, "line"), cause).hint("each line has one use"));
        }
    }
    found
}

fn dotted(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_string() } else { format!("{table}.{key}") }
}

fn is_glibc(text: &str) -> bool {
    text.split_once('.').is_some_and(|(major, minor)| major == "2" && minor.parse::<u32>().is_ok())
}

/// `hw:0`, `plughw:1,0`, `default:2`: right until the next microphone is plugged in.
fn names_a_card_number(device: &str) -> bool {
    device
        .split_once(':')
        .is_some_and(|(kind, card)| kind != "usb" && card.starts_with(|first: char| first.is_ascii_digit()))
}

/// The line, from 1, on which `key` (dotted with its table) is given; the table's where the key is missing.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let (table, key) = key.rsplit_once('.').unwrap_or(("", key));
    let mut current = "";
    let mut header = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = name.trim();
            if current == table {
                header = Some(index + 1);
            }
        } else if current == table
            && line.split('=').next().is_some_and(|name| name.trim() == key)
            && line.contains('=')
        {
            return Some(index + 1);
        }
    }
    header
}
