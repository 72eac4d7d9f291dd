use super::*;

const GOOD: &str = r#"
schema = 1
name = "test-board"
description = "A board of the tests"
chip = ["pinctrl-rp1", "pinctrl-other"]
siren_on_s_max = 180
audio_device_hint = "hw:CARD=Device"
period_frames = 320
cores = 4
thermal_zone = "cpu-thermal"
target_cpu = "cortex-a72"
glibc_min = "2.36"
latency_budget_ms = 500
sources = ["a pin table"]

[siren]
line = "GPIO17"
safe_level = "inactive"
header_pin = 11

[led]
line = 27
active_low = true

[tamper]
line = "GPIO23"
active_low = true
bias = "pull-up"
"#;

fn good() -> Board {
    Board::parse("good.toml", GOOD).expect("the good board parses")
}

/// The keys and hints of every problem that `GOOD` with one text replaced has.
fn problems(from: &str, to: &str) -> Vec<KeyError> {
    assert!(GOOD.contains(from), "{from} is not in the good board");
    Board::parse("b.toml", &GOOD.replace(from, to)).expect_err("a problem").problems
}

#[test]
fn a_board_is_read_as_written() {
    let board = good();
    assert_eq!(board.chip, Labels(vec!["pinctrl-rp1".into(), "pinctrl-other".into()]));
    let siren = board.siren.as_ref().expect("siren");
    assert_eq!((&siren.line, siren.active_low), (&LineRef::Name("GPIO17".into()), false));
    let led = board.led.as_ref().expect("led");
    assert_eq!((&led.line, led.active_low, led.safe_level), (&LineRef::Offset(27), true, Level::Inactive));
    assert_eq!(board.tamper.as_ref().expect("tamper").bias, Bias::PullUp);
    assert_eq!(board.outputs().map(|(name, _)| name).collect::<Vec<_>>(), ["siren", "led"]);
    assert_eq!(board.inputs().map(|(name, _)| name).collect::<Vec<_>>(), ["tamper"]);
}

#[test]
fn an_unknown_key_names_the_nearest() {
    let found = problems("siren_on_s_max = 180", "siren_on_max_s = 180");
    let text = found[0].to_string();
    assert!(text.contains("siren_on_max_s") && text.contains("`siren_on_s_max`"), "{text}");
    let text = problems("active_low = true\nbias", "activ_low = true\nbias")[0].to_string();
    assert!(text.contains("activ_low") && text.contains("`active_low`"), "{text}");
}

#[test]
fn every_problem_comes_in_one_go() {
    let bad = GOOD
        .replace("schema = 1", "schema = 2")
        .replace("\"test-board\"", "\"../etc\"")
        .replace("siren_on_s_max = 180", "siren_on_s_max = 0")
        .replace("hw:CARD=Device", "plughw:1,0")
        .replace("\"2.36\"", "\"new\"")
        .replace("\"pinctrl-other\"", "\"gpiochip4\"")
        .replace("line = 27", "line = \"GPIO17\"")
        .replace("[\"a pin table\"]", "[]");
    let found = Board::parse("b.toml", &bad).expect_err("problems").problems;
    let keys: Vec<_> = found.iter().filter_map(|problem| problem.key.as_deref()).collect();
    for key in ["schema", "name", "siren_on_s_max", "audio_device_hint", "glibc_min", "chip", "led.line", "sources"] {
        assert!(keys.contains(&key), "{key} is not in {keys:?}");
    }
    assert!(found.iter().all(|problem| problem.line.is_some() && problem.hint.is_some()), "{found:?}");
    assert_eq!(found.iter().find(|p| p.key.as_deref() == Some("led.line")).and_then(|p| p.line), Some(22));
}

#[test]
fn wrong_types_are_explained() {
    for (from, to, said) in [
        ("line = 27", "line = true", "offset"),
        ("line = 27", "line = -1", "offset"),
        ("\"inactive\"", "\"low\"", "inactive"),
        ("\"pull-up\"", "\"up\"", "pull-up"),
        ("chip = [\"pinctrl-rp1\", \"pinctrl-other\"]", "chip = 4", "pinctrl-rp1"),
    ] {
        let text = problems(from, to)[0].to_string();
        assert!(text.contains(said), "{to}: {text}");
    }
}

#[test]
fn a_board_that_drives_needs_chip_and_siren() {
    let keys = |from: &str, to: &str| problems(from, to).into_iter().filter_map(|p| p.key).collect::<Vec<_>>();
    assert_eq!(keys("chip = [\"pinctrl-rp1\", \"pinctrl-other\"]\n", ""), ["chip"]);
    assert_eq!(keys("[siren]\nline = \"GPIO17\"\nsafe_level = \"inactive\"\nheader_pin = 11\n", ""), ["siren.line"]);
    assert_eq!(keys("schema = 1", "schema = 1\nsimulated = true"), ["siren.line"]);
}

#[test]
fn a_site_file_overrides_lines() {
    let mut board = good();
    let overrides = LineOverrides {
        siren: LineOverride { line: Some(LineRef::Offset(5)), active_low: Some(true), chip: None },
        fault: LineOverride { line: Some(LineRef::Name("GPIO24".into())), ..LineOverride::default() },
        silence: LineOverride { line: Some(LineRef::Name("GPIO25".into())), ..LineOverride::default() },
        ..LineOverrides::default()
    };
    assert_eq!(board.apply("site.toml", &overrides), []);
    let siren = board.siren.as_ref().expect("siren");
    assert_eq!((&siren.line, siren.active_low, siren.header_pin), (&LineRef::Offset(5), true, None));
    assert_eq!(board.fault.as_ref().map(|line| line.safe_level), Some(Level::Inactive));
    assert_eq!(board.silence.as_ref().map(|line| (line.active_low, line.bias)), Some((true, Bias::PullUp)));
    // A tamper contact that is made new is closed while all is well: a cut wire is a tamper.
    let mut plain = Board { tamper: None, ..good() };
    let tamper = LineOverride { line: Some(LineRef::Offset(6)), ..LineOverride::default() };
    assert_eq!(plain.apply("site.toml", &LineOverrides { tamper, ..LineOverrides::default() }), []);
    assert_eq!(plain.tamper.map(|line| (line.active_low, line.bias)), Some((false, Bias::PullUp)));
}

#[test]
fn an_override_that_cannot_be_is_a_problem() {
    let only_polarity = LineOverride { active_low: Some(true), ..LineOverride::default() };
    let mut board = good();
    let found = board.apply("site.toml", &LineOverrides { fault: only_polarity, ..LineOverrides::default() });
    assert_eq!(found[0].key.as_deref(), Some("fault.line"));

    let taken = LineOverride { line: Some(LineRef::Name("GPIO23".into())), ..LineOverride::default() };
    let found = good().apply("site.toml", &LineOverrides { siren: taken.clone(), ..LineOverrides::default() });
    assert!(found[0].to_string().contains("[siren]'s already"), "{}", found[0]);

    let mut generic = Board { simulated: true, siren: None, led: None, tamper: None, ..good() };
    let before = generic.clone();
    let found = generic.apply("site.toml", &LineOverrides { siren: taken, ..LineOverrides::default() });
    assert!(found[0].to_string().contains("simulated"), "{}", found[0]);
    assert_eq!(generic, before);
}

#[test]
fn boards_are_found_by_name_in_the_first_root() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    for root in [&first, &second] {
        std::fs::create_dir_all(root.join("boards")).expect("created");
        std::fs::write(root.join("boards/test-board.toml"), GOOD).expect("written");
    }
    std::fs::write(second.join("boards/other.toml"), GOOD).expect("written");
    let roots = [first.as_path(), second.as_path()];
    assert_eq!(find("test-board", &roots), Ok(first.join("boards/test-board.toml")));
    assert_eq!(find("other", &roots), Ok(second.join("boards/other.toml")));
    assert_eq!(list(&roots).len(), 2);
    let missing = find("nowhere", &roots).expect_err("none").to_string();
    assert!(missing.contains("nowhere") && missing.contains("other, test-board"), "{missing}");
    assert!(matches!(find("../a", &roots), Err(FindError::Name(_))));
    assert!(Board::load(&first.join("boards/test-board.toml")).is_ok());
    assert!(Board::load(&first.join("boards/gone.toml")).expect_err("gone").to_string().contains("gone.toml"));
}

#[test]
fn every_board_of_the_repository_is_good() {
    let boards = list(&[&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")]);
    for wanted in [
        "raspberry-pi-3",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "raspberry-pi-zero-2-w",
        "jetson-orin-nano",
        "jetson-nano",
        DEFAULT_BOARD,
    ] {
        assert!(boards.iter().any(|(name, _)| name == wanted), "{wanted} is missing");
    }
    for (name, path) in boards {
        match Board::load(&path) {
            Ok(board) => assert_eq!(board.name, name),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn no_text_makes_the_parser_panic() {
    // Each prefix and each text with one byte gone: what a torn write leaves.
    for cut in 0..GOOD.len() {
        let _ = Board::parse("cut.toml", &GOOD[..cut]);
        let _ = Board::parse("gap.toml", &format!("{}{}", &GOOD[..cut], &GOOD[cut + 1..]));
    }
}
