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
use crate::toykv_engine::options;
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

/// How much of a memtable's log the fill task writes: most of a full one.
const FILL_SHARE: f64 = 0.9;

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
    let mut child = spawn(ChildTask::Load, dir, entries)?;
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

/// Lets a child fill the memtable of the database in `dir`, kills it, and opens the database; the
/// time until the last acknowledged put is read back.
pub(crate) fn reopen_killed(dir: &Path, entries: u64) -> Result<Duration> {
    let mut child = spawn(ChildTask::Fill, dir, entries)?;
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
pub(crate) fn run_child(task: ChildTask, dir: &Path, entries: u64) -> Result<()> {
    match task {
        ChildTask::Load => load(dir, entries),
        ChildTask::Fill => fill(dir, entries),
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

fn fill(dir: &Path, entries: u64) -> Result<()> {
    let db = Db::open(dir, &options())?;
    let goal = (FILL_SHARE * (64 << 20) as f64) as u64;
    let mut number = entries;
    loop {
        db.put(&data::key(number), &data::value(number))?;
        number += 1;
        if number % 64 == 0 {
            let stats = db.stats();
            if stats.memtables == 1 && stats.memtable_bytes >= goal {
                break;
            }
        }
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{number}")?;
    stdout.flush()?;
    // The parent's pipe stays open and silent: this waits for SIGKILL.
    std::io::stdin().read_line(&mut String::new())?;
    Err("nobody killed the filling child".into())
}

fn rss_anon_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let text = line.ok_or("/proc/self/status has no RssAnon")?;
    let kib: u64 = text.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

fn spawn(task: ChildTask, dir: &Path, entries: u64) -> Result<Child> {
    let name = match task {
        ChildTask::Load => "load",
        ChildTask::Fill => "fill",
    };
    let child = Command::new(std::env::current_exe()?)
        .args(["--child", name, "--entries", &entries.to_string(), "--dir"])
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
