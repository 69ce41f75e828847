//! Random programs on the simulated disk: writes of every kind, flushes, compactions, snapshots,
//! reopens with other options, and power loss at any time, against a map with history.
//!
//! `TOYKV_CRASH_FULL=1` runs many more, a larger number that many;
//! `TOYKV_CRASH_SEED=n` runs one.

use std::env;

use toykv::sim::{CrashPolicy, SimDisk};
use toykv::{Durability, Options, Result, ScanOptions, SeqNo};

use crate::oracle::{
    Commit, Dice, History, Map, Run, check_db, key_of, open_rest, read_all, value_of,
};

const DURABILITIES: [Durability; 3] = [Durability::Process, Durability::Interval, Durability::Sync];

fn random_options(dice: &mut Dice) -> Options {
    Options::new()
        .durability(dice.pick(&DURABILITIES))
        .sync_interval_ms(dice.pick(&[1, 5, 1000]))
        .memtable_size_bytes(dice.pick(&[64 << 10, 64 << 10, 128 << 10, 1 << 20]))
        .backlog_limit_bytes(2 << 20)
        .value_threshold_bytes(dice.pick(&[64, 500, 1024, 1 << 20]))
        .space_amplification_percent(dice.pick(&[110, 150, 300]))
}

fn random_value(dice: &mut Dice) -> Vec<u8> {
    let longest = dice.pick(&[0, 10, 100, 300, 2000, 9000]);
    let len = dice.below(longest + 1) as usize;
    value_of(dice.word(), len)
}

fn random_commit(dice: &mut Dice, keys: u64, entries: u64) -> Commit {
    let entry = |dice: &mut Dice| {
        let key = if dice.below(200) == 0 { Vec::new() } else { key_of(dice.below(keys)) };
        let value = (dice.below(4) > 0).then(|| random_value(dice));
        (key, value)
    };
    (0..entries).map(|_| entry(dice)).collect()
}

/// One random call.
fn step(run: &mut Run, dice: &mut Dice, keys: u64) -> Result<()> {
    let how = dice.pick(&DURABILITIES);
    match dice.below(200) {
        0..=139 => run.write(random_commit(dice, keys, 1), how),
        140..=169 => {
            let entries = 2 + dice.below(20);
            run.write(random_commit(dice, keys, entries), how)
        }
        170..=179 => run.sync(),
        180..=184 => run.db().flush(),
        185..=186 => run.compact(),
        187 => run.gc(),
        188..=190 => run.reopen(),
        191 => {
            let mut commit = random_commit(dice, keys, 10);
            commit.push((key_of(1), Some(value_of(dice.word(), 1200 << 10))));
            run.write_oversized(commit)
        }
        192..=194 => run.pop(dice.below(2) == 0),
        _ => read(run, dice, keys),
    }
}

/// Reads in several ways; what is shown is the newest state.
fn read(run: &Run, dice: &mut Dice, keys: u64) -> Result<()> {
    let state = run.history.newest();
    let snapshot = run.db().snapshot()?;
    let key = key_of(dice.below(keys));
    assert_eq!(run.db().get(&key)?.as_deref(), state.get(&key).map(|value| &value[..]));
    let mut expected: Vec<_> = state.into_iter().collect();
    let reverse = dice.below(2) == 0;
    if reverse {
        expected.reverse();
    }
    let scan = snapshot.scan(&ScanOptions::new().reverse(reverse))?;
    assert!(scan.collect::<Result<Vec<_>>>()? == expected, "a scan shows another state");
    assert_eq!(run.db().len()?, expected.len() as u64);
    Ok(())
}

/// What a life begins with, and the sequence number of it.
type Base = (Map, SeqNo);

/// One life of a process: opens, works, and dies with the power. Answers what is left.
fn live(disk: SimDisk, base: Base, dice: &mut Dice) -> (SimDisk, Base) {
    if dice.below(2) == 0 {
        disk.set_write_back(dice.pick(&[5, 30, 80]), dice.word());
    }
    if dice.below(3) > 0 {
        let span = dice.pick(&[20, 60, 200]);
        disk.crash_at_change(disk.change_count() + dice.below(span));
    }
    let mut run = Run::new(disk, random_options(dice));
    run.history = History::starting_with(base.0, base.1);
    let keys = dice.pick(&[10, 100, 2000]);
    let most = dice.pick(&[10, 100, 600]);
    let steps = dice.below(most);
    let result = run.open().and_then(|()| (0..steps).try_for_each(|_| step(&mut run, dice, keys)));
    if let Err(error) = &result {
        assert!(run.disk.is_off(), "with the power on: {error}");
    }
    run.disk.power_off();
    run.drop_db();
    let mut policy = CrashPolicy::random(dice.word());
    if dice.below(4) == 0 {
        policy = CrashPolicy::KEEP_ALL;
    }
    let least =
        if policy == CrashPolicy::KEEP_ALL { run.history.kept } else { run.history.durable };
    let image = run.disk.crash_image(&policy, dice.word());
    // Some crashes meet the recovery of the one before.
    let again = dice.below(3) == 0;
    if again {
        image.crash_at_change(dice.below(30));
    }
    let opened = open_rest(&image, &random_options(dice), &run.history);
    let db = match opened {
        Ok(db) => db,
        Err(error) => {
            assert!(image.is_off(), "after {policy:?}: {error}");
            let image = image.crash_image(&CrashPolicy::random(dice.word()), dice.word());
            return finish(image, &run, dice, least);
        }
    };
    let count =
        check_db(&db, &run.history, least).unwrap_or_else(|what| panic!("{policy:?}: {what}"));
    let seqno = db.stats().seqno;
    drop(db);
    if image.is_off() {
        return finish(image.crash_image(&policy, dice.word()), &run, dice, count);
    }
    (image, (run.history.state(count), seqno))
}

/// Opens without a crash and answers what is there.
fn finish(image: SimDisk, run: &Run, dice: &mut Dice, least: usize) -> (SimDisk, Base) {
    let db = image.open_db(crate::oracle::PATH, &random_options(dice)).unwrap();
    check_db(&db, &run.history, least).unwrap();
    let base = (read_all(&db).unwrap(), db.stats().seqno);
    db.close().unwrap();
    (image, base)
}

fn lives(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut dice = Dice::new(seed);
        let (mut disk, mut base) = (SimDisk::new(), (Map::new(), 0));
        for life in 0..12 {
            let _shown = Shown { seed, life };
            (disk, base) = live(disk, base, &mut dice);
        }
    }
}

/// Says in a panic where the program was.
struct Shown {
    seed: u64,
    life: u64,
}

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("random program {}, life {}", self.seed, self.life);
        }
    }
}

fn programs() -> u64 {
    match env::var("TOYKV_CRASH_FULL") {
        Ok(text) => text.parse().ok().filter(|count| *count > 1).unwrap_or(5000),
        Err(_) => 100,
    }
}

#[test]
fn random_programs_with_power_loss() {
    let only = env::var("TOYKV_CRASH_SEED").ok().and_then(|seed| seed.parse().ok());
    lives(only.map_or(0..programs(), |seed: u64| seed..seed + 1));
}

#[test]
fn random_programs_with_power_loss_in_another_order() {
    lives(1_000_000..1_000_000 + programs());
}
