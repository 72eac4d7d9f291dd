//! Tamper contact and silence button: read by the control loop, debounced here.
//!
//! A line that is missing or busy is an [`OutputProblem`] and no failure, as with the outputs. An input that is never
//! read right is told again and again until it is.

use std::time::Duration;

use files::board::{Board, InputLine};

use crate::outputs::{OutputProblem, open_input};

/// A level counts once it has stayed for so long: above what a contact bounces, below what a finger presses.
const STEADY: Duration = Duration::from_millis(100);

/// A line that can be read.
pub trait Sense: Send {
    /// Whether it is at its active level.
    ///
    /// # Errors
    /// What the kernel said.
    fn active(&self) -> Result<bool, String>;
}

/// What an input says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The case was opened, or is closed again.
    Tamper(bool),
    /// Somebody pressed the button.
    SilencePressed,
}

type Opener = Box<dyn Fn(&'static str, &InputLine) -> Result<Box<dyn Sense>, OutputProblem> + Send>;

/// All inputs of the device.
pub struct Inputs {
    inputs: Vec<Input>,
    opener: Opener,
}

struct Input {
    table: &'static str,
    wanted: InputLine,
    line: Option<Box<dyn Sense>>,
    /// It could not be read, since [`Inputs::reopen`] was called last.
    failed: Option<OutputProblem>,
    debounce: Debounce,
}

impl Inputs {
    /// Opens the inputs of `board`; those that could not be opened are told beside it. A simulated board has none.
    pub fn open(board: &Board) -> (Self, Vec<OutputProblem>) {
        let own = board.clone();
        Self::with_opener(board, Box::new(move |table, wanted| open_input(table, wanted, &own)))
    }

    fn with_opener(board: &Board, opener: Opener) -> (Self, Vec<OutputProblem>) {
        let of = |(table, wanted): (&'static str, &InputLine)| Input {
            table,
            wanted: wanted.clone(),
            line: None,
            failed: None,
            debounce: Debounce::default(),
        };
        let inputs = if board.simulated { Vec::new() } else { board.inputs().map(of).collect() };
        let mut inputs = Self { inputs, opener };
        let problems = inputs.reopen();
        (inputs, problems)
    }

    /// Tries those that are not open again; returns what still is wrong: also one that opens, until it was read without an error from one call to
    /// the next. A chip on a bus that is broken opens each time.
    pub fn reopen(&mut self) -> Vec<OutputProblem> {
        let mut problems = Vec::new();
        for input in &mut self.inputs {
            let failed = input.failed.take();
            let opened = match &input.line {
                Some(_) => Ok(()),
                None => (self.opener)(input.table, &input.wanted).map(|line| input.line = Some(line)),
            };
            problems.extend(opened.err().or(failed));
        }
        problems
    }

    /// Reads every input once; `now` is any monotonic time. To be called every 50 ms or so.
    pub fn poll(&mut self, now: Duration, mut on_change: impl FnMut(Change)) -> Vec<OutputProblem> {
        let mut problems = Vec::new();
        for input in &mut self.inputs {
            let Some(line) = &input.line else { continue };
            match line.active() {
                Ok(active) => match (input.table, input.debounce.step(active, now)) {
                    ("tamper", Some(active)) => on_change(Change::Tamper(active)),
                    ("silence", Some(true)) => on_change(Change::SilencePressed),
                    _ => {}
                },
                Err(cause) => {
                    // Let go and opened again: a chip on a bus may come back.
                    input.line = None;
                    let problem = OutputProblem {
                        output: input.table,
                        chip: input.wanted.chip.to_string(),
                        line: input.wanted.line.to_string(),
                        cause,
                        hint: None,
                        held_by_screamd: false,
                    };
                    problems.push(input.failed.insert(problem).clone());
                }
            }
        }
        problems
    }
}

/// Which level counts. Inactive until shown otherwise: a case that is open at the start is told, one that is closed not.
#[derive(Debug, Default)]
struct Debounce {
    counts: bool,
    /// Another level, and since when.
    other_since: Option<Duration>,
}

impl Debounce {
    /// The level that counts from now on, where that is another one than before.
    fn step(&mut self, active: bool, now: Duration) -> Option<bool> {
        if active == self.counts {
            self.other_since = None;
            return None;
        }
        let since = *self.other_since.get_or_insert(now);
        if now.saturating_sub(since) < STEADY {
            return None;
        }
        (self.counts, self.other_since) = (active, None);
        Some(active)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

    use super::*;

    #[test]
    fn levels_count_once_they_stay() {
        // One character each 50 ms; the changes told, with their place.
        let check = |levels: &str, expect: &[(usize, bool)]| {
            let mut debounce = Debounce::default();
            let step = |(index, level): (usize, char)| {
                let told = debounce.step(level == '#', Duration::from_millis(50 * index as u64));
                told.map(|active| (index, active))
            };
            assert_eq!(levels.chars().enumerate().filter_map(step).collect::<Vec<_>>(), expect, "{levels}");
        };
        check("..........", &[]);
        check("###.......", &[(2, true), (5, false)]);
        check("#.#.##.#..", &[]);
        check("##.###....", &[(5, true), (8, false)]);
        check("..####.###", &[(4, true)]);
    }

    /// 0 inactive, 1 active, 2 broken.
    struct Fake(Arc<AtomicU8>);

    impl Sense for Fake {
        fn active(&self) -> Result<bool, String> {
            match self.0.load(SeqCst) {
                2 => Err("no such device".into()),
                level => Ok(level == 1),
            }
        }
    }

    fn board() -> Board {
        let text = r#"
schema = 1
name = "test"
description = "two inputs"
chip = "test-gpio"
siren_on_s_max = 60
period_frames = 960
latency_budget_ms = 500
sources = ["a test"]
[siren]
line = "A"
[tamper]
line = "B"
[silence]
line = "C"
"#;
        Board::parse("boards/test.toml", text).unwrap()
    }

    #[test]
    fn contact_and_button_are_told_and_a_broken_line_is_named_and_opened_again() {
        let levels = [Arc::new(AtomicU8::new(0)), Arc::new(AtomicU8::new(0))];
        let own = levels.clone();
        let opener: Opener = Box::new(move |table, _| {
            let level = &own[usize::from(table == "silence")];
            match level.load(SeqCst) {
                2 => Err(OutputProblem {
                    output: table,
                    chip: "test-gpio".into(),
                    line: "B".into(),
                    cause: "busy".into(),
                    hint: None,
                    held_by_screamd: false,
                }),
                _ => Ok(Box::new(Fake(Arc::clone(level)))),
            }
        });
        let (mut inputs, problems) = Inputs::with_opener(&board(), opener);
        assert!(problems.is_empty());
        let mut now = Duration::ZERO;
        let mut second = |inputs: &mut Inputs| {
            let (mut changes, mut problems) = (Vec::new(), 0);
            for _ in 0..20 {
                now += Duration::from_millis(50);
                problems += inputs.poll(now, |change| changes.push(change)).len();
            }
            (changes, problems)
        };
        assert_eq!(second(&mut inputs), (vec![], 0));
        levels[0].store(1, SeqCst);
        levels[1].store(1, SeqCst);
        assert_eq!(second(&mut inputs), (vec![Change::Tamper(true), Change::SilencePressed], 0));
        levels[1].store(0, SeqCst);
        levels[0].store(0, SeqCst);
        assert_eq!(second(&mut inputs), (vec![Change::Tamper(false)], 0), "letting go of a button says nothing");
        levels[0].store(2, SeqCst);
        assert_eq!(second(&mut inputs), (vec![], 1), "said once");
        assert_eq!(inputs.reopen().len(), 1);
        levels[0].store(1, SeqCst);
        assert!(inputs.reopen().is_empty());
        assert_eq!(second(&mut inputs), (vec![Change::Tamper(true)], 0));
    }

    /// An expander whose bus is broken, or shaky: the request is answered from the driver's memory, the reading is not.
    #[test]
    fn a_line_that_opens_is_well_only_once_it_is_read() {
        let levels = Arc::new(AtomicU8::new(2));
        let own = Arc::clone(&levels);
        let opener: Opener = Box::new(move |_, _| Ok(Box::new(Fake(Arc::clone(&own)))));
        let (mut inputs, problems) = Inputs::with_opener(&board(), opener);
        assert!(problems.is_empty());
        let poll = |inputs: &mut Inputs| inputs.poll(Duration::ZERO, |_| {}).len();
        for _ in 0..5 {
            assert_eq!(
                (poll(&mut inputs), poll(&mut inputs), inputs.reopen().len()),
                (2, 0, 2),
                "both, and never well"
            );
        }
        levels.store(0, SeqCst);
        assert_eq!((poll(&mut inputs), inputs.reopen()), (0, vec![]), "read right since it was opened");
        levels.store(2, SeqCst);
        assert_eq!(poll(&mut inputs), 2);
        levels.store(0, SeqCst);
        assert_eq!((inputs.reopen().len(), poll(&mut inputs), inputs.reopen().len()), (2, 0, 0));
    }
}
