//! The rows that only toykv takes part in: allocations, memory beyond the page cache, and how long
//! a database takes to open. What must not be disturbed by this process, or must die, runs in a
//! child: the same program with the hidden option `--child`.

use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use toykv::Db;

use crate::Result;
use crate::engines::toykv::options;
use crate::{alloc, data};

/// What a child does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ChildTask {
    /// Loads the entries, says how much memory that took, and closes.
    Load,
    /// Puts entries until the memtable is full, says how many, and waits to be killed.
    Fill,
}

/// Resident anonymous memory of a process that loaded a database, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// The most seen during the load.
    pub(crate) peak: u64,
    /// After the last put.
    pub(crate) loaded: u64,
    /// After compaction, when no background work is left.
    pub(crate) settled: u64,
}

/// Puts after which one must have been full: memtables double up to their size, so this is ample.
const FILL_LIMIT: u64 = 5_000_000;

/// Allocations per `get_into` of this thread, from the memtable and from tables.
pub(crate) fn allocations_per_get(dir: &Path, calls: u64) -> Result<(f64, f64)> {
    let dir = fresh(dir, "allocations")?;
    let db = Db::open(&dir, &options())?;
    for number in 0..calls {
        db.put(&data::key(number), &data::value(number))?;
    }
    let from_memtable = count_allocations(&db, calls)?;
    db.compact(Bound::Unbounded, Bound::Unbounded)?;
    let from_tables = count_allocations(&db, calls)?;
    db.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok((from_memtable, from_tables))
}

fn count_allocations(db: &Db, calls: u64) -> Result<f64> {
    let mut buffer = data::Value::from([0; data::VALUE_LEN]);
    let before = alloc::allocations();
    for number in 0..calls {
        let found = db.get_into(&data::key(number), &mut buffer)?;
        if found != Some(data::VALUE_LEN) || buffer != data::value(number) {
            return Err(format!("get_into of entry {number} answered {found:?}").into());
        }
    }
    Ok((alloc::allocations() - before) as f64 / calls as f64)
}

/// Loads a database in a child, which leaves it closed in `dir`.
pub(crate) fn load_in_child(dir: &Path, entries: u64) -> Result<Memory> {
    let mut child = spawn(ChildTask::Load, dir, entries, 0)?;
    let mut output = String::new();
    child.stdout.take().ok_or("no stdout")?.read_to_string(&mut output)?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the loading child ended with {status}").into());
    }
    let numbers: Vec<u64> = output.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [peak, loaded, settled] = numbers[..] else {
        return Err(format!("the loading child said {output:?}").into());
    };
    Ok(Memory { peak, loaded, settled })
}

/// Opens the closed database in `dir`; the time until the first get is answered.
pub(crate) fn reopen_clean(dir: &Path) -> Result<Duration> {
    let start = Instant::now();
    let db = Db::open(dir, &options())?;
    expect(&db, 0)?;
    let elapsed = start.elapsed();
    db.close()?;
    Ok(elapsed)
}

/// Lets a child fill a memtable of `memtable_bytes` of the database in `dir`, kills it, and opens
/// the database; the time until the last acknowledged put is read back.
pub(crate) fn reopen_killed(dir: &Path, entries: u64, memtable_bytes: u64) -> Result<Duration> {
    let mut child = spawn(ChildTask::Fill, dir, entries, memtable_bytes)?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    child.kill()?;
    child.wait()?;
    let end: u64 = line.trim().parse().map_err(|_| "the filling child failed")?;
    let start = Instant::now();
    let db = Db::open(dir, &options())?;
    expect(&db, end - 1)?;
    let elapsed = start.elapsed();
    for number in entries..end {
        expect(&db, number)?;
    }
    db.close()?;
    Ok(elapsed)
}

fn expect(db: &Db, number: u64) -> Result<()> {
    match db.get(&data::key(number))? {
        Some(value) if value[..] == data::value(number) => Ok(()),
        Some(_) => Err(format!("entry {number} came back with another value").into()),
        None => Err(format!("entry {number} was acknowledged and is gone").into()),
    }
}

/// What the child does, from `main`.
pub(crate) fn run_child(
    task: ChildTask,
    dir: &Path,
    entries: u64,
    memtable_bytes: u64,
) -> Result<()> {
    match task {
        ChildTask::Load => load(dir, entries),
        ChildTask::Fill => fill(dir, entries, memtable_bytes),
    }
}

fn load(dir: &Path, entries: u64) -> Result<()> {
    let db = Db::open(dir, &options())?;
    let mut peak = 0;
    for number in 0..entries {
        db.put(&data::key(number), &data::value(number))?;
        if number % 65_536 == 0 {
            peak = peak.max(rss_anon_bytes()?);
        }
    }
    let loaded = rss_anon_bytes()?;
    db.compact(Bound::Unbounded, Bound::Unbounded)?;
    let settled = rss_anon_bytes()?;
    println!("{} {loaded} {settled}", peak.max(loaded));
    Ok(db.close()?)
}

fn fill(dir: &Path, entries: u64, memtable_bytes: u64) -> Result<()> {
    let db = Db::open(dir, &options().memtable_size_bytes(memtable_bytes))?;
    let end = fill_memtable(&db, entries, memtable_bytes / 10 * 9)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{end}")?;
    stdout.flush()?;
    // The parent's pipe stays open and silent: this waits for SIGKILL.
    std::io::stdin().read_line(&mut String::new())?;
    Err("nobody killed the filling child".into())
}

/// Puts entries from `start` on until the newest memtable covers `goal` bytes of the log and all
/// others are flushed; the number after the last.
fn fill_memtable(db: &Db, start: u64, goal: u64) -> Result<u64> {
    // Every memtable there has ever been is either flushed or among those in memory: when their
    // number grows, the newest begins, and the log's length then is where its part starts.
    let mut begun = 0;
    let mut begin_bytes = 0;
    for number in start..start + FILL_LIMIT {
        db.put(&data::key(number), &data::value(number))?;
        if number % 64 != 0 {
            continue;
        }
        let stats = db.stats();
        if stats.flushes + stats.memtables as u64 > begun {
            begun = stats.flushes + stats.memtables as u64;
            begin_bytes = stats.log_bytes_written;
        }
        if stats.log_bytes_written - begin_bytes >= goal {
            while db.stats().memtables > 1 {
                std::thread::sleep(Duration::from_millis(1));
            }
            return Ok(number + 1);
        }
    }
    Err(format!("no memtable was full after {FILL_LIMIT} puts").into())
}

fn rss_anon_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let text = line.ok_or("/proc/self/status has no RssAnon")?;
    let kib: u64 = text.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

fn spawn(task: ChildTask, dir: &Path, entries: u64, memtable_bytes: u64) -> Result<Child> {
    let name = match task {
        ChildTask::Load => "load",
        ChildTask::Fill => "fill",
    };
    let child = Command::new(std::env::current_exe()?)
        .args(["--child", name, "--entries", &entries.to_string()])
        .args(["--memtable-bytes", &memtable_bytes.to_string(), "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(child)
}

/// An empty directory of this name below `parent`.
pub(crate) fn fresh(parent: &Path, name: &str) -> Result<std::path::PathBuf> {
    let dir = parent.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}
