//! The guard against slow changes: instructions per operation of small workloads, which repeat
//! almost exactly where times do not, beside the values recorded in `guard.txt`.
//!
//! `make bench-guard`, or `cargo bench -p toykv --bench guard [-- --record]`. Valgrind's callgrind
//! counts; without it nothing is checked, and the output says so. A workload that needs more than
//! 5 % more instructions than recorded, or has no recorded value, fails the run; `--record` writes
//! the values of this run.
//! Values hold for one compiler and one C library, so elsewhere they are shown and not judged.
//! With `-- --keep DIR` what callgrind wrote stays, for `callgrind_annotate` to show.
//!
//! The program prepares databases, runs itself under callgrind, which counts inside of `measured`
//! only and writes one file for each call, and compares. Only the calling thread is counted.
//!
//! So that the same build counts the same everywhere, the measured program has the same arguments,
//! the same short environment and the same relative paths wherever it lies; the C library's copies
//! are those of the oldest processors, with fixed limits, whatever the machine has; and no workload
//! writes so much that a background thread has a part in it. What is left is the random hash seed
//! of each database: under 0.4 %.

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use toykv::{Db, Durability, Options, ScanOptions, WriteBatch};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Entries of every database.
const ENTRIES: u64 = 30_000;

/// Operations that are counted of workloads without an end of their own.
const OPERATIONS: u64 = 4_000;

/// Entries of a log that is recovered or put twice: with more, a second segment would begin.
const LOGGED: u64 = 2_000;

/// The C library's copies and comparisons without what some processors only have.
const PLAIN_COPIES: &str = "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-BMI1,-BMI2,-ERMS,\
    -FSRM,-LZCNT,-MOVBE,-POPCNT,-RTM,-SSE3,-SSSE3,-SSE4_1,-SSE4_2,-AVX_Fast_Unaligned_Load:\
    glibc.cpu.x86_data_cache_size=0x8000:glibc.cpu.x86_shared_cache_size=0x100000:\
    glibc.cpu.x86_non_temporal_threshold=0xc0000:glibc.cpu.x86_rep_movsb_threshold=0x800";

/// Percent more instructions than recorded that a workload may need.
const TOLERANCE: f64 = 5.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let result = match arguments.get(1).map(String::as_str) {
        Some("--fill") => fill(Path::new(&arguments[2])),
        Some("--measure") => measure(Path::new(&arguments[2])),
        Some("--keep") => kept(Path::new(&arguments[2])),
        _ => guard(arguments.iter().any(|argument| argument == "--record")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guard: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prepares and counts in a directory that stays.
fn kept(dir: &Path) -> Result<()> {
    prepare(dir)?;
    for (index, (name, instructions)) in count(dir)?.iter().enumerate() {
        println!(
            "{name:<16} {instructions:>10.1} {}",
            dir.join(format!("count.{}", index + 1)).display()
        );
    }
    Ok(())
}

/// Prepares, counts, and compares or records.
fn guard(record: bool) -> Result<()> {
    let Some(valgrind) = version("valgrind", &["--version"]) else {
        println!("guard: not checked, because valgrind is missing (package valgrind)");
        return Ok(());
    };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    prepare(dir.path())?;
    let counted = count(dir.path())?;
    let machine = format!(
        "{}, {valgrind}, {}",
        version("rustc", &["--version"]).unwrap_or_default(),
        version("ldd", &["--version"]).unwrap_or_default(),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/guard.txt");
    if record {
        return write_recorded(&path, &machine, &counted);
    }
    let text = std::fs::read_to_string(&path)?;
    let (recorded_on, recorded) = parse_recorded(&text)?;
    let slower = compare(&recorded, &counted);
    if recorded_on != machine {
        println!("\nnot judged: recorded with {recorded_on}; this is {machine}");
        return Ok(());
    }
    if slower.is_empty() {
        return Ok(());
    }
    let names = slower.join(", ");
    Err(format!("more than {TOLERANCE} % above what is recorded: {names}; see benches/guard.rs")
        .into())
}

/// The first line that a program says about its version; `None` when it cannot be run.
fn version(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned)
}

/// Where a program lies.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// A workload's name and its instructions per operation.
type Counted = (String, f64);

fn write_recorded(path: &Path, machine: &str, counted: &[Counted]) -> Result<()> {
    let mut text = format!("{machine}\n");
    for (name, instructions) in counted {
        writeln!(text, "{name} {instructions:.1}")?;
        println!("{name:<16} {instructions:>10.1}");
    }
    #[expect(clippy::disallowed_methods, reason = "a file of the benchmark, not of the engine")]
    std::fs::write(path, text)?;
    Ok(())
}

fn parse_recorded(text: &str) -> Result<(&str, Vec<Counted>)> {
    let mut lines = text.lines();
    let machine = lines.next().ok_or("guard.txt is empty")?;
    let pair = |line: &str| -> Result<Counted> {
        let (name, value) = line.split_once(' ').ok_or("guard.txt: a line without a value")?;
        Ok((name.to_owned(), value.parse()?))
    };
    Ok((machine, lines.map(pair).collect::<Result<_>>()?))
}

/// Prints both values of each workload; the names of those that became slower, or whose values
/// cannot be compared.
fn compare(recorded: &[Counted], counted: &[Counted]) -> Vec<String> {
    println!("{:<16} {:>10} {:>10} {:>8}", "instructions", "recorded", "now", "change");
    let mut slower = Vec::new();
    for (name, now) in counted {
        let before = recorded.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
        let Some(before) = before else {
            println!("{name:<16} {:>10} {now:>10.1}", "-");
            slower.push(format!("{name} (nothing recorded)"));
            continue;
        };
        let percent = (now / before - 1.0) * 100.0;
        println!("{name:<16} {before:>10.1} {now:>10.1} {percent:>+7.1}%");
        if percent > TOLERANCE {
            slower.push(name.clone());
        }
    }
    let gone = recorded.iter().filter(|(name, _)| counted.iter().all(|(own, _)| own != name));
    slower.extend(gone.map(|(name, _)| format!("{name} (not measured any more)")));
    slower
}

/// Runs this program under callgrind and reads what it counted.
fn count(dir: &Path) -> Result<Vec<Counted>> {
    let valgrind = found("valgrind").ok_or("valgrind is gone")?;
    std::os::unix::fs::symlink(std::env::current_exe()?, dir.join("guard"))?;
    let output = Command::new(valgrind)
        .args(["--tool=callgrind", "--quiet", "--collect-atstart=no"])
        .args(["--toggle-collect=guard::measured", "--dump-after=guard::measured"])
        .args(["--callgrind-out-file=count", "./guard", "--measure", "."])
        .current_dir(dir)
        .env_clear()
        .env("GLIBC_TUNABLES", PLAIN_COPIES)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the measured program ended with {}", output.status).into());
    }
    let names = String::from_utf8(output.stdout)?;
    let mut counted = Vec::new();
    for (index, line) in names.lines().enumerate() {
        let (name, operations) = line.split_once(' ').ok_or("a workload without operations")?;
        let dump = std::fs::read_to_string(dir.join(format!("count.{}", index + 1)))?;
        let totals = dump.lines().find_map(|line| line.strip_prefix("totals: "));
        let totals: f64 = totals.ok_or("callgrind wrote no totals")?.trim().parse()?;
        counted.push((name.to_owned(), totals / operations.parse::<f64>()?));
    }
    Ok(counted)
}

/// What is counted: the calls of this function, one after the other.
#[inline(never)]
fn measured(work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    work()?;
    // Keeps the call above from becoming a jump.
    black_box(());
    Ok(())
}

/// Counts `work`, which does so many operations.
fn workload(name: &str, operations: u64, mut work: impl FnMut() -> Result<()>) -> Result<()> {
    measured(&mut work)?;
    println!("{name} {operations}");
    Ok(())
}

fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mix(number).to_be_bytes());
    key[8..].copy_from_slice(&mix(number ^ 0x7465_7961).to_be_bytes());
    key
}

fn value(number: u64) -> [u8; 100] {
    [mix(number) as u8; 100]
}

/// Number of the `index`th key that a workload asks for.
fn chosen(index: u64) -> u64 {
    mix(index ^ 0x6368_6f6f_7365) % ENTRIES
}

fn options() -> Options {
    Options::new().durability(Durability::Process)
}

/// A batch of ten thousand entries fits in no segment of these.
fn small_segments() -> Options {
    options().memtable_size_bytes(1 << 20)
}

/// A batch of entries.
fn batch(numbers: impl Iterator<Item = u64>) -> Result<WriteBatch> {
    let mut batch = WriteBatch::new();
    for number in numbers {
        batch.put(&key(number), &value(number))?;
    }
    Ok(batch)
}

/// A database of so many runs: each a batch that is too large for a segment.
fn with_runs(dir: PathBuf, runs: u64) -> Result<()> {
    let db = Db::open(dir, &small_segments())?;
    for run in 0..runs {
        db.write(&batch((0..ENTRIES).filter(|number| number % runs == run))?)?;
    }
    Ok(db.close()?)
}

fn put(db: &Db, numbers: impl Iterator<Item = u64>) -> Result<()> {
    for number in numbers {
        db.put(&key(number), &value(number))?;
    }
    Ok(())
}

/// The databases: of `one` run; of `three`, twice; and `log`, which nobody closed.
fn prepare(dir: &Path) -> Result<()> {
    for (name, runs) in [("one", 1), ("three", 3), ("merged", 3)] {
        with_runs(dir.join(name), runs)?;
    }
    let filler = std::env::current_exe()?;
    let status = Command::new(filler).arg("--fill").arg(dir.join("log")).status()?;
    if status.success() { Ok(()) } else { Err("the log was not filled".into()) }
}

fn fill(dir: &Path) -> Result<()> {
    put(&Db::open(dir, &options())?, 0..LOGGED)?;
    // Gone without a word to the database, which is what the next open is to find.
    std::process::exit(0);
}

/// Everything that is counted.
fn measure(dir: &Path) -> Result<()> {
    writes(dir)?;
    let one = Db::open(dir.join("one"), &options())?;
    gets(&one)?;
    scans(&one, "seek_10", "scan_forward", "scan_reverse")?;
    workload("pop_first", 1_000, || {
        for _ in 0..1_000 {
            black_box(one.pop_first()?.ok_or("nothing to pop")?);
        }
        Ok(())
    })?;
    several_runs(dir)?;
    let mut log = None;
    workload("recover", LOGGED, || {
        log = Some(Db::open(dir.join("log"), &options())?);
        Ok(())
    })?;
    let merged = Db::open(dir.join("merged"), &options())?;
    workload("compact", ENTRIES, || Ok(merged.compact(Bound::Unbounded, Bound::Unbounded)?))
}

fn writes(dir: &Path) -> Result<()> {
    let db = Db::open(dir.join("puts"), &options())?;
    put(&db, 0..LOGGED)?;
    workload("put", LOGGED, || put(&db, LOGGED..2 * LOGGED))?;
    let db = Db::open(dir.join("batches"), &options())?;
    let batches = (0..OPERATIONS).step_by(1_000).map(|first| batch(first..first + 1_000));
    let batches = batches.collect::<Result<Vec<_>>>()?;
    workload("batch_1000", OPERATIONS, || {
        batches.iter().try_for_each(|batch| db.write(batch).map(drop))?;
        Ok(())
    })?;
    workload("get_memtable", OPERATIONS, || get(&db, |index| chosen(index) % OPERATIONS, true))?;
    let large = Db::open(dir.join("large"), &small_segments())?;
    let entries = batch(0..ENTRIES)?;
    workload("batch_tables", ENTRIES, || Ok(large.write(&entries).map(drop)?))
}

/// Gets of chosen keys, all of which are there, or none.
fn get(db: &Db, number: impl Fn(u64) -> u64, there: bool) -> Result<()> {
    for index in 0..OPERATIONS {
        if black_box(db.get(&key(number(index)))?).is_some() != there {
            return Err("a get answered the contrary".into());
        }
    }
    Ok(())
}

fn gets(db: &Db) -> Result<()> {
    // The first touch of a block verifies it.
    get(db, chosen, true)?;
    get(db, |index| ENTRIES + index, false)?;
    workload("get_present", OPERATIONS, || get(db, chosen, true))?;
    workload("get_absent", OPERATIONS, || get(db, |index| ENTRIES + index, false))?;
    let keys: Vec<_> = (0..OPERATIONS).map(|index| key(chosen(index))).collect();
    workload("multi_get_100", OPERATIONS, || {
        for keys in keys.chunks(100) {
            black_box(db.multi_get(keys)?);
        }
        Ok(())
    })
}

/// Ten entries from chosen keys on, then everything in both directions.
fn scans(db: &Db, seek: &str, forward: &str, reverse: &str) -> Result<()> {
    let all = |reverse| -> Result<()> {
        let mut scan = db.scan(&ScanOptions::new().reverse(reverse))?;
        let mut count = 0;
        while let Some(entry) = scan.next_entry()? {
            black_box(entry);
            count += 1;
        }
        if count == ENTRIES { Ok(()) } else { Err(format!("a scan showed {count}").into()) }
    };
    all(false)?;
    workload(seek, 1_000, || {
        for index in 0..1_000 {
            let from = key(chosen(index));
            let mut scan = db.scan(&ScanOptions::new().lower(Bound::Included(&from)))?;
            for _ in 0..10 {
                black_box(scan.next_entry()?);
            }
        }
        Ok(())
    })?;
    workload(forward, ENTRIES, || all(false))?;
    workload(reverse, ENTRIES, || all(true))
}

/// Three runs and a memtable.
fn several_runs(dir: &Path) -> Result<()> {
    let db = Db::open(dir.join("three"), &options())?;
    put(&db, (0..200).map(chosen))?;
    get(&db, chosen, true)?;
    workload("get_runs", OPERATIONS, || get(&db, chosen, true))?;
    scans(&db, "seek_10_runs", "scan_runs", "scan_runs_back")
}
