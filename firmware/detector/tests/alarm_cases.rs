//! The alarm as a table: what it is told, and what it does, in order. Times in seconds of the sound.
#![allow(clippy::unwrap_used)]

use detector::alarm::{Action, Alarm, Event, SirenSettings, us};
use detector::manifest::{Decision, Votes};

const DECISION: Decision = Decision {
    stride_s: 2.0,
    threshold_on: 0.8,
    threshold_off: 0.5,
    votes: Votes { needed: 1, of: 2 },
    hold_s: 10.0,
    cooldown_s: 30.0,
};

fn alarm(decision: Decision) -> Alarm {
    Alarm::new(decision, SirenSettings { on_us: us(30.0), max_us: us(60.0) }, true, false)
}

/// A window with `score`.
fn w(score: f64) -> Event {
    Event::Window { score: Some(score), masked: false }
}

fn siren(seconds: f64) -> Event {
    Event::Siren { on: true, duration_us: Some(us(seconds)) }
}

fn arm(armed: bool, for_s: Option<f64>) -> Event {
    Event::Arm { armed, for_us: for_s.map(us) }
}

fn told(at_s: f64, action: Action) -> String {
    match action {
        Action::Siren(on) => format!("{at_s} siren {}", if on { "on" } else { "off" }),
        Action::Start { incident, announced, sounded, .. } => format!(
            "{at_s} start {incident}{}{}",
            if announced { "" } else { " unannounced" },
            if sounded { "" } else { " unsounded" }
        ),
        Action::End { incident, t_us, announced, .. } => {
            format!("{at_s} end {incident} of {}{}", t_us as f64 / 1e6, if announced { "" } else { " unannounced" })
        }
        Action::Latch(on) => format!("{at_s} latch {}", if on { "on" } else { "off" }),
        Action::Armed(on) => format!("{at_s} {}", if on { "armed" } else { "disarmed" }),
        Action::Silenced(incident) => format!("{at_s} silenced {incident:?}"),
    }
}

#[track_caller]
fn check(mut alarm: Alarm, events: &[(f64, Event)], expected: &[&str]) {
    let mut done = Vec::new();
    for &(at_s, event) in events {
        done.extend(alarm.step(us(at_s), event).iter().map(|action| told(at_s, action)));
    }
    assert_eq!(done, expected);
}

#[test]
fn quiet_does_nothing() {
    check(alarm(DECISION), &[(0.0, Event::Ready), (4.0, w(0.0)), (6.0, w(0.7999)), (100.0, Event::Tick)], &[]);
}

#[test]
fn a_scream_starts_siren_first_and_ends_after_the_hold() {
    check(
        alarm(DECISION),
        &[(4.0, w(0.8)), (6.0, w(0.1)), (12.0, w(0.1)), (14.0, w(0.1)), (32.0, w(0.1)), (34.0, w(0.1))],
        &["4 siren on", "4 start 1", "4 latch on", "14 end 1 of 14", "34 siren off"],
    );
}

#[test]
fn a_window_at_threshold_off_keeps_it_going() {
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (14.0, w(0.5)), (16.0, w(0.49)), (22.0, w(0.1)), (24.0, w(0.1))],
        &["4 siren on", "4 start 1", "4 latch on", "24 end 1 of 24"],
    );
}

#[test]
fn two_of_three_votes() {
    let decision = Decision { votes: Votes { needed: 2, of: 3 }, ..DECISION };
    check(alarm(decision), &[(4.0, w(0.9)), (6.0, w(0.1)), (8.0, w(0.1)), (10.0, w(0.9))], &[]);
    check(alarm(decision), &[(4.0, w(0.9)), (6.0, w(0.1)), (8.0, w(0.9))], &["8 siren on", "8 start 1", "8 latch on"]);
}

#[test]
fn none_starts_in_the_cooldown_and_one_still_going_starts_after_it() {
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (14.0, w(0.1)), (34.0, w(0.1)), (42.0, w(0.9)), (44.0, w(0.9))],
        &["4 siren on", "4 start 1", "4 latch on", "14 end 1 of 14", "34 siren off", "44 siren on", "44 start 2"],
    );
}

#[test]
fn a_cooldown_that_runs_is_as_long_as_it_is_set_now() {
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (14.0, w(0.1)), (20.0, Event::Cooldown(5.0)), (22.0, w(0.9))],
        &["4 siren on", "4 start 1", "4 latch on", "14 end 1 of 14", "22 start 2"],
    );
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (14.0, w(0.1)), (20.0, Event::Cooldown(60.0)), (46.0, w(0.9)), (74.0, w(0.9))],
        &["4 siren on", "4 start 1", "4 latch on", "14 end 1 of 14", "46 siren off", "74 siren on", "74 start 2"],
    );
}

/// A hub's low threshold stood at the start, and is raised again.
#[test]
fn the_lower_threshold_follows_the_upper_one_up_again() {
    let mut alarm = alarm(Decision { threshold_on: 0.3, ..DECISION });
    assert_eq!(alarm.decision().threshold_off, 0.3);
    alarm.step(us(1.0), Event::Threshold(0.9));
    assert_eq!(alarm.decision().threshold_off, DECISION.threshold_off);
}

#[test]
fn hits_before_the_end_of_a_cooldown_start_nothing_alone() {
    let decision = Decision { votes: Votes { needed: 1, of: 8 }, ..DECISION };
    check(
        alarm(decision),
        &[(4.0, w(0.9)), (14.0, w(0.1)), (34.0, w(0.1)), (42.0, w(0.9)), (44.0, w(0.1)), (46.0, w(0.1))],
        &["4 siren on", "4 start 1", "4 latch on", "14 end 1 of 14", "34 siren off"],
    );
}

#[test]
fn what_is_masked_or_no_number_is_no_hit() {
    check(
        alarm(DECISION),
        &[
            (4.0, Event::Window { score: Some(1.0), masked: true }),
            (6.0, Event::Window { score: None, masked: false }),
            (8.0, w(f64::NAN)),
        ],
        &[],
    );
}

#[test]
fn silence_is_for_this_incident_only() {
    check(
        alarm(Decision { cooldown_s: 0.0, ..DECISION }),
        &[(4.0, w(0.9)), (5.0, Event::Silence), (6.0, w(0.9)), (16.0, w(0.1)), (18.0, w(0.9))],
        &[
            "4 siren on",
            "4 start 1",
            "4 latch on",
            "5 siren off",
            "5 latch off",
            "5 silenced Some(1)",
            "16 end 1 of 16",
            "18 siren on",
            "18 start 2",
            "18 latch on",
        ],
    );
    check(alarm(DECISION), &[(4.0, Event::Silence)], &["4 silenced None"]);
}

#[test]
fn disarmed_it_goes_on_unannounced() {
    check(
        alarm(Decision { cooldown_s: 0.0, ..DECISION }),
        &[
            (4.0, w(0.9)),
            (5.0, arm(false, None)),
            (14.0, w(0.1)),
            (16.0, w(0.9)),
            (17.0, arm(true, None)),
            (26.0, w(0.1)),
        ],
        &[
            "4 siren on",
            "4 start 1",
            "4 latch on",
            "5 siren off",
            "5 latch off",
            "5 disarmed",
            "14 end 1 of 14",
            "16 start 2 unannounced unsounded",
            "17 end 2 of 17 unannounced",
            "17 armed",
        ],
    );
}

/// A party, disarmed for it: the music keeps an incident going past the time at which the device is armed again.
#[test]
fn armed_in_the_middle_of_an_incident_a_hit_after_the_cooldown_alarms() {
    let check_with = |rearm: (f64, Event)| {
        check(
            alarm(DECISION),
            &[
                (1.0, arm(false, Some(10.0))),
                (4.0, w(0.9)),
                (8.0, w(0.6)),
                rearm,
                (12.0, w(0.9)),
                (20.0, w(0.6)),
                (30.0, w(0.6)),
                (40.0, w(0.6)),
                (42.0, w(0.9)),
            ],
            &[
                "1 disarmed",
                "4 start 1 unannounced unsounded",
                "11 end 1 of 11 unannounced",
                "11 armed",
                "42 siren on",
                "42 start 2",
                "42 latch on",
            ],
        );
    };
    check_with((11.0, Event::Tick));
    check_with((11.0, arm(true, None)));
    // Disarmed by mistake and armed again: the scream that goes on is heard. What a person has silenced stays silent.
    check(
        alarm(DECISION),
        &[
            (4.0, w(0.9)),
            (5.0, arm(false, None)),
            (5.5, arm(true, None)),
            (6.0, w(0.9)),
            (36.0, w(0.9)),
            (37.0, Event::Silence),
            (37.5, arm(true, None)),
            (38.0, w(0.9)),
        ],
        &[
            "4 siren on",
            "4 start 1",
            "4 latch on",
            "5 siren off",
            "5 latch off",
            "5 disarmed",
            "5.5 end 1 of 5.5",
            "5.5 armed",
            "36 siren on",
            "36 start 2",
            "36 latch on",
            "37 siren off",
            "37 latch off",
            "37 silenced Some(2)",
        ],
    );
}

#[test]
fn disarmed_for_a_time_it_arms_again() {
    check(
        alarm(DECISION),
        &[(1.0, arm(false, Some(10.0))), (10.9, Event::Tick), (11.0, Event::Tick), (12.0, Event::Tick)],
        &["1 disarmed", "11 armed"],
    );
}

#[test]
fn quiet_hours_stop_only_the_siren() {
    check(
        alarm(DECISION),
        &[(1.0, Event::Quiet(true)), (4.0, w(0.9)), (5.0, siren(2.0)), (6.0, Event::Quiet(true)), (7.0, Event::Tick)],
        &["4 start 1 unsounded", "4 latch on", "5 siren on", "7 siren off"],
    );
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (5.0, Event::Quiet(true))],
        &["4 siren on", "4 start 1", "4 latch on", "5 siren off"],
    );
}

#[test]
fn a_person_can_sound_it_disarmed_and_never_past_the_bound() {
    check(
        alarm(DECISION),
        &[
            (0.0, Event::Ready),
            (1.0, arm(false, None)),
            (2.0, siren(600.0)),
            (61.9, Event::Tick),
            (62.0, Event::Tick),
            (70.0, Event::TestSiren),
            (71.9, Event::Tick),
            (72.0, Event::Tick),
            (80.0, siren(5.0)),
            (81.0, Event::Siren { on: false, duration_us: None }),
        ],
        &["1 disarmed", "2 siren on", "62 siren off", "70 siren on", "72 siren off", "80 siren on", "81 siren off"],
    );
}

#[test]
fn a_test_does_not_shorten_an_alarm() {
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (10.0, Event::TestSiren), (12.0, Event::Tick), (33.0, Event::Tick), (34.0, Event::Tick)],
        &["4 siren on", "4 start 1", "4 latch on", "33 end 1 of 14", "34 siren off"],
    );
}

#[test]
fn where_sound_stops_coming_time_alone_ends_it() {
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (20.9, Event::Tick), (21.0, Event::Tick)],
        &["4 siren on", "4 start 1", "4 latch on", "21 end 1 of 14"],
    );
}

/// The window that ends with the hold is still being judged when somebody sets something: it may keep the incident.
#[test]
fn a_command_ends_no_incident_that_a_window_may_keep() {
    let commands = [Event::Cooldown(30.0), Event::Threshold(0.8), siren(1.0), Event::Quiet(false), arm(true, None)];
    for command in commands {
        let mut alarm = alarm(DECISION);
        for (at_s, event) in [(0.0, Event::Ready), (2.0, w(0.95))] {
            alarm.step(us(at_s), event);
        }
        assert!(alarm.in_incident());
        alarm.step(us(12.25), command);
        assert!(alarm.in_incident(), "{command:?} knows nothing of the window that ended at 12");
        alarm.step(us(12.0), w(0.95));
        assert!(alarm.in_incident());
        // Sound that has stopped coming ends it all the same.
        let ended = alarm.step(us(60.0), command);
        assert!(
            ended.iter().any(|action| matches!(action, Action::End { t_us, .. } if t_us == us(22.0))),
            "{command:?}"
        );
    }
}

/// It is over at its due time, though that was not known when it armed again by itself.
#[test]
fn arming_again_ends_an_overdue_incident_when_it_was_due() {
    let mut alarm = alarm(DECISION);
    alarm.step(0, Event::Ready);
    alarm.step(us(2.0), w(0.95));
    alarm.step(us(3.0), arm(false, Some(9.5)));
    let actions: Vec<_> = alarm.step(us(13.0), Event::Tick).iter().collect();
    assert!(
        actions.iter().any(|action| matches!(action, Action::End { t_us, .. } if *t_us == us(12.0))),
        "{actions:?}"
    );
}

/// Half a minute into a pause somebody sounds the siren for three seconds and disarms for three; then sound goes on where it had stopped.
#[test]
fn a_persons_times_go_on_while_a_pipe_stands_still() {
    let mut alarm = alarm(DECISION);
    alarm.step(0, Event::Ready);
    alarm.step(us(6.0), w(0.1));
    alarm.step(us(36.0), arm(false, Some(3.0)));
    alarm.step(us(36.0), siren(3.0));
    alarm.rewind(us(30.0));
    alarm.step(us(8.0), w(0.1));
    assert!(alarm.siren_on() && !alarm.armed(), "a second is left");
    alarm.step(us(9.0), Event::Tick);
    assert!(!alarm.siren_on() && alarm.armed());
}

#[test]
fn nothing_sounds_before_it_is_ready() {
    check(alarm(DECISION), &[(0.0, siren(5.0)), (1.0, Event::TestSiren)], &[]);
}

#[test]
fn the_end_of_the_source_closes_the_incident() {
    check(
        alarm(DECISION),
        &[(4.0, w(0.9)), (6.0, Event::Stop), (7.0, Event::Stop)],
        &["4 siren on", "4 start 1", "4 latch on", "6 siren off", "6 end 1 of 6"],
    );
}

#[test]
fn a_threshold_set_below_threshold_off_takes_it_along() {
    let mut alarm = alarm(DECISION);
    let _ = alarm.step(0, Event::Threshold(0.3));
    assert_eq!((alarm.decision().threshold_on, alarm.decision().threshold_off), (0.3, 0.3));
    check(alarm, &[(4.0, w(0.3))], &["4 siren on", "4 start 1", "4 latch on"]);
}

#[test]
fn a_threshold_set_up_again_brings_threshold_off_back() {
    let mut alarm = alarm(DECISION);
    let _ = alarm.step(0, Event::Threshold(0.3));
    let _ = alarm.step(0, Event::Threshold(0.9));
    assert_eq!((alarm.decision().threshold_on, alarm.decision().threshold_off), (0.9, 0.5));
}

#[test]
fn a_siren_that_is_asked_for_again_and_again_ends_at_its_bound() {
    let mut alarm = alarm(DECISION);
    let _ = alarm.step(0, Event::Ready);
    let asked: Vec<_> = (0..7).map(|i| (10.0 * f64::from(i), siren(30.0))).collect();
    // The bound is 60 s; whoever still asks then begins a new sound.
    check(alarm, &asked, &["0 siren on", "60 siren off", "60 siren on"]);
}
