#![allow(clippy::unwrap_used)]

use super::*;

/// A model folder with the tiny network of `tests/data`.
fn tiny_model(dir: &Path) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tiny");
    let weights = std::fs::read(data.join("model.onnx")).unwrap();
    let text = std::fs::read_to_string(data.join("manifest-in.toml")).unwrap();
    let lines = format!("file = \"model.onnx\"\nsha256 = \"{}\"\n[front_end]", detector::model::sha256_hex(&weights));
    std::fs::create_dir_all(dir).unwrap();
    std::fs::write(dir.join("manifest.toml"), text.replace("[front_end]", &lines)).unwrap();
    std::fs::write(dir.join("model.onnx"), weights).unwrap();
}

/// A device's files in a folder of its own.
struct Files {
    dir: tempfile::TempDir,
    paths: Paths,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards");
        tiny_model(&dir.path().join("model"));
        tiny_model(&dir.path().join("package"));
        let paths = Paths {
            config: dir.path().join("site.toml"),
            model: Some(dir.path().join("model")),
            board: Some(boards.join("generic.toml")),
            trial: false,
        };
        let files = Self { dir, paths };
        files.site("");
        files
    }

    fn site(&self, more: &str) {
        let state = self.dir.path().join("state");
        let text = format!("zone = \"Hall\"\n{more}\n[state]\ndir = \"{}\"\n", state.display());
        std::fs::write(&self.paths.config, text).unwrap();
    }

    /// Zone and faults of a start.
    fn start(&self) -> Result<(String, Vec<Fault>), Vec<String>> {
        let startup = fall_back(&self.paths, SourceKind::Recording, &self.dir.path().join("package"))?;
        Ok((startup.settings.site.zone, startup.faults.into_iter().map(|(fault, _)| fault).collect()))
    }
}

#[test]
fn what_is_refused_is_stood_in_for_and_said() {
    let files = Files::new();
    let good = load(&files.paths, SourceKind::Recording).unwrap();
    files.site("zonne = 1");
    assert!(files.start().unwrap_err()[0].contains("zonne"), "nothing was kept yet");
    files.site("");
    keep(&files.paths.config, &good.settings.site);
    assert_eq!(files.start().unwrap(), ("Hall".into(), vec![]));

    files.site("zonne = 1");
    assert_eq!(files.start().unwrap(), ("Hall".into(), vec![Fault::ConfigInvalid]));
    std::fs::write(files.dir.path().join("model/model.onnx"), b"bits").unwrap();
    assert_eq!(files.start().unwrap(), ("Hall".into(), vec![Fault::ModelInvalid, Fault::ConfigInvalid]));
    files.site("");
    assert_eq!(files.start().unwrap(), ("Hall".into(), vec![Fault::ModelInvalid]));
    std::fs::remove_file(files.dir.path().join("package/manifest.toml")).unwrap();
    assert!(files.start().unwrap_err()[0].contains("model.onnx"));
}

#[test]
fn a_password_that_is_gone_costs_the_hub_and_not_the_alarm() {
    let files = Files::new();
    let password = files.dir.path().join("password");
    let mqtt = format!("[mqtt]\nhost = \"h\"\nusername = \"u\"\npassword_file = \"{}\"", password.display());
    files.site(&mqtt);
    assert!(load(&files.paths, SourceKind::Recording).err().unwrap()[0].contains("password"), "a person is told");
    assert_eq!(files.start().unwrap(), ("Hall".into(), vec![Fault::PathDown]), "a house keeps its siren");
    std::fs::write(&password, "secret").unwrap();
    assert_eq!(files.start().unwrap(), ("Hall".into(), vec![]));
}

#[test]
fn a_site_file_without_a_microphone_is_none_to_listen_with() {
    let files = Files::new();
    let package = files.dir.path().join("package");
    let listen = || fall_back(&files.paths, SourceKind::Microphone, &package);
    files.site("[audio]\ndevice = \"hw:CARD=Device\"");
    keep(&files.paths.config, &listen().unwrap().settings.site);
    files.site("");
    let startup = listen().unwrap();
    assert_eq!(
        startup.settings.site.audio.device.as_deref(),
        Some("hw:CARD=Device"),
        "the one that listened stands in"
    );
    let [(Fault::ConfigInvalid, detail)] = &startup.faults[..] else { panic!("one fault") };
    assert!(detail.contains("`audio.device`: missing"), "{detail}");
    assert_eq!(files.start().unwrap().1, [], "a recording needs none");
    let refused = load(&files.paths, SourceKind::Microphone).err().unwrap();
    assert!(refused[0].contains("site.toml: `audio.device`: missing"), "{refused:?}");
}

#[test]
fn a_crash_loop_and_a_password_that_is_gone_leave_what_ran_before() {
    let files = Files::new();
    let (state, package) = (files.dir.path().join("state"), files.dir.path().join("package"));
    let password = files.dir.path().join("password");
    std::fs::write(&password, "secret").unwrap();
    files.site(&format!("[mqtt]\nhost = \"h\"\nusername = \"u\"\npassword_file = \"{}\"", password.display()));
    keep_proven(&files.paths.config, &load(&files.paths, SourceKind::Recording).unwrap().settings.site);
    files.site("[decision]\nhold_s = 3.0");
    std::fs::remove_file(&password).unwrap();
    let startup = safe_with(&files.paths, SourceKind::Recording, &state, 10, &package).unwrap();
    assert_ne!(startup.settings.decision.hold_s, 3.0, "the proven file's");
    let faults: Vec<_> = startup.faults.iter().map(|(fault, _)| *fault).collect();
    assert_eq!(faults, [Fault::PathDown, Fault::CrashLoop]);
}

#[test]
fn every_line_that_a_start_may_have_held_is_known() {
    let files = Files::new();
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards/raspberry-pi-4.toml");
    for (line, keeps) in [("GPIO5", keep_proven as fn(&Path, &Site)), ("GPIO6", keep)] {
        files.site(&format!("[siren]\nline = \"{line}\""));
        keeps(&files.paths.config, &load(&files.paths, SourceKind::Recording).unwrap().settings.site);
    }
    files.site("zonne = 1");
    let held = boards(&files.paths.config, Some(&board));
    let lines: Vec<_> = held.iter().map(|board| board.siren.as_ref().unwrap().line.to_string()).collect();
    assert_eq!(lines, ["GPIO5", "GPIO6"]);
}

/// After a return to an older release, its site file and both copies were written for the newer one.
#[test]
fn a_key_of_a_newer_release_costs_neither_the_alarm_nor_its_lines() {
    let files = Files::new();
    let (state, package) = (files.dir.path().join("state"), files.dir.path().join("package"));
    files.site("new = 1\n[siren]\nline = \"GPIO5\"\nnew = 2\n[new_table]\na = 1");
    let board = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards/raspberry-pi-4.toml");
    let held = || {
        let boards = boards(&files.paths.config, Some(&board));
        boards.iter().map(|board| board.siren.as_ref().unwrap().line.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(held(), ["GPIO5"], "no copy is there");
    assert!(files.start().unwrap_err()[0].contains("`new`"), "it may be a slip until it has run");
    std::fs::create_dir_all(&state).unwrap();
    for copy in [PROVEN, COPY] {
        std::fs::copy(&files.paths.config, state.join(copy)).unwrap();
    }
    assert_eq!(held(), ["GPIO5", "GPIO5"]);
    assert_eq!(files.start().unwrap(), ("Hall".into(), vec![Fault::ConfigInvalid]));
    let startup = safe_with(&files.paths, SourceKind::Recording, &state, 10, &package).unwrap();
    assert!(startup.faults[0].1.contains(PROVEN), "{:?}", startup.faults);
    // What is known is checked all the same.
    std::fs::write(state.join(COPY), "new = 1\nzone = 5").unwrap();
    assert!(files.start().unwrap_err()[0].contains("`new`"));
}

#[test]
fn the_count_of_starts_has_a_place_before_anything_is_loaded() {
    let files = Files::new();
    let state = files.dir.path().join("state");
    assert_eq!(state_dir(&files.paths.config), state);
    files.site("zonne = 1");
    assert_eq!(state_dir(&files.paths.config), state);
}

#[test]
fn only_what_checked_is_kept() {
    let files = Files::new();
    let good = load(&files.paths, SourceKind::Recording).unwrap();
    let copy = files.dir.path().join("state").join(COPY);
    files.site("zonne = 1");
    keep(&files.paths.config, &good.settings.site);
    assert!(!copy.exists(), "edited since it was read");
    files.site("");
    keep(&files.paths.config, &good.settings.site);
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&files.paths.config).unwrap());
}

#[test]
fn the_state_folder_is_found_in_a_broken_file() {
    let check = |text: &str, expect: Option<&str>| assert_eq!(stated_dir(text), expect.map(PathBuf::from), "{text}");
    check("[state]\ndir = \"/a/b\"", Some("/a/b"));
    check("zone = \"x\n]][\n[state] # here\n  dir='/a b'  # folder", Some("/a b"));
    check("state.dir = \"/c\"", Some("/c"));
    check("[events]\ndir = \"/no\"\n[state]\n", None);
    check("[state]\ndir = 5", None);
    check("\0\u{1}", None);
}

#[test]
fn after_a_crash_loop_what_ran_before_stands_in() {
    let files = Files::new();
    let state = files.dir.path().join("state");
    let good = load(&files.paths, SourceKind::Recording).unwrap();
    keep_proven(&files.paths.config, &good.settings.site);
    // A file that checks, and crashes for a reason that no check knows.
    files.site("[decision]\nhold_s = 3.0");
    let startup =
        safe_with(&files.paths, SourceKind::Recording, &state, 10, &files.dir.path().join("package")).unwrap();
    assert_ne!(startup.settings.decision.hold_s, 3.0, "the proven file's");
    assert_eq!(startup.settings.model_dir, files.dir.path().join("package"));
    let [(Fault::CrashLoop, detail)] = &startup.faults[..] else { panic!("one fault") };
    assert!(detail.starts_with("10 starts in a row") && detail.contains(PROVEN), "{detail}");
    // Nothing has proven itself yet: as asked for, and said.
    std::fs::remove_file(state.join(PROVEN)).unwrap();
    let startup = safe_with(&files.paths, SourceKind::Recording, &state, 12, Path::new("/nowhere")).unwrap();
    assert_eq!(startup.settings.decision.hold_s, 3.0);
    assert_eq!(startup.faults.len(), 1);
}

/// Somebody tries a recording on an installed device, with another site file or none: what the device keeps stays the device's.
#[test]
fn a_trial_without_a_state_folder_of_its_own_leaves_the_devices_alone() {
    let mut files = Files::new();
    assert!(load(&files.paths, SourceKind::Recording).unwrap().settings.keeps_state);
    files.paths.trial = true;
    assert!(load(&files.paths, SourceKind::Recording).unwrap().settings.keeps_state, "it names one");
    std::fs::write(&files.paths.config, "").unwrap();
    assert!(!load(&files.paths, SourceKind::Recording).unwrap().settings.keeps_state);
}
