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
    siren.hold_off().expect_err("refused");
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
fn a_loop_that_is_well_does_not_undo_an_emergency_until_it_is_over() {
    let (mut outputs, _, fakes) = faked(&Arc::default());
    let levels = || fakes.each_ref().map(Fake::last);
    let emergency = outputs.emergency();
    outputs.set_siren(true).expect("on");
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("well");
    for _ in 0..3 {
        // The supervisor's, of a stage that stands still; said at each of its looks.
        emergency.all_safe();
        outputs.set_led(true).expect("held dark, which is no fault of the line");
        outputs.set_fault(false).expect("held released");
        let problems = outputs.reopen(true);
        assert!(problems.len() == 1 && problems[0].cause.starts_with("held silent"), "{problems:?}");
        assert_eq!((levels(), outputs.siren_is_on()), ([Some(false); 3], false));
    }
    // The stage goes on: the siren sounds until the bound that it had, the loop drives the others.
    emergency.all_clear();
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("well");
    assert_eq!((levels(), outputs.reopen(true)), ([Some(true); 3], vec![]));
}

/// Neither one that was to end meanwhile, nor one whose bound has passed.
#[test]
fn a_siren_that_was_held_sounds_no_longer_than_it_would_have() {
    let (siren, guard, fake) = guarded(true);
    siren.on().expect("on");
    siren.hold_off().expect("off");
    siren.off().expect("off");
    siren.let_sound();
    assert_eq!((fake.last(), siren.is_on()), (Some(false), false));
    siren.on().expect("on");
    guard.wake();
    siren.hold_off().expect("off");
    assert_eq!(siren.on(), Err(SirenError::Held));
    let until = Instant::now() + Duration::from_secs(60);
    while siren.trips() == 0 {
        assert!(Instant::now() < until, "the guard looks also at one that is held");
        std::thread::sleep(Duration::from_millis(5));
    }
    siren.let_sound();
    assert_eq!((fake.last(), siren.is_on()), (Some(false), false));
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

/// A chip that is pulled and plugged in again. A line that was opened before answers ENODEV for ever, one that is opened
/// since obeys; a line that somebody holds still, dead or not, is busy.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<Pins>>);

#[derive(Default)]
struct Pins {
    pulls: u32,
    away: bool,
    held: Vec<&'static str>,
    opened: u32,
    levels: Vec<(&'static str, bool)>,
}

struct Pin {
    socket: Socket,
    output: &'static str,
    pulls: u32,
    gone: AtomicBool,
}

impl Socket {
    fn pins(&self) -> std::sync::MutexGuard<'_, Pins> {
        self.0.lock().expect("pins")
    }

    /// What is on the board's pins is off with its power.
    fn pull(&self) {
        let mut pins = self.pins();
        (pins.pulls, pins.away) = (pins.pulls + 1, true);
        pins.levels.clear();
    }

    fn plug_in(&self) {
        self.pins().away = false;
    }

    fn last(&self, output: &str) -> Option<bool> {
        self.pins().levels.iter().rev().find(|(of, _)| *of == output).map(|(_, level)| *level)
    }

    fn open(&self, output: &'static str) -> Result<Box<dyn Line>, &'static str> {
        let mut pins = self.pins();
        match () {
            () if pins.away => return Err("no such chip"),
            () if pins.held.contains(&output) => return Err("held by `screamd`"),
            () => {}
        }
        pins.held.push(output);
        pins.opened += 1;
        // The request itself drives it safe.
        pins.levels.push((output, false));
        Ok(Box::new(Pin { socket: self.clone(), output, pulls: pins.pulls, gone: AtomicBool::new(false) }))
    }

    fn outputs(&self) -> Outputs {
        let own = self.clone();
        let opener: Opener = Box::new(move |output, wanted| {
            own.open(output).map_err(|cause| OutputProblem {
                output,
                chip: "c".into(),
                line: wanted.line.to_string(),
                cause: cause.into(),
                hint: None,
                held_by_screamd: cause.contains("screamd"),
            })
        });
        let bound = Duration::from_secs(60);
        let (outputs, problems) = Outputs::with_opener(&board(false), show_on_stderr(), opener, bound);
        assert_eq!(problems, []);
        outputs
    }
}

impl Line for Pin {
    fn set(&self, active: bool) -> Result<(), String> {
        let mut pins = self.socket.pins();
        if pins.pulls != self.pulls {
            self.gone.store(true, Ordering::SeqCst);
            return Err("No such device (os error 19)".into());
        }
        pins.levels.push((self.output, active));
        Ok(())
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.socket.pins().held.retain(|held| *held != self.output);
    }
}

#[test]
fn a_siren_whose_chip_was_plugged_in_again_sounds_on_its_new_line() {
    let socket = Socket::default();
    let mut outputs = socket.outputs();
    outputs.set_siren(true).expect("on");
    outputs.set_siren(false).expect("off");
    socket.pull();
    assert!(outputs.set_siren(true).expect_err("gone").cause.contains("No such device"));
    assert!(!outputs.reopen(true).is_empty(), "away still");
    assert!(outputs.set_siren(true).is_err() && !outputs.siren_is_on());
    socket.plug_in();
    assert_eq!((outputs.reopen(true), socket.last("siren")), (vec![], Some(true)));
    assert!(outputs.siren_is_on() && outputs.siren_guard_trips() == 0);
    outputs.set_siren(false).expect("off");
    assert_eq!(socket.last("siren"), Some(false));
    outputs.set_siren(true).expect("on");
    outputs.emergency().all_safe();
    assert_eq!(socket.last("siren"), Some(false), "the panic hook sees the new line");
}

#[test]
fn a_line_that_is_gone_is_let_go_before_it_is_asked_for_again() {
    let socket = Socket::default();
    let mut outputs = socket.outputs();
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("well");
    socket.pull();
    socket.plug_in();
    assert!(socket.open("siren").is_err_and(|cause| cause.contains("held")), "busy as long as the dead one is kept");
    outputs.set_siren(true).expect_err("gone");
    outputs.set_led(false).expect_err("gone");
    outputs.set_fault(true).expect_err("gone");
    assert_eq!(outputs.reopen(false), []);
    let levels = ["siren", "led", "fault"].map(|output| socket.last(output));
    assert_eq!((levels, socket.pins().opened), ([Some(false); 3], 6), "each once more, at its safe level");
    outputs.set_led(true).expect("led");
    outputs.set_fault(false).expect("well");
    assert_eq!((socket.last("led"), socket.last("fault")), (Some(true), Some(true)));
    // What it is to be, at once and not with the next change.
    socket.pull();
    outputs.set_led(false).expect_err("gone");
    outputs.set_fault(true).expect_err("gone");
    assert!(!outputs.reopen(false).is_empty());
    outputs.set_fault(false).expect_err("not open");
    outputs.set_led(true).expect_err("not open");
    socket.plug_in();
    assert_eq!(outputs.reopen(false), []);
    assert_eq!((socket.last("led"), socket.last("fault")), (Some(true), Some(true)));
}

/// Its LED tells, which blinks: the siren's line is asked too, with nobody driving it.
#[test]
fn a_chip_that_went_while_the_siren_was_silent_is_found_before_the_alarm() {
    let socket = Socket::default();
    let mut outputs = socket.outputs();
    socket.pull();
    socket.plug_in();
    outputs.set_led(true).expect_err("gone");
    assert_eq!(outputs.reopen(false), []);
    outputs.set_siren(true).expect("on at once");
    assert_eq!(socket.last("siren"), Some(true));
}

#[test]
fn a_siren_that_lost_its_line_while_it_sounded_comes_back_as_it_is_wanted_then() {
    for ended in [false, true] {
        let socket = Socket::default();
        let mut outputs = socket.outputs();
        outputs.set_siren(true).expect("on");
        socket.pull();
        if ended {
            outputs.set_siren(false).expect_err("gone");
        }
        assert!(!outputs.reopen(!ended).is_empty());
        socket.plug_in();
        assert_eq!(outputs.reopen(!ended), []);
        assert_eq!((socket.last("siren"), outputs.siren_is_on()), (Some(!ended), !ended), "ended: {ended}");
        assert!(!outputs.siren.refuses_off());
    }
}

#[test]
fn an_off_while_there_is_no_line_holds_for_the_one_that_comes() {
    let socket = Socket::default();
    let mut outputs = socket.outputs();
    outputs.set_siren(true).expect("on");
    socket.pull();
    outputs.reopen(true);
    assert!(!outputs.siren.is_attached());
    outputs.set_siren(false).expect_err("not open");
    socket.plug_in();
    assert_eq!((outputs.reopen(false), socket.last("siren")), (vec![], Some(false)));
    outputs.set_siren(true).expect("on");
}

/// The guard goes on trying with it: one that was let go and could not be had again would be nobody's to silence.
#[test]
fn a_line_that_fails_and_is_not_gone_is_kept() {
    let opened = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let (fake, count) = (Fake::default(), Arc::clone(&opened));
    let own = fake.clone();
    let opener: Opener = Box::new(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(own.clone()))
    });
    let board = Board { led: None, fault: None, ..board(false) };
    let (mut outputs, _) = Outputs::with_opener(&board, show_on_stderr(), opener, Duration::from_secs(60));
    outputs.set_siren(true).expect("on");
    fake.refuse.store(true, Ordering::SeqCst);
    outputs.set_siren(false).expect_err("refused");
    assert_eq!((outputs.reopen(false).len(), opened.load(Ordering::SeqCst)), (1, 1));
    fake.refuse.store(false, Ordering::SeqCst);
    fake.await_level(false, Duration::from_secs(5));
}

#[test]
fn a_siren_that_is_to_sound_and_whose_line_fails_is_a_problem_until_it_obeys() {
    let (mut outputs, _, [siren, ..]) = faked(&Arc::default());
    outputs.set_siren(true).expect("on");
    siren.refuse.store(true, Ordering::SeqCst);
    let problems = outputs.reopen(true);
    assert_eq!(problems.iter().map(|problem| problem.cause.as_str()).collect::<Vec<_>>(), ["refused"]);
    siren.refuse.store(false, Ordering::SeqCst);
    assert_eq!((outputs.reopen(true), siren.last()), (vec![], Some(true)));
}

#[test]
fn a_new_line_moves_no_bound() {
    let socket = Socket::default();
    let siren = Siren::new(true, BOUND);
    let guard = Guard::start(Arc::clone(&siren)).expect("a thread");
    siren.attach(socket.open("siren").expect("open"));
    let start = Instant::now();
    siren.on().expect("on");
    guard.wake();
    while siren.is_on() {
        socket.pull();
        socket.plug_in();
        assert!(!siren.keeps_line());
        siren.attach(socket.open("siren").expect("let go"));
        assert!(start.elapsed() < BOUND + Duration::from_secs(1), "the promise of O2");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((socket.last("siren"), siren.trips()), (Some(false), 1));
    assert_eq!(siren.on(), Err(SirenError::Tripped), "and a new line is no off");
}

/// The guard ends it and the loop replaces the line at the same moment, whichever comes first.
#[test]
fn the_line_that_is_open_ends_where_the_state_is_though_it_is_replaced_meanwhile() {
    for round in 0..20 {
        let socket = Socket::default();
        let siren = Siren::new(true, Duration::from_millis(5));
        let guard = Guard::start(Arc::clone(&siren)).expect("a thread");
        siren.attach(socket.open("siren").expect("open"));
        siren.on().expect("on");
        guard.wake();
        let start = Instant::now();
        while siren.trips() == 0 {
            assert!(start.elapsed() < Duration::from_secs(2), "round {round}");
            socket.pull();
            socket.plug_in();
            // Dead or not known to be yet: the guard may be driving it now.
            if !siren.keeps_line()
                && let Ok(line) = socket.open("siren")
            {
                siren.attach(line);
            }
        }
        // A dead one is replaced last, with the guard's word already given.
        socket.pull();
        socket.plug_in();
        while !siren.keeps_line() {
            if let Ok(line) = socket.open("siren") {
                siren.attach(line);
            }
        }
        assert_eq!((socket.last("siren"), siren.is_on()), (Some(false), false), "round {round}");
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
