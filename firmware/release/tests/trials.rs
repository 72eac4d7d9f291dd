//! A release on trial: what makes it good, what brings the one before it back.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Device, Key, bundle, now, well};
use release::store::Fit;
use release::trial::{Health, Outcome, Verdict};
use semver::Version;

fn device() -> (Key, Device, String) {
    let key = Key::new();
    let device = Device::new(&[&key]);
    let good = device.settle(&bundle(&key, "1.1.0")).id;
    (key, device, good)
}

fn current(device: &Device) -> Option<String> {
    device.store.current().map(|release| release.id)
}

#[test]
fn three_starts_then_the_one_before() {
    let (key, device, good) = device();
    let new = device.apply(&bundle(&key, "1.2.0")).unwrap().id;
    for start in 0..3 {
        assert_eq!(device.store.begin(&now("boot", start), &device.package).unwrap(), None);
        assert_eq!(current(&device), Some(new.clone()));
    }
    let outcome = device.store.begin(&now("boot", 4), &device.package).unwrap().unwrap();
    assert!(!outcome.ok && outcome.release == new, "{outcome:?}");
    assert_eq!(outcome.detail, format!("3 starts, none came up; {good} is back"));
    assert_eq!((current(&device), device.store.on_trial()), (Some(good), false));
    assert_eq!(device.store.last(), Some(outcome));
}

/// A hub is not offered it again, whatever came after; a person may still apply it, and it may do well then.
#[test]
fn what_failed_is_remembered_until_it_is_good() {
    let (key, device, _) = device();
    let apply = |version: &str| device.apply(&bundle(&key, version)).unwrap().id;
    let fail = || device.store.judge(&now("boot", 0), None, true).unwrap();
    let [first, second] = ["1.2.0", "1.3.0"].map(|version| {
        let id = apply(version);
        assert!(matches!(fail(), Verdict::Back(_)));
        id
    });
    device.store.note_refused("other.bundle", "no bundle").unwrap();
    assert_eq!(device.store.failed(), [first.clone(), second.clone()]);
    apply("1.2.0");
    let verdict = device.store.judge(&now("boot", 0), Some(&well(&first)), false).unwrap();
    assert!(matches!(verdict, Verdict::Good(_)), "{verdict:?}");
    assert_eq!(device.store.failed(), [second]);
}

#[test]
fn starts_are_counted_over_boots_and_two_minutes_in_each() {
    let (key, device, _) = device();
    let new = device.apply(&bundle(&key, "1.2.0")).unwrap().id;
    let judge = |boot: &str, s: u64, health: Option<&Health>| device.store.judge(&now(boot, s * 1000), health, false);
    device.store.begin(&now("one", 10_000), &device.package).unwrap();
    assert_eq!(judge("one", 129, None).unwrap(), Verdict::Pending);
    device.store.begin(&now("two", 5_000), &device.package).unwrap();
    assert_eq!(judge("two", 124, None).unwrap(), Verdict::Pending);
    // Another's word, or half of what is asked.
    assert_eq!(judge("two", 124, Some(&well("1.1.0-00000000"))).unwrap(), Verdict::Pending);
    let half = Health { window: false, ..well(&new) };
    assert_eq!(judge("two", 124, Some(&half)).unwrap(), Verdict::Pending);
    let Verdict::Back(outcome) = judge("two", 125, Some(&half)).unwrap() else { panic!("still there") };
    assert!(outcome.detail.contains("no window was scored in 120 s"), "{outcome:?}");
}

#[test]
fn a_service_that_gave_up_is_not_waited_for() {
    let (key, device, good) = device();
    device.apply(&bundle(&key, "1.2.0")).unwrap();
    let Verdict::Back(outcome) = device.store.judge(&now("boot", 0), None, true).unwrap() else { panic!("waits") };
    assert!(outcome.detail.contains("gave up"), "{outcome:?}");
    assert_eq!(current(&device), Some(good));
}

#[test]
fn only_what_worked_before_is_asked() {
    let check = |before: Health, now_is: Health, good: bool| {
        let (key, device, _) = device();
        let path = device.place(&bundle(&key, "1.2.0"));
        let fit = Fit { package: &device.package, arch: "test", board: "generic", allow_downgrade: false };
        let new = device.store.apply(&path, &device.keys, &fit, Some(before.clone()), &mut |_| {}).unwrap().id;
        let health = Health { release: new, ..now_is.clone() };
        let verdict = device.store.judge(&now("boot", 0), Some(&health), false).unwrap();
        assert_eq!(matches!(verdict, Verdict::Good(_)), good, "before {before:?}, now {now_is:?}: {verdict:?}");
    };
    let well = well("x");
    let deaf = Health { window: false, microphone: false, ..well.clone() };
    let mute = Health { outputs: false, ..well.clone() };
    let full = Health { outbox: false, ..well.clone() };
    check(well.clone(), well.clone(), true);
    check(deaf.clone(), deaf.clone(), true);
    check(deaf.clone(), well.clone(), true);
    check(well.clone(), deaf.clone(), false);
    check(mute.clone(), mute.clone(), true);
    check(well.clone(), mute.clone(), false);
    check(full.clone(), full.clone(), true);
    check(well.clone(), full, false);
    // Deaf before, hears now, and yet scores nothing.
    check(deaf.clone(), Health { window: false, ..well }, false);
    check(deaf, mute, false);
}

#[test]
fn rollback_by_hand() {
    let (key, device, first) = device();
    let second = device.settle(&bundle(&key, "1.2.0")).id;
    let on_trial = device.apply(&bundle(&key, "1.3.0")).unwrap().id;
    assert_eq!(device.store.rollback().unwrap().release, on_trial);
    assert_eq!(current(&device), Some(second));
    device.store.rollback().unwrap();
    assert_eq!((current(&device), device.store.on_trial()), (Some(first), false));
    device.store.rollback().unwrap();
    assert_eq!((current(&device), device.store.on_trial()), (None, false));
    assert!(device.store.rollback().unwrap_err().to_string().contains("none to go back to"));
}

#[test]
fn a_newer_package_becomes_current_and_is_on_trial_too() {
    let (_, mut device, good) = device();
    device.package = Version::new(1, 1, 0);
    device.store.begin(&now("boot", 0), &device.package).unwrap();
    assert_eq!(current(&device), Some(good.clone()), "not newer");
    device.package = Version::new(2, 0, 0);
    device.store.begin(&now("boot", 0), &device.package).unwrap();
    assert_eq!((current(&device), device.store.on_trial()), (None, true));
    for _ in 0..3 {
        device.store.begin(&now("boot", 0), &device.package).unwrap();
    }
    assert_eq!(current(&device), Some(good.clone()), "it did not come up");
    device.store.begin(&now("boot", 0), &device.package).unwrap();
    assert_eq!(current(&device), Some(good.clone()), "and is not tried again by itself");
    device.package = Version::new(2, 0, 1);
    device.store.begin(&now("boot", 0), &device.package).unwrap();
    let verdict = device.store.judge(&now("boot", 1), Some(&well("package")), false).unwrap();
    assert!(matches!(verdict, Verdict::Good(_)), "{verdict:?}");
    assert_eq!((current(&device), device.store.on_trial()), (None, false));
    assert_eq!(device.store.previous().unwrap().id, good, "kept for rollback");
}

#[test]
fn a_newer_package_is_not_asked_for_more_than_the_one_before_had() {
    let (_, mut device, _) = device();
    device.package = Version::new(2, 0, 0);
    let deaf = Health { window: false, microphone: false, ..well("1.1.0-x") };
    device.store.begin_after(&now("boot", 0), &device.package, Some(deaf.clone())).unwrap();
    assert!(device.store.package_on_trial());
    let still = Health { release: "package".into(), ..deaf };
    let verdict = device.store.judge(&now("boot", 1), Some(&still), false).unwrap();
    assert!(matches!(verdict, Verdict::Good(_)), "{verdict:?}");
    assert!(!device.store.package_on_trial());
}

#[test]
fn damage_counts_as_the_one_before() {
    let (key, device, good) = device();
    let new = device.apply(&bundle(&key, "1.2.0")).unwrap();
    std::fs::write(new.folder.join("bin/screamd"), "cut").unwrap();
    assert_eq!(device.store.current(), None, "half a release is none");
    let outcome = device.store.begin(&now("boot", 0), &device.package).unwrap().unwrap();
    assert!(outcome.detail.contains("damaged"), "{outcome:?}");
    assert_eq!(current(&device), Some(good.clone()));
    std::fs::remove_file(device.store.good().unwrap().folder.join("manifest.toml")).unwrap();
    let outcome = device.store.begin(&now("boot", 0), &device.package).unwrap().unwrap();
    assert!(outcome.detail.contains("package is back"), "{outcome:?}");
    assert_eq!((current(&device), device.store.on_trial()), (None, false));
}

/// Starts `n` times from `from_s` on, `every_s` apart; how the last ended, and that none before it did anything.
fn start(device: &Device, boot: &str, n: u64, from_s: u64, every_s: u64) -> Option<Outcome> {
    let mut last = None;
    for start in 0..n {
        assert_eq!(last, None, "{boot}: start {start} of {n}");
        last = device.store.begin(&now(boot, (from_s + start * every_s) * 1000), &device.package).unwrap();
    }
    last
}

#[test]
fn twenty_quick_starts_of_a_good_release_go_back_to_the_one_before_and_then_to_the_package() {
    let (key, device, first) = device();
    let second = device.settle(&bundle(&key, "1.2.0")).id;
    assert_eq!(start(&device, "boot", 19, 10, 30), None, "the service's own fallback acts at ten");
    assert_eq!(current(&device), Some(second.clone()));
    let outcome = start(&device, "boot", 1, 595, 0).unwrap();
    assert_eq!((&outcome.release, outcome.ok), (&second, false));
    assert_eq!(outcome.detail, format!("20 starts in 10 minutes; {first} is back"));
    assert_eq!((current(&device), device.store.on_trial()), (Some(first.clone()), false));
    assert_eq!(device.store.failed(), [second], "a hub is not offered it again");

    let outcome = start(&device, "boot", 20, 600, 1).unwrap();
    assert_eq!(outcome.detail, "20 starts in 10 minutes; package is back");
    assert_eq!((outcome.release, current(&device), device.store.on_trial()), (first, None, false));
    // Behind the package there is nothing.
    assert_eq!(start(&device, "boot", 60, 700, 1), None);
    assert!(!device.store.folder().join("starts.json").exists());
}

#[test]
fn a_release_before_that_is_not_whole_is_passed_over() {
    let (key, device, first) = device();
    device.settle(&bundle(&key, "1.2.0"));
    std::fs::remove_file(device.store.release(&first).unwrap().folder.join("bin/screamd")).unwrap();
    let outcome = start(&device, "boot", 20, 10, 1).unwrap();
    assert!(outcome.detail.ends_with("package is back"), "{outcome:?}");
}

#[test]
fn starts_spread_over_hours_or_over_boots_are_no_loop() {
    let (_, device, good) = device();
    assert_eq!(start(&device, "slow", 400, 10, 32), None, "19 in any ten minutes");
    for boot in ["a", "b", "c"] {
        assert_eq!(start(&device, boot, 19, 10, 1), None, "a boot is no crash");
    }
    let kept = std::fs::read_to_string(device.store.folder().join("starts.json")).unwrap();
    assert!(kept.len() < 400, "{kept}");
    assert_eq!(current(&device), Some(good));
}

#[test]
fn a_verdict_a_rollback_and_an_update_each_begin_the_count_anew() {
    let (key, device, first) = device();
    let nearly = |which: &str, when: &str| {
        assert_eq!(start(&device, "boot", 19, 100, 1), None, "{when}");
        assert_eq!(current(&device).as_deref(), Some(which), "{when}");
    };
    nearly(&first, "settled");
    let second = bundle(&key, "1.2.0");
    device.apply(&second).unwrap();
    device.store.judge(&now("boot", 0), None, true).unwrap();
    nearly(&first, "another's trial failed");
    let second = device.settle(&second).id;
    nearly(&second, "it was good");
    let third = bundle(&key, "1.3.0");
    device.settle(&third);
    device.store.rollback().unwrap();
    nearly(&second, "rolled back to");
    // The good one itself, applied over one on trial: no trial's end forgets them.
    let third = device.settle(&third).id;
    nearly(&third, "good again");
    device.apply(&bundle(&key, "1.4.0")).unwrap();
    device.apply_path(&device.place(&bundle(&key, "1.3.0")), "generic", true).unwrap();
    assert!(!device.store.on_trial(), "it is good already");
    nearly(&third, "applied again");
}

#[test]
fn nonsense_in_the_count_of_starts_counts_nothing_and_stops_no_start() {
    let (_, device, good) = device();
    let file = device.store.folder().join("starts.json");
    let nonsense = ["\0nonsense", "", "[]", "{\"release\":1}", "{\"at_ms\":[-1]}"].map(String::from);
    let huge = "9".repeat(100_000);
    // The clock of a boot never goes back: what is to come is no start of this one.
    let ahead = format!("{{\"release\":\"{good}\",\"boot_id\":\"boot\",\"at_ms\":{:?}}}", [u64::MAX; 50]);
    for text in nonsense.into_iter().chain([huge, ahead]) {
        std::fs::write(&file, &text).unwrap();
        assert_eq!(start(&device, "boot", 19, 10, 1), None, "{text:.40}");
    }
    // It cannot be written: told, as with all that `begin` counts, and the same release starts.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("x")).unwrap();
    for second in 0..40 {
        device.store.begin(&now("boot", second), &device.package).unwrap_err();
    }
    assert_eq!(current(&device), Some(good));
}

#[test]
fn nonsense_in_state_files_is_no_reason_to_stand_still() {
    let (key, device, good) = device();
    device.apply(&bundle(&key, "1.2.0")).unwrap();
    for name in ["trial.json", "last.json", "package"] {
        std::fs::write(device.store.folder().join(name), "\0nonsense").unwrap();
    }
    for _ in 0..4 {
        device.store.begin(&now("boot", 0), &device.package).unwrap();
    }
    assert_eq!(current(&device), Some(good), "counted from the first start on");
    std::fs::remove_file(device.store.folder().join("current")).unwrap();
    std::os::unix::fs::symlink("../../../../bin", device.store.folder().join("current")).unwrap();
    assert_eq!(current(&device), None, "a link out of the folder is none");
}
