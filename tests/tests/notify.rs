//! What the service manager hears: ready, alive while every stage progresses, stopping. The test is the manager.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use system_tests::device::{Device, Ran};
use system_tests::sound::{hiss, wav};
use system_tests::{program, root};

const RATE_HZ: u32 = 16_000;
/// The watchdog's interval: short, so that the test is; pings come at a tenth of it.
const WATCHDOG_USEC: &str = "1000000";
/// Only there so that a broken test ends.
const LIMIT: Duration = Duration::from_secs(60);

/// The manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// A socket in the device's folder, and the device started with it over `args`.
    fn start(device: &Device, args: &[&str]) -> (Self, Child) {
        Self::start_with(device, args, &[])
    }

    fn start_with(device: &Device, args: &[&str], environment: &[(&str, &Path)]) -> (Self, Child) {
        let path = device.path("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = device.command("run");
        command.args(args).arg("--json").envs(environment.iter().copied());
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG_USEC).env_remove("WATCHDOG_PID");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        (Self(socket), child)
    }

    fn next(&self) -> String {
        let mut bytes = [0; 256];
        let length = self.0.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    /// Waits until nothing has come for `quiet`.
    fn wait_for_silence(&self, quiet: Duration) {
        let until = Instant::now() + LIMIT;
        self.0.set_read_timeout(Some(quiet)).unwrap();
        let mut bytes = [0; 256];
        while self.0.recv(&mut bytes).is_ok() {
            assert!(Instant::now() < until, "the watchdog is still fed");
        }
        self.0.set_read_timeout(Some(LIMIT)).unwrap();
    }
}

#[test]
fn ready_then_alive_then_stopping() {
    let device = Device::tiny("");
    std::fs::write(device.path("sound.wav"), wav(&hiss(RATE_HZ, 120.0, 1), RATE_HZ, 1)).unwrap();
    let (manager, child) = Manager::start(&device, &["--wav", device.path("sound.wav").to_str().unwrap()]);
    assert_eq!(manager.next(), "READY=1");
    // A machine that is busy with other tests may starve it for a moment.
    let pings = std::iter::repeat_with(|| manager.next()).filter(|said| said != "WATCHDOG=trigger").take(4);
    assert_eq!(pings.collect::<Vec<_>>(), ["WATCHDOG=1"; 4]);
    system_tests::signal(child.id(), "-TERM");
    let last = std::iter::repeat_with(|| manager.next()).find(|said| !said.starts_with("WATCHDOG"));
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(Ran::of(&child.wait_with_output().unwrap()).code, 0);
}

/// What a thread has read of the log: the siren's words in their order.
fn siren_words(log: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let words = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&words);
    std::thread::spawn(move || {
        let lines = BufReader::new(log).lines().map_while(Result::ok);
        lines.filter(|line| line.starts_with("siren ")).for_each(|line| heard.lock().unwrap().push(line));
    });
    words
}

/// What a process that hangs in the kernel leaves driven stays driven, once it has been killed, too: until then its other threads, which are well,
/// must not switch the siren on again.
#[test]
fn a_stage_that_stands_still_starves_the_watchdog_and_feeds_it_again() {
    const REOPEN_EVERY: Duration = Duration::from_secs(5);
    let device = Device::tiny("[siren]\non_s = 60\n");
    let (manager, mut child) = Manager::start(&device, &["--wav", "-", "--last-good"]);
    let siren = siren_words(child.stderr.take().unwrap());
    let sounds = || siren.lock().unwrap().last().is_some_and(|word| word.starts_with("siren ON"));
    let becomes = |sounding: bool| {
        let until = Instant::now() + LIMIT;
        while sounds() != sounding {
            assert!(Instant::now() < until, "{:?}", siren.lock().unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let sound = wav(&hiss(RATE_HZ, 60.0, 1), RATE_HZ, 1);
    let mut pipe = child.stdin.take().unwrap();
    // Two seconds of sound, and then the listening thread hangs in its read.
    let (two_s, one_s) = (44 + 4 * RATE_HZ as usize, 2 * RATE_HZ as usize);
    pipe.write_all(&sound[..two_s]).unwrap();
    assert_eq!(manager.next(), "READY=1");
    assert_eq!(manager.next(), "WATCHDOG=1");
    let said = std::iter::repeat_with(|| manager.next()).find(|said| said != "WATCHDOG=1");
    assert_eq!(said.as_deref(), Some("WATCHDOG=trigger"), "the manager need not wait for its own time");
    becomes(false);
    let before = siren.lock().unwrap().len();
    assert!(before >= 2, "an alarm is no test without its siren");
    // As often as the control loop looks after its lines, and once more.
    manager.wait_for_silence(REOPEN_EVERY + Duration::from_secs(1));
    assert_eq!(siren.lock().unwrap().len(), before, "all is safe, and stays so");
    let kept = || std::fs::read_to_string(device.path("state/crash.txt")).ok();
    assert_eq!(kept().as_deref(), Some("listen stood still: the watchdog ended the process"), "for the next start");
    pipe.write_all(&sound[two_s..two_s + one_s]).unwrap();
    assert_eq!(manager.next(), "WATCHDOG=1", "it progresses again");
    becomes(true);
    let until = Instant::now() + LIMIT;
    while kept().is_some() {
        assert!(Instant::now() < until, "it was not ended");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A USB microphone that is stuck: its opening does not return, here because ALSA opens a pipe that nobody writes. A new process would wait
/// just so, and none would sound the siren meanwhile.
#[test]
fn a_card_that_does_not_answer_is_told_and_ends_nothing() {
    let device = Device::tiny("[audio]\ndevice = \"default\"\n");
    let (pipe, conf) = (device.path("card"), device.path("asound.conf"));
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text =
        "pcm.default { type file slave.pcm none file /dev/null infile \"PIPE\" format raw }\npcm.none { type null }\n";
    std::fs::write(&conf, text.replace("PIPE", pipe.to_str().unwrap())).unwrap();
    let (manager, mut child) = Manager::start_with(&device, &[], &[("ALSA_CONFIG_PATH", &conf)]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lost = lines.find(|line| line.contains("CaptureLost")).unwrap();
    assert!(lost.contains("the card has not answered for 2 s"), "{lost}");
    assert_eq!(manager.next(), "READY=1");
    // What has come until then, and three watchdog intervals more: a machine that is busy may starve it, this may not.
    let pings = std::iter::repeat_with(|| manager.next()).filter(|said| said == "WATCHDOG=1").take(50);
    assert_eq!(pings.count(), 50);
    assert!(!device.path("state/crash.txt").exists());
    system_tests::signal(child.id(), "-TERM");
    assert!(child.wait().unwrap().success(), "nor does the end wait for it");
}

/// Its password comes later, or never: the copy that another start falls back to is made all the same.
#[test]
fn a_site_file_that_checks_is_kept_also_while_the_hub_lacks_its_password() {
    let device = Device::tiny(
        "[mqtt]\nhost = \"127.0.0.1\"\nport = 9\nusername = \"u\"\npassword_file = \"/nonexistent/password\"\n",
    );
    std::fs::write(device.path("sound.wav"), wav(&hiss(RATE_HZ, 60.0, 1), RATE_HZ, 1)).unwrap();
    let (manager, child) =
        Manager::start(&device, &["--last-good", "--wav", device.path("sound.wav").to_str().unwrap()]);
    assert_eq!(manager.next(), "READY=1");
    let kept = std::fs::read_to_string(device.path("state/site.last-good.toml")).unwrap();
    assert_eq!(kept, std::fs::read_to_string(device.path("site.toml")).unwrap());
    system_tests::signal(child.id(), "-TERM");
    let ran = Ran::of(&child.wait_with_output().unwrap());
    assert!(ran.of_type("fault").iter().any(|fault| fault["fault"] == "PathDown"), "{:?}", ran.lines);
}

/// A fault has its restore, also where the process that told it is gone.
#[test]
fn a_fault_that_a_restart_has_ended_is_restored() {
    let device = Device::tiny("");
    let right = std::fs::read_to_string(device.path("site.toml")).unwrap();
    let heard = |seconds| {
        std::fs::write(device.path("sound.wav"), wav(&hiss(RATE_HZ, seconds, 1), RATE_HZ, 1)).unwrap();
        let mut command = device.command("run");
        command.arg("--wav").arg(device.path("sound.wav")).args(["--speed", "max", "--json", "--last-good"]);
        command.output().map(|output| Ran::of(&output)).unwrap()
    };
    assert!(heard(3.0).of_type("fault").is_empty());
    device.site("[sirren]\non_s = 3");
    assert_eq!(heard(3.0).of_type("fault")[0]["fault"], "ConfigInvalid");
    std::fs::write(device.path("site.toml"), right).unwrap();
    assert!(heard(3.0).of_type("restore").is_empty(), "too early to know");
    let ran = heard(100.0);
    let restored = ran.of_type("restore");
    assert_eq!((restored.len(), &restored[0]["fault"]), (1, &"ConfigInvalid".into()), "{restored:?}");
    assert!(heard(100.0).of_type("restore").is_empty(), "once");
}

#[test]
fn a_broken_site_file_starts_with_the_last_good_one() {
    let device = Device::tiny("");
    let sound = wav(&hiss(RATE_HZ, 3.0, 1), RATE_HZ, 1);
    assert_eq!(device.hear(&sound).code, 0);
    for broken in ["[sirren]\non_s = 3", "]][[ no TOML"] {
        device.site(broken);
        let refused = device.hear(&sound);
        assert_eq!((refused.code, refused.lines.len()), (2, 0), "{}", refused.stderr);
        let path = device.path("sound.wav");
        let mut command = device.command("run");
        command.arg("--wav").arg(&path).args(["--speed", "max", "--json", "--last-good"]);
        let ran = Ran::of(&command.output().unwrap());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.lines[0]["type"], "start");
        let faults = ran.of_type("fault");
        assert_eq!((faults.len(), &faults[0]["fault"]), (1, &"ConfigInvalid".into()), "{faults:?}");
        assert!(faults[0]["detail"].as_str().unwrap().contains("site.toml"), "{}", faults[0]);
        assert!(ran.of_type("restore").is_empty(), "it stays until the file is right");
        assert_eq!(ran.of_type("window").len(), 5);

        // After a crash of such a run, the lines that it held are driven safe; the mistake is still said.
        let mut command = std::process::Command::new(program("screamd"));
        let safe = command.current_dir(root()).args(["safe-outputs", "--config"]).arg(device.path("site.toml"));
        let safe = safe.output().unwrap();
        let said = String::from_utf8_lossy(&safe.stdout);
        assert!(safe.status.code() == Some(2) && said.contains("outputs of board `generic`"), "{said}");
        // Also where nothing can be said of the mistake: the lines come first.
        let mut command = std::process::Command::new(program("screamd"));
        command.current_dir(root()).args(["safe-outputs", "--config"]).arg(device.path("site.toml"));
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let safe = command.stderr(full).output().unwrap();
        let said = String::from_utf8_lossy(&safe.stdout);
        assert!(safe.status.code() == Some(2) && said.contains("outputs of board `generic`"), "{said}");
    }
}

#[test]
fn what_a_crash_left_is_told_by_the_next_start() {
    let device = Device::tiny("");
    std::fs::write(device.path("sound.wav"), wav(&hiss(RATE_HZ, 3.0, 1), RATE_HZ, 1)).unwrap();
    std::fs::create_dir_all(device.path("state")).unwrap();
    std::fs::write(device.path("state/crash.txt"), "thread `hub`, src/a.rs:1:\nno room").unwrap();
    let heard = |more: &[&str]| {
        let mut command = device.command("run");
        command.arg("--wav").arg(device.path("sound.wav")).args(["--speed", "max", "--json"]).args(more);
        Ran::of(&command.output().unwrap())
    };
    assert!(heard(&[]).of_type("fault").is_empty(), "told by the service alone");
    let ran = heard(&["--last-good"]);
    let faults = ran.of_type("fault");
    assert_eq!((ran.code, faults.len()), (0, 1), "{faults:?}");
    assert_eq!(
        (&faults[0]["fault"], &faults[0]["detail"]),
        (&"Crashed".into(), &"thread `hub`, src/a.rs:1: no room".into())
    );
    assert!(device.path("state/site.last-good.toml").is_file(), "it is no reason to distrust the site file");
    assert!(heard(&["--last-good"]).of_type("fault").is_empty(), "told once");
}

#[test]
fn ten_crashes_in_a_row_are_said_and_a_good_end_is_forgotten() {
    let device = Device::tiny("");
    let run = |wav: &str| {
        let mut command = device.command("run");
        command.args(["--wav", wav, "--speed", "max", "--json", "--last-good"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let sound = wav(&hiss(RATE_HZ, 3.0, 1), RATE_HZ, 1);
    std::fs::write(device.path("sound.wav"), &sound).unwrap();
    let heard = || Ran::of(&run(device.path("sound.wav").to_str().unwrap()).wait_with_output().unwrap());
    for _ in 0..10 {
        // It waits for more sound: no end of its own.
        let mut child = run("-");
        let mut sound_in = child.stdin.take().unwrap();
        sound_in.write_all(&sound[..1000]).unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"start\""), "{line}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let ran = heard();
    let faults = ran.of_type("fault");
    assert_eq!((ran.code, faults.len(), &faults[0]["fault"]), (0, 1, &"CrashLoop".into()), "{faults:?}");
    assert!(faults[0]["detail"].as_str().unwrap().starts_with("10 starts in a row"), "{}", faults[0]);
    assert_eq!(ran.of_type("window").len(), 5, "an alarm all the same");
    assert!(heard().of_type("fault").is_empty(), "a run that ended by itself is none of a loop");
}
