use super::guard::{Guard, Siren, SirenError};
use super::*;
use files::board::{Level, LineRef};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What was driven, when; `refuse` makes the line fail.
#[derive(Clone, Default)]
struct Fake {
    levels: Arc<Mutex<Vec<(Instant, bool)>>>,
    refuse: Arc<AtomicBool>,
}

impl Fake {
    fn last(&self) -> Option<bool> {
        self.levels.lock().expect("levels").last().map(|(_, level)| *level)
    }

    fn count(&self) -> usize {
        self.levels.lock().expect("levels").len()
    }

    fn await_level(&self, level: bool, at_most: Duration) -> Duration {
        let start = Instant::now();
        while self.last() != Some(level) {
            assert!(start.elapsed() < at_most, "not {level} within {at_most:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        start.elapsed()
    }
}

impl Line for Fake {
    fn set(&self, active: bool) -> Result<(), String> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err("refused".into());
        }
        self.levels.lock().expect("levels").push((Instant::now(), active));
        Ok(())
    }
}

const BOUND: Duration = Duration::from_millis(400);

fn guarded(on_level: bool) -> (Arc<Siren>, Guard, Fake) {
    let siren = Siren::new(on_level, BOUND);
    let fake = Fake::default();
    siren.attach(Box::new(fake.clone()));
    let guard = Guard::start(Arc::clone(&siren)).expect("a thread");
    (siren, guard, fake)
}

/// A siren that sounds, was told to be silent, and whose line refuses to be.
fn refusing_to_go_off() -> (Arc<Siren>, Guard, Fake) {
    let (siren, guard, fake) = guarded(true);
    siren.on().expect("on");
    fake.refuse.store(true, Ordering::SeqCst);
    siren.off().expect_err("refused");
    (siren, guard, fake)
}

#[test]
fn a_stuck_loop_cannot_keep_the_siren_on() {
    for on_level in [true, false] {
        let (siren, guard, fake) = guarded(on_level);
        // As a control loop that switches on and is never heard of again; and without waking the guard, whose own look
        // at most a second later must do.
        siren.on().expect("on");
        assert_eq!(fake.last(), Some(on_level));
        let took = fake.await_level(!on_level, BOUND + Duration::from_secs(2));
        assert!(took >= BOUND - Duration::from_millis(20), "{took:?}");
        assert!(!siren.is_on());
        assert_eq!(siren.trips(), 1);
        drop(guard);
    }
}

#[test]
fn saying_on_again_and_again_moves_no_bound() {
    let (siren, guard, fake) = guarded(true);
    let start = Instant::now();
    let mut refused = 0;
    while start.elapsed() < BOUND * 3 {
        refused += usize::from(siren.on() == Err(SirenError::Tripped));
        guard.wake();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!((fake.last(), siren.trips()), (Some(false), 1));
    assert!(refused > 0, "the loop is told");
    // Only an "off" makes it ready again.
    siren.off().expect("off");
    siren.on().expect("on");
    assert_eq!(fake.last(), Some(true));
}

#[test]
fn the_guard_is_on_time_when_woken_and_quiet_otherwise() {
    let (siren, guard, fake) = guarded(true);
    siren.on().expect("on");
    guard.wake();
    let took = fake.await_level(false, Duration::from_secs(5));
    // The promise of O2: within a second of the bound.
    assert!(took < BOUND + Duration::from_secs(1), "{took:?}");
    siren.off().expect("off");
    let driven = fake.count();
    for _ in 0..10 {
        siren.on().expect("on");
        guard.wake();
        std::thread::sleep(Duration::from_millis(1));
        siren.off().expect("off");
    }
    assert_eq!((siren.trips(), fake.count()), (1, driven + 20));
}

#[test]
fn a_line_that_refuses_to_go_off_is_tried_until_it_does() {
    let (siren, guard, fake) = guarded(true);
    siren.on().expect("on");
    fake.refuse.store(true, Ordering::SeqCst);
    assert_eq!(siren.off(), Err(SirenError::Line("refused".into())));
    guard.wake();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(fake.last(), Some(true));
    assert!(siren.refuses_off() && !siren.is_on());
    fake.refuse.store(false, Ordering::SeqCst);
    fake.await_level(false, Duration::from_secs(5));
    // That was the line's failure and no trip: the next alarm sounds.
    siren.on().expect("on");
    guard.wake();
    assert_eq!((fake.last(), siren.trips()), (Some(true), 0));
}

/// The end of the program, whose line refuses at that moment: until the process is gone, the guard tries.
#[test]
fn a_line_that_refuses_at_the_end_is_tried_too() {
    let (siren, guard, fake) = refusing_to_go_off();
    siren.force_off().expect_err("refused");
    guard.wake();
    fake.refuse.store(false, Ordering::SeqCst);
    fake.await_level(false, Duration::from_secs(5));
}

#[test]
fn an_alarm_sounds_while_its_line_still_refuses_to_go_off() {
    let (siren, guard, fake) = refusing_to_go_off();
    guard.wake();
    fake.refuse.store(false, Ordering::SeqCst);
    // Whether the guard came first or not.
    siren.on().expect("on");
    assert_eq!((fake.last(), siren.is_on()), (Some(true), true));
    siren.off().expect("off");
    assert!(!siren.refuses_off());
}

#[test]
fn a_line_that_refuses_to_go_on_is_tried_with_the_next_on() {
    let (siren, _guard, fake) = guarded(true);
    fake.refuse.store(true, Ordering::SeqCst);
    assert_eq!(siren.on(), Err(SirenError::Line("refused".into())));
    assert!(!siren.is_on());
    fake.refuse.store(false, Ordering::SeqCst);
    siren.on().expect("on");
    assert_eq!(fake.last(), Some(true));
}

/// Sounds although its first call fails, and refuses the second: a bus expander whose answer is lost.
#[derive(Clone, Default)]
struct Grudging {
    fake: Fake,
    calls: Arc<std::sync::atomic::AtomicU32>,
}

impl Line for Grudging {
    fn set(&self, active: bool) -> Result<(), String> {
        match self.calls.fetch_add(1, Ordering::SeqCst) {
            0 => self.fake.set(active).and(Err("no answer".into())),
            1 => Err("no answer".into()),
            _ => self.fake.set(active),
        }
    }
}

#[test]
fn a_line_that_fails_and_sounds_all_the_same_is_driven_off() {
    let (siren, line) = (Siren::new(true, BOUND), Grudging::default());
    siren.attach(Box::new(line.clone()));
    let guard = Guard::start(Arc::clone(&siren)).expect("a thread");
    siren.on().expect_err("no answer");
    assert!(siren.refuses_off() && !siren.is_on());
    assert_eq!(line.fake.last(), Some(true), "it sounds");
    guard.wake();
    line.fake.await_level(false, Duration::from_secs(5));
}

#[test]
fn two_threads_leave_the_line_where_the_state_is() {
    for round in 0..50 {
        let (siren, guard, fake) = guarded(true);
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let siren = &siren;
                scope.spawn(move || {
                    for step in 0..40 {
                        let _ = if (step + thread) % 2 == 0 { siren.on() } else { siren.off() };
                    }
                });
            }
        });
        assert_eq!(fake.last(), Some(siren.is_on()), "round {round}");
        drop(guard);
    }
}

fn line(name: &str, safe_level: Level) -> OutputLine {
    OutputLine { line: LineRef::Name(name.into()), safe_level, ..simulated_line() }
}

fn board(simulated: bool) -> Board {
    let text = "schema = 1\nname = \"t\"\ndescription = \"t\"\nsimulated = true\nsiren_on_s_max = 60\nperiod_frames = 320\n\
                latency_budget_ms = 500\nsources = []\n";
    let board = Board::parse("t.toml", text).expect("a board");
    if simulated {
        return board;
    }
    Board {
        simulated: false,
        chip: files::board::Labels(vec!["no-such-chip".into()]),
        siren: Some(line("S", Level::Inactive)),
        led: Some(line("L", Level::Inactive)),
        fault: Some(line("F", Level::Inactive)),
        ..board
    }
}

fn faked(missing: &Arc<AtomicBool>) -> (Outputs, Vec<OutputProblem>, [Fake; 3]) {
    let fakes = [Fake::default(), Fake::default(), Fake::default()];
    let (own, gone) = (fakes.clone(), Arc::clone(missing));
    let opener: Opener = Box::new(move |output, wanted| match output {
        "siren" if gone.load(Ordering::SeqCst) => Err(OutputProblem {
            output,
            chip: "c".into(),
            line: wanted.line.to_string(),
            cause: "held by `gpioset`".into(),
            hint: None,
            held_by_screamd: false,
        }),
        "siren" => Ok(Box::new(own[0].clone())),
        "led" => Ok(Box::new(own[1].clone())),
        _ => Ok(Box::new(own[2].clone())),
    });
    let (outputs, problems) = Outputs::with_opener(&board(false), show_on_stderr(), opener, Duration::from_secs(60));
    (outputs, problems, fakes)
}

#[test]
fn a_missing_siren_is_a_problem_and_the_rest_works() {
    let missing = Arc::new(AtomicBool::new(true));
    let (mut outputs, problems, [siren, led, fault]) = faked(&missing);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].to_string(), "siren: line S of chip c: held by `gpioset`");
    assert!(outputs.set_siren(true).expect_err("not open").to_string().contains("line S"));
    assert!(outputs.set_siren(false).is_ok());
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("fault");
    assert_eq!((siren.last(), led.last(), fault.last()), (None, Some(true), Some(true)));
    let emergency = outputs.emergency();

    missing.store(false, Ordering::SeqCst);
    assert_eq!(outputs.reopen(false), []);
    outputs.set_siren(true).expect("on");
    assert_eq!(siren.last(), Some(true));
    emergency.all_safe();
    assert_eq!((siren.last(), led.last(), fault.last()), (Some(false), Some(false), Some(false)));
}

#[test]
fn a_siren_that_was_busy_when_the_alarm_began_sounds_once_its_line_is_free() {
    let missing = Arc::new(AtomicBool::new(true));
    let (mut outputs, _, [siren, ..]) = faked(&missing);
    assert!(outputs.set_siren(true).is_err());
    assert_eq!((outputs.reopen(true).len(), siren.last()), (1, None), "still busy");
    missing.store(false, Ordering::SeqCst);
    assert_eq!((outputs.reopen(true), siren.last()), (vec![], Some(true)));
    assert!(outputs.siren_is_on());
}

#[test]
fn dropping_the_outputs_drives_them_safe() {
    let (mut outputs, problems, fakes) = faked(&Arc::default());
    assert_eq!(problems, []);
    outputs.set_siren(true).expect("on");
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("well");
    drop(outputs);
    assert_eq!(fakes.map(|fake| fake.last()), [Some(false); 3]);
}

#[test]
fn the_fault_relay_holds_only_while_all_is_well() {
    let (mut outputs, _, [_, _, fault]) = faked(&Arc::default());
    outputs.set_fault(true).expect("fault");
    assert_eq!(fault.last(), Some(false));
    outputs.set_fault(false).expect("well");
    assert_eq!(fault.last(), Some(true));
}

#[test]
fn the_fault_relay_holds_again_where_an_emergency_was_none() {
    let (mut outputs, _, [_, led, fault]) = faked(&Arc::default());
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("well");
    // The supervisor's, of a stage that goes on after all.
    outputs.emergency().all_safe();
    assert_eq!((led.last(), fault.last()), (Some(false), Some(false)));
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("well");
    assert_eq!((led.last(), fault.last()), (Some(true), Some(true)));
}

#[test]
fn a_blinking_led_makes_one_call_a_change() {
    let (mut outputs, _, [_, led, _]) = faked(&Arc::default());
    for t_ms in (0..10_000).step_by(50) {
        outputs.show_led(LedPattern::Disarmed, t_ms).expect("led");
    }
    assert_eq!(led.count(), 2);
}

#[test]
fn an_output_that_fails_while_running_is_a_problem_until_it_answers_again() {
    let (mut outputs, _, [_, led, fault]) = faked(&Arc::default());
    outputs.set_led(false).expect("led");
    outputs.set_fault(false).expect("well");
    for (fake, output) in [(&led, "led"), (&fault, "fault")] {
        let drive = |outputs: &mut Outputs, on: bool| match output {
            "led" => outputs.set_led(on),
            _ => outputs.set_fault(on),
        };
        fake.refuse.store(true, Ordering::SeqCst);
        let problem = drive(&mut outputs, true).expect_err("refused");
        assert_eq!((problem.output, problem.cause.as_str()), (output, "refused"));
        assert_eq!(outputs.reopen(false), [problem], "open, and of no use");
        fake.refuse.store(false, Ordering::SeqCst);
        drive(&mut outputs, true).expect("it answers again");
        assert_eq!((outputs.reopen(false), fake.last()), (vec![], Some(output == "led")));
    }
}

#[test]
fn simulated_outputs_are_shown() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&said);
    let show: Show = Arc::new(move |output, on| sink.lock().expect("said").push(format!("{output} {on}")));
    let (mut outputs, problems) = Outputs::open(&board(true), show);
    assert_eq!((problems.len(), outputs.siren_simulated()), (0, true));
    outputs.set_siren(true).expect("on");
    outputs.set_siren(true).expect("still on");
    for t_ms in 0..100 {
        outputs.show_led(LedPattern::Alarm, t_ms * 50).expect("led");
    }
    outputs.set_led(true).expect("no led");
    outputs.set_fault(true).expect("no relay");
    assert!(outputs.siren_is_on());
    outputs.set_siren(false).expect("off");
    assert_eq!(*said.lock().expect("said"), ["siren true", "LED steady (alarm) true", "siren false"]);
}

#[test]
fn a_board_without_its_chip_names_chip_and_line() {
    let (outputs, problems) = Outputs::open(&board(false), show_on_stderr());
    assert_eq!(problems.len(), 3);
    for (problem, line) in problems.iter().zip(["S", "L", "F"]) {
        let text = problem.to_string();
        assert!(text.contains("no-such-chip") && text.contains(&format!("line {line}")), "{text}");
    }
    assert!(!outputs.siren_simulated());
    let error = safe_outputs(&[&board(false)]).expect_err("no chip");
    assert_eq!((error.driven.len(), error.problems.len()), (0, 3));
    assert!(safe_outputs(&[&board(true)]).expect("simulated")[0].contains("simulated"));
}

#[test]
fn only_a_line_that_screamd_holds_is_waited_for() {
    let tries = |held_by_screamd: bool, free_at: u32| {
        let mut tries = 0;
        let opened = open_patiently(|| {
            tries += 1;
            let problem = || OutputProblem {
                output: "siren",
                chip: "c".into(),
                line: "S".into(),
                // The name alone says nothing: it may be part of another's.
                cause: "held by `not-screamd`".into(),
                hint: None,
                held_by_screamd,
            };
            if tries == free_at { Ok(()) } else { Err(problem()) }
        });
        (tries, opened.is_ok())
    };
    assert_eq!(tries(false, 2), (1, false));
    assert_eq!(tries(true, 2), (2, true));
    assert_eq!(tries(true, 0), (5, false));
}

#[test]
fn after_a_crash_the_lines_that_were_held_are_driven_too() {
    let tried = |boards: &[&Board]| {
        let error = safe_outputs(boards).expect_err("no chip");
        error.problems.iter().map(|problem| format!("{} {}", problem.output, problem.line)).collect::<Vec<_>>()
    };
    // Today's file has another siren and no LED.
    let today = Board { siren: Some(line("S2", Level::Inactive)), led: None, ..board(false) };
    assert_eq!(tried(&[&board(false), &today]), ["siren S", "led L", "siren S2", "fault F"]);
    assert_eq!(tried(&[&board(false), &board(false)]), ["siren S", "led L", "fault F"], "each once");
    assert_eq!(tried(&[&board(false), &board(true)]), ["siren S", "led L", "fault F"], "today's are simulated");
    assert_eq!(tried(&[&board(true), &today]), ["siren S2", "fault F"]);
    let elsewhere = Board { chip: files::board::Labels(vec!["another-chip".into()]), ..board(false) };
    assert_eq!(tried(&[&elsewhere, &today]).len(), 5, "a line's number means nothing without its chip");
}

/// Says on standard output what it is driven to, for whoever started this process.
struct Loud;

impl Line for Loud {
    fn set(&self, active: bool) -> Result<(), String> {
        use std::io::Write;
        // Past the test harness, which keeps what `println!` says for itself.
        writeln!(std::io::stdout(), "driven to {active}").map_err(|error| error.to_string())
    }
}

#[test]
fn a_panic_in_any_thread_switches_off_and_ends_the_process() {
    const CHILD: &str = "SCREAMD_TEST_PANICS";
    if std::env::var_os(CHILD).is_some() {
        let siren = Siren::new(true, BOUND);
        siren.attach(Box::new(Loud));
        siren.on().expect("on");
        let [led, fault] = [(); 2].map(|()| Switch::new(true).shared);
        let dir = std::env::var_os(CHILD).expect("a folder");
        Emergency { siren, led, fault }.abort_on_panic(Crash::in_dir(dir.as_ref()));
        let stage = std::thread::Builder::new().name("stage".into());
        let _ = stage.spawn(|| panic!("as a stage would")).expect("a thread").join();
        println!("it goes on");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let own = "outputs::tests::a_panic_in_any_thread_switches_off_and_ends_the_process";
    let mut command = std::process::Command::new(std::env::current_exe().expect("this program"));
    let output = command.args(["--exact", own, "--nocapture"]).env(CHILD, dir.path()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(6), "SIGABRT: {said}");
    let driven: Vec<_> = said.lines().filter(|line| line.contains("driven")).collect();
    assert!(driven.len() == 2 && driven[1].ends_with("driven to false"), "{said}");
    assert!(!said.contains("it goes on"), "{said}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("as a stage would"), "the cause is told");
    let kept = Crash::in_dir(dir.path()).take().expect("the cause is kept for the next start");
    assert!(kept.starts_with("thread `stage`, ") && kept.ends_with(": as a stage would"), "{kept}");
}
