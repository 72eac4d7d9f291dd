//! What holds whatever is heard and whoever presses what: one incident gives one start and one end, the siren is bounded.
#![allow(clippy::unwrap_used)]

use detector::alarm::{Action, Alarm, Event, SirenSettings, Us, us};
use detector::manifest::{Decision, Votes};
use proptest::prelude::*;

const SIREN: SirenSettings = SirenSettings { on_us: 30_000_000, max_us: 60_000_000 };

fn decisions() -> impl Strategy<Value = Decision> {
    (0.1..0.9f64, 0.0..1.0f64, 1u32..5, 0u32..4, 0.0..30.0f64, 0.0..60.0f64).prop_map(
        |(threshold_on, off, needed, more, hold_s, cooldown_s)| Decision {
            stride_s: 2.0,
            threshold_on,
            threshold_off: threshold_on * off,
            votes: Votes { needed, of: needed + more },
            hold_s,
            cooldown_s,
        },
    )
}

fn score() -> impl Strategy<Value = Option<f64>> {
    // Often near nothing and near certain, as real scores are; now and then no number.
    prop_oneof![
        4 => (0.0..0.1f64).prop_map(Some),
        4 => (0.9..=1.0f64).prop_map(Some),
        2 => (0.0..=1.0f64).prop_map(Some),
        1 => Just(None),
        1 => Just(Some(f64::NAN)),
    ]
}

/// An event and how much later than the one before it comes, milliseconds.
fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let window =
        (score(), prop::bool::weighted(0.1)).prop_map(|(score, masked)| (2000, Event::Window { score, masked }));
    let other = (
        0u64..3000,
        prop_oneof![
            5 => Just(Event::Tick),
            1 => Just(Event::Silence),
            1 => Just(Event::TestSiren),
            1 => any::<bool>().prop_map(Event::Quiet),
            1 => (0.05..1.0f64).prop_map(Event::Threshold),
            1 => (0.0..60.0f64).prop_map(Event::Cooldown),
            1 => (any::<bool>(), prop::option::of(0u64..200_000_000)).prop_map(|(on, duration_us)| Event::Siren { on, duration_us }),
            1 => (any::<bool>(), prop::option::of(0u64..200_000_000)).prop_map(|(armed, for_us)| Event::Arm { armed, for_us }),
        ],
    );
    prop::collection::vec(prop_oneof![3 => window, 1 => other], 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn one_incident_gives_one_start_and_one_end(decision in decisions(), events in events()) {
        let mut alarm = Alarm::new(decision, SIREN, true, false);
        let (mut now, mut open, mut count, mut latched): (Us, Option<u64>, u64, bool) = (0, None, 0, false);
        let mut siren_since: Option<Us> = None;
        let mut ended_at: Option<Us> = None;
        let closing = [(1, Event::Stop)];
        for (later_ms, event) in events.into_iter().chain(closing) {
            now += later_ms * 1000;
            let threshold_on = alarm.decision().threshold_on;
            let cooldown_s = alarm.decision().cooldown_s;
            for action in alarm.step(now, event).iter() {
                match action {
                    Action::Start { incident, t_us, score, announced, sounded } => {
                        prop_assert_eq!(open, None, "a second start");
                        prop_assert_eq!(incident, count + 1);
                        prop_assert_eq!(t_us, now);
                        let is_hit = matches!(event, Event::Window { score: Some(s), masked: false } if s >= threshold_on && s == score);
                        prop_assert!(is_hit, "started by {:?}", event);
                        if let Some(end) = ended_at {
                            prop_assert!(now >= end + us(cooldown_s), "started in the cooldown");
                        }
                        prop_assert!(announced || !sounded, "sounded though disarmed");
                        (open, count) = (Some(incident), incident);
                    }
                    Action::End { incident, t_us, .. } => {
                        prop_assert_eq!(open.take(), Some(incident), "an end without its start");
                        prop_assert!(t_us <= now);
                        ended_at = Some(t_us);
                    }
                    Action::Siren(on) => {
                        prop_assert_ne!(on, siren_since.is_some(), "told twice");
                        siren_since = on.then_some(now);
                    }
                    Action::Latch(on) => {
                        prop_assert_ne!(on, latched, "told twice");
                        latched = on;
                    }
                    Action::Armed(_) | Action::Silenced(_) => {}
                }
            }
            prop_assert_eq!(siren_since.is_some(), alarm.siren_on());
            prop_assert_eq!(latched, alarm.latched());
            prop_assert_eq!(open.is_some(), alarm.in_incident());
            prop_assert!(!latched || alarm.armed(), "latched though disarmed");
        }
        prop_assert_eq!(open, None, "never ended");
        prop_assert_eq!(siren_since, None, "the siren is left on");
    }

    #[test]
    fn the_siren_is_bounded(asked in prop::collection::vec((1u64..20_000_000, prop::option::of(0u64..500_000_000)), 1..50)) {
        let decision = Decision { stride_s: 2.0, threshold_on: 0.8, threshold_off: 0.5, votes: Votes { needed: 1, of: 1 }, hold_s: 1.0, cooldown_s: 0.0 };
        let mut alarm = Alarm::new(decision, SIREN, true, false);
        let _ = alarm.step(0, Event::Ready);
        let (mut now, mut since) = (0, None);
        for (later_us, duration_us) in asked {
            now += later_us;
            for action in alarm.step(now, Event::Siren { on: true, duration_us }).iter() {
                let Action::Siren(on) = action else { continue };
                since = on.then_some(now);
            }
            prop_assert!(since.is_none_or(|since| now < since + SIREN.max_us), "on past its bound, asked again and again");
        }
        let _ = alarm.step(now + SIREN.max_us, Event::Tick);
        prop_assert!(!alarm.siren_on(), "on past its bound after the last request");
    }

    /// Windows alone, against the contract's sentences written down once more, window by window.
    #[test]
    fn windows_decide_as_the_contract_says(decision in decisions(), scores in prop::collection::vec(0.0..=1.0f64, 1..200)) {
        let mut alarm = Alarm::new(decision, SIREN, true, false);
        let (mut open, mut last_kept, mut free_from): (bool, Us, Us) = (false, 0, 0);
        let mut expected = Vec::new();
        let mut found = Vec::new();
        for (i, &score) in scores.iter().enumerate() {
            let now = us(4.0 + 2.0 * i as f64);
            found.extend(alarm.step(now, Event::Window { score: Some(score), masked: false }).iter().filter_map(|action| match action {
                Action::Start { t_us, .. } => Some(("start", t_us)),
                Action::End { t_us, .. } => Some(("end", t_us)),
                _ => None,
            }));
            let due = last_kept + us(decision.hold_s);
            if open && (now > due || now == due && score < decision.threshold_off) {
                expected.push(("end", due));
                (open, free_from) = (false, due + us(decision.cooldown_s));
            }
            let first = (i + 1).saturating_sub(decision.votes.of as usize);
            let hits = scores[first..=i].iter().filter(|&&s| s >= decision.threshold_on).count();
            if open && score >= decision.threshold_off {
                last_kept = now;
            } else if !open && score >= decision.threshold_on && hits >= decision.votes.needed as usize && now >= free_from {
                expected.push(("start", now));
                (open, last_kept) = (true, now);
            }
        }
        prop_assert_eq!(found, expected);
    }
}
