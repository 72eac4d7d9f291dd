#![allow(clippy::unwrap_used)]
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::disk::Folder;
use super::sim::{Break, SimDisk};
use super::*;
use crate::session::delay::{Moment, delayed_s};
use crate::session::pace::Pace;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const SMALL: Bounds = Bounds { alerts_max: 12, bytes_max: 4096, segment_bytes_max: 300, slack_bytes: 600 };

fn alert(id: u64, class: Class, since: Instant) -> Alert {
    Alert { class, payload: format!("{{\"id\":\"{id}\"}}").into_bytes(), since }
}

fn id_of(payload: &[u8]) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
    value["id"].as_str().unwrap().parse().unwrap()
}

fn ids<D: Disk>(outbox: &Outbox<D>) -> Vec<u64> {
    outbox.entries.values().map(|entry| id_of(&entry.payload)).collect()
}

fn key_of<D: Disk>(outbox: &Outbox<D>, id: u64) -> Option<Key> {
    outbox.entries.iter().find(|(_, entry)| id_of(&entry.payload) == id).map(|(key, _)| *key)
}

/// What the outbox should hold, kept beside a simulated disk.
struct Model {
    disk: SimDisk,
    outbox: Outbox<SimDisk>,
    now: Instant,
    next_id: u64,
    /// Appended, and neither acknowledged nor dropped.
    live: Vec<(u64, Class)>,
    saved: std::collections::BTreeSet<u64>,
    /// Nothing failed since the last start.
    healthy: bool,
    random: SmallRng,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (disk, now) = (SimDisk::new(), Instant::now());
        let outbox = Outbox::open(disk.clone(), SMALL, now);
        Self {
            disk,
            outbox,
            now,
            next_id: 1,
            live: Vec::new(),
            saved: Default::default(),
            healthy: true,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    fn append(&mut self, count: u64, class: Class) {
        let alerts: Vec<_> = (0..count).map(|more| alert(self.next_id + more, class, self.now)).collect();
        for id in self.next_id..self.next_id + count {
            self.live.push((id, class));
            if self.live.len() > SMALL.alerts_max {
                let oldest = self.live.iter().position(|(_, class)| *class == Class::Supervision);
                self.live.remove(oldest.unwrap_or(0));
            }
        }
        self.next_id += count;
        self.outbox.append(alerts, self.now);
        self.check();
    }

    fn ack(&mut self, index: usize) {
        if !self.live.is_empty() {
            let (id, _) = self.live.remove(index % self.live.len());
            let key = key_of(&self.outbox, id).expect("every live alert has a key");
            self.outbox.ack(key, self.now);
            self.check();
        }
    }

    fn tick(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        self.outbox.tick(self.now);
        self.check();
    }

    /// In one process memory is the truth, whatever the disk does.
    fn check(&mut self) {
        let live: Vec<u64> = self.live.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids(&self.outbox), live);
        self.healthy &= !self.outbox.failed && self.outbox.changes().count() == 0;
        for (key, entry) in &self.outbox.entries {
            if !self.outbox.unsaved.contains(key) {
                self.saved.insert(id_of(&entry.payload));
            }
        }
        if !self.outbox.failed {
            assert!(self.outbox.unsaved.is_empty(), "a good disk leaves nothing unsaved");
        }
    }

    fn restart(&mut self, power_cut: bool) {
        if power_cut {
            self.disk.crash(&mut self.random);
        }
        self.disk.breaks(Break::Never);
        self.outbox = Outbox::open(self.disk.clone(), Bounds { alerts_max: 1000, ..SMALL }, self.now);
        self.outbox.bounds = SMALL;
        let found = ids(&self.outbox);
        for (id, _) in &self.live {
            assert!(!self.saved.contains(id) || found.contains(id), "alert {id} was saved and vanished: {found:?}");
        }
        assert!(found.is_sorted(), "{found:?}");
        assert!(found.iter().all(|id| *id < self.next_id), "{found:?}");
        if self.healthy && !power_cut {
            let live: Vec<u64> = self.live.iter().map(|(id, _)| *id).collect();
            assert_eq!(found, live, "nothing failed, so nothing is repeated");
        }
        assert_eq!(self.disk.files("compact").len(), 0, "leftovers are gone");
        self.live = self.outbox.entries.values().map(|entry| (id_of(&entry.payload), entry.class)).collect();
        self.outbox.make_room();
        self.outbox.tick(self.now);
        let kept = ids(&self.outbox);
        self.live.retain(|(id, _)| kept.contains(id));
        self.saved = kept.into_iter().collect();
        self.healthy = !self.outbox.failed && self.outbox.bad() == 0;
        self.outbox.changes().for_each(drop);
    }
}

#[derive(Debug, Clone)]
enum Op {
    Append(u64, bool),
    Ack(usize),
    Errors(u64, bool),
    Tick(u64),
    Restart(bool),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (1..4u64, any::<bool>()).prop_map(|(count, alarm)| Op::Append(count, alarm)),
        5 => any::<usize>().prop_map(Op::Ack),
        1 => (1..6u64, any::<bool>()).prop_map(|(calls, full)| Op::Errors(calls, full)),
        1 => (1..100u64).prop_map(Op::Tick),
        1 => any::<bool>().prop_map(Op::Restart),
    ]
}

fn run(model: &mut Model, ops: &[Op]) {
    for op in ops {
        match *op {
            Op::Append(count, alarm) => model.append(count, if alarm { Class::Alarm } else { Class::Supervision }),
            Op::Ack(index) => model.ack(index),
            Op::Errors(calls, full) => model.disk.breaks(Break::Errors(calls, if full { ENOSPC } else { EIO })),
            Op::Tick(seconds) => model.tick(seconds),
            Op::Restart(power_cut) => model.restart(power_cut),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn whatever_happens_nothing_vanishes(ops in proptest::collection::vec(op(), 1..80), seed in any::<u64>()) {
        let mut model = Model::new(seed);
        run(&mut model, &ops);
        model.disk.breaks(Break::Never);
        model.tick(120);
        prop_assert!(!model.outbox.failed, "a healed disk is used again");
        model.restart(false);
    }
}

#[test]
fn power_cut_at_every_call() {
    let ops: Vec<Op> =
        (0..40usize).flat_map(|n| [Op::Append(1 + n as u64 % 3, n % 2 == 0), Op::Ack(n * 7), Op::Ack(n * 3)]).collect();
    let mut whole = Model::new(0);
    run(&mut whole, &ops);
    let calls = whole.disk.calls();
    assert!(calls > 150, "{calls}");
    for at in 1..=calls {
        for seed in 0..8 {
            let mut model = Model::new(seed);
            model.disk.breaks(Break::PowerAt(at));
            run(&mut model, &ops);
            model.restart(true);
            // And it works on from there.
            model.append(2, Class::Alarm);
            model.restart(true);
        }
    }
}

#[test]
fn a_flipped_bit_costs_one_alert_and_the_file_is_kept() {
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..300 {
        let (disk, now) = (SimDisk::new(), Instant::now());
        let mut outbox = Outbox::open(disk.clone(), SMALL, now);
        outbox.append((1..=10).map(|id| alert(id, Class::Alarm, now)), now);
        drop(outbox);
        let files = disk.files("segment-");
        let name = &files[random.random_range(0..files.len())];
        let bit = random.random_range(0..disk.bytes(name).len() * 8);
        disk.edit(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let outbox = Outbox::open(disk.clone(), SMALL, now);
        assert_eq!(outbox.len(), 9);
        if outbox.bad() == 1 {
            assert_eq!(disk.files("bad-").len(), 1);
        }
        drop(outbox);
        assert_eq!(Outbox::open(disk.clone(), SMALL, now).len(), 9);
    }
}

#[test]
fn few_bad_files_are_kept() {
    let (disk, now) = (SimDisk::new(), Instant::now());
    for id in 0..10 {
        let mut outbox = Outbox::open(disk.clone(), SMALL, now);
        outbox.append([alert(id, Class::Alarm, now), alert(100 + id, Class::Alarm, now)], now);
        drop(outbox);
        let name = disk.files("segment-").pop().unwrap();
        disk.edit(&name, |bytes| bytes[30] ^= 1);
    }
    Outbox::open(disk.clone(), SMALL, now);
    assert_eq!(disk.files("bad-").len(), crate::limits::BAD_FILES_MAX);
}

#[test]
fn a_full_box_drops_supervision_first() {
    let (disk, now) = (SimDisk::new(), Instant::now());
    let mut outbox = Outbox::open(disk, SMALL, now);
    outbox.append((1..=6).map(|id| alert(id, Class::Alarm, now)), now);
    outbox.append((7..=12).map(|id| alert(id, Class::Supervision, now)), now);
    outbox.append((13..=16).map(|id| alert(id, Class::Alarm, now)), now);
    assert_eq!(ids(&outbox), [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16]);
    assert_eq!(outbox.dropped(), 4);
    outbox.append((17..=20).map(|id| alert(id, Class::Alarm, now)), now);
    assert_eq!(ids(&outbox), [3, 4, 5, 6, 13, 14, 15, 16, 17, 18, 19, 20]);
    outbox.append([alert(21, Class::Supervision, now)], now);
    assert!(!ids(&outbox).contains(&21), "supervision never pushes an alarm out");
    assert_eq!(outbox.dropped(), 9);
}

#[test]
fn a_fresh_alarm_goes_before_the_backlog() {
    let (disk, start) = (SimDisk::new(), Instant::now());
    let mut outbox = Outbox::open(disk, SMALL, start);
    outbox.append([alert(1, Class::Alarm, start), alert(2, Class::Supervision, start)], start);
    let now = start + FRESH;
    outbox.append([alert(3, Class::Supervision, now)], now);
    outbox.append([alert(4, Class::Alarm, now), alert(5, Class::Alarm, now)], now);
    let order: Vec<_> = std::iter::from_fn(|| outbox.offer(now).map(|offer| id_of(offer.payload))).collect();
    assert_eq!(order, [4, 5, 1, 2, 3]);
    outbox.offer_all();
    let later = now + FRESH;
    let order: Vec<_> = std::iter::from_fn(|| outbox.offer(later).map(|offer| id_of(offer.payload))).collect();
    assert_eq!(order, [1, 2, 3, 4, 5]);
}

/// By it the session knows whether the broker is to be tried often.
#[test]
fn an_alarm_that_waits_is_known_while_it_is_news() {
    let (disk, start, hour) = (SimDisk::new(), Instant::now(), Duration::from_secs(3600));
    let mut outbox = Outbox::open(disk.clone(), SMALL, start);
    outbox.append([alert(1, Class::Supervision, start)], start);
    assert!(!outbox.holds_alarm(hour, start));
    outbox.append([alert(2, Class::Alarm, start), alert(3, Class::Supervision, start)], start);
    assert!(outbox.holds_alarm(hour, start));
    let sent = outbox.offer(start).map(|offer| offer.key).unwrap();
    assert!(outbox.holds_alarm(hour, start), "sent is not delivered");
    assert!(!outbox.holds_alarm(hour, start + hour), "an hour later nobody runs");
    outbox.ack(sent, start);
    assert!(!outbox.holds_alarm(hour, start));
    outbox.append([alert(4, Class::Alarm, start)], start);
    drop(outbox);
    assert!(!Outbox::open(disk, SMALL, start).holds_alarm(hour, start), "of before the restart, however old");
}

#[test]
fn a_full_disk_is_reported_once_and_restored() {
    let (disk, start) = (SimDisk::new(), Instant::now());
    let mut outbox = Outbox::open(disk.clone(), SMALL, start);
    disk.breaks(Break::Errors(u64::MAX, ENOSPC));
    for id in 1..=3 {
        outbox.append([alert(id, Class::Alarm, start)], start);
    }
    let changes: Vec<_> = outbox.changes().collect();
    assert!(matches!(&changes[..], [Change::Failed { cause }] if cause.contains("No space left")), "{changes:?}");
    // They go out all the same.
    assert_eq!(std::iter::from_fn(|| outbox.offer(start).map(|_| ())).count(), 3);
    disk.breaks(Break::Never);
    outbox.tick(start);
    assert_eq!(outbox.changes().count(), 0, "not before its time");
    outbox.tick(start + Duration::from_secs(120));
    assert_eq!(outbox.changes().collect::<Vec<_>>(), [Change::Restored]);
    drop(outbox);
    assert_eq!(ids(&Outbox::open(disk, SMALL, start)), [1, 2, 3]);
}

#[test]
fn one_failed_fsync_costs_a_new_segment() {
    let (disk, now) = (SimDisk::new(), Instant::now());
    let mut outbox = Outbox::open(disk.clone(), SMALL, now);
    outbox.append([alert(1, Class::Alarm, now)], now);
    disk.breaks(Break::Errors(1, EIO));
    outbox.append([alert(2, Class::Alarm, now)], now);
    assert_eq!(outbox.changes().count(), 2, "failed and restored");
    assert_eq!(disk.files("segment-").len(), 2);
    assert!(outbox.unsaved.is_empty());
}

#[test]
fn a_disk_that_comes_late_is_read_then() {
    let (disk, start) = (SimDisk::new(), Instant::now());
    let mut outbox = Outbox::open(disk.clone(), SMALL, start);
    outbox.append([alert(1, Class::Alarm, start), alert(2, Class::Alarm, start)], start);
    drop(outbox);
    disk.breaks(Break::Errors(u64::MAX, EIO));
    let mut outbox = Outbox::open(disk.clone(), SMALL, start);
    outbox.append([alert(3, Class::Alarm, start)], start);
    assert_eq!(ids(&outbox), [3]);
    disk.breaks(Break::Never);
    outbox.tick(start + Duration::from_secs(120));
    assert_eq!(ids(&outbox), [1, 2, 3]);
    drop(outbox);
    assert_eq!(ids(&Outbox::open(disk, SMALL, start)), [1, 2, 3]);
}

#[test]
fn acknowledged_alerts_leave_the_disk() {
    let (disk, now) = (SimDisk::new(), Instant::now());
    let mut outbox = Outbox::open(disk.clone(), SMALL, now);
    let mut most = 0;
    for id in 0..500 {
        outbox.append([alert(id, Class::Alarm, now)], now);
        let key = outbox.offer(now).unwrap().key;
        outbox.ack(key, now);
        most = most.max(disk.files("segment-").iter().map(|name| disk.bytes(name).len()).sum());
    }
    assert!(outbox.is_empty());
    assert!(most < 1200, "{most} bytes");
}

#[test]
fn one_alert_that_stays_does_not_keep_the_rest_on_disk() {
    let (disk, now) = (SimDisk::new(), Instant::now());
    let mut outbox = Outbox::open(disk.clone(), SMALL, now);
    outbox.append([alert(0, Class::Alarm, now)], now);
    let stays = outbox.offer(now).unwrap().key;
    let mut most = 0;
    for id in 1..500 {
        outbox.append([alert(id, Class::Alarm, now)], now);
        let key = outbox.offer(now).unwrap().key;
        assert_ne!(key, stays);
        outbox.ack(key, now);
        most = most.max(disk.files("segment-").iter().map(|name| disk.bytes(name).len()).sum());
    }
    assert_eq!(ids(&Outbox::open(disk, SMALL, now)), [0]);
    assert!(most < 2000, "{most} bytes");
}

/// The real folder, cut at every byte of its only segment.
#[test]
fn a_real_folder_cut_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (path, now) = (folder.path().join("outbox"), Instant::now());
    let mut outbox = Outbox::open(Folder::new(path.clone()), Bounds::default(), now);
    for id in 1..=5 {
        outbox.append([alert(id, Class::Alarm, now)], now);
    }
    drop(outbox);
    let name = std::fs::read_dir(&path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("segment-"))
        .unwrap();
    let whole = std::fs::read(&name).unwrap();
    let each = whole.len() / 5;
    for cut in 0..=whole.len() {
        std::fs::write(&name, &whole[..cut]).unwrap();
        let outbox = Outbox::open(Folder::new(path.clone()), Bounds::default(), now);
        assert_eq!(ids(&outbox), (1..=(cut / each) as u64).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!((outbox.bad(), outbox.failed), (0, false));
        std::fs::write(&name, &whole).unwrap();
    }
}

#[test]
fn two_processes_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let first = Outbox::open(Folder::new(folder.path().into()), Bounds::default(), now);
    let mut second = Outbox::open(Folder::new(folder.path().into()), Bounds::default(), now);
    let changes: Vec<_> = second.changes().collect();
    assert!(matches!(&changes[..], [Change::Failed { cause }] if cause.contains("another screamd")), "{changes:?}");
    drop(first);
    second.tick(now + Duration::from_secs(10));
    assert_eq!(second.changes().collect::<Vec<_>>(), [Change::Restored]);
}

/// Printed, not judged: `cargo test --release -p hub -- --nocapture wear`.
#[test]
fn wear_of_a_thousand_alerts() {
    let folder = tempfile::tempdir().unwrap();
    let now = Instant::now();
    let mut outbox = Outbox::open(Folder::new(folder.path().into()), Bounds::default(), now);
    let written = || {
        let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse::<u64>().ok()).unwrap_or(0)
    };
    let (before, began) = (written(), Instant::now());
    for id in 0..1000 {
        let payload = format!("{{\"id\":\"{id}\",\"detail\":\"{}\"}}", "x".repeat(300)).into_bytes();
        outbox.append([Alert { class: Class::Alarm, payload, since: now }], now);
        let key = outbox.offer(now).unwrap().key;
        outbox.ack(key, now);
    }
    outbox.close(now);
    println!("1000 alerts: {} KiB handed to the disk, {:?}", (written() - before) / 1024, began.elapsed());
    assert!(outbox.is_empty());
    let left: u64 =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(left <= SEGMENT_BYTES_MAX, "{left} bytes left");
}

#[test]
fn a_full_box_opens_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let mut outbox = Outbox::open(Folder::new(folder.path().into()), Bounds::default(), start);
    let full = |id| Alert {
        class: Class::Alarm,
        payload: format!("{{\"id\":\"{id}\",\"detail\":\"{}\"}}", "x".repeat(350)).into_bytes(),
        since: start,
    };
    outbox.append((0..ALERTS_MAX as u64).map(full), start);
    assert_eq!((outbox.len(), outbox.dropped(), outbox.failed), (ALERTS_MAX, 0, false));
    drop(outbox);
    let began = Instant::now();
    let mut outbox = Outbox::open(Folder::new(folder.path().into()), Bounds::default(), start);
    let opened = began.elapsed();
    assert_eq!(ids(&outbox), (0..ALERTS_MAX as u64).collect::<Vec<_>>());
    let began = Instant::now();
    while let Some(key) = outbox.offer(start).map(|offer| offer.key) {
        outbox.ack(key, start);
    }
    println!("{ALERTS_MAX} alerts: opened in {opened:?}, acknowledged in {:?}", began.elapsed());
    outbox.close(start);
    let left = Folder::new(folder.path().into()).list().unwrap();
    assert!(left.len() <= 2, "{left:?}");
}

#[test]
fn a_broker_away_for_a_day_gets_every_alert_within_ten_minutes() {
    const AWAY: Duration = Duration::from_secs(86_400);
    let start = Instant::now();
    let mut outbox = Outbox::open(SimDisk::new(), Bounds::default(), start);
    let last = 9_999;
    for id in 0..last {
        // The last of them a minute before the broker is back: none of the backlog counts as fresh.
        let now = start + (AWAY - Duration::from_secs(60)).mul_f64(id as f64 / last as f64);
        outbox.append([alert(id, Class::Alarm, now)], now);
    }
    let back = start + AWAY;
    outbox.append([alert(last, Class::Alarm, back)], back);

    let (mut now, mut pace, mut delivered) = (back, Pace::new(back), Vec::new());
    while !outbox.is_empty() {
        assert!(pace.take(now));
        let offer = outbox.offer(now).expect("what is not acknowledged waits");
        let moment = Moment { now, wall: None, boot_id: None, uptime_ms: None };
        delivered.push((id_of(offer.payload), delayed_s(&offer, &moment)));
        let key = offer.key;
        outbox.ack(key, now);
        now = pace.next();
    }
    assert_eq!(delivered[0].0, last, "the alarm of this moment goes before the backlog");
    assert!(delivered[1..].iter().map(|(id, _)| *id).eq(0..last), "then the oldest first, none lost, none twice");
    assert!(delivered[1].1 >= AWAY.as_secs_f64() && delivered[0].1 == 0.0, "{:?}", &delivered[..2]);
    assert!(now - back <= Duration::from_secs(600), "{:?}", now - back);
    assert_eq!(outbox.dropped(), 0);
}
