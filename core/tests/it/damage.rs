//! Damage to the files of a closed database: the same answers, or Corruption that says where, or
//! UnsupportedFormat; never a panic, a hang or another answer. And what recovery makes of a log
//! that breaks off: a torn tail goes, a hole before what was synced is refused.
//!
//! Checks DETECT, NOHOLE and ACK.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use toykv::sim::SimDisk;
use toykv::{Compression, Db, Durability, Error, ErrorKind, IoMode, Options, ScanOptions};

use crate::oracle::{Dice, History, Map, PATH, Run, key_of, read_all, value_of};

pub(crate) fn options() -> Options {
    Options::new()
        .durability(Durability::Process)
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(512 << 10)
}

/// A small closed database with everything in it: tables, a segment with large values that tables
/// point to, a log that is not flushed, and deletes.
pub(crate) struct Sample {
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) state: Map,
}

impl Sample {
    fn new() -> Sample {
        Sample::compressed(Compression::None)
    }

    fn compressed(compression: Compression) -> Sample {
        let mut run = Run::new(SimDisk::new(), options().compression(compression));
        run.open().unwrap();
        for tag in 0..60 {
            let len = if tag % 9 == 2 { 1500 } else { 60 };
            run.put(tag, value_of(tag, len), Durability::Process).unwrap();
        }
        run.db().flush().unwrap();
        for tag in 50..70 {
            run.put(tag, value_of(tag + 100, 80), Durability::Process).unwrap();
            run.delete(tag - 45, Durability::Process).unwrap();
        }
        run.put(99, value_of(99, 2000), Durability::Sync).unwrap();
        run.close().unwrap();
        let state = run.history.newest();
        let files = run.disk.files().into_iter().map(|(path, _)| {
            let bytes = run.disk.read_file(&path).unwrap();
            (path, bytes)
        });
        Sample { files: files.collect(), state }
    }

    /// A new disk with these files.
    pub(crate) fn disk(&self) -> SimDisk {
        let disk = SimDisk::new();
        // Makes the directory, too.
        drop(disk.open_db(PATH, &options()).unwrap());
        for (path, _) in disk.files() {
            disk.remove(path).unwrap();
        }
        for (path, bytes) in &self.files {
            disk.write_file(path, bytes).unwrap();
        }
        disk
    }

    /// What a database says after damage, in every way of reading.
    pub(crate) fn judge(&self, disk: &SimDisk) -> Result<Answer, String> {
        let read_only = options().read_only(true);
        let first = self.answer(disk.open_db(PATH, &read_only.io(IoMode::Direct)))?;
        let second = self.answer(disk.open_db(PATH, &options().create_if_missing(false)))?;
        // A writer refuses as much as a reader does; it also reads every byte of the log.
        if second == Answer::Same { Ok(first) } else { Ok(second) }
    }

    pub(crate) fn answer(&self, opened: toykv::Result<Db>) -> Result<Answer, String> {
        match opened {
            Ok(db) => self.ask(&db),
            Err(error) => refusal(&error),
        }
    }

    /// Asks a database everything: each answer is right, or a refusal.
    pub(crate) fn ask(&self, db: &Db) -> Result<Answer, String> {
        let mut refused = false;
        for (key, value) in &self.state {
            match db.get(key) {
                Ok(found) if found.as_deref() == Some(&value[..]) => {}
                Ok(found) => return Err(format!("get of {key:?} is {:?}", found.as_deref())),
                Err(error) => refused |= refusal(&error)? == Answer::Refused,
            }
        }
        for tag in 0..100 {
            let key = key_of(tag);
            match db.get(&key) {
                Ok(found) if found.is_some() != self.state.contains_key(&key) => {
                    return Err(format!("{key:?} is back or gone"));
                }
                Ok(_) => {}
                Err(error) => refused |= refusal(&error)? == Answer::Refused,
            }
        }
        let rows = self.state.iter().map(|(key, value)| (&key[..], &value[..]));
        refused |= scan(db, false, rows.clone())? == Answer::Refused;
        refused |= scan(db, true, rows.rev())? == Answer::Refused;
        match db.len() {
            Ok(len) if len == self.state.len() as u64 => {}
            Ok(len) => return Err(format!("{len} keys are counted")),
            Err(error) => refused |= refusal(&error)? == Answer::Refused,
        }
        Ok(if refused { Answer::Refused } else { Answer::Same })
    }
}

/// Scans everything: these rows, all of them or up to a refusal.
fn scan<'a>(
    db: &Db,
    reverse: bool,
    mut expected: impl Iterator<Item = (&'a [u8], &'a [u8])>,
) -> Result<Answer, String> {
    let mut scan = match db.scan(&ScanOptions::new().reverse(reverse)) {
        Ok(scan) => scan,
        Err(error) => return refusal(&error),
    };
    loop {
        match scan.next_entry() {
            Err(error) => return refusal(&error),
            Ok(None) if expected.next().is_none() => return Ok(Answer::Same),
            Ok(Some(entry)) if expected.next() == Some((entry.key, entry.value)) => {}
            Ok(_) => return Err(format!("a scan shows something else (reverse: {reverse})")),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Same,
    Refused,
}

/// The errors that damage may have.
pub(crate) fn refusal(error: &Error) -> Result<Answer, String> {
    let located = error.path().is_some() && error.offset().is_some();
    match error.kind() {
        ErrorKind::Corruption if located => Ok(Answer::Refused),
        ErrorKind::Corruption => Err(format!("says not where: {error}")),
        ErrorKind::UnsupportedFormat => Ok(Answer::Refused),
        kind => Err(format!("{kind:?}: {error}")),
    }
}

/// Judges one damage; a panic is an error as well.
fn judge(sample: &Sample, what: &str, damage: impl FnOnce(&SimDisk)) -> Answer {
    let disk = sample.disk();
    damage(&disk);
    match catch_unwind(AssertUnwindSafe(|| sample.judge(&disk))) {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(_) => panic!("{what}: a panic"),
    }
}

pub(crate) fn is_lock(path: &Path) -> bool {
    path.ends_with("LOCK")
}

fn flips_per_file() -> u64 {
    if std::env::var_os("TOYKV_CRASH_FULL").is_some() { 20_000 } else { 400 }
}

/// Where to damage a file: everywhere at its ends, and where it is not zero.
fn places(bytes: &[u8], dice: &mut Dice, count: u64) -> Vec<usize> {
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut places: Vec<usize> = (0..count / 2).map(|_| dice.pick(&used)).collect();
    places.extend((0..count / 4).map(|_| dice.below(bytes.len() as u64) as usize));
    places.extend((0..bytes.len()).take(count as usize / 8));
    places.extend((0..bytes.len()).rev().take(count as usize / 8));
    places
}

#[test]
fn a_flipped_bit_changes_no_answer() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        flip_bits(&Sample::compressed(compression));
    }
}

fn flip_bits(sample: &Sample) {
    assert_eq!(judge(sample, "no damage", |_| {}), Answer::Same);
    let mut dice = Dice::new(5);
    for (path, bytes) in sample.files.iter().filter(|(path, _)| !is_lock(path)) {
        let mut refused = 0;
        let places = places(bytes, &mut dice, flips_per_file());
        for at in &places {
            let flipped = bytes[*at] ^ (1 << dice.below(8));
            let what = format!("{} at {at}: {flipped:#x}", path.display());
            let damage = |disk: &SimDisk| disk.overwrite(path, *at as u64, &[flipped]).unwrap();
            refused += usize::from(judge(sample, &what, damage) == Answer::Refused);
        }
        println!("{}: {refused} of {} flips refused", path.display(), places.len());
        assert!(refused > 0, "{}: nothing is ever noticed", path.display());
    }
}

#[test]
fn another_length_changes_no_answer() {
    let sample = Sample::new();
    let mut dice = Dice::new(6);
    for (path, bytes) in sample.files.iter().filter(|(path, _)| !is_lock(path)) {
        let len = bytes.len() as u64;
        let mut lens =
            vec![0, 1, len / 2, len - 1, len + 1, len + 4096, len.next_multiple_of(4096)];
        lens.extend((0..40).map(|_| dice.below(len)));
        let mut refused = 0;
        for len in lens.iter().filter(|other| **other != len) {
            let what = format!("{} of {} bytes is {len}", path.display(), bytes.len());
            let answer = judge(&sample, &what, |disk| disk.truncate(path, *len).unwrap());
            refused += usize::from(answer == Answer::Refused);
        }
        println!("{}: {refused} of {} lengths refused", path.display(), lens.len());
        assert!(refused > 40, "{}: lengths go unnoticed", path.display());
    }
}

#[test]
fn missing_and_exchanged_files_change_no_answer() {
    let sample = Sample::new();
    let files: Vec<_> = sample.files.iter().filter(|(path, _)| !is_lock(path)).collect();
    for (path, _) in &files {
        let what = format!("{} is missing", path.display());
        let answer = judge(&sample, &what, |disk| disk.remove(path).unwrap());
        assert_eq!(answer, Answer::Refused, "{what}");
        for (other, bytes) in files.iter().filter(|(other, _)| other != path) {
            let what = format!("{} in place of {}", other.display(), path.display());
            let answer = judge(&sample, &what, |disk| disk.write_file(path, bytes).unwrap());
            assert_eq!(answer, Answer::Refused, "{what}");
        }
    }
}

#[test]
fn the_judge_notices_another_answer() {
    let mut sample = Sample::new();
    let disk = sample.disk();
    let (key, value) = sample.state.pop_first().unwrap();
    assert!(sample.judge(&disk).is_err(), "a key too many");
    sample.state.insert(key.clone(), value_of(1, 3));
    assert!(sample.judge(&disk).is_err(), "another value");
    sample.state.insert(key, value);
    sample.state.insert(key_of(98), Vec::new());
    assert!(sample.judge(&disk).is_err(), "a key too few");
}

/// A log with small frames, and where each record's value is in its file.
fn log(durability: Durability, close: bool) -> (SimDisk, History, PathBuf, Vec<usize>) {
    let mut run = Run::new(SimDisk::new(), options());
    run.open().unwrap();
    for tag in 0..30 {
        run.put(tag, value_of(tag, 100), durability).unwrap();
    }
    if close {
        run.close().unwrap();
    }
    let is_log = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "vlog");
    let path = run.disk.files().into_iter().map(|(path, _)| path).find(is_log).unwrap();
    run.disk.sync_all();
    run.disk.power_off();
    run.drop_db();
    let disk = run.disk.crash_image(&toykv::sim::CrashPolicy::KEEP_ALL, 1);
    let bytes = disk.read_file(&path).unwrap();
    let place = |tag| {
        let value = value_of(tag, 100);
        bytes.windows(value.len()).position(|window| window == value).unwrap()
    };
    let places = (0..30).map(place).collect();
    (disk, run.history, path, places)
}

fn flip(disk: &SimDisk, path: &Path, at: usize) {
    let byte = disk.read_file(path).unwrap()[at];
    disk.overwrite(path, at as u64, &[byte ^ 4]).unwrap();
}

#[test]
fn a_torn_tail_goes_and_nothing_before_it() {
    for (index, _) in value_of(0, 30).iter().enumerate() {
        let (disk, history, path, places) = log(Durability::Process, false);
        flip(&disk, &path, places[index]);
        let db = disk.open_db(PATH, &options()).unwrap();
        // Nothing was known to be durable, so the log ends at its first broken frame.
        assert_eq!(read_all(&db).unwrap(), history.state(index));
    }
}

#[test]
fn a_hole_before_what_was_synced_is_refused() {
    for (durability, close) in [(Durability::Sync, false), (Durability::Process, true)] {
        for index in 0..28 {
            let (disk, _, path, places) = log(durability, close);
            flip(&disk, &path, places[index]);
            let error = disk.open_db(PATH, &options()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption, "{durability:?} {index}: {error}");
            assert_eq!(error.path(), Some(path.as_path()), "{error}");
            let offset = error.offset().unwrap() as usize;
            let before = if index == 0 { 4096 } else { places[index - 1] };
            assert!(before <= offset && offset <= places[index], "{index}: at {offset}");
            // A refusal changes nothing.
            let again = disk.open_db(PATH, &options()).unwrap_err();
            assert_eq!(again.to_string(), error.to_string());
        }
    }
}
