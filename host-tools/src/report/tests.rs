use files::event_record::{EventEnd, EventStart, EventWindow};
use files::picture::write_picture;
use jiff::SignedDuration;

use super::*;

fn record(id: &str, t_utc: &str, zone: &str) -> EventRecord {
    let window = |seq: u32| EventWindow {
        seq: u64::from(seq),
        t_start_s: f64::from(seq) * 2.0,
        t_end_s: f64::from(seq) * 2.0 + 4.0,
        score: seq as f32 / 10.0,
        scores: [("scream".to_owned(), seq as f32 / 10.0)].into(),
        level_dbfs: -20.0,
        masked: false,
        gap: seq == 1,
    };
    EventRecord {
        schema: SCHEMA,
        id: id.to_owned(),
        t_utc: t_utc.to_owned(),
        clock_set: true,
        zone: zone.to_owned(),
        device_id: "hall-1".to_owned(),
        board: "generic".to_owned(),
        model: "m 1".to_owned(),
        model_sha256: "0".repeat(64),
        threshold_on: 0.8,
        threshold_off: 0.5,
        armed: true,
        quiet_hours: false,
        siren_sounded: true,
        start: EventStart { t_s: 20.0, score: 0.9, label: "scream".to_owned(), level_dbfs: -20.0, latency_ms: 70.0 },
        end: Some(EventEnd { t_s: 31.0, t_utc: t_utc.to_owned() }),
        windows: (0..10).map(window).collect(),
        picture: None,
        clip: None,
    }
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join(name), bytes).unwrap();
    }

    fn record(&self, record: &EventRecord) {
        self.put(&format!("{}.json", record.id), &serde_json::to_vec(record).unwrap());
    }

    fn page(&self) -> String {
        self.page_of(usize::MAX)
    }

    fn page_of(&self, bytes_max: usize) -> String {
        let mut progress = Progress::new();
        let folder = Folder::read(self.folder.path(), &mut progress).unwrap();
        let about = Page { events: self.folder.path(), folder: &folder, zone: &TimeZone::UTC, bytes_max };
        let mut page = Vec::new();
        about.write(&mut page, None, &mut progress).unwrap();
        String::from_utf8(page).unwrap()
    }
}

#[test]
fn an_incident_stands_with_its_picture_scores_and_state() {
    let scene = Scene::new();
    write_picture(&scene.folder.path().join("a.png"), &[0.0, 1.0], 1, 1, 2).unwrap();
    let mut sound = b"RIFF....WAVE".to_vec();
    sound.resize(100, 0);
    scene.put("a.wav", &sound);
    let named = |name: &str| Some(name.to_owned());
    scene.record(&EventRecord {
        picture: named("a.png"),
        clip: named("a.wav"),
        ..record("a", "2026-07-30T23:30:00Z", "Hall")
    });
    scene.record(&EventRecord {
        armed: false,
        siren_sounded: false,
        end: None,
        ..record("b", "2026-08-02T01:00:00Z", "Attic")
    });
    let page = scene.page();
    for expect in [
        "data:image/png;base64,iVBORw0KGgo",
        "data:audio/wav;base64,UklGR",
        "alt=\"Spectrogram: ",
        "<dt>Incidents</dt><dd>2</dd>",
        "<dt>Siren sounded</dt><dd>1</dd>",
        "off, disarmed",
        "no end recorded",
        "sound lost",
        "30 Jul 2026, 23:30:00",
        "datetime=\"2026-07-30T23:30:00Z\"",
        "From 30 July 2026 to 2 August 2026.",
        "01:00 to 01:59",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(expect), "{expect} is not in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    let (new, old) = (page.find("id=\"i0\"").unwrap(), page.find("id=\"i1\"").unwrap());
    assert!(page[new..old].contains("Attic"), "the newest comes first");
}

#[test]
fn the_time_to_the_siren_is_that_of_sirens() {
    let scene = Scene::new();
    let mut silent = record("a", "2026-01-01T00:00:00Z", "Hall");
    silent.siren_sounded = false;
    silent.start.latency_ms = 9.0;
    scene.record(&silent);
    let median = |value: &str| format!("<dt>Window's end to siren, median</dt><dd>{value}</dd>");
    let own = |value: &str| format!("<dt>Window's end to siren</dt><dd>{value}</dd>");
    let page = scene.page();
    assert!(page.contains(&median("-")) && page.contains(&own("-")) && !page.contains("9 ms"));
    let mut loud = record("b", "2026-01-01T00:01:00Z", "Hall");
    scene.record(&loud);
    assert!(scene.page().contains(&median("70 ms")) && scene.page().contains(&own("70 ms")));
    (loud.id, loud.start.latency_ms) = ("c".into(), 30.0);
    scene.record(&loud);
    assert!(scene.page().contains(&median("50 ms")), "of two the mean");
}

/// A scream that grows: the window that decided is not the highest one. The siren's own windows are no scream's.
#[test]
fn the_highest_score_is_that_of_all_windows_but_the_sirens_own() {
    let scene = Scene::new();
    let mut event = record("a", "2026-01-01T00:00:00Z", "Hall");
    event.start.score = 0.87;
    let mut window = event.windows[0].clone();
    (window.seq, window.score, window.masked) = (window.seq + 100, 0.96, false);
    event.windows.push(window.clone());
    (window.seq, window.score, window.masked) = (window.seq + 1, 0.99, true);
    event.windows.push(window);
    scene.record(&event);
    assert!(scene.page().contains("<dt>Highest score</dt><dd>0.96</dd>"));
}

#[test]
fn no_text_of_a_record_is_markup() {
    let scene = Scene::new();
    let evil = "</title><script>alert('x')</script>\"&\u{0}";
    let mut event = record("a", "2026-07-30T12:00:00Z", evil);
    for text in [&mut event.device_id, &mut event.board, &mut event.model, &mut event.model_sha256] {
        *text = evil.to_owned();
    }
    event.start.label = evil.to_owned();
    event.windows[0].scores = [(evil.to_owned(), 0.5)].into();
    event.end = Some(EventEnd { t_s: 1.0, t_utc: evil.to_owned() });
    (event.picture, event.clip) = (Some(evil.to_owned()), Some("../../etc/passwd".to_owned()));
    scene.put("a.json", &serde_json::to_vec(&event).unwrap());
    scene.put("<b>&.json", b"{");
    let page = scene.page();
    assert!(!page.contains("<script") && !page.contains("<b>&.json") && !page.contains('\u{0}'));
    assert!(page.contains("&lt;script&gt;") && page.contains("&lt;b&gt;&amp;.json"));
    assert!(page.contains("its name leads out of the folder"));
}

#[test]
fn a_broken_record_is_listed_with_its_cause() {
    let scene = Scene::new();
    scene.record(&record("good", "2026-07-30T12:00:00Z", "Hall"));
    scene.put("torn.json", b"{\"schema\": 1, \"id\": \"x");
    scene.put("other.json", b"{\"schema\": 9}");
    scene.put("text.json", b"hello");
    scene.put("empty.json", b"");
    scene.put(".hidden.json", b"no matter");
    let mut late = record("late", "soon", "Hall");
    late.picture = Some("gone.png".to_owned());
    scene.record(&late);
    scene.record(&EventRecord { picture: late.picture.clone(), ..record("bare", "2026-07-30T12:00:00Z", "Hall") });
    fs::create_dir(scene.folder.path().join("dir.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", scene.folder.path().join("link.json")).unwrap();
    let page = scene.page();
    for expect in [
        "torn.json</code></th><td>is no event record: EOF",
        "other.json</code></th><td>is of schema 9, this program reads 1",
        "text.json",
        "empty.json",
        "dir.json</code></th><td>it is not a plain file",
        "link.json</code></th><td>it is not a plain file",
        "late.json</code></th><td>`t_utc` is &quot;soon&quot;",
        "<dt>Incidents</dt><dd>2</dd>",
        "gone.png</code> is not shown: No such file",
    ] {
        assert!(page.contains(expect), "{expect} is not in {page}");
    }
    assert!(!page.contains("hidden.json"));
}

#[test]
fn an_empty_folder_says_so_and_a_missing_one_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new();
    let out = scene.folder.path().join("report.html");
    run(scene.folder.path(), &out, None, 1).unwrap();
    let page = fs::read_to_string(&out).unwrap();
    assert!(page.contains("No incident is recorded") && page.ends_with("</html>\n"));
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);

    let error = format!("{:#}", run(Path::new("/no/such/folder"), &out, None, 1).unwrap_err());
    assert!(error.contains("/no/such/folder") && error.contains("No such file"), "{error}");
    let error = format!("{:#}", run(scene.folder.path(), Path::new("/no/such/x.html"), None, 1).unwrap_err());
    assert!(error.contains("/no/such/x.html"), "{error}");
    // Before the model is looked at, let alone asked.
    let nowhere = Some(Path::new("/no/such/model"));
    let error = format!("{:#}", run(scene.folder.path(), Path::new("/no/such/x.html"), nowhere, 1).unwrap_err());
    assert!(error.contains("/no/such/x.html"), "{error}");
}

#[test]
fn years_apart_and_a_clock_that_was_not_set_still_make_a_page() {
    let scene = Scene::new();
    let first: Timestamp = "2025-01-01T00:00:00Z".parse().unwrap();
    for i in 0..200 {
        let time = first + SignedDuration::from_hours(i * 61);
        scene.record(&record(&format!("e{i}"), &time.to_string(), ""));
    }
    scene.record(&record("far", "9999-01-01T00:00:00Z", "Hall"));
    let unset = record("unset", "1970-01-01T00:00:09Z", "Hall");
    scene.record(&EventRecord { clock_set: false, windows: Vec::new(), ..unset });
    let page = scene.page();
    assert!(page.contains("days a bar") && page.contains("1 from before the clock was set"));
    assert!(page.matches("class=\"bar\"").count() < 80);
    assert!(page.find("Clock was not set").unwrap() > page.rfind("(no zone)").unwrap());
}

/// A year's folder must still give a page that a browser opens, and no incident may go missing from its figures.
#[test]
fn the_newest_stand_in_full_and_the_older_ones_in_the_table() {
    let scene = Scene::new();
    let mut sound = b"RIFF....WAVE".to_vec();
    sound.resize(600_000, 0);
    for i in 0..5 {
        scene.put(&format!("e{i}.wav"), &sound);
        let clip = Some(format!("e{i}.wav"));
        scene.record(&EventRecord {
            clip,
            ..record(&format!("e{i}"), &format!("2026-01-0{}T00:00:00Z", i + 1), "Hall")
        });
    }
    // 800 kB each: two of five.
    let page = scene.page_of(2 << 20);
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
    assert_eq!((page.matches("<article").count(), page.matches("<a href=\"#i").count()), (2, 2));
    assert!(page[page.find("<article").unwrap()..].contains("5 Jan 2026"), "the newest");
    for expect in ["The newest 2 of 5 stand here in full", "<dt>Incidents</dt><dd>5</dd>", "1 Jan 2026, 00:00:00"] {
        assert!(page.contains(expect), "{expect}");
    }
    // The newest always: a page without any would be none.
    assert_eq!(scene.page_of(0).matches("<article").count(), 1);
    assert!(!scene.page().contains("stand here in full"));
}
