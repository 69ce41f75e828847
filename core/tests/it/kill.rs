//! ATOM, NOHOLE, ACK and MONO when the process dies: a child is killed again and again; this
//! process keeps the oracle.
//!
//! What the child does is a function of a seed and the number of the operation, so both sides know
//! it; the sequence number that is found after a kill says how many operations survived, and then
//! everything must be as those, and no other, have left it.
//!
//! `TOYKV_KILL_ROUNDS=10000 cargo test -p toykv --features sim --test it kill` runs for longer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use toykv::{Db, Durability, Options, ScanOptions, WriteBatch};

use crate::support::{Random, again, number_from_env, value_of};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const KEYS: u64 = 400;
/// Kills that one database lives through.
const KILLS_PER_DATABASE: u64 = 20;
/// Says to the child what to do: path, durability, seed, number of its first operation.
const WORK: &str = "TOYKV_KILL_WORK";

enum Op {
    Write(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    PopFirst,
    PopLast,
    Flush,
    Compact,
}

fn key(random: &mut Random) -> Vec<u8> {
    format!("key-{:04}", random.below(KEYS)).into_bytes()
}

fn entry(random: &mut Random, mark: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let key = key(random);
    let len = match random.below(10) {
        0 => return (key, None),
        1 => 3000,
        2 => 511 + random.below(3),
        _ => random.below(200),
    };
    (key, Some(value_of(mark ^ random.next(), len as usize)))
}

/// The operation with number `n`.
fn operation(seed: u64, n: u64) -> Op {
    let mut random = Random::new(seed ^ n.wrapping_mul(0x1234_5678_9abc_def1));
    let count = match random.below(1000) {
        0..700 => 1,
        700..950 => 2 + random.below(30),
        // About 90 KiB: more than the memtable takes.
        950..955 => 230,
        955..970 => return Op::PopFirst,
        970..985 => return Op::PopLast,
        985..995 => return Op::Flush,
        _ => return Op::Compact,
    };
    Op::Write((0..count).map(|_| entry(&mut random, n)).collect())
}

fn perform(db: &Db, op: Op) -> toykv::Result<()> {
    match op {
        Op::Write(entries) => {
            let mut batch = WriteBatch::new();
            for (key, value) in entries {
                match value {
                    Some(value) => batch.put(&key, &value)?,
                    None => batch.delete(&key)?,
                }
            }
            db.write(&batch).map(drop)
        }
        Op::PopFirst => db.pop_first().map(drop),
        Op::PopLast => db.pop_last().map(drop),
        Op::Flush => db.flush(),
        Op::Compact => db.compact(Bound::Unbounded, Bound::Unbounded),
    }
}

/// Does to the model what the operation does; answers how many sequence numbers it takes.
fn apply(model: &mut Model, op: Op) -> u64 {
    match op {
        Op::Write(entries) => {
            let count = entries.len() as u64;
            for (key, value) in entries {
                match value {
                    Some(value) => drop(model.insert(key, value)),
                    None => drop(model.remove(&key)),
                }
            }
            count
        }
        Op::PopFirst => model.pop_first().is_some().into(),
        Op::PopLast => model.pop_last().is_some().into(),
        Op::Flush | Op::Compact => 0,
    }
}

fn options(durability: Durability) -> Options {
    Options::new()
        .durability(durability)
        .sync_interval_ms(5)
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(256 << 10)
        .value_threshold_bytes(512)
}

fn durability_of(name: &str) -> Durability {
    match name {
        "process" => Durability::Process,
        "interval" => Durability::Interval,
        _ => Durability::Sync,
    }
}

/// The part of the child; in an ordinary run of the tests there is nothing to do.
#[test]
fn child() {
    let Ok(work) = std::env::var(WORK) else { return };
    let [path, durability, seed, first] = work.split('|').collect::<Vec<_>>()[..] else {
        panic!("{work}")
    };
    let (seed, first): (u64, u64) = (seed.parse().unwrap(), first.parse().unwrap());
    let mut out = std::io::stdout();
    out.write_all(b"\nopening\n").unwrap();
    let db = Db::open(path, &options(durability_of(durability))).unwrap();
    out.write_all(b"open\n").unwrap();
    for n in first.. {
        perform(&db, operation(seed, n)).unwrap();
        // Fails when the parent is gone.
        writeln!(out, "done {n}").unwrap();
    }
}

/// A child that dies with this value.
struct Victim {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Victim {
    fn start(test: &str, marker: &str, work: &str) -> Victim {
        let mut child = again(test, marker, work).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Victim { child, out }
    }

    /// The next line it says; `None` when it has died.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.ends_with('\n').then(|| line.trim_end().to_owned())
    }

    /// Kills it and answers what it has said before.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), None, "the child failed by itself");
        std::iter::from_fn(|| self.line()).collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The oracle of one database.
struct Oracle {
    seed: u64,
    model: Model,
    /// Operations and sequence numbers in the model.
    count: u64,
    seqno: u64,
}

impl Oracle {
    fn step(&mut self) {
        self.seqno += apply(&mut self.model, operation(self.seed, self.count));
        self.count += 1;
    }

    /// Opens the database after a kill; `acknowledged` operations must be there.
    fn check(&mut self, path: &Path, options: &Options, acknowledged: u64) {
        let db = Db::open(path, options).unwrap();
        let found = db.stats().seqno;
        while self.seqno < found {
            self.step();
        }
        assert_eq!(self.seqno, found, "ATOM: half a batch");
        while self.count < acknowledged {
            self.step();
        }
        assert_eq!(self.seqno, found, "ACK: {acknowledged} operations had been acknowledged");
        let entries: Vec<_> =
            db.scan(&ScanOptions::new()).unwrap().collect::<toykv::Result<_>>().unwrap();
        let expected: Vec<_> = self.model.clone().into_iter().collect();
        assert!(entries == expected, "NOHOLE: not the state after {} operations", self.count);
        assert_eq!(db.len().unwrap(), self.model.len() as u64);
        for i in 0..KEYS {
            let key = format!("key-{i:04}").into_bytes();
            let found = db.get(&key).unwrap();
            assert_eq!(found.as_deref(), self.model.get(&key).map(Vec::as_slice));
        }
    }
}

/// Kills a child `rounds` times, half of them while it opens or early, half anywhere.
fn kill_again_and_again(durability: &str, rounds: u64, most_operations: u64) {
    let mut random = Random::new(number_from_env("TOYKV_SEED", 1));
    let mut oracle = Oracle { seed: 0, model: Model::new(), count: 0, seqno: 0 };
    let mut dir = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        if round % KILLS_PER_DATABASE == 0 {
            let seed = random.next();
            oracle = Oracle { seed, model: Model::new(), count: 0, seqno: 0 };
            dir = tempfile::tempdir().unwrap();
            drop(Db::open(dir.path(), &options(durability_of(durability))).unwrap());
        }
        let path = dir.path();
        let work = format!("{}|{durability}|{}|{}", path.display(), oracle.seed, oracle.count);
        let mut victim = Victim::start("kill::child", WORK, &work);
        while victim.line().expect("the child begins") != "opening" {}
        if random.below(4) > 0 {
            assert_eq!(victim.line().as_deref(), Some("open"));
            let wanted = match random.below(2) {
                0 => random.below(10),
                _ => random.below(most_operations),
            };
            for n in 0..wanted {
                assert_eq!(victim.line(), Some(format!("done {}", oracle.count + n)));
            }
            oracle_catches_up(&mut oracle, wanted);
        } else {
            // Anywhere in recovery: it takes some milliseconds.
            std::thread::sleep(std::time::Duration::from_micros(random.below(15_000)));
        }
        let said = victim.kill();
        let acknowledged = said.iter().rev().find_map(|line| line.strip_prefix("done "));
        let acknowledged = acknowledged.map_or(oracle.count, |n| n.parse::<u64>().unwrap() + 1);
        // Reading only leaves the log for the next child to recover from.
        let read_only = random.below(2) == 0;
        let options = options(durability_of(durability)).read_only(read_only);
        oracle.check(path, &options, acknowledged);
    }
    println!("{rounds} kills at {durability}");
}

fn oracle_catches_up(oracle: &mut Oracle, count: u64) {
    for _ in 0..count {
        oracle.step();
    }
}

fn rounds() -> u64 {
    number_from_env("TOYKV_KILL_ROUNDS", 200) / 2
}

#[test]
fn what_was_acknowledged_survives_kills_at_process() {
    kill_again_and_again("process", rounds(), 600);
}

#[test]
fn what_was_acknowledged_survives_kills_at_sync() {
    kill_again_and_again("sync", rounds() * 2 / 3, 100);
}

/// As `WORK`, for the child with several writers: path only.
const WRITERS_WORK: &str = "TOYKV_KILL_WRITERS";
const WRITERS: [Durability; 3] = [Durability::Sync, Durability::Process, Durability::Interval];
/// Keys of each writer.
const SLOTS: u64 = 40;

fn slot_key(writer: usize, slot: u64, twin: bool) -> Vec<u8> {
    format!("{writer}-{slot:02}-{twin}").into_bytes()
}

/// Writes number after number, each under two keys in one batch, and says so.
fn write_numbers(db: &Db, writer: usize, first: u64) {
    let options = toykv::WriteOptions::new().durability(WRITERS[writer]);
    for n in first.. {
        let mut batch = WriteBatch::new();
        let value = value_of(n, 8 + (n * 131 % 900) as usize);
        let value = [&n.to_le_bytes()[..], &value].concat();
        batch.put(&slot_key(writer, n % SLOTS, false), &value).unwrap();
        batch.put(&slot_key(writer, n % SLOTS, true), &value).unwrap();
        let seqno = db.write_with(&batch, &options).unwrap();
        std::io::stdout().write_all(format!("{writer} {n} {seqno}\n").as_bytes()).unwrap();
    }
}

/// The part of the child with several writers.
#[test]
fn writers_child() {
    let Ok(work) = std::env::var(WRITERS_WORK) else { return };
    let (path, firsts) = work.split_once('|').unwrap();
    let db = Db::open(path, &options(Durability::Process)).unwrap();
    std::io::stdout().write_all(b"\nopen\n").unwrap();
    std::thread::scope(|scope| {
        for (writer, first) in firsts.split(' ').enumerate() {
            let (db, first) = (&db, first.parse().unwrap());
            scope.spawn(move || write_numbers(db, writer, first));
        }
    });
}

/// The number up to which the writes of one writer are there, which must be without a gap.
fn prefix_of(db: &Db, writer: usize) -> u64 {
    let number = |slot, twin| {
        let value = db.get(&slot_key(writer, slot, twin)).unwrap()?;
        let n = u64::from_le_bytes(value[..8].try_into().unwrap());
        assert!(value[8..] == value_of(n, 8 + (n * 131 % 900) as usize), "BYTES");
        Some(n)
    };
    let numbers: Vec<Option<u64>> = (0..SLOTS).map(|slot| number(slot, false)).collect();
    let last = numbers.iter().flatten().max().copied();
    for (slot, n) in (0..).zip(&numbers) {
        assert_eq!(*n, number(slot, true), "ATOM: writer {writer}, slot {slot}");
        let expected = last.and_then(|last| (0..=last).rev().find(|n| n % SLOTS == slot));
        assert_eq!(*n, expected, "NOHOLE: writer {writer}, slot {slot} of {last:?}");
    }
    last.map_or(0, |last| last + 1)
}

#[test]
fn what_several_writers_heard_survives_kills() {
    let mut random = Random::new(number_from_env("TOYKV_SEED", 1));
    let dir = tempfile::tempdir().unwrap();
    drop(Db::open(dir.path(), &options(Durability::Process)).unwrap());
    let mut next = [0u64; WRITERS.len()];
    let mut newest = 0;
    for _ in 0..rounds() / 3 {
        let [a, b, c] = next;
        let work = format!("{}|{a} {b} {c}", dir.path().display());
        let mut victim = Victim::start("kill::writers_child", WRITERS_WORK, &work);
        while victim.line().expect("the child begins") != "open" {}
        let mut said = Vec::new();
        for _ in 0..random.below(2000) {
            said.push(victim.line().expect("the child writes"));
        }
        said.extend(victim.kill());
        for line in said {
            let parts: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
            let [writer, n, seqno] = parts[..] else { panic!("{line}") };
            assert_eq!(n, next[writer as usize]);
            next[writer as usize] += 1;
            newest = newest.max(seqno);
        }
        let read_only = random.below(2) == 0;
        let db = Db::open(dir.path(), &options(Durability::Process).read_only(read_only)).unwrap();
        assert!(db.stats().seqno >= newest, "MONO");
        for (writer, next) in next.iter_mut().enumerate() {
            let found = prefix_of(&db, writer);
            assert!(found >= *next, "ACK: writer {writer} has {found}, heard {next}");
            *next = found;
        }
        newest = db.stats().seqno;
    }
}
