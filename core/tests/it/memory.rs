//! The memory promise: a database many times the budget is loaded, overwritten, scanned, compacted
//! and collected by a child process whose anonymous memory stays within the budget and a little.
//! The same for one batch several times the budget, which is there whole or not at all after a
//! kill, and for one value: these themselves are the caller's and do not count.
//!
//! `TOYKV_MEMORY_TIMES=50` makes it fifty times the budget, `TOYKV_MEMORY_MIB=32` sets the budget;
//! `TOYKV_BATCH_MIB=1024` makes a batch of 1 GiB, always four times its budget;
//! `TOYKV_VALUE_MIB=1536` a value of 1.5 GiB.

use std::io::{BufRead, BufReader, Write};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use toykv::{Db, Durability, Options, ScanOptions, WriteBatch};

use crate::support::{again, directory_on_disk, number_from_env, value_of};

const WORK: &str = "TOYKV_MEMORY_WORK";
const BATCH_WORK: &str = "TOYKV_MEMORY_BATCH";
const VALUE_WORK: &str = "TOYKV_MEMORY_VALUE";
/// What the promise allows above the budget: the allocator's share, and stacks.
const ABOVE_BYTES: u64 = 32 << 20;

/// Anonymous memory of this process, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Says that something is over, also when it fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `work` while another thread looks at the memory of this process again and again; the most
/// that it has seen above what there was at first.
fn watched<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let (base, most, over) = (anonymous_bytes(), AtomicU64::new(0), AtomicBool::new(false));
    let look = || most.fetch_max(anonymous_bytes().saturating_sub(base), Ordering::Relaxed);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let _end = End(&over);
        work()
    });
    look();
    (result, most.into_inner())
}

/// How a database is made: as the environment variable says, behind its directory.
fn options_of(io: &str, compression: &str, budget: u64) -> Options {
    let options = Options::new().memory_budget(budget).durability(Durability::Process);
    // On a machine that does other things a flush may take long.
    let mut options = options.stall_limit_ms(3_600_000);
    options.set("io", io).unwrap();
    options.set("compression", compression).unwrap();
    options
}

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

/// One in thirty-two is separated: two fifths of all bytes. The second half of each shrinks.
fn write(db: &Db, count: u64, len: usize) {
    for i in 0..count {
        let len = if i % 32 == 0 { 2000 } else { len };
        let mut value = value_of(i, len / 2);
        value.resize(len, 7);
        db.put(&key(i), &value).unwrap();
    }
}

/// The phases, by name.
fn phase(db: &Db, name: &str, count: u64) {
    match name {
        "load" => write(db, count, 90),
        "overwrite" => write(db, count / 2, 50),
        "scan" => {
            let mut scan = db.scan(&ScanOptions::new()).unwrap();
            let mut found = 0;
            while scan.next_entry().unwrap().is_some() {
                found += 1;
            }
            assert_eq!(found, count);
        }
        "get" => {
            for i in (0..count).step_by(97) {
                assert!(db.get(&key(i)).unwrap().is_some());
            }
        }
        "compaction" => db.compact(Bound::Unbounded, Bound::Unbounded).unwrap(),
        _ => db.gc_with(&mut |_| ControlFlow::Continue(())).unwrap(),
    }
}

#[test]
fn child() {
    let Ok(text) = std::env::var(WORK) else { return };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [io, compression, dir] = words[..] else { panic!("{text}") };
    let budget = number_from_env("TOYKV_MEMORY_MIB", 16) << 20;
    let count = budget * number_from_env("TOYKV_MEMORY_TIMES", 3) / 150;
    let base = anonymous_bytes();
    let db = Db::open(dir, &options_of(io, compression, budget)).unwrap();
    for name in ["load", "overwrite", "scan", "get", "compaction", "collection"] {
        let before = anonymous_bytes().saturating_sub(base);
        let ((), more) = watched(|| phase(&db, name, count));
        let (most, stats) = (before + more, db.stats());
        println!(
            "{io} {compression} {name}: {} KiB at most; memtables {} KiB, cache {}, files {}; {} \
             runs, {} MiB of tables, {} of values",
            most >> 10,
            stats.memtable_bytes >> 10,
            stats.cache_bytes >> 10,
            stats.file_heap_bytes >> 10,
            stats.runs,
            stats.table_bytes >> 20,
            stats.value_file_bytes >> 20,
        );
        assert!(most <= budget + ABOVE_BYTES, "{name}: {} KiB", most >> 10);
    }
    let stats = db.stats();
    assert!(stats.memory_budget == budget && stats.collections > 0, "{stats:?}");
}

#[test]
fn a_database_many_times_the_budget_keeps_within_it() {
    for way in ["mapped none", "direct lz4"] {
        let dir = directory_on_disk();
        let text = format!("{way} {}", dir.path().display());
        let output = again("memory::child", WORK, &text).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{told}");
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains("collection: "), "{told}");
    }
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
    let mut out = std::io::stdout();
    writeln!(out, "\nbegin").unwrap();
    let (_, most) = watched(|| db.write(&batch).unwrap());
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

/// A value as long as asked for, which is cheap to make and does not shrink everywhere.
fn long_value() -> Vec<u8> {
    let piece = value_of(1, 1 << 20);
    let mut value = Vec::with_capacity(value_bytes() as usize);
    while value.len() < value.capacity() {
        let len = piece.len().min(value.capacity() - value.len());
        value.extend_from_slice(&piece[..len]);
        *value.last_mut().unwrap() = (value.len() >> 20) as u8;
    }
    value
}

/// 4096 MiB are a byte less: the longest that there is.
fn value_bytes() -> u64 {
    (number_from_env("TOYKV_VALUE_MIB", 96) << 20).min(toykv::MAX_VALUE_LEN)
}

#[test]
fn value_child() {
    let Ok(text) = std::env::var(VALUE_WORK) else { return };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [io, compression, dir] = words[..] else { panic!("{text}") };
    let budget = 8 << 20;
    let options = options_of(io, compression, budget);
    let db = Db::open(dir, &options).unwrap();
    let value = long_value();
    let (_, put) = watched(|| db.put(b"long", &value).unwrap());
    let (found, get) = watched(|| db.get(b"long").unwrap().unwrap());
    assert!(*found == *value);
    let buffered = db.stats().pinned_bytes;
    drop(found);
    let (part, range) = watched(|| db.get_range(b"long", value_bytes() - 5000, 9000).unwrap());
    assert!(part.as_deref() == Some(&value[value.len() - 5000..]));
    drop((part, db));
    let (db, open) = watched(|| Db::open(dir, &options).unwrap());
    let (found, again) = watched(|| db.get(b"long").unwrap().unwrap());
    assert!(*found == *value);
    println!(
        "{io} {compression}: {} MiB; put {} KiB, get {}, part {}, open {}, get {} beside it",
        value.len() >> 20,
        put >> 10,
        get >> 10,
        range >> 10,
        open >> 10,
        again >> 10,
    );
    let little = budget + ABOVE_BYTES;
    // Read directly it has to be somewhere, once.
    let once = if io == "direct" { value.len() as u64 } else { 0 };
    assert!(buffered <= once + (128 << 10), "{buffered}");
    assert!([put, range, open].iter().all(|more| *more <= little), "{put} {range} {open}");
    assert!(get.max(again) <= once + little, "{get} {again}");
}

#[test]
fn a_long_value_is_written_and_read_without_another_copy_of_it() {
    for way in ["mapped none", "mapped zstd", "direct none"] {
        let dir = directory_on_disk();
        let text = format!("{way} {}", dir.path().display());
        let output = again("memory::value_child", VALUE_WORK, &text).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        println!("{told}");
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.contains(" beside it"), "{told}");
    }
}
