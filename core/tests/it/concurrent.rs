//! SNAP, LIN and BYTES while everything happens at once: readers beside writers, flushes,
//! compactions and close, against what each write says about itself.
//!
//! A writer gives its numbers 1, 2, 3 ... to its own keys in turn, each under two keys (twins)
//! in one batch. So every state that a reader may see is known from its newest number: each slot
//! holds the largest number that belongs to it. `acknowledged` says what readers must see at least,
//! `begun` what they can see at most.
//!
//! `TOYKV_CONCURRENT_NUMBERS=100000` makes the runs longer.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use toykv::{Db, ErrorKind, Options, Scan, ScanOptions, Snapshot, Value, WriteBatch};

use crate::support::{Random, number_from_env, value_of};

const WRITERS: u64 = 2;
const READERS: u64 = 8;
/// Pairs of keys of each writer.
const SLOTS: u64 = 150;

/// How far the writers are.
#[derive(Default)]
struct Progress {
    begun: [AtomicU64; WRITERS as usize],
    acknowledged: [AtomicU64; WRITERS as usize],
    done: AtomicBool,
}

impl Progress {
    fn acknowledged(&self) -> [u64; WRITERS as usize] {
        std::array::from_fn(|writer| self.acknowledged[writer].load(Ordering::SeqCst))
    }

    fn begun(&self) -> [u64; WRITERS as usize] {
        std::array::from_fn(|writer| self.begun[writer].load(Ordering::SeqCst))
    }
}

fn options() -> Options {
    Options::new()
        .memtable_size_bytes(128 << 10)
        .backlog_limit_bytes(512 << 10)
        .value_threshold_bytes(600)
}

fn key(writer: u64, slot: u64, twin: u64) -> Vec<u8> {
    format!("{slot:03}/{writer}/{twin}").into_bytes()
}

fn value(writer: u64, n: u64) -> Vec<u8> {
    let len = if n.is_multiple_of(7) { 700 } else { n % 120 };
    [&n.to_le_bytes()[..], &value_of(n * WRITERS + writer, len as usize)].concat()
}

/// The number in a value, which must be whole.
fn number(writer: u64, found: &[u8]) -> u64 {
    let n = u64::from_le_bytes(found[..8].try_into().unwrap());
    assert!(found == value(writer, n), "BYTES: value {n} of writer {writer}");
    n
}

/// The largest number up to `newest` that belongs into a slot; every ninth number deletes.
fn in_slot(slot: u64, newest: u64) -> Option<u64> {
    let n = (newest.saturating_sub(SLOTS - 1)..=newest).find(|n| n % SLOTS == slot)?;
    (n > 0 && n % 9 != 0).then_some(n)
}

fn write_numbers(db: &Db, writer: u64, count: u64, progress: &Progress) -> toykv::Result<()> {
    for n in 1..=count {
        let mut batch = WriteBatch::new();
        for twin in 0..2 {
            let key = key(writer, n % SLOTS, twin);
            match n % 9 {
                0 => batch.delete(&key)?,
                _ => batch.put(&key, &value(writer, n))?,
            }
        }
        progress.begun[writer as usize].store(n, Ordering::SeqCst);
        db.write(&batch)?;
        progress.acknowledged[writer as usize].store(n, Ordering::SeqCst);
    }
    Ok(())
}

/// One key by itself: not older than what was acknowledged before, not newer than begun after.
fn read_one(db: &Db, progress: &Progress, random: &mut Random) -> toykv::Result<()> {
    let (writer, slot) = (random.below(WRITERS), random.below(SLOTS));
    let least = progress.acknowledged()[writer as usize];
    let found = db.get(&key(writer, slot, random.below(2)))?;
    let most = progress.begun()[writer as usize];
    match found {
        Some(found) => {
            let n = number(writer, &found);
            assert!(n <= most && n % SLOTS == slot, "number {n} of {most}");
            let newest = in_slot_or_deleted(slot, least);
            assert!(n >= newest, "an acknowledged write is missed: {n}, not {newest}");
        }
        // Absent now: some number that deletes, or none at all, must be possible.
        None => {
            let possible = (least..=most).any(|newest| in_slot(slot, newest).is_none());
            assert!(possible, "slot {slot} is missed between {least} and {most}");
        }
    }
    Ok(())
}

/// As [`in_slot`], whether it puts or deletes; 0 when there is none.
fn in_slot_or_deleted(slot: u64, newest: u64) -> u64 {
    (newest.saturating_sub(SLOTS - 1)..=newest).find(|n| n % SLOTS == slot).unwrap_or(0)
}

/// The entries of one state: what each writer's newest number was must explain them all.
fn check_state(
    entries: &[(Vec<u8>, Vec<u8>)],
    least: [u64; WRITERS as usize],
    most: [u64; WRITERS as usize],
) {
    assert!(entries.is_sorted_by(|(a, _), (b, _)| a < b), "keys out of order");
    for writer in 0..WRITERS {
        let mut found = vec![None; SLOTS as usize * 2];
        for (key, value) in entries {
            let text = std::str::from_utf8(key).unwrap();
            let parts: Vec<u64> = text.split('/').map(|part| part.parse().unwrap()).collect();
            if parts[1] == writer {
                found[(parts[0] * 2 + parts[2]) as usize] = Some(number(writer, value));
            }
        }
        let (least, most) = (least[writer as usize], most[writer as usize]);
        let newest_put = found.iter().flatten().max().copied().unwrap_or(0);
        let expected =
            |newest: u64| (0..SLOTS * 2).map(|i| in_slot(i / 2, newest)).eq(found.iter().copied());
        // A newest number that deletes is not to be seen itself.
        let newest = (newest_put..newest_put + 3).find(|newest| expected(*newest));
        let Some(newest) = newest else { panic!("writer {writer}: no state explains {found:?}") };
        let reached = newest >= least || (newest..=least).all(|n| n == newest || n % 9 == 0);
        assert!(reached, "writer {writer}: state {newest}, acknowledged {least}");
        assert!(newest_put <= most, "writer {writer}: state {newest_put}, begun {most}");
    }
}

fn collect(scan: Scan) -> toykv::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    scan.collect()
}

fn scan_all(db: &Db, progress: &Progress, reverse: bool) -> toykv::Result<()> {
    let least = progress.acknowledged();
    let scan = db.scan(&ScanOptions::new().reverse(reverse))?;
    let most = progress.begun();
    let mut entries = collect(scan)?;
    if reverse {
        entries.reverse();
    }
    check_state(&entries, least, most);
    Ok(())
}

fn twins(db: &Db, random: &mut Random) -> toykv::Result<()> {
    let (writer, slot) = (random.below(WRITERS), random.below(SLOTS));
    let found = db.multi_get(&[key(writer, slot, 0), key(writer, slot, 1)])?;
    assert!(found[0] == found[1], "ATOM: twins differ");
    Ok(())
}

/// Something held for a while: it must show later what it showed, or would have shown, first.
struct Held {
    snapshot: Option<Snapshot>,
    scan: Scan,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    value: Option<(Value, Vec<u8>)>,
}

fn hold(db: &Db, progress: &Progress, random: &mut Random) -> toykv::Result<Held> {
    let least = progress.acknowledged();
    let snapshot = db.snapshot()?;
    let most = progress.begun();
    let entries = collect(snapshot.scan(&ScanOptions::new())?)?;
    check_state(&entries, least, most);
    let scan = snapshot.scan(&ScanOptions::new())?;
    let key = key(random.below(WRITERS), random.below(SLOTS), 0);
    let value = snapshot.get(&key)?.map(|value| (value.clone(), value.to_vec()));
    let snapshot = (random.below(2) == 0).then_some(snapshot);
    Ok(Held { snapshot, scan, entries, value })
}

fn check_held(held: Held) -> toykv::Result<()> {
    let Held { snapshot, scan, entries, value } = held;
    if let Some((value, bytes)) = value {
        assert!(value[..] == bytes[..], "a value changed");
    }
    assert!(collect(scan)? == entries, "SNAP: a scan changed");
    if let Some(snapshot) = snapshot {
        let backwards = ScanOptions::new().reverse(true);
        let mut again = collect(snapshot.scan(&backwards)?)?;
        again.reverse();
        assert!(again == entries, "SNAP: a snapshot changed");
        for (key, value) in entries.iter().step_by(7) {
            assert!(snapshot.get(key)?.as_deref() == Some(&value[..]), "SNAP: get");
        }
    }
    Ok(())
}

/// Reads until the writers are done or the database is closed.
fn read(db: &Db, progress: &Progress, seed: u64) -> toykv::Result<()> {
    let mut random = Random::new(seed);
    let mut held: Vec<Held> = Vec::new();
    while !progress.done.load(Ordering::SeqCst) {
        match random.below(40) {
            0 => scan_all(db, progress, false)?,
            1 => scan_all(db, progress, true)?,
            2 if held.len() < 4 => held.push(hold(db, progress, &mut random)?),
            3 if !held.is_empty() => {
                check_held(held.swap_remove(random.below(held.len() as u64) as usize))?;
            }
            4 => assert!(db.len()? <= WRITERS * SLOTS * 2),
            5..15 => twins(db, &mut random)?,
            _ => read_one(db, progress, &mut random)?,
        }
    }
    held.into_iter().try_for_each(check_held)
}

/// Flushes and compacts until the writers are done.
fn disturb(db: &Db, progress: &Progress, seed: u64) -> toykv::Result<()> {
    let mut random = Random::new(seed);
    while !progress.done.load(Ordering::SeqCst) {
        match random.below(3) {
            0 => db.flush()?,
            1 => db.compact(Bound::Unbounded, Bound::Unbounded)?,
            _ => {
                let middle = key(0, random.below(SLOTS), 0);
                db.compact(Bound::Included(&middle), Bound::Unbounded)?;
            }
        }
        std::thread::yield_now();
    }
    Ok(())
}

fn numbers() -> u64 {
    number_from_env("TOYKV_CONCURRENT_NUMBERS", 6000)
}

#[test]
fn readers_see_whole_states_while_everything_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &options()).unwrap();
    let progress = Progress::default();
    std::thread::scope(|scope| {
        let (db, progress) = (&db, &progress);
        for reader in 0..READERS {
            scope.spawn(move || read(db, progress, reader).unwrap());
        }
        for seed in 0..2 {
            scope.spawn(move || disturb(db, progress, seed).unwrap());
        }
        let write = |writer| scope.spawn(move || write_numbers(db, writer, numbers(), progress));
        let writers: Vec<_> = (0..WRITERS).map(write).collect();
        let results: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        progress.done.store(true, Ordering::SeqCst);
        results.into_iter().for_each(|result| result.unwrap().unwrap());
    });
    let all = [numbers(); WRITERS as usize];
    check_state(&collect(db.scan(&ScanOptions::new()).unwrap()).unwrap(), all, all);
    db.close().unwrap();
    let db = Db::open(dir.path(), &options()).unwrap();
    let entries = collect(db.scan(&ScanOptions::new()).unwrap()).unwrap();
    check_state(&entries, all, all);
    assert_eq!(db.len().unwrap(), entries.len() as u64);
}

/// Nothing but the answer that the database is closed ends a thread early.
fn closed(result: toykv::Result<()>) {
    if let Err(error) = result {
        // A compaction under way is told to stop.
        assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Cancelled), "{error:?}");
    }
}

#[test]
fn close_under_readers_and_writers_leaves_right_answers_or_closed() {
    let mut random = Random::new(number_from_env("TOYKV_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    for round in 0..number_from_env("TOYKV_CONCURRENT_CLOSES", 12) {
        let path = dir.path().join(round.to_string());
        let db = Db::open(&path, &options()).unwrap();
        let progress = Progress::default();
        let stop_at = random.below(3000);
        std::thread::scope(|scope| {
            let (db, progress) = (&db, &progress);
            for reader in 0..READERS {
                scope.spawn(move || closed(read(db, progress, reader + round)));
            }
            scope.spawn(move || closed(disturb(db, progress, round)));
            for writer in 0..WRITERS {
                scope.spawn(move || closed(write_numbers(db, writer, u64::MAX, progress)));
            }
            while progress.acknowledged()[0] < stop_at {
                std::thread::yield_now();
            }
            // Two at once: both return when it is closed.
            let other = scope.spawn(move || db.close());
            db.close().unwrap();
            other.join().unwrap().unwrap();
            progress.done.store(true, Ordering::SeqCst);
            assert_eq!(db.get(b"").unwrap_err().kind(), ErrorKind::Closed);
        });
        let (least, most) = (progress.acknowledged(), progress.begun());
        let db = Db::open(&path, &options()).unwrap();
        check_state(&collect(db.scan(&ScanOptions::new()).unwrap()).unwrap(), least, most);
    }
}

#[test]
fn every_entry_is_popped_by_exactly_one_thread() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), &options()).unwrap();
    const COUNT: u64 = 6000;
    let popped = std::sync::Mutex::new(Vec::new());
    let left = AtomicU64::new(COUNT);
    std::thread::scope(|scope| {
        let (db, popped, left) = (&db, &popped, &left);
        for first in [true, false, true] {
            scope.spawn(move || {
                while left.load(Ordering::SeqCst) > 0 {
                    let entry = if first { db.pop_first() } else { db.pop_last() }.unwrap();
                    let Some((key, value)) = entry else { continue };
                    assert!(value[..] == value_of(0, key.len() * 50)[..]);
                    popped.lock().unwrap().push(key);
                    left.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
        scope.spawn(move || {
            while left.load(Ordering::SeqCst) > 0 {
                db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
            }
        });
        for half in 0..2 {
            scope.spawn(move || {
                for i in (half..COUNT).step_by(2) {
                    let key = format!("{}", i.wrapping_mul(2_654_435_761) % 1_000_003);
                    db.put(key.as_bytes(), &value_of(0, key.len() * 50)).unwrap();
                }
            });
        }
    });
    let mut popped = popped.into_inner().unwrap();
    popped.sort();
    popped.dedup();
    assert_eq!(popped.len() as u64, COUNT);
    assert_eq!(db.len().unwrap(), 0);
}
