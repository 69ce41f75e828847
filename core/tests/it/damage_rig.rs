//! The damage rig: every bit and every length of every file of the golden databases, as they are
//! and with checksums mended, in child processes with little address space. Outcome: the same
//! answers, or Corruption that says where, or UnsupportedFormat; with mended checksums any answer,
//! since nothing can tell, but no other error. Never a panic, a signal or a case without end.
//!
//! The cases are tried in an order that jumps through all of them, so a part is a sample:
//! `make test` takes [`SAMPLE`], TOYKV_DAMAGE_CASES names another number or `all`,
//! TOYKV_DAMAGE_FIRST how many to leave out, and TOYKV_DAMAGE_DATABASE the databases by the start
//! of their names. Checks DETECT.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use toykv::sim::{SimDisk, mend};
use toykv::{Db, Durability, Error, Options, Progress, ScanOptions};

use crate::damage::{Answer, Sample, options, refusal};
use crate::golden;
use crate::oracle::{PATH, Run, read_all, value_of};
use crate::repair::judge_disk;
use crate::support::{again, number_from_env};

/// What a child shall do: its number, how many there are, the first case and the number of cases,
/// what goes wrong on purpose, and the file where it says which case it is at.
const CHILD: &str = "TOYKV_DAMAGE_CHILD";

/// Cases in `make test`.
const SAMPLE: u64 = 4000;

/// Processes at the same time.
const CHILDREN: u64 = 2;

/// Of so many cases one is looked at by verify, by salvage and by a writer that compacts, too.
const DEEP: u64 = 64;

/// Of so many cases one is played on real files.
const REAL: u64 = 32;

/// After so many findings a child gives up.
const FOUND: usize = 50;

/// A case that takes so many seconds does not end; not those in which the process stands still.
const STUCK_S: u64 = 300;

/// Kilobytes of address space: less than a length in a file can claim.
const ADDRESS_SPACE_KB: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Bit(usize, u8),
    Length(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    sample: usize,
    file: usize,
    damage: Damage,
    mended: bool,
}

struct Rig {
    samples: Vec<Sample>,
    /// A disk for each, whole between two cases.
    disks: Vec<SimDisk>,
    /// Sample, file, and the number of its first case.
    files: Vec<(usize, usize, u64)>,
    half: u64,
    /// For real files.
    folder: tempfile::TempDir,
}

impl Rig {
    /// Of all databases.
    fn new() -> Rig {
        Rig::of("")
    }

    /// Of those that the environment names, for children and those who start them.
    fn chosen() -> Rig {
        Rig::of(&std::env::var("TOYKV_DAMAGE_DATABASE").unwrap_or_default())
    }

    /// Of databases whose names start so.
    fn of(chosen: &str) -> Rig {
        let samples: Vec<Sample> = golden::all_samples().collect();
        let disks = samples.iter().map(Sample::disk).collect();
        let (mut files, mut half) = (Vec::new(), 0);
        for (sample, own) in samples.iter().enumerate() {
            if !golden::NAMES[sample].starts_with(chosen) {
                continue;
            }
            for (file, (_, bytes)) in own.files.iter().enumerate() {
                files.push((sample, file, half));
                half += 9 * bytes.len() as u64;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        Rig { samples, disks, files, half, folder }
    }

    /// All bits and lengths, twice.
    fn total(&self) -> u64 {
        2 * self.half
    }

    /// The case that comes at this place of the order.
    fn at(&self, index: u64) -> u64 {
        // A prime that does not divide the number of cases leads through all of them.
        let jump = [2_654_435_761, 2_654_435_769, 4_294_967_291]
            .into_iter()
            .find(|jump| gcd(*jump, self.total()) == 1)
            .unwrap();
        (u128::from(index) * u128::from(jump) % u128::from(self.total())) as u64
    }

    fn case(&self, number: u64) -> Case {
        let within = number % self.half;
        let at = self.files.partition_point(|(_, _, first)| *first <= within) - 1;
        let (sample, file, first) = self.files[at];
        let (len, within) = (self.samples[sample].files[file].1.len() as u64, within - first);
        let damage = match within.checked_sub(8 * len) {
            Some(len) => Damage::Length(len as usize),
            None => Damage::Bit((within / 8) as usize, (within % 8) as u8),
        };
        Case { sample, file, damage, mended: number >= self.half }
    }

    fn number(&self, case: &Case) -> u64 {
        let is_its =
            |(sample, file, _): &&(usize, usize, u64)| (*sample, *file) == (case.sample, case.file);
        let (sample, file, first) = *self.files.iter().find(is_its).unwrap();
        let within = match case.damage {
            Damage::Bit(at, bit) => at * 8 + usize::from(bit),
            Damage::Length(len) => self.samples[sample].files[file].1.len() * 8 + len,
        };
        first + within as u64 + if case.mended { self.half } else { 0 }
    }

    /// The file of a case, and its bytes after the damage.
    fn damaged(&self, case: &Case) -> (&Path, Vec<u8>) {
        let (path, bytes) = &self.samples[case.sample].files[case.file];
        let mut bytes = bytes.clone();
        match case.damage {
            Damage::Bit(at, bit) => bytes[at] ^= 1 << bit,
            Damage::Length(len) => bytes.truncate(len),
        }
        if case.mended {
            mend(path.file_name().unwrap().to_str().unwrap(), &mut bytes);
        }
        (path, bytes)
    }

    /// Whether damage was noticed; an error when anything else happened.
    fn judge(&self, number: u64) -> Result<bool, String> {
        let case = self.case(number);
        let sample = &self.samples[case.sample];
        let (path, bytes) = self.damaged(&case);
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        if mixed.is_multiple_of(DEEP) {
            let disk = sample.disk();
            disk.write_file(path, &bytes).unwrap();
            return if case.mended { search(&disk) } else { deep(sample, &disk) };
        }
        let read_only = Options::new().read_only(true);
        if (mixed / DEEP).is_multiple_of(REAL) {
            let dir = self.real(case.sample);
            let place = dir.join(path.file_name().unwrap());
            std::fs::write(&place, &bytes).unwrap();
            let noticed = judge_opened(sample, Db::open(&dir, &read_only), case.mended);
            std::fs::write(&place, &sample.files[case.file].1).unwrap();
            return noticed;
        }
        let disk = &self.disks[case.sample];
        disk.write_file(path, &bytes).unwrap();
        let noticed = judge_opened(sample, disk.open_db(PATH, &read_only), case.mended);
        disk.write_file(path, &sample.files[case.file].1).unwrap();
        noticed
    }

    /// A directory with the files of a sample.
    fn real(&self, sample: usize) -> PathBuf {
        let dir = self.folder.path().join(sample.to_string());
        if !dir.exists() {
            std::fs::create_dir(&dir).unwrap();
            for (path, bytes) in &self.samples[sample].files {
                std::fs::write(dir.join(path.file_name().unwrap()), bytes).unwrap();
            }
        }
        dir
    }

    fn describe(&self, number: u64) -> String {
        let case = self.case(number);
        let (path, _) = &self.samples[case.sample].files[case.file];
        let name = golden::NAMES[case.sample];
        format!("case {number}: {case:?}, {} of {name}", path.display())
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn judge_opened(sample: &Sample, db: toykv::Result<Db>, mended: bool) -> Result<bool, String> {
    if mended { ask(db) } else { Ok(sample.answer(db)? == Answer::Refused) }
}

/// Everything that can be done with a damaged database, each on its own; the answers after a
/// compaction and a collection are still the same ones, or refusals.
fn deep(sample: &Sample, disk: &SimDisk) -> Result<bool, String> {
    let (clean, answer) = judge_disk(sample, disk)?;
    let writer = match disk.open_db(PATH, &options().create_if_missing(false)) {
        Ok(writer) => writer,
        Err(error) => return refusal(&error).map(|_| true),
    };
    let work = |done: toykv::Result<()>| match done {
        Ok(()) => Ok(Answer::Same),
        Err(error) => refusal(&error),
    };
    work(writer.compact(Bound::Unbounded, Bound::Unbounded))?;
    sample.ask(&writer)?;
    work(writer.gc())?;
    sample.ask(&writer)?;
    drop(writer);
    Ok(answer == Answer::Refused || !clean)
}

/// Asks a database everything that can be asked; whether it refused anything. Any other error than
/// a refusal is an error.
fn ask(opened: toykv::Result<Db>) -> Result<bool, String> {
    let refuses = |error: &Error| refusal(error).map(|_| true);
    let db = match opened {
        Ok(db) => db,
        Err(error) => return refuses(&error),
    };
    let mut refused = false;
    let mut keys: Vec<Vec<u8>> = (0..20).map(|number| golden::key(number * 20)).collect();
    for reverse in [false, true] {
        match db.scan(&ScanOptions::new().reverse(reverse)) {
            Err(error) => refused |= refuses(&error)?,
            Ok(mut scan) => loop {
                match scan.next_entry() {
                    Ok(Some(entry)) => keys.push(entry.key.to_vec()),
                    Ok(None) => break,
                    Err(error) => {
                        refused |= refuses(&error)?;
                        break;
                    }
                }
            },
        }
    }
    for key in &keys {
        if let Err(error) = db.get(key) {
            refused |= refuses(&error)?;
        }
    }
    db.len().map(drop).or_else(|error| refuses(&error).map(drop))?;
    Ok(refused)
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// verify, salvage, and a writer that compacts and collects, of files that nothing can tell from
/// right ones.
fn search(disk: &SimDisk) -> Result<bool, String> {
    let target = Path::new("/saved");
    let report = disk.verify_db(PATH, &mut go_on).map_err(|error| format!("verify: {error:?}"))?;
    match disk.salvage_db(PATH, target, &options(), &mut go_on) {
        Ok(_) => {
            let saved = disk.verify_db(target, &mut go_on);
            let saved = saved.map_err(|error| format!("verify of what was saved: {error:?}"))?;
            if !saved.is_clean() {
                return Err(format!("what was saved is damaged: {:?}", saved.findings));
            }
        }
        Err(error) => _ = refusal(&error).map_err(|what| format!("salvage: {what}"))?,
    }
    let writer = match disk.open_db(PATH, &options().create_if_missing(false)) {
        Ok(writer) => writer,
        Err(error) => return refusal(&error).map(|_| true),
    };
    let refused = |done: toykv::Result<()>| match done {
        Ok(()) => Ok(()),
        Err(error) => refusal(&error).map(drop),
    };
    refused(writer.put(b"key", b"value").map(drop))?;
    refused(writer.compact(Bound::Unbounded, Bound::Unbounded))?;
    refused(writer.gc())?;
    Ok(!report.is_clean() | ask(Ok(writer))?)
}

/// How many cases one child plays, from its first one on in steps of all of them.
#[derive(Clone, Copy)]
struct Work {
    child: u64,
    children: u64,
    first: u64,
    count: u64,
}

/// Does nothing unless the rig has started it.
#[test]
fn child() {
    let Ok(work) = std::env::var(CHILD) else { return };
    let words: Vec<&str> = work.splitn(6, ' ').collect();
    let [child, children, first, count, mischief, place] = words[..] else { panic!("{work}") };
    let [child, children, first, count] =
        [child, children, first, count].map(|number| number.parse::<u64>().unwrap());
    static DONE: AtomicU64 = AtomicU64::new(0);
    let stuck_s = if mischief == "hang" { 2 } else { STUCK_S };
    std::thread::spawn(move || {
        let (mut last, mut still) = (0, 0);
        // Seconds in which this process stands still do not count: it sleeps through them.
        while still < stuck_s {
            std::thread::sleep(Duration::from_secs(1));
            let now = DONE.load(Ordering::Relaxed);
            still = if now == last { still + 1 } else { 0 };
            last = now;
        }
        eprintln!("a case does not end");
        std::process::abort();
    });
    // Of a panic on any thread.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    let rig = Rig::chosen();
    let place = std::fs::File::create(place).unwrap();
    let (mut cases, mut refused) = ([0u64; 2], [0u64; 2]);
    for index in (child..count).step_by(children as usize) {
        let number = rig.at(first + index);
        let index_bytes = (first + index).to_le_bytes();
        std::os::unix::fs::FileExt::write_all_at(&place, &index_bytes, 0).unwrap();
        if cases != [0; 2] {
            misbehave(mischief);
        }
        let noticed = rig.judge(number).unwrap_or_else(|what| panic!("{what}"));
        let half = usize::from(rig.case(number).mended);
        cases[half] += 1;
        refused[half] += u64::from(noticed);
        DONE.fetch_add(1, Ordering::Relaxed);
        if (index / children).is_multiple_of(100_000) {
            println!("{} cases", cases[0] + cases[1]);
        }
    }
    println!("\nRIG {} {} {} {}", cases[0], refused[0], cases[1], refused[1]);
}

/// Does what the rig has to notice.
fn misbehave(mischief: &str) {
    match mischief {
        "panic" => drop(std::thread::spawn(|| panic!("on another thread")).join()),
        "allocate" => drop(std::hint::black_box(vec![1u8; (ADDRESS_SPACE_KB as usize) << 10])),
        "hang" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        "signal" => std::process::abort(),
        "answer" => panic!("another answer"),
        _ => {}
    }
}

fn start(work: Work, mischief: &str, place: &Path) -> Child {
    let Work { child, children, first, count } = work;
    let work = format!("{child} {children} {first} {count} {mischief} {}", place.display());
    let inner = again("damage_rig::child", CHILD, &work);
    let limited = format!("ulimit -v {ADDRESS_SPACE_KB}; ulimit -c 0; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &limited]).arg(inner.get_program()).args(inner.get_args());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // One arena instead of one for each thread, 64 MiB of addresses each.
    command.env("MALLOC_ARENA_MAX", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Where a child died, as its place in the order of all cases, if it says so, and what it said.
type Death = (Option<u64>, String);

/// Waits for a child: what it counted, or its death.
fn finish(child: Child, rig: &Rig, place: &Path) -> Result<[u64; 4], Death> {
    let output = child.wait_with_output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let line = out.lines().find_map(|line| line.strip_prefix("RIG "));
    if let (true, Some(line)) = (output.status.success(), line) {
        let numbers: Vec<u64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        return Ok(numbers.try_into().unwrap());
    }
    let index = std::fs::read(place).ok().and_then(|bytes| bytes.try_into().ok());
    let index = index.map(u64::from_le_bytes);
    let case = index.map(|index| rig.describe(rig.at(index))).unwrap_or_default();
    Err((index, format!("{}: {case}\n{err}", output.status)))
}

/// Plays the cases of one child, and goes on behind those at which it died: what was counted after
/// the last of them, and what was found.
fn play(mut work: Work, rig: &Rig, place: &Path) -> ([u64; 4], Vec<String>) {
    let mut found = Vec::new();
    let end = work.first + work.count;
    loop {
        let (index, what) = match finish(start(work, "nothing", place), rig, place) {
            Ok(counted) => return (counted, found),
            Err(death) => death,
        };
        println!("damage: {what}");
        found.push(what);
        let Some(index) = index.filter(|_| found.len() < FOUND) else { return ([0; 4], found) };
        let next = index + work.children - work.child;
        if next >= end {
            return ([0; 4], found);
        }
        work = Work { first: next, count: end - next, ..work };
    }
}

#[test]
fn damage_changes_no_answer_and_ends_no_process() {
    let rig = Rig::chosen();
    let count = match std::env::var("TOYKV_DAMAGE_CASES").as_deref() {
        Ok("all") => rig.total(),
        _ => number_from_env("TOYKV_DAMAGE_CASES", SAMPLE),
    };
    let first = number_from_env("TOYKV_DAMAGE_FIRST", 0);
    let folder = tempfile::tempdir().unwrap();
    let mut sums = [0u64; 4];
    let mut found = Vec::new();
    std::thread::scope(|scope| {
        let played = |child: u64| {
            let place = folder.path().join(child.to_string());
            play(Work { child, children: CHILDREN, first, count }, &rig, &place)
        };
        let children: Vec<_> =
            (0..CHILDREN).map(|child| scope.spawn(move || played(child))).collect();
        for child in children {
            let (counted, own) = child.join().unwrap();
            sums.iter_mut().zip(counted).for_each(|(sum, own)| *sum += own);
            found.extend(own);
        }
    });
    assert!(found.is_empty(), "{} cases: {}", found.len(), found.join("\n"));
    let [plain, refused, mended, refused_mended] = sums;
    println!("damage: {plain} of {} cases, {refused} refused, no other answer", rig.half);
    println!("damage: {mended} of {} with checksums mended, {refused_mended} refused", rig.half);
    assert_eq!(plain + mended, count);
    assert!(refused > plain / 20 && refused_mended > 0, "damage goes unnoticed");
}

/// Three of the rig's own cases, bits under right checksums: in the key of an older version, by
/// which a scan went back round and round; in a pointer, of which nobody said where it is; in the
/// size of a segment, which was called a wrong argument.
#[test]
fn what_the_rig_has_found_is_refused() {
    let rig = Rig::new();
    for (name, file, at, bit) in [
        ("lz4", "000005.table", 3315, 6),
        ("rewritten", "000005.table", 10_113, 2),
        ("rewritten", "MANIFEST-000003", 152, 3),
    ] {
        let sample = golden::NAMES.iter().position(|own| *own == name).unwrap();
        let mut files = rig.samples[sample].files.iter();
        let file = files.position(|(path, _)| path.ends_with(file)).unwrap();
        let case = Case { sample, file, damage: Damage::Bit(at, bit), mended: true };
        rig.judge(rig.number(&case)).unwrap();
    }
}

#[test]
fn the_rig_notices_panics_signals_allocations_without_limit_and_what_does_not_end() {
    let rig = Rig::chosen();
    let folder = tempfile::tempdir().unwrap();
    let works = Work { child: 0, children: 1, first: 0, count: 2 };
    let second = rig.describe(rig.at(1));
    for mischief in ["panic", "allocate", "hang", "signal", "answer", "nothing"] {
        let place = folder.path().join(mischief);
        let finished = finish(start(works, mischief, &place), &rig, &place);
        match (mischief, finished) {
            ("nothing", finished) => assert!(finished.is_ok(), "{finished:?}"),
            (_, Ok(_)) => panic!("{mischief} goes unnoticed"),
            (_, Err((index, what))) => {
                assert!(what.contains(&second), "{mischief}: {what}");
                assert_eq!(index, Some(1), "{mischief}");
            }
        }
    }
}

#[test]
fn mending_mends() {
    let rig = Rig::new();
    // Another value under the same key, its checksums right: nothing can tell.
    let index = golden::NAMES.iter().position(|name| *name == "values").unwrap();
    let sample = &rig.samples[index];
    let (_, value) = sample.state.first_key_value().unwrap();
    let find = |bytes: &Vec<u8>| bytes.windows(value.len()).position(|window| window == &value[..]);
    let mut held = sample.files.iter().enumerate();
    let (file, at) = held.find_map(|(file, (_, bytes))| Some((file, find(bytes)?))).unwrap();
    let damage = Damage::Bit(at + 9, 1);
    for mended in [false, true] {
        let case = Case { sample: index, file, damage, mended };
        let (path, bytes) = rig.damaged(&case);
        let disk = sample.disk();
        disk.write_file(path, &bytes).unwrap();
        assert_eq!(sample.judge(&disk).is_err(), mended);
        assert_eq!(search(&disk), Ok(!mended));
    }
}

#[test]
fn every_case_comes_once() {
    let rig = Rig::new();
    let total = rig.total();
    assert!(rig.half >= 9 * (64 << 10));
    assert_eq!(rig.at(0), 0);
    assert_eq!(rig.at(total), 0, "and then again");
    let (first, last) = (rig.case(0), rig.case(total - 1));
    assert_eq!((first.damage, first.mended), (Damage::Bit(0, 0), false));
    let len = rig.samples[last.sample].files[last.file].1.len();
    assert_eq!(rig.number(&rig.case(total / 3)), total / 3);
    assert_eq!(rig.number(&last), total - 1);
    assert_eq!((last.damage, last.mended), (Damage::Length(len - 1), true));
    assert_eq!(last.sample, rig.samples.len() - 1);
    assert_eq!(last.file, rig.samples[last.sample].files.len() - 1);
}

/// Judges files that are not those that were written.
fn exchanged(sample: &Sample, what: &str, change: impl FnOnce(&SimDisk)) -> Answer {
    let disk = sample.disk();
    change(&disk);
    let (clean, answer) =
        judge_disk(sample, &disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(!clean || answer == Answer::Same, "{what}: refused, and not found");
    answer
}

/// Of so many cases of whole files one is tried: all in the long form.
fn step(short: usize) -> usize {
    if std::env::var("TOYKV_DAMAGE_CASES").is_ok_and(|cases| cases == "all") { 1 } else { short }
}

fn is_needed(path: &Path) -> bool {
    !path.ends_with("LOCK")
}

#[test]
fn missing_and_exchanged_files_are_refused_and_copies_change_nothing() {
    let mut numbers = 0..;
    let mut is_chosen = || numbers.next().is_some_and(|n: usize| n.is_multiple_of(step(15)));
    for sample in golden::all_samples() {
        let own: Vec<&(PathBuf, Vec<u8>)> =
            sample.files.iter().filter(|(path, _)| is_needed(path)).collect();
        for (path, bytes) in &own {
            let what = format!("{} is missing", path.display());
            let answer = exchanged(&sample, &what, |disk| disk.remove(path).unwrap());
            assert_eq!(answer, Answer::Refused, "{what}");
            for (other, _) in sample.files.iter().filter(|(other, _)| other != path) {
                if !is_chosen() {
                    continue;
                }
                let what = format!("{} in place of {}", path.display(), other.display());
                let answer =
                    exchanged(&sample, &what, |disk| disk.write_file(other, bytes).unwrap());
                assert_eq!(answer == Answer::Refused, is_needed(other), "{what}");
            }
            for name in ["009000.table", "009500.vlog", "MANIFEST-009999", "notes.txt"] {
                if !is_chosen() {
                    continue;
                }
                let what = format!("a copy of {} as {name}", path.display());
                let copy = Path::new(PATH).join(name);
                let answer =
                    exchanged(&sample, &what, |disk| disk.write_file(&copy, bytes).unwrap());
                assert_eq!(answer, Answer::Same, "{what}");
            }
        }
    }
}

/// Gives a file the number that its new name has, and right checksums.
fn adopt(path: &Path, bytes: &mut [u8]) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let digits: String = name.chars().filter(char::is_ascii_digit).collect();
    let Ok(number) = digits.parse::<u64>() else { return };
    let at = match name.rsplit_once('.') {
        Some((_, "table")) => bytes.len().checked_sub(160),
        Some((_, "vlog")) => Some(16),
        _ => Some(32),
    };
    if let Some(place) = at.and_then(|at| bytes.get_mut(at..at + 8)) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    mend(name, bytes);
}

#[test]
fn files_of_other_databases_under_right_names_and_checksums_end_nothing() {
    let (mut cases, mut refused) = (0u64, 0u64);
    let samples: Vec<Sample> = golden::all_samples().collect();
    let others: Vec<&(PathBuf, Vec<u8>)> =
        samples.iter().flat_map(|sample| &sample.files).filter(|(p, _)| is_needed(p)).collect();
    for sample in &samples {
        for (path, _) in sample.files.iter().filter(|(path, _)| is_needed(path)) {
            for (other, bytes) in others.iter().skip(cases as usize % step(20)).step_by(step(20)) {
                let mut bytes = bytes.clone();
                adopt(path, &mut bytes);
                let disk = sample.disk();
                disk.write_file(path, &bytes).unwrap();
                let read_only = Options::new().read_only(true);
                let answer = ask(disk.open_db(PATH, &read_only));
                let what = || format!("{} in place of {}", other.display(), path.display());
                refused += u64::from(answer.unwrap_or_else(|error| panic!("{}: {error}", what())));
                cases += 1;
                if cases.is_multiple_of(DEEP) {
                    search(&disk).unwrap_or_else(|error| panic!("{}: {error}", what()));
                }
            }
        }
    }
    println!("damage: {cases} files in place of others, {refused} refused");
    assert!(refused > cases / 2, "{refused} of {cases}");
}

/// A file as it was earlier is refused, or the database is as it was after some commit since then:
/// a log that ends early and a manifest that lacks its last edits are those of an earlier time.
#[test]
fn stale_files_are_refused_or_show_an_earlier_state() {
    let mut run = Run::new(SimDisk::new(), options());
    run.open().unwrap();
    let mut moments = Vec::new();
    for round in 0..6u64 {
        for tag in 0..12 {
            let len = if tag % 4 == 1 { 1500 } else { 60 };
            let durability = if tag % 5 == 0 { Durability::Sync } else { Durability::Process };
            run.put(round * 7 + tag, value_of(round * 100 + tag, len), durability).unwrap();
            if tag % 6 == 5 {
                run.delete(round * 7 + tag - 3, durability).unwrap();
                moments.push((run.history.len(), golden::files(&run.disk)));
            }
        }
        match round {
            1 | 2 => run.db().flush().unwrap(),
            3 => run.compact().unwrap(),
            4 => run.gc().unwrap(),
            _ => {}
        }
        moments.push((run.history.len(), golden::files(&run.disk)));
    }
    run.close().unwrap();
    let sample = Sample { files: golden::files(&run.disk), state: run.history.newest() };
    let (mut cases, mut refused, mut earlier) = (0, 0, 0);
    let mut judge = |what: &str, least: usize, change: &dyn Fn(&SimDisk)| {
        let disk = sample.disk();
        change(&disk);
        cases += 1;
        let report = disk.verify_db(PATH, &mut go_on).unwrap();
        for read_only in [true, false] {
            let options = options().create_if_missing(false).read_only(read_only);
            let db = match disk.open_db(PATH, &options) {
                Ok(db) => db,
                Err(error) => {
                    refusal(&error).unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert!(!report.is_clean(), "{what}: refused, and not found");
                    refused += 1;
                    continue;
                }
            };
            match read_all(&db) {
                Ok(found) => {
                    let count = run.history.matching(&found, least);
                    assert!(count.is_some(), "{what}: no state since then");
                    earlier += u64::from(count != Some(run.history.len()));
                }
                Err(_) => {
                    assert!(!report.is_clean(), "{what}: refused, and not found");
                    refused += 1;
                }
            }
        }
    };
    for (count, files) in &moments {
        for (path, bytes) in files.iter().filter(|(path, _)| is_needed(path)) {
            let what = format!("{} as it was after {count} commits", path.display());
            judge(&what, *count, &|disk| disk.write_file(path, bytes).unwrap());
        }
        judge(&format!("all as after {count} commits"), *count, &|disk| {
            for (path, bytes) in files {
                disk.write_file(path, bytes).unwrap();
            }
        });
    }
    let opens = 2 * cases;
    println!("damage: {cases} stale files: of {opens} opens {refused} refused, {earlier} earlier");
    assert!(refused > 10 && earlier > 10, "{cases} cases, {refused} refused, {earlier} earlier");
}
