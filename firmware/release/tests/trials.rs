//! A release on trial: what makes it good, what brings the one before it back.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Device, Key, bundle, now, well};
use release::store::Fit;
use release::trial::{Health, Verdict};
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
