//! Databases of format version 1 as they were written when it was settled, under `tests/golden/v1`:
//! every later version has to read them. What is in them is said here by formulas, not by the
//! engine. One is written anew, which only a new format version is a reason for, by
//!
//! `TOYKV_GOLDEN=NAME cargo test -p toykv --features sim --test it golden::`
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

mod mixed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use toykv::sim::{SimDisk, mend};
use toykv::{Compression, Db, Durability, ErrorKind, Options, WriteBatch};

use crate::damage::Sample;
use crate::oracle::{Map, PATH, read_all};

/// The databases: their names say what is in them.
pub(crate) const NAMES: [&str; 9] =
    ["empty", "log", "tables", "values", "rewritten", "versions", "lz4", "zstd", "mixed"];

/// The files of a disk.
pub(crate) fn files(disk: &SimDisk) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: PathBuf| {
        let bytes = disk.read_file(&path).unwrap();
        (path, bytes)
    };
    disk.files().into_iter().map(|(path, _)| read(path)).collect()
}

/// One of them, for tests of damage.
pub(crate) fn sample(name: &str) -> Sample {
    Sample { files: files(&load(name)), state: content(name) }
}

/// All that have something in them.
pub(crate) fn samples() -> impl Iterator<Item = Sample> {
    NAMES.iter().skip(1).map(|name| sample(name))
}

/// All of them, in the order of their names here.
pub(crate) fn all_samples() -> impl Iterator<Item = Sample> {
    NAMES.iter().map(|name| sample(name))
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(name)
}

fn options() -> Options {
    Options::new().durability(Durability::Process).memtable_size_bytes(64 << 10)
}

pub(crate) fn key(number: u32) -> Vec<u8> {
    format!("key-{number:05}").into_bytes()
}

/// `len` bytes that compress well or, if `noise`, not at all.
pub(crate) fn value(number: u32, len: usize, noise: bool) -> Vec<u8> {
    let mut state = number.wrapping_mul(2_654_435_761) | 1;
    let byte = |i: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        if noise { (state >> 11) as u8 } else { b"toykv golden "[(i + number as usize) % 13] }
    };
    (0..len).map(byte).collect()
}

/// What is in a database.
fn content(name: &str) -> Map {
    let numbers = |range: std::ops::Range<u32>, len: usize, noise: bool| -> Map {
        range.map(|number| (key(number), value(number, len, noise))).collect()
    };
    match name {
        "empty" => Map::new(),
        "log" => {
            let mut map = numbers(0..40, 100, true);
            map.insert(Vec::new(), b"the empty key".to_vec());
            map.insert(b"empty value".to_vec(), Vec::new());
            map.insert(vec![0xff; 3000], value(9, 9000, true));
            map.remove(&key(7));
            map
        }
        "tables" => numbers(0..400, 90, true),
        "values" => numbers(0..24, 2200, true),
        "rewritten" => {
            let mut map = numbers(0..200, 40, true);
            map.extend(numbers(200..206, 3000, true));
            map
        }
        "versions" => {
            let mut map = numbers(0..50, 60, true);
            map.extend((10..20).map(|number| (key(number), value(number + 500, 70, true))));
            (20..30).for_each(|number| drop(map.remove(&key(number))));
            map
        }
        "lz4" | "zstd" => {
            let mut map = numbers(0..300, 120, false);
            map.extend(numbers(300..310, 60, true));
            map.extend(numbers(400..404, 4000, false));
            map.insert(key(500), value(500, 900, true));
            map
        }
        "mixed" => mixed::content(),
        other => panic!("{other}"),
    }
}

/// Writes a database with that content on a simulated disk.
fn write(name: &str) -> SimDisk {
    if name == "mixed" {
        return mixed::write();
    }
    let disk = SimDisk::new();
    let compression = match name {
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    };
    let options = options().compression(compression);
    let db = disk.open_db(PATH, &options).unwrap();
    let before = match name {
        "log" => BTreeMap::from([(key(7), value(7, 100, true))]),
        "versions" => (0..50).map(|number| (key(number), value(number, 60, true))).collect(),
        _ => Map::new(),
    };
    for (key, value) in &before {
        db.put(key, value).unwrap();
    }
    let held = (name == "versions").then(|| {
        db.flush().unwrap();
        db.snapshot().unwrap()
    });
    let after = content(name);
    let mut batch = WriteBatch::new();
    after.iter().for_each(|(key, value)| batch.put(key, value).unwrap());
    before
        .keys()
        .filter(|key| !after.contains_key(*key))
        .for_each(|key| batch.delete(key).unwrap());
    db.write(&batch).unwrap();
    if name != "log" && name != "empty" {
        db.flush().unwrap();
    }
    drop(held);
    db.close().unwrap();
    disk
}

/// The committed files of a database, on a simulated disk.
fn load(name: &str) -> SimDisk {
    let disk = SimDisk::new();
    disk.open_db(PATH, &options()).unwrap().close().unwrap();
    files(&disk).iter().for_each(|(path, _)| disk.remove(path).unwrap());
    for entry in fs::read_dir(folder(name)).unwrap() {
        let entry = entry.unwrap();
        let bytes = fs::read(entry.path()).unwrap();
        disk.write_file(Path::new(PATH).join(entry.file_name()), &bytes).unwrap();
    }
    disk
}

fn check(db: &Db, name: &str) {
    let content = content(name);
    assert_eq!(read_all(db).unwrap(), content, "{name}");
    assert_eq!(db.len().unwrap(), content.len() as u64, "{name}");
    for (key, value) in &content {
        assert_eq!(db.get(key).unwrap().as_deref(), Some(&value[..]), "{name}: {key:?}");
    }
    assert!(db.get(&key(99_999)).unwrap().is_none());
}

#[test]
fn databases_of_version_1_are_read_verified_and_written() {
    for name in NAMES {
        if std::env::var_os("TOYKV_GOLDEN").is_some_and(|what| what == name) {
            fs::create_dir_all(folder(name)).unwrap();
            for (path, bytes) in files(&write(name)) {
                fs::write(folder(name).join(path.file_name().unwrap()), bytes).unwrap();
            }
        }
        let disk = load(name);
        let before = files(&disk);
        let go_on = &mut |_| std::ops::ControlFlow::Continue(());
        let report = disk.verify_db(PATH, go_on).unwrap();
        assert!(report.is_clean(), "{name}: {:?}", report.findings);
        let reader = disk.open_db(PATH, &Options::new().read_only(true)).unwrap();
        check(&reader, name);
        reader.close().unwrap();
        assert_eq!(files(&disk), before, "{name}: a reader changes nothing");
        let writer = disk.open_db(PATH, &options().create_if_missing(false)).unwrap();
        check(&writer, name);
        writer.put(b"fresh", b"1").unwrap();
        writer.compact(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
        writer.delete(b"fresh").unwrap();
        check(&writer, name);
        writer.close().unwrap();
    }
}

#[test]
fn the_databases_have_what_their_names_say() {
    let starts = |name: &str, magic: &[u8]| {
        files(&load(name)).iter().filter(|(_, bytes)| bytes.starts_with(magic)).count()
    };
    let ends = |name: &str, end: &str| {
        files(&load(name)).iter().filter(|(path, _)| path.to_str().unwrap().ends_with(end)).count()
    };
    assert_eq!((ends("empty", ".table"), ends("log", ".table")), (0, 0));
    for name in ["tables", "values", "rewritten", "versions", "lz4", "zstd"] {
        assert!(ends(name, ".table") > 0, "{name}");
    }
    assert!(starts("values", b"toykvlog") >= 2, "a segment with values, and the log");
    assert!(starts("rewritten", b"toykvval") == 1);
    let bytes: Vec<Vec<u8>> = files(&load("mixed")).into_iter().map(|(_, bytes)| bytes).collect();
    assert_eq!(mixed::missing(&bytes), None);
    for (name, scheme) in [("tables", 0), ("lz4", 1), ("zstd", 2)] {
        let is_table = |path: &Path| path.extension().is_some_and(|end| end == "table");
        let table = files(&load(name)).into_iter().find(|(path, _)| is_table(path));
        let (_, bytes) = table.unwrap();
        assert_eq!(bytes[bytes.len() - 160 + 132], scheme, "{name}");
    }
}

#[test]
fn a_newer_version_is_refused_and_nothing_is_touched() {
    let mut tried = 0;
    for name in ["log", "rewritten", "zstd"] {
        for (path, bytes) in files(&load(name)) {
            let file = path.file_name().unwrap().to_str().unwrap();
            let at = match file {
                "LOCK" | "CURRENT" => continue,
                file if file.ends_with(".table") => bytes.len() - 16,
                _ => 8,
            };
            let mut newer = bytes.clone();
            assert_eq!(newer[at..at + 4], [1, 0, 0, 0], "{file}");
            newer[at] = 2;
            mend(file, &mut newer);
            let disk = load(name);
            disk.write_file(&path, &newer).unwrap();
            let before = files(&disk);
            for options in [options(), options().read_only(true)] {
                let error = disk.open_db(PATH, &options).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::UnsupportedFormat, "{name} {file}: {error}");
                let words = error.to_string();
                assert!(words.contains('2') && words.contains('1'), "{words}");
            }
            let is_lock = |(path, _): &&(PathBuf, Vec<u8>)| !path.ends_with("LOCK");
            let after = files(&disk);
            assert!(before.iter().filter(is_lock).eq(after.iter().filter(is_lock)), "{file}");
            tried += 1;
        }
    }
    assert!(tried >= 8, "{tried}");
}
