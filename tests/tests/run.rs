//! `screamd run` over recordings: lines, alarms, outputs, what it leaves behind.
#![allow(clippy::unwrap_used)]

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use serde_json::Value;
use system_tests::device::{Device, Ran};
use system_tests::held::Held;
use system_tests::sound::{hiss, one_scream, silence, wav, write_flac};
use system_tests::{host_tools_ok, root, skip_without_rights};

const RATE_HZ: u32 = 16_000;

fn number(line: &Value, key: &str) -> f64 {
    line[key].as_f64().unwrap_or_else(|| panic!("{key} in {line}"))
}

/// The alarms that the contract's decision makes of the printed scores (tiny: 1 of 2 votes, hold 2 s, cooldown 3 s).
fn decided(ran: &Ran) -> Vec<(&'static str, f64)> {
    let (mut kept, mut free_from, mut found) = (None::<f64>, 0.0, Vec::new());
    let mut end = 0.0;
    for line in ran.of_type("window") {
        let (score, t) = (number(line, "score"), number(line, "t_end_s"));
        end = t;
        if let Some(last) = kept.filter(|last| t > last + 2.0 || (t >= last + 2.0 && score < 0.5)) {
            found.push(("end", last + 2.0));
            (kept, free_from) = (None, last + 5.0);
        }
        if kept.is_some() && score >= 0.5 {
            kept = Some(t);
        } else if kept.is_none() && score >= 0.8 && t >= free_from {
            found.push(("start", t));
            kept = Some(t);
        }
    }
    if kept.is_some() {
        found.push(("end", end));
    }
    found
}

/// What a recorder leaves that writes into a file as into a pipe, and a rate that no sound card has.
#[test]
fn a_recording_of_unstated_length_or_odd_rate_is_heard_to_its_end() {
    let device = Device::tiny("");
    let whole = wav(&one_scream(RATE_HZ), RATE_HZ, 1);
    let expect = device.hear(&whole).of_type("window").len();
    for length in [0x8000_0000u32, 0x7fff_ffff, 0xffff_ffff] {
        let mut open = whole.clone();
        open[40..44].copy_from_slice(&length.to_le_bytes());
        open[4..8].copy_from_slice(&length.saturating_add(36).to_le_bytes());
        let ran = device.hear(&open);
        assert_eq!((ran.code, ran.of_type("window").len()), (0, expect), "{length:#x}: {}", ran.stderr);
    }
    // A long recording that was broken off is none of those.
    let mut torn = whole.clone();
    torn[40..44].copy_from_slice(&0xb000_0000u32.to_le_bytes());
    torn[4..8].copy_from_slice(&0xb000_0024u32.to_le_bytes());
    let ran = device.hear(&torn);
    assert!(ran.code == 2 && ran.stderr.contains("truncated"), "{}", ran.stderr);
    for rate_hz in [1_000, 3_999, 352_800] {
        let ran = device.hear(&wav(&silence(rate_hz, 1.5), rate_hz, 1));
        assert_eq!((ran.code, ran.of_type("window").len()), (0, 2), "{rate_hz}: {}", ran.stderr);
    }
}

#[test]
fn an_event_past_its_age_goes_at_the_next_run() {
    let device = Device::tiny("");
    let old = device.path("events/20250110T000000Z_old-1.json");
    std::fs::create_dir_all(device.path("events")).unwrap();
    std::fs::write(&old, "{}").unwrap();
    let sound = wav(&silence(RATE_HZ, 1.0), RATE_HZ, 1);
    device.site("max_days = 36500");
    device.hear(&sound);
    assert!(old.exists());
    device.site("max_days = 1");
    let ran = device.hear(&sound);
    assert!(!old.exists(), "{}", ran.stderr);
}

#[test]
fn a_scream_is_one_alarm_in_json_lines() {
    let device = Device::tiny("");
    let ran = device.hear(&wav(&one_scream(RATE_HZ), RATE_HZ, 1));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (first, last) = (&ran.lines[0], ran.lines.last().unwrap());
    assert_eq!((&first["type"], &last["type"]), (&"start".into(), &"stop".into()));
    assert_eq!((&first["model"], &first["board"]), (&"tiny".into(), &"generic".into()));
    assert_eq!(first["model_sha256"].as_str().unwrap().len(), 64);
    assert_eq!((number(first, "window_s"), number(first, "stride_s")), (1.0, 0.5));

    // The log has what the hub would have been told.
    let log = std::fs::read_to_string(device.path("state/log.jsonl")).unwrap();
    let log: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        log.iter().map(|line| (line["n"].as_u64().unwrap(), line["event_type"].as_str().unwrap())).collect();
    assert_eq!(told, [(1, "scream_start"), (2, "scream_end")]);
    assert_eq!(log[0]["id"], ran.of_type("alarm")[0]["id"]);
    assert_eq!(std::fs::metadata(device.path("state/log.jsonl")).unwrap().permissions().mode() & 0o777, 0o600);

    // 10.5 s: the first window ends at 1 s, one follows every 0.5 s.
    let windows = ran.of_type("window");
    assert_eq!(windows.len(), 20);
    for (seq, line) in windows.iter().enumerate() {
        assert_eq!(line["seq"].as_u64().unwrap(), seq as u64);
        assert_eq!((number(line, "t_start_s"), number(line, "t_end_s")), (0.5 * seq as f64, 1.0 + 0.5 * seq as f64));
        let sum: f64 = line["scores"].as_object().unwrap().values().map(|x| x.as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-5 && (0.0..=1.0).contains(&number(line, "score")), "{line}");
        assert_eq!(line["scores"]["scream"], line["score"]);
        assert!((-120.0..0.1).contains(&number(line, "level_dbfs")), "{line}");
        assert_eq!((&line["gap"], &line["masked"]), (&false.into(), &false.into()));
        assert!(number(line, "front_end_ms") >= 0.0 && number(line, "inference_ms") > 0.0);
    }
    assert_eq!(number(windows[0], "level_dbfs"), -120.0, "digital silence");

    let alarms = ran.of_type("alarm");
    assert_eq!(ran.alarms(), decided(&ran));
    assert_eq!(alarms.len(), 2, "one start, one end");
    assert_eq!(alarms[0]["id"], alarms[1]["id"]);
    assert_eq!(alarms[0]["label"], "scream");
    assert!(alarms[0]["id"].is_string() && number(alarms[0], "latency_ms") >= 0.0);
    let keys = ["windows", "dropped", "xruns", "alarms"].map(|key| number(last, key));
    assert_eq!(keys, [20.0, 0.0, 0.0, 1.0]);
    assert!((number(last, "audio_s") - 10.5).abs() < 1e-6 && number(last, "elapsed_s") > 0.0);
}

/// A pipe that is full and that nobody reads.
fn stuck() -> (PipeReader, PipeWriter) {
    let (reader, writer) = std::io::pipe().unwrap();
    // More than it holds, from a thread that is left waiting as the program would be.
    let mut filled = writer.try_clone().unwrap();
    std::thread::spawn(move || filled.write_all(&vec![b'.'; 4 << 20]));
    std::thread::sleep(Duration::from_millis(300));
    (reader, writer)
}

/// Standard error is a journal, which may hang with its disk or be gone: the siren, a simulated one too, waits for neither.
#[test]
fn whoever_reads_standard_error_or_does_not_stops_no_alarm() {
    let device = Device::tiny("");
    std::fs::write(device.path("sound.wav"), wav(&one_scream(RATE_HZ), RATE_HZ, 1)).unwrap();
    let (gone_reader, gone) = std::io::pipe().unwrap();
    drop(gone_reader);
    let (_reader, still) = stuck();
    for (name, stderr) in [("gone", gone), ("stands still", still)] {
        let mut command = device.command("run");
        command.arg("--wav").arg(device.path("sound.wav")).args(["--speed", "max", "--json"]);
        let began = Instant::now();
        let ran = command.stderr(stderr).output().unwrap();
        let lines = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert_eq!(ran.status.code(), Some(0), "{name}: {lines}");
        assert!(lines.contains("\"type\":\"alarm\"") && lines.contains("\"type\":\"stop\""), "{name}: {lines}");
        assert!(began.elapsed() < Duration::from_secs(60), "{name}");
    }
}

#[test]
fn alarms_are_what_the_scores_say_over_a_restless_scene() {
    let device = Device::tiny("");
    let mut sound = Vec::new();
    for (i, quiet_s) in [2.0, 0.3, 1.1, 4.0, 0.7, 2.2, 9.0, 0.1].into_iter().enumerate() {
        sound.extend(silence(RATE_HZ, quiet_s));
        sound.extend(hiss(RATE_HZ, 0.2 + 0.6 * (i % 3) as f64, i as u32));
    }
    let ran = device.hear(&wav(&sound, RATE_HZ, 1));
    assert_eq!(ran.alarms(), decided(&ran));
    assert!(ran.alarms().len() >= 6, "{:?}", ran.alarms());
}

/// A device that hears a scream at once, on a board whose `siren_on_s_max` of four seconds is less than the site's `on_s`: the thread
/// `held` is held still as soon as the siren sounds. Its log once the siren is off; none where no thread can be held.
fn siren_ended_without(held: &str) -> Option<String> {
    let device = Device::tiny("[siren]\non_s = 60");
    let board = std::fs::read_to_string(root().join("boards/generic.toml")).unwrap();
    assert!(board.contains("siren_on_s_max = 180"));
    std::fs::write(device.path("board.toml"), board.replace("siren_on_s_max = 180", "siren_on_s_max = 4")).unwrap();
    let board = device.path("board.toml");
    let running = device.listens_to_with(&hiss(RATE_HZ, 60.0, 1), &["--board", board.to_str().unwrap()]);
    device.says("siren ON");
    let thread = Held::thread(running.id(), held)?;
    device.says("siren off");
    drop(thread);
    Some(device.log())
}

/// O2 as it ships: the board's bound is enforced twice, and each of the two does it alone.
#[test]
fn the_boards_bound_ends_the_siren_where_the_control_loop_stands_still() {
    let Some(log) = siren_ended_without("screamd") else { return };
    assert!(log.contains("its guard switched it off after 4 s"), "{log}");
}

#[test]
fn the_boards_bound_ends_the_siren_where_its_guard_stands_still() {
    let Some(log) = siren_ended_without("siren-guard") else { return };
    assert!(!log.contains("its guard switched it off"), "{log}");
}

/// The service manager's signal, Ctrl-C, and a terminal that is closed: where no service runs, nobody drives the lines
/// safe afterwards.
#[test]
fn no_signal_leaves_the_siren_on() {
    for signal in ["-TERM", "-INT", "-HUP"] {
        let device = Device::tiny("[siren]\non_s = 60");
        let running = device.listens_to(&hiss(RATE_HZ, 60.0, 1));
        device.says("siren ON");
        system_tests::signal(running.id(), signal);
        assert_eq!(running.wait(), Some(0), "{signal}: {}", device.log());
        device.says("siren off");
    }
}

/// As fast as it goes, incidents come faster than pictures are drawn: sound that can wait does.
#[test]
fn at_full_speed_every_incident_has_its_record() {
    let device = Device::tiny("[decision]\nhold_s = 0.0\ncooldown_s = 0.0\n");
    let mut sound = Vec::new();
    for seed in 0..60 {
        sound.extend(silence(RATE_HZ, 1.5));
        sound.extend(hiss(RATE_HZ, 1.0, seed));
    }
    let ran = device.hear(&wav(&sound, RATE_HZ, 1));
    let ids: Vec<_> =
        ran.of_type("alarm").iter().filter(|line| line["state"] == "start").map(|line| &line["id"]).collect();
    assert!(ids.len() >= 50, "{} alarms are no test", ids.len());
    assert_eq!(ran.of_type("fault"), Vec::<&Value>::new());
    let records = device.events().into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "json"));
    let records: Vec<Value> =
        records.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect();
    assert_eq!(records.len(), ids.len());
    assert!(records.iter().all(|record| ids.contains(&&record["id"]) && record["end"].is_object()));
}

/// The window that decided stands in the record however long the incident was.
#[test]
fn a_long_incident_keeps_the_window_that_decided() {
    let device = Device::tiny("[decision]\nstride_s = 0.1\nhold_s = 100.0\n");
    let mut sound = one_scream(RATE_HZ);
    sound.extend(silence(RATE_HZ, 90.0));
    device.hear(&wav(&sound, RATE_HZ, 1));
    let record: Value = serde_json::from_slice(&std::fs::read(&device.events()[0]).unwrap()).unwrap();
    let windows = record["windows"].as_array().unwrap();
    assert!(windows.len() > 512, "{} windows are no test", windows.len());
    let t_s = number(&record["start"], "t_s");
    let decided = windows.iter().find(|window| number(window, "t_end_s") == t_s).expect("the window that decided");
    assert_eq!(number(decided, "score"), number(&record["start"], "score"));
    let seqs: Vec<_> = windows.iter().map(|window| window["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "each once and in order");
}

#[test]
fn any_rate_channels_flac_and_standard_input() {
    let device = Device::tiny("");
    let expected = device.hear(&wav(&one_scream(RATE_HZ), RATE_HZ, 1)).alarms().len();
    assert_eq!(expected, 2);
    for (rate_hz, channels) in [(8_000, 1), (11_025, 2), (22_050, 1), (44_100, 2), (48_000, 6), (96_000, 1)] {
        let ran = device.hear(&wav(&one_scream(rate_hz), rate_hz, channels));
        assert_eq!((ran.code, ran.alarms().len()), (0, 2), "{rate_hz} Hz, {channels} channels: {}", ran.stderr);
        assert_eq!(ran.of_type("window").len(), 20, "{rate_hz} Hz, {channels} channels");
    }
    assert_eq!(device.hear_stdin(&wav(&one_scream(RATE_HZ), RATE_HZ, 2)).alarms().len(), 2);
    let flac = device.path("one.flac");
    if write_flac(&flac, &one_scream(RATE_HZ), RATE_HZ).is_some() {
        assert_eq!(device.hear_file(&flac).alarms().len(), 2);
    }
}

/// A damaged or cut recording is said to be one, also where it comes through a pipe: what is missing must not be taken for silence.
#[test]
fn a_recording_that_breaks_off_in_a_pipe_has_failed() {
    let device = Device::tiny("");
    let whole = wav(&one_scream(RATE_HZ), RATE_HZ, 1);
    let ran = device.hear_stdin(&whole[..whole.len() / 2]);
    assert!(ran.code == 1 && ran.stderr.contains("truncated"), "{}: {}", ran.code, ran.stderr);
    // What came before it broke off has been heard to its last sample.
    let (last, stop) = (ran.of_type("window").pop().unwrap(), ran.of_type("stop").pop().unwrap());
    assert!(last["t_end_s"].as_f64() >= stop["audio_s"].as_f64(), "{last} {stop}");
    let flac = device.path("one.flac");
    if write_flac(&flac, &one_scream(RATE_HZ), RATE_HZ).is_none() {
        return;
    }
    let whole = std::fs::read(&flac).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    std::fs::write(&flac, &flipped).unwrap();
    for ran in [device.hear_stdin(&flipped), device.hear_file(&flac)] {
        assert!(ran.code == 1 && ran.stderr.contains("damaged after"), "{}: {}", ran.code, ran.stderr);
    }
    let ran = device.hear_stdin(&whole[..whole.len() / 2]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}

/// Whoever asked for lines and has not got them all must not take the run for a good one; the alarm was one all the same.
#[test]
fn a_full_disk_behind_standard_output_is_a_failure() {
    let device = Device::tiny("");
    let path = device.path("sound.wav");
    std::fs::write(&path, wav(&one_scream(RATE_HZ), RATE_HZ, 1)).unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut run = device.command("run");
    run.arg("--wav").arg(&path).args(["--speed", "max", "--json"]).stdout(full);
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("standard output"), "{:?}: {said}", output.status);
    assert_eq!(device.events().len(), 2, "{said}");
}

/// Whoever was told of a start waits for the end by its id, also where the program was killed between the two.
#[test]
fn an_incident_that_a_kill_cut_off_ends_at_the_next_start() {
    let device = Device::tiny("");
    let log = || std::fs::read_to_string(device.path("state/log.jsonl")).unwrap_or_default();
    let of_type = |kind: &str| -> Vec<String> {
        let events = log();
        let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let wanted = events.filter(|event| event["event_type"] == kind);
        wanted.map(|event| event["id"].as_str().unwrap().to_string()).collect()
    };
    let running = device.listens_to(&one_scream(RATE_HZ));
    let until = Instant::now() + Duration::from_secs(60);
    let open = || std::fs::read_to_string(device.path("state/settings.json")).is_ok_and(|text| text.contains("score"));
    while !open() || of_type("scream_start").is_empty() {
        assert!(Instant::now() < until, "{}", device.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // Record and picture may not even be begun; the next start knows of the incident all the same.
    running.kill();
    let saved = std::fs::read_to_string(device.path("state/settings.json")).unwrap();
    assert!(saved.contains("\"latched\":true"), "{saved}");
    assert_eq!(of_type("scream_end"), Vec::<String>::new());
    for _ in 0..2 {
        let ran = device.hear(&wav(&silence(RATE_HZ, 1.0), RATE_HZ, 1));
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(of_type("scream_end"), of_type("scream_start"), "once: {}", log());
    }
}

/// Somebody tries a recording on a device, with its own site file, while it is in an alarm.
#[test]
fn what_is_tried_beside_a_running_device_leaves_its_incident_and_its_log_alone() {
    let device = Device::tiny("[mqtt]\nhost = \"127.0.0.1\"\nport = 9\n");
    let read = |name: &str| std::fs::read_to_string(device.path(name)).unwrap_or_default();
    let logged = || -> Vec<(u64, String, Value)> {
        let log = read("state/log.jsonl");
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of_incidents = events.filter(|event| event["event_type"].as_str().unwrap().starts_with("scream"));
        of_incidents
            .map(|event| (event["n"].as_u64().unwrap(), event["event_type"].to_string(), event["id"].clone()))
            .collect()
    };
    let running = device.listens_to(&hiss(RATE_HZ, 120.0, 1));
    let until = Instant::now() + Duration::from_secs(60);
    while logged().is_empty() || !read("state/settings.json").contains("score") || device.events().len() < 2 {
        assert!(Instant::now() < until, "{}", device.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (log, settings, incident) = (read("state/log.jsonl"), read("state/settings.json"), logged()[0].2.clone());
    std::fs::write(device.path("tried.wav"), wav(&one_scream(RATE_HZ), RATE_HZ, 1)).unwrap();
    let tried = device.hear_file(&device.path("tried.wav"));
    assert_eq!((tried.code, tried.alarms().len()), (0, 2), "{}", tried.stderr);
    assert!(tried.stderr.contains("another screamd uses"), "{}", tried.stderr);
    assert_eq!((read("state/log.jsonl"), read("state/settings.json")), (log, settings));
    assert_eq!(device.events().len(), 4, "its record and picture stand beside the device's");
    assert_eq!(running.stop(), Some(0), "{}", device.log());
    let told = logged();
    assert_eq!(told.iter().map(|(_, kind, _)| &kind[..]).collect::<Vec<_>>(), ["\"scream_start\"", "\"scream_end\""]);
    assert!(told[0].0 < told[1].0 && told.iter().all(|(.., id)| *id == incident), "{told:?}");
    // It has gone: whoever comes now keeps what it has to keep.
    let ran = device.hear_file(&device.path("tried.wav"));
    assert!(!ran.stderr.contains("another screamd") && logged().len() == 4, "{}", ran.stderr);
}

#[test]
fn the_end_is_padded_so_that_every_sample_is_scored() {
    let device = Device::tiny("");
    for (seconds, windows) in [(0.01, 1), (0.999, 1), (1.0, 1), (1.25, 2), (1.5, 2), (1.6, 3)] {
        let ran = device.hear(&wav(&hiss(RATE_HZ, seconds, 3), RATE_HZ, 1));
        let found = ran.of_type("window");
        assert_eq!(found.len(), windows, "{seconds} s");
        assert_eq!(number(ran.lines.last().unwrap(), "windows"), windows as f64);
        assert!(number(found.last().unwrap(), "t_end_s") >= seconds);
    }
}

#[test]
fn outputs_are_shown_to_a_person() {
    let device = Device::tiny("");
    let path = device.path("sound.wav");
    std::fs::write(&path, wav(&one_scream(RATE_HZ), RATE_HZ, 1)).unwrap();
    let output = device.command("run").arg("--wav").arg(&path).args(["--speed", "max"]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("{text} in:\n{said}"));
    assert!(place("siren ON") < place("siren off"), "{said}");
    assert!(place("picture: ") > place(" ALARM "));
}

#[test]
fn an_event_leaves_a_record_and_a_private_picture() {
    let device = Device::tiny("");
    let ran = device.hear(&wav(&one_scream(RATE_HZ), RATE_HZ, 1));
    let events = device.events();
    let endings: Vec<_> = events.iter().map(|path| path.extension().unwrap().to_str().unwrap()).collect();
    assert_eq!(endings, ["json", "png"], "no sound is kept unless asked for");
    for path in &events {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    let record: Value = serde_json::from_slice(&std::fs::read(&events[0]).unwrap()).unwrap();
    assert_eq!(record["id"], ran.of_type("alarm")[0]["id"]);
    let picture = std::fs::read(&events[1]).unwrap();
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.len() > 2000);

    let page = device.path("report.html");
    let events = device.path("events");
    host_tools_ok(&["report", "--events", events.to_str().unwrap(), "--out", page.to_str().unwrap()]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(record["id"].as_str().unwrap()) && page.contains("data:image/png;base64,"));
    assert!(!page.contains("http://") && !page.contains("src=\"https"), "one page that loads nothing");
}

#[test]
fn clips_with_what_came_before_only_where_the_site_asks() {
    let device = Device::tiny("clips = true");
    let ran = device.hear(&wav(&one_scream(RATE_HZ), RATE_HZ, 1));
    let clip = device.events().into_iter().find(|path| path.extension().is_some_and(|ending| ending == "wav")).unwrap();
    assert_eq!(std::fs::metadata(&clip).unwrap().permissions().mode() & 0o777, 0o600);
    // The clip is a recording like any other: heard again it alarms again, and it begins before the scream.
    let again = device.hear_file(&clip);
    assert!(again.alarms().len() >= 2, "{:?}", again.alarms());
    assert!(number(again.of_type("window")[0], "score") < 0.5 && ran.alarms()[0].1 >= 3.0, "no pre-roll");
}

#[test]
fn pictures_can_be_left_out_and_old_events_go() {
    let device = Device::tiny("pictures = false\nmax_mib = 1");
    for _ in 0..3 {
        assert_eq!(device.hear(&wav(&one_scream(RATE_HZ), RATE_HZ, 1)).code, 0);
    }
    let kinds = || -> Vec<String> {
        let kind = |path: &std::path::PathBuf| path.extension().unwrap().to_str().unwrap().to_string();
        device.events().iter().map(kind).collect()
    };
    assert_eq!(kinds(), ["json"; 3], "a record each, and nothing else");
    // Sound of more than half a MiB each: of three one has room, and what is older must have gone.
    device.site("clips = true\nmax_mib = 1");
    let long = [silence(RATE_HZ, 3.0), hiss(RATE_HZ, 14.0, 1), silence(RATE_HZ, 6.0)].concat();
    for _ in 0..3 {
        assert_eq!(device.hear(&wav(&long, RATE_HZ, 1)).code, 0);
    }
    let count = |kind: &str| kinds().iter().filter(|own| *own == kind).count();
    assert!(count("wav") == 1 && count("json") < 6, "{:?}", kinds());
    let bytes: u64 = device.events().iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert!(bytes <= 1 << 20 && !device.events().is_empty(), "{bytes} bytes in {:?}", device.events());
}

/// Of an installer who tries the alarm by hand on a device where it is installed.
#[test]
fn what_root_makes_in_the_services_folders_is_the_services() {
    use std::os::unix::fs::MetadataExt;
    const SERVICE: u32 = 65_534;
    let device = Device::tiny("");
    device.site("[mqtt]\nhost = \"127.0.0.1\"\nport = 9");
    for folder in ["state", "events"] {
        std::fs::create_dir(device.path(folder)).unwrap();
        if std::os::unix::fs::chown(device.path(folder), Some(SERVICE), Some(SERVICE)).is_err() {
            return skip_without_rights("only root can give a folder away");
        }
    }
    device.hear(&wav(&one_scream(RATE_HZ), RATE_HZ, 1));
    let (mut folders, mut made) = (vec![device.path("state"), device.path("events")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let (path, found) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
            assert_eq!((found.uid(), found.gid()), (SERVICE, SERVICE), "{}", path.display());
            if found.is_dir() {
                folders.push(path.clone());
            }
            made.push(path.file_name().unwrap().to_str().unwrap().to_string());
        }
    }
    for name in ["outbox", "lock", "log.jsonl", "settings.json"] {
        assert!(made.iter().any(|own| own == name), "no {name} in {made:?}");
    }
    assert!(made.iter().any(|own| own.ends_with(".png")), "{made:?}");
}

#[test]
fn quiet_hours_keep_the_siren_off_and_nothing_else() {
    // All day, in two halves: a range may not begin and end at the same minute.
    let device = Device::tiny("[siren]\nquiet_hours = [\"00:00-12:00\", \"12:00-00:00\"]");
    let path = device.path("sound.wav");
    std::fs::write(&path, wav(&one_scream(RATE_HZ), RATE_HZ, 1)).unwrap();
    let output = device.command("run").arg("--wav").arg(&path).args(["--speed", "realtime"]).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(" ALARM ") && !said.contains("siren ON"), "{said}");
}

#[test]
fn a_signal_ends_it_within_two_seconds_with_a_last_line() {
    let device = Device::tiny("");
    let path = device.path("sound.wav");
    std::fs::write(&path, wav(&hiss(RATE_HZ, 60.0, 1), RATE_HZ, 1)).unwrap();
    let child = device.spawn(&["--wav", path.to_str().unwrap(), "--speed", "realtime", "--json"]);
    // The alarm's event file tells that the siren is on; no fixed wait.
    device.keeps_an_event();
    let told = Instant::now();
    system_tests::signal(child.id(), "-TERM");
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert!(told.elapsed() < Duration::from_secs(10), "took {:?}", told.elapsed());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.lines.last().unwrap()["type"], "stop");
    assert_eq!(ran.alarms().iter().map(|(state, _)| *state).collect::<Vec<_>>(), ["start", "end"]);
    let place = |word: &str| ran.stderr.find(word).unwrap_or_else(|| panic!("{word} in {}", ran.stderr));
    assert!(place("siren ON") < place("siren off"), "{}", ran.stderr);
}

/// The journal hangs with its disk, nobody reads the lines, and the broker takes the connection and says nothing: what each of them is given must
/// not add up. A machine that is busy with other tests may be late; it is not each time.
#[test]
fn a_signal_ends_it_within_two_seconds_though_nothing_gives_an_answer() {
    let broker = TcpListener::bind("127.0.0.1:0").unwrap();
    let took = || {
        let device = Device::tiny("");
        device.site(&format!("[mqtt]\nhost = \"127.0.0.1\"\nport = {}", broker.local_addr().unwrap().port()));
        std::fs::write(device.path("sound.wav"), wav(&hiss(RATE_HZ, 60.0, 1), RATE_HZ, 1)).unwrap();
        let [(_lines, stdout), (_log, stderr)] = [(); 2].map(|()| stuck());
        let mut command = device.command("run");
        command.arg("--wav").arg(device.path("sound.wav")).args(["--speed", "realtime", "--json"]);
        let mut child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        device.keeps_an_event();
        let told = Instant::now();
        system_tests::signal(child.id(), "-TERM");
        assert!(child.wait().unwrap().success());
        told.elapsed()
    };
    let mut tries = std::iter::repeat_with(took).take(5);
    assert!(tries.any(|took| took < Duration::from_secs(2)), "late five times in a row");
}

/// A recording at full speed waits for whoever reads its lines; a signal does not.
#[test]
fn a_signal_ends_it_also_where_a_reader_stands_still() {
    let device = Device::tiny("");
    std::fs::write(device.path("sound.wav"), wav(&hiss(RATE_HZ, 600.0, 1), RATE_HZ, 1)).unwrap();
    let mut child = device.spawn(&["--wav", device.path("sound.wav").to_str().unwrap(), "--speed", "max", "--json"]);
    let mut stdout = child.stdout.take().unwrap();
    // Some lines, then none: the pipe fills, and what waits for it.
    stdout.read_exact(&mut [0; 1000]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None, "it waits for its reader");
    let began = Instant::now();
    system_tests::signal(child.id(), "-TERM");
    assert!(child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}: END_WAIT is two seconds", began.elapsed());
    drop(stdout);
}

/// Windows are for who watches: 43,200 lines a day would wear out a card that keeps its journal.
#[test]
fn the_journal_gets_alarms_and_no_meter() {
    let device = Device::tiny("");
    let sound = device.path("sound.wav");
    std::fs::write(&sound, wav(&one_scream(RATE_HZ), RATE_HZ, 1)).unwrap();
    let words = |name: &str, is_journal: bool| {
        let file = std::fs::File::create(device.path(name)).unwrap();
        let found = file.metadata().unwrap();
        let inode = if is_journal { found.ino() } else { found.ino() + 1 };
        let mut command = device.command("run");
        command
            .arg("--wav")
            .arg(&sound)
            .args(["--speed", "max"])
            .env("JOURNAL_STREAM", format!("{}:{inode}", found.dev()));
        assert!(command.stdout(file).status().unwrap().success());
        std::fs::read_to_string(device.path(name)).unwrap()
    };
    let (journal, other) = (words("journal", true), words("other", false));
    assert!(journal.contains("ALARM") && !journal.contains("dBFS"), "{journal}");
    assert_eq!(other.matches("dBFS").count(), 20, "{other}");
}
