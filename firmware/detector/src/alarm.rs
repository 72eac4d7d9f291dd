//! The alarm: from scores and commands to siren and announcements.
//!
//! Terms: a *hit* is an unmasked window whose score reaches `threshold_on`; an *incident* runs from the hit that completes
//! the votes until `hold_s` after the end of the last window at `threshold_off` or above; the *latch* is what a hub that was
//! away still sees: on from the start until somebody silences or disarms. Times are the sound's own, in microseconds since
//! the source began, passed in; a recording at full speed decides like a microphone.
//!
//! ```text
//!             Ready              votes                  silence, disarm
//! Starting ----------> Normal ----------> Alarm -----------------------> Silenced
//!                        ^                  |  hold over                    |
//!                        +------------------+-------------------------------+
//! ```
//! Faults are no state: they stand beside. Nothing here touches a line, a file or a clock: [`Alarm::step`] returns what is
//! to be done, in the order in which it is to be done, siren first.

use crate::limits;
use crate::manifest::Decision;

/// Microseconds of the sound.
pub type Us = u64;

/// Microseconds of `seconds`.
pub fn us(seconds: f64) -> Us {
    (seconds * 1e6).round() as Us
}

/// What the alarm is told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// Model, outputs and settings stand.
    Ready,
    /// A window was scored; `now` is its end. `score` is none where the network gave no number.
    Window {
        /// The score of the alarm labels together.
        score: Option<f64>,
        /// It holds the device's own siren.
        masked: bool,
    },
    /// Time has passed.
    Tick,
    /// Somebody silences this incident.
    Silence,
    /// Somebody switches the siren; on for `duration_us`, cut to the bound, the site's `on_s` where none is given.
    Siren {
        /// On or off.
        on: bool,
        /// For how long.
        duration_us: Option<Us>,
    },
    /// A short sound of the siren.
    TestSiren,
    /// Armed or disarmed; disarmed `for_us`, it arms again by itself.
    Arm {
        /// Armed.
        armed: bool,
        /// Only for this long.
        for_us: Option<Us>,
    },
    /// Quiet hours begin or end.
    Quiet(bool),
    /// `threshold_on` was set by somebody.
    Threshold(f64),
    /// `cooldown_s` was set by somebody, seconds.
    Cooldown(f64),
    /// The source has ended or the program is told to: closes a running incident, siren off.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// Drive the siren.
    Siren(bool),
    /// An incident has begun.
    Start {
        /// From 1.
        incident: u64,
        /// End of the deciding window.
        t_us: Us,
        /// Its score.
        score: f64,
        /// Armed: the hub hears `scream_start` and sees the latch.
        announced: bool,
        /// The siren sounds for it.
        sounded: bool,
    },
    /// The incident is over.
    End {
        /// From 1.
        incident: u64,
        /// `hold_s` after the end of the last window that kept it going.
        t_us: Us,
        /// Highest score of it.
        score: f64,
        /// Its start was announced.
        announced: bool,
    },
    /// `alarm/state` changed.
    Latch(bool),
    /// Armed or disarmed, by a person or by its time.
    Armed(bool),
    /// A person silenced; with the incident, where one was running.
    Silenced(Option<u64>),
}

/// Actions of one step, in order; no heap.
#[derive(Debug, Clone, Copy, Default)]
pub struct Actions {
    items: [Option<Action>; limits::ACTIONS_MAX],
    len: usize,
}

impl Actions {
    fn push(&mut self, action: Action) {
        debug_assert!(self.len < limits::ACTIONS_MAX, "a step asks for fewer actions");
        if let Some(slot) = self.items.get_mut(self.len) {
            *slot = Some(action);
            self.len += 1;
        }
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = Action> + '_ {
        self.items[..self.len].iter().flatten().copied()
    }
}

/// Numbers that the manifest does not have: the site's length, and the board's bound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SirenSettings {
    /// How long the siren sounds from each start.
    pub on_us: Us,
    /// It never sounds longer at one go, whoever asked.
    pub max_us: Us,
}

/// Where the alarm stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    /// Nothing has been scored and nothing may sound.
    Starting,
    /// Quiet.
    Normal,
    /// An incident is going on.
    Alarm(Incident),
    /// An incident is going on that somebody has silenced.
    Silenced(Incident),
}

/// A running incident.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Incident {
    /// From 1.
    pub number: u64,
    /// End of the last window at `threshold_off` or above.
    kept_until_us: Us,
    score: f64,
    announced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Siren {
    Off,
    On { since_us: Us, until_us: Us, by_person: bool },
}

/// The alarm.
#[derive(Debug, Clone)]
pub struct Alarm {
    decision: Decision,
    /// What the settings say; the one in force is never above `threshold_on`.
    threshold_off: f64,
    siren_settings: SirenSettings,
    state: State,
    siren: Siren,
    /// Hits of the last windows, the newest lowest.
    hits: u64,
    incidents: u64,
    /// End of the last incident: none starts for `cooldown_s` after it, as that is now.
    ended_us: Option<Us>,
    armed: bool,
    arm_again_us: Option<Us>,
    quiet: bool,
    latched: bool,
}

impl Alarm {
    /// In `Starting`. `decision` has been checked; `latched` is what stood when the program last ran.
    pub fn new(decision: Decision, siren_settings: SirenSettings, armed: bool, latched: bool) -> Self {
        let in_force = decision.threshold_off.min(decision.threshold_on);
        Self {
            decision: Decision { threshold_off: in_force, ..decision },
            threshold_off: decision.threshold_off,
            siren_settings,
            state: State::Starting,
            siren: Siren::Off,
            hits: 0,
            incidents: 0,
            ended_us: None,
            armed,
            arm_again_us: None,
            quiet: false,
            latched,
        }
    }

    /// Where the alarm stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// An incident is going on.
    pub fn in_incident(&self) -> bool {
        self.incident().is_some()
    }

    /// The siren is driven.
    pub fn siren_on(&self) -> bool {
        self.siren != Siren::Off
    }

    /// Armed.
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// `alarm/state`.
    pub fn latched(&self) -> bool {
        self.latched
    }

    /// The numbers in force.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// Takes `event` at `now_us` and says what is to be done.
    pub fn step(&mut self, now_us: Us, event: Event) -> Actions {
        let mut actions = Actions::default();
        self.timers(now_us, matches!(event, Event::Window { .. } | Event::Stop), &mut actions);
        match event {
            Event::Ready => self.become_normal(),
            Event::Window { score, masked } => self.window(now_us, score, masked, &mut actions),
            Event::Tick => {}
            Event::Silence => self.silence(&mut actions),
            Event::Siren { on: true, duration_us } => {
                self.sound(now_us, duration_us.unwrap_or(self.siren_settings.on_us), true, &mut actions)
            }
            Event::Siren { on: false, .. } => self.siren_off(&mut actions),
            Event::TestSiren => self.sound(now_us, limits::TEST_SIREN_MS * 1000, true, &mut actions),
            Event::Arm { armed, for_us } => {
                self.arm(now_us, armed, for_us.map(|length| now_us.saturating_add(length)), &mut actions)
            }
            Event::Quiet(quiet) => {
                self.quiet = quiet;
                if quiet && matches!(self.siren, Siren::On { by_person: false, .. }) {
                    self.siren_off(&mut actions);
                }
            }
            Event::Threshold(threshold) => {
                self.decision.threshold_on = threshold;
                self.decision.threshold_off = self.threshold_off.min(threshold);
            }
            Event::Cooldown(seconds) => self.decision.cooldown_s = seconds,
            Event::Stop => {
                self.siren_off(&mut actions);
                if let Some(incident) = self.incident() {
                    self.transition_to_normal(incident, now_us, &mut actions);
                }
            }
        }
        actions
    }

    /// The sound's time goes on from a moment that lies so far back: a pipe stood still. A person's times, which went on meanwhile, end as soon as they
    /// would have.
    pub fn rewind(&mut self, by_us: Us) {
        let back = |at_us: Us| at_us.saturating_sub(by_us);
        self.arm_again_us = self.arm_again_us.map(back);
        if let Siren::On { since_us, until_us, by_person } = self.siren {
            self.siren = Siren::On { since_us: back(since_us), until_us: back(until_us), by_person };
        }
    }

    /// What falls due by time alone. An incident ends at its due time, but that is only known once a window after it has
    /// come (`by_sound`; it might have kept the incident going), or sound has stopped coming. A command or a button knows nothing of it.
    fn timers(&mut self, now_us: Us, by_sound: bool, actions: &mut Actions) {
        if let Some(incident) = self.incident() {
            let due_us = self.due_us(&incident);
            let over = if by_sound { now_us > due_us } else { now_us >= due_us.saturating_add(self.patience_us()) };
            if over {
                self.transition_to_normal(incident, due_us, actions);
            }
        }
        if matches!(self.siren, Siren::On { until_us, .. } if now_us >= until_us) {
            self.siren_off(actions);
        }
        if self.arm_again_us.is_some_and(|at_us| now_us >= at_us) {
            self.arm(now_us, true, None, actions);
        }
    }

    fn due_us(&self, incident: &Incident) -> Us {
        incident.kept_until_us.saturating_add(us(self.decision.hold_s))
    }

    fn patience_us(&self) -> Us {
        us(self.decision.stride_s).saturating_add(limits::SOUND_STOPPED_MS * 1000)
    }

    fn window(&mut self, now_us: Us, score: Option<f64>, masked: bool, actions: &mut Actions) {
        self.become_normal();
        // Comparisons with NaN are false: what is no number is no detection.
        let reaches = |threshold: f64| score.is_some_and(|score| score >= threshold);
        let hit = reaches(self.decision.threshold_on) && !masked;
        self.hits = self.hits << 1 | u64::from(hit);
        let votes = self.decision.votes;
        let looked_at = u64::MAX >> (u64::BITS - votes.of.clamp(1, limits::VOTES_MAX));
        let enough = (self.hits & looked_at).count_ones() >= votes.needed;
        match self.incident() {
            Some(mut incident) => {
                if reaches(self.decision.threshold_off) {
                    incident.kept_until_us = now_us;
                    incident.score = incident.score.max(score.unwrap_or(0.0));
                    self.keep(incident);
                } else if now_us >= self.due_us(&incident) {
                    self.transition_to_normal(incident, self.due_us(&incident), actions);
                }
            }
            // The deciding window is a hit itself: old hits alone start nothing once a cooldown is over.
            None if hit && enough && self.is_cool(now_us) => {
                self.transition_to_alarm(now_us, score.unwrap_or(0.0), actions)
            }
            None => {}
        }
    }

    fn is_cool(&self, now_us: Us) -> bool {
        self.ended_us.is_none_or(|ended_us| now_us >= ended_us.saturating_add(us(self.decision.cooldown_s)))
    }

    fn incident(&self) -> Option<Incident> {
        match self.state {
            State::Alarm(incident) | State::Silenced(incident) => Some(incident),
            State::Starting | State::Normal => None,
        }
    }

    fn keep(&mut self, incident: Incident) {
        match &mut self.state {
            State::Alarm(kept) | State::Silenced(kept) => *kept = incident,
            State::Starting | State::Normal => {}
        }
    }

    fn become_normal(&mut self) {
        if self.state == State::Starting {
            self.state = State::Normal;
        }
    }

    fn transition_to_alarm(&mut self, now_us: Us, score: f64, actions: &mut Actions) {
        self.incidents += 1;
        let incident = Incident { number: self.incidents, kept_until_us: now_us, score, announced: self.armed };
        self.state = State::Alarm(incident);
        let sounded = self.armed && !self.quiet;
        if sounded {
            self.sound(now_us, self.siren_settings.on_us, false, actions);
        }
        actions.push(Action::Start { incident: incident.number, t_us: now_us, score, announced: self.armed, sounded });
        if self.armed {
            self.latch(true, actions);
        }
    }

    fn transition_to_normal(&mut self, incident: Incident, t_us: Us, actions: &mut Actions) {
        self.state = State::Normal;
        self.ended_us = Some(t_us);
        actions.push(Action::End {
            incident: incident.number,
            t_us,
            score: incident.score,
            announced: incident.announced,
        });
    }

    fn transition_to_silenced(&mut self) {
        if let State::Alarm(incident) = self.state {
            self.state = State::Silenced(incident);
        }
    }

    fn silence(&mut self, actions: &mut Actions) {
        self.siren_off(actions);
        self.latch(false, actions);
        self.transition_to_silenced();
        actions.push(Action::Silenced(self.incident().map(|incident| incident.number)));
    }

    fn arm(&mut self, now_us: Us, armed: bool, again_us: Option<Us>, actions: &mut Actions) {
        self.arm_again_us = if armed { None } else { again_us };
        // What began or was silenced while nobody wanted an alarm ends here: a scream that goes on after the cooldown is one that an
        // armed device announces, and no sound in between keeps the old incident going for ever.
        if armed
            && !self.armed
            && let Some(incident) = self.incident()
        {
            let over_us = now_us.min(self.due_us(&incident));
            self.transition_to_normal(incident, over_us, actions);
        }
        if !armed {
            self.siren_off(actions);
            self.latch(false, actions);
            self.transition_to_silenced();
        }
        if self.armed != armed {
            self.armed = armed;
            actions.push(Action::Armed(armed));
        }
    }

    fn latch(&mut self, on: bool, actions: &mut Actions) {
        if self.latched != on {
            self.latched = on;
            actions.push(Action::Latch(on));
        }
    }

    fn sound(&mut self, now_us: Us, length_us: Us, by_person: bool, actions: &mut Actions) {
        if self.state == State::Starting {
            return;
        }
        let SirenSettings { max_us, .. } = self.siren_settings;
        let until_us = now_us.saturating_add(length_us.min(max_us));
        match self.siren {
            // Already sounding: a test does not shorten an alarm, and asking again and again does not pass the bound.
            Siren::On { since_us, until_us: running_us, by_person: person } => {
                let until_us = until_us.max(running_us).min(since_us.saturating_add(max_us));
                self.siren = Siren::On { since_us, until_us, by_person: person && by_person }
            }
            Siren::Off => {
                self.siren = Siren::On { since_us: now_us, until_us, by_person };
                actions.push(Action::Siren(true));
            }
        }
    }

    fn siren_off(&mut self, actions: &mut Actions) {
        if self.siren_on() {
            self.siren = Siren::Off;
            actions.push(Action::Siren(false));
        }
    }
}
