#![allow(clippy::unwrap_used)]
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const BOUND_S: f64 = 180.0;

fn check(leaf: &str, payload: &str, expect: Result<Command, &str>) {
    let got = parse(leaf, payload.as_bytes(), BOUND_S);
    match (got, expect) {
        (Ok(request), Ok(command)) => assert_eq!(request.command, command, "{leaf} {payload}"),
        (Err(refusal), Err(part)) => assert!(refusal.to_string().contains(part), "{leaf} {payload}: {refusal}"),
        (got, expect) => panic!("{leaf} {payload}: {got:?}, expected {expect:?}"),
    }
}

#[test]
fn siren() {
    let on = |duration_s| Ok(Command::Siren { on: true, duration_s });
    let off = Ok(Command::Siren { on: false, duration_s: None });
    check("siren/set", "ON", on(None));
    check("siren/set", " OFF\n", off);
    check("siren/set", r#"{"state":"ON"}"#, on(None));
    check("siren/set", r#"{"state":"ON","duration":10}"#, on(Some(10.0)));
    check("siren/set", r#"{"state":"ON","duration":0.5,"id":"x","expires":"2030-01-01T00:00:00Z"}"#, on(Some(0.5)));
    check("siren/set", r#"{"state":"ON","duration":0.5,"id":"x","expires":"2030-01-01T00:00:00"}"#, on(Some(0.5)));
    for never in ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59.999+00:00", "9999-12-31T23:59:59"] {
        check("siren/set", &format!(r#"{{"state":"ON","duration":0.5,"expires":"{never}"}}"#), on(Some(0.5)));
    }
    check("siren/set", r#"{"state":"ON","duration":100000}"#, on(Some(BOUND_S)));
    check("siren/set", r#"{"state":"OFF","duration":3}"#, off);
    check("siren/set", r#"{"state":"ON","duration":0}"#, Err("duration is out of range"));
    check("siren/set", r#"{"state":"ON","duration":1e-9}"#, on(Some(0.1)));
    // Off is off.
    check("siren/set", r#"{"state":"OFF","duration":0}"#, Ok(Command::Siren { on: false, duration_s: None }));
    check("siren/set", r#"{"state":"ON","duration":-1}"#, Err("out of range"));
    check("siren/set", r#"{"state":"ON","duration":1e999}"#, Err("number out of range"));
    check("siren/set", r#"{"state":"ON","duration":"10"}"#, Err("invalid type"));
    check("siren/set", r#"{"state":"ON","volume_level":1}"#, Err("unknown field `volume_level`"));
    check("siren/set", r#"{"duration":1}"#, Err("missing field `state`"));
    check("siren/set", r#"{"state":"on"}"#, Err("unknown variant"));
    check("siren/set", r#"{"state":"ON","state":"OFF"}"#, Err("duplicate field"));
    check("siren/set", r#"{"state":"ON"} x"#, Err("trailing characters"));
    check("siren/set", r#"{"state":"ON","id":""}"#, Err("id is out of range"));
    check("siren/set", r#"{"state":"ON","expires":"tomorrow"}"#, Err("expires"));
    for word in ["", "on", "ONN", "\"ON\"", "1", "true", "[]", "null"] {
        check("siren/set", word, Err("neither ON nor OFF"));
    }
}

#[test]
fn armed() {
    check("armed/set", "ON", Ok(Command::Armed { on: true, for_s: None }));
    check("armed/set", "OFF", Ok(Command::Armed { on: false, for_s: None }));
    check("armed/set", r#"{"state":"OFF","for_s":7200}"#, Ok(Command::Armed { on: false, for_s: Some(7200.0) }));
    check("armed/set", r#"{"state":"ON","id":7}"#, Ok(Command::Armed { on: true, for_s: None }));
    check("armed/set", r#"{"state":"ON","for_s":5}"#, Err("OFF alone"));
    check("armed/set", r#"{"state":"OFF","for_s":0}"#, Err("out of range"));
    check("armed/set", r#"{"state":"OFF","for_s":1e9}"#, Err("out of range"));
    check("armed/set", r#"{"state":"OFF","duration":5}"#, Err("unknown field"));
}

#[test]
fn live() {
    check("live/set", "60", Ok(Command::Live(60.0)));
    check("live/set", "0", Ok(Command::Live(0.0)));
    check("live/set", "301", Err("out of range"));
    check("live/set", "ON", Err("not a number"));
}

#[test]
fn numbers() {
    check("threshold/set", "0.9", Ok(Command::Threshold(0.9)));
    check("threshold/set", "0", Ok(Command::Threshold(0.0)));
    check("threshold/set", "1.0", Ok(Command::Threshold(1.0)));
    check("cooldown/set", "86400", Ok(Command::Cooldown(86_400.0)));
    check("cooldown/set", "2.5", Ok(Command::Cooldown(2.5)));
    check("threshold/set", "1.0001", Err("threshold is out of range"));
    check("threshold/set", "-0.1", Err("out of range"));
    check("cooldown/set", "86401", Err("cooldown is out of range"));
    for word in ["nan", "inf", "", "0,9", "0.9 s", "{}", "infinity", "-", "1e999", "0x1"] {
        check("threshold/set", word, Err("not a number"));
    }
    // Negative zero is written as -0 nowhere.
    assert_eq!(
        Ok("0".to_owned()),
        parse("cooldown/set", b"-0", BOUND_S).map(|request| match request.command {
            Command::Cooldown(value) => value.to_string(),
            _ => String::new(),
        })
    );
}

#[test]
fn presses_and_others() {
    check("silence/press", "PRESS", Ok(Command::Silence));
    check("silence/press", "", Ok(Command::Silence));
    check("test_siren/press", r#"{"id":"a"}"#, Ok(Command::TestSiren));
    check("update/install", "INSTALL", Ok(Command::InstallUpdate));
    check("test_siren/press", "INSTALL", Err("neither empty"));
    check("silence/press", r#"{"state":"ON"}"#, Err("unknown field"));
    check("scream/state", "ON", Err("no such command"));
    check("siren/set", &"x".repeat(4097), Err("over 4096"));
    assert_eq!(parse("siren/set", b"\xff\xfe", BOUND_S), Err(Refusal::NotUtf8));
    // Size comes before everything else.
    assert!(matches!(parse("nowhere", &[0xff; 5000], BOUND_S), Err(Refusal::TooLarge { bytes: 5000 })));
}

#[test]
fn a_long_unknown_field_makes_a_short_reason() {
    let payload = format!(r#"{{"{}":1}}"#, "ä".repeat(1900));
    let refusal = parse("siren/set", payload.as_bytes(), BOUND_S).unwrap_err();
    assert!(refusal.to_string().len() <= REASON_BYTES_MAX);
}

fn with(command: Command, id: Option<&str>, expires: Option<&str>) -> Request {
    Request { command, id: id.map(str::to_owned), expires: expires.map(|text| text.parse().unwrap()) }
}

const ON: Command = Command::Siren { on: true, duration_s: None };

#[test]
fn ids_and_expires() {
    let mut gate = Gate::new();
    let now = Instant::now();
    let wall: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
    let later = "2026-06-01T00:00:01Z";
    assert_eq!(gate.admit(&with(ON, Some("a"), Some(later)), now, Some(wall)), Ok(()));
    assert_eq!(gate.admit(&with(ON, Some("a"), Some(later)), now, Some(wall)), Err(Refusal::Repeated));
    assert_eq!(gate.admit(&with(Command::Silence, Some("a"), None), now, Some(wall)), Err(Refusal::Repeated));
    assert_eq!(gate.admit(&with(ON, Some("b"), Some("2026-06-01T00:00:00Z")), now, Some(wall)), Err(Refusal::Expired));
    // Refused for its time, so its id is still free.
    assert_eq!(gate.admit(&with(ON, Some("b"), Some(later)), now, Some(wall)), Ok(()));
    assert_eq!(gate.admit(&with(ON, Some("c"), Some(later)), now, None), Err(Refusal::NoClock));
    let disarm = Command::Armed { on: false, for_s: None };
    assert_eq!(gate.admit(&with(disarm, Some("c"), Some(later)), now, None), Err(Refusal::NoClock));
    assert_eq!(gate.admit(&with(Command::Silence, Some("c"), Some(later)), now, None), Ok(()));
    let mut after_a_restart = Gate::remembering(&["a".into(), "a".into()]);
    assert_eq!(after_a_restart.admit(&with(ON, Some("a"), None), now, None), Err(Refusal::Repeated));
    assert_eq!(after_a_restart.ids_oldest_first.len(), 1);
    for number in 0..COMMAND_IDS_MAX {
        let silence = with(Command::Silence, Some(&format!("n{number}")), None);
        assert_eq!(gate.admit(&silence, now, Some(wall)), Ok(()));
    }
    assert_eq!(gate.ids.len(), COMMAND_IDS_MAX);
    assert_eq!(gate.ids_oldest_first.len(), COMMAND_IDS_MAX);
}

#[test]
fn what_is_refused_is_answered_by_its_id() {
    for (payload, id) in [
        (r#"{"state":"ON","duration":-5,"id":"x1"}"#, Some("x1")),
        (r#"{"state":"ON","tone":{"of":[1,2]},"id":7}"#, Some("7")),
        (r#"{"state":"ON","id":""}"#, None),
        (r#"{"state":"ON","id":[1]}"#, None),
        (r#"{"state":"ON""#, None),
        ("ON", None),
    ] {
        assert_eq!(id_of(payload.as_bytes()).as_deref(), id, "{payload}");
    }
    let deep = format!("{{\"a\":{}1{},\"id\":\"x\"}}", "[".repeat(2000), "]".repeat(2000));
    assert_eq!(id_of(deep.as_bytes()).as_deref(), Some("x"), "what is not looked at is passed over");
}

#[test]
fn ten_in_ten_seconds_then_the_limit() {
    let mut gate = Gate::new();
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    for _ in 0..10 {
        assert_eq!(gate.admit(&with(ON, None, None), at(0), None), Ok(()));
    }
    assert_eq!(gate.admit(&with(ON, None, None), at(9_999), None), Err(Refusal::RateLimit));
    for _ in 0..100 {
        for off in [
            Command::Silence,
            Command::Siren { on: false, duration_s: None },
            Command::Armed { on: false, for_s: None },
        ] {
            assert_eq!(gate.admit(&with(off, None, None), at(9_999), None), Ok(()));
        }
    }
    for _ in 0..10 {
        assert_eq!(gate.admit(&with(ON, None, None), at(10_000), None), Ok(()));
    }
    assert_eq!(gate.admit(&with(ON, None, None), at(10_001), None), Err(Refusal::RateLimit));
}

fn json_like() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        Just("state".to_owned()),
        Just("duration".to_owned()),
        Just("for_s".to_owned()),
        Just("id".to_owned()),
        Just("expires".to_owned()),
        ".{0,6}"
    ];
    let value = prop_oneof![
        Just("\"ON\"".to_owned()),
        Just("\"OFF\"".to_owned()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("[[[[]]]]".to_owned()),
        ".{0,8}".prop_map(|text| format!("{text:?}")),
    ];
    proptest::collection::vec((key, value), 0..5).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

fn is_sound(request: &Request) {
    match request.command {
        Command::Siren { duration_s: Some(seconds), on } => assert!(on && seconds > 0.0 && seconds <= BOUND_S),
        Command::Armed { for_s: Some(seconds), on } => assert!(!on && seconds > 0.0 && seconds <= ARM_AGAIN_S_MAX),
        Command::Threshold(value) => assert!((0.0..=1.0).contains(&value)),
        Command::Cooldown(value) => assert!((0.0..=COOLDOWN_S_MAX).contains(&value)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn any_bytes(which in 0..topics::COMMANDS.len(), payload in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(request) = parse(topics::COMMANDS[which], &payload, BOUND_S) {
            is_sound(&request);
        }
    }

    #[test]
    fn anything_like_json(which in 0..topics::COMMANDS.len(), payload in json_like()) {
        match parse(topics::COMMANDS[which], payload.as_bytes(), BOUND_S) {
            Ok(request) => is_sound(&request),
            Err(refusal) => assert!(refusal.to_string().len() <= REASON_BYTES_MAX),
        }
    }

    #[test]
    fn any_number(value in any::<f64>()) {
        let text = value.to_string();
        if let Ok(request) = parse("cooldown/set", text.as_bytes(), BOUND_S) {
            is_sound(&request);
            prop_assert_eq!(request.command, Command::Cooldown(value));
        }
    }
}

#[test]
fn deep_json_is_refused_fast() {
    for opening in ["[", "{\"id\":"] {
        let payload = format!(r#"{{"id":{}"#, opening.repeat(4000 / opening.len()));
        assert!(parse("siren/set", payload.as_bytes(), BOUND_S).is_err());
    }
}
