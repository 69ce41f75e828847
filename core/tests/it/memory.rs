//! The memory promise: a database many times the budget is loaded, overwritten, scanned and
//! compacted by a child process whose anonymous memory stays within the budget and a little. The
//! same for one batch several times the budget, which is there whole or not at all after a kill;
//! the batch itself is the caller's and does not count.
//!
//! `TOYKV_MEMORY_TIMES=50` makes it fifty times the budget, `TOYKV_MEMORY_MIB=32` sets the budget;
//! `TOYKV_BATCH_MIB=1024` makes a batch of 1 GiB, always four times its budget.

use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use toykv::{Db, Durability, Options, ScanOptions, WriteBatch};

use crate::support::{again, number_from_env, value_of};

const WORK: &str = "TOYKV_MEMORY_WORK";
const BATCH_WORK: &str = "TOYKV_MEMORY_BATCH";
/// What the promise allows above the budget: the allocator's share, and stacks.
const ABOVE_BYTES: u64 = 32 << 20;

/// Anonymous memory of this process, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// The largest that was seen, by phase.
struct Watch {
    base: u64,
    most: u64,
    budget: u64,
}

impl Watch {
    fn look(&mut self) {
        self.most = self.most.max(anonymous_bytes().saturating_sub(self.base));
    }

    fn phase(&mut self, name: &str, db: &Db) {
        self.look();
        let stats = db.stats();
        println!(
            "{name}: {} KiB at most, now {}; memtables {} KiB in {}, {} runs, {} MiB of tables",
            self.most >> 10,
            (anonymous_bytes() - self.base) >> 10,
            stats.memtable_bytes >> 10,
            stats.memtables,
            stats.runs,
            stats.table_bytes >> 20,
        );
        assert!(self.most <= self.budget + ABOVE_BYTES, "{name}: {} KiB", self.most >> 10);
    }
}

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn write(db: &Db, count: u64, len: usize, watch: &mut Watch) {
    for i in 0..count {
        db.put(&key(i), &value_of(i, len)).unwrap();
        if i % 1000 == 0 {
            watch.look();
        }
    }
}

#[test]
fn child() {
    let Ok(text) = std::env::var(WORK) else { return };
    let budget = number_from_env("TOYKV_MEMORY_MIB", 16) << 20;
    let count = budget * number_from_env("TOYKV_MEMORY_TIMES", 3) / 100;
    let options = Options::new().memory_budget(budget).durability(Durability::Process);
    let db = Db::open(text, &options).unwrap();
    let mut watch = Watch { base: anonymous_bytes(), most: 0, budget };
    write(&db, count, 90, &mut watch);
    watch.phase("load", &db);
    write(&db, count / 2, 50, &mut watch);
    watch.phase("overwrite", &db);
    let mut found = 0;
    for entry in db.scan(&ScanOptions::new()).unwrap() {
        entry.unwrap();
        found += 1;
        if found % 10_000 == 0 {
            watch.look();
        }
    }
    assert_eq!(found, count);
    watch.phase("scan", &db);
    let mut look = |_| {
        watch.look();
        std::ops::ControlFlow::Continue(())
    };
    db.compact_with(Bound::Unbounded, Bound::Unbounded, &mut look).unwrap();
    watch.phase("compaction", &db);
    assert_eq!(db.stats().memory_budget, budget);
}

#[test]
fn a_database_many_times_the_budget_keeps_within_it() {
    let dir = tempfile::tempdir().unwrap();
    let output = again("memory::child", WORK, dir.path().to_str().unwrap()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("compaction: "), "{told}");
}

fn batch_mib() -> u64 {
    number_from_env("TOYKV_BATCH_MIB", 32)
}

fn batch_options() -> Options {
    Options::new().memory_budget(batch_mib() << 18).durability(Durability::Process)
}

/// Entries of the batch: values of 100 bytes and more, about 270 on average.
fn batch_value(i: u64) -> Vec<u8> {
    value_of(i, if i.is_multiple_of(16) { 3000 } else { 100 })
}

fn batch_count() -> u64 {
    (batch_mib() << 20) / 300
}

#[test]
fn batch_child() {
    let Ok(text) = std::env::var(BATCH_WORK) else { return };
    let db = Db::open(text, &batch_options()).unwrap();
    let mut batch = WriteBatch::new();
    for i in 0..batch_count() {
        batch.put(&key(i), &batch_value(i)).unwrap();
    }
    let (base, over) = (anonymous_bytes(), AtomicBool::new(false));
    let mut out = std::io::stdout();
    writeln!(out, "\nbegin").unwrap();
    let most = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !over.load(Ordering::Relaxed) {
                most = most.max(anonymous_bytes().saturating_sub(base));
                std::thread::yield_now();
            }
            most
        });
        db.write(&batch).unwrap();
        over.store(true, Ordering::Relaxed);
        watcher.join().unwrap()
    });
    writeln!(out, "written: {} KiB beside a batch of {}", most >> 10, batch.size_bytes() >> 10)
        .unwrap();
    assert!(most <= (batch_mib() << 18) + ABOVE_BYTES);
    writeln!(out, "done").unwrap();
    // Killed here.
    std::io::stdin().lines().for_each(drop);
}

/// Starts a child that writes the batch, and kills it: when it is done, or after some time.
fn kill_batch(dir: &Path, after: Option<Duration>) -> Vec<String> {
    let mut command = again("memory::batch_child", BATCH_WORK, dir.to_str().unwrap());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let until = if after.is_some() { "begin" } else { "done" };
    let mut said: Vec<String> = Vec::new();
    while said.last().is_none_or(|line| line != until) {
        said.push(lines.next().unwrap_or_else(|| panic!("the child has failed: {said:?}")));
    }
    std::thread::sleep(after.unwrap_or_default());
    child.kill().unwrap();
    child.wait().unwrap();
    said.extend(lines);
    said
}

#[test]
fn a_batch_larger_than_the_budget_is_there_whole_or_not_at_all() {
    let full = number_from_env("TOYKV_BATCH_MIB", 0) > 0;
    for kill in [None, Some(0), Some(40), Some(200)] {
        let dir = tempfile::tempdir().unwrap();
        let said = kill_batch(dir.path(), kill.map(Duration::from_millis));
        let acknowledged = said.iter().find(|line| line.starts_with("written"));
        println!("{kill:?}: {acknowledged:?}");
        let db = Db::open(dir.path(), &batch_options()).unwrap();
        let len = db.len().unwrap();
        let fine: &[u64] = if acknowledged.is_some() { &[1] } else { &[0, 1] };
        assert!(fine.iter().any(|times| times * batch_count() == len), "{len} of {said:?}");
        for i in (0..batch_count()).step_by(if full { 101 } else { 1 }) {
            let found = db.get(&key(i)).unwrap();
            assert!(found.as_deref() == (len > 0).then(|| batch_value(i)).as_deref(), "{i}");
        }
    }
}
