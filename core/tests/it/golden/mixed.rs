//! The database "mixed": every kind of file, block, record and edit in one, for tests of damage.
//! Keys with one first letter lie in tables of their own.

use std::collections::BTreeSet;
use std::ops::Bound;

use toykv::sim::SimDisk;
use toykv::{Compression, Db, Durability, WriteBatch, WriteOptions};

use super::{options, value};
use crate::oracle::{Map, PATH};

const MANIFEST_HEADER_LEN: usize = 56;
const RECORD_HEADER_LEN: usize = 24;

/// Of the fields of version edits.
const TAGS: [usize; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11];

/// What is done to it, one after the other.
enum Step {
    /// Closes and opens it, with a compression and the length from which values are separated.
    Open(Compression, u64),
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// In one batch, durable at once.
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Flush,
    /// Takes a snapshot, and keeps it to the end.
    Hold,
    /// Of the keys with this first letter.
    Compact(u8),
}

fn key(letter: char, number: u32) -> Vec<u8> {
    format!("{letter}{number:03}").into_bytes()
}

/// A key so long that some of them make a manifest grow.
fn long_key(letter: char) -> Vec<u8> {
    [key(letter, 999), vec![b'x'; 4000]].concat()
}

fn puts(letter: char, numbers: std::ops::Range<u32>, len: usize, noise: bool) -> Vec<Step> {
    let put = |number| Step::Put(key(letter, number), value(number + len as u32, len, noise));
    numbers.map(put).collect()
}

fn steps() -> Vec<Step> {
    use Step::*;
    let deletes = |letter, numbers: std::ops::Range<u32>| -> Vec<Step> {
        numbers.map(|number| Delete(key(letter, number))).collect()
    };
    let steps = [
        // Blocks of several cells, plain and compressed.
        vec![Open(Compression::Lz4, 1 << 20)],
        puts('b', 0..40, 90, false),
        puts('b', 40..41, 20_000, true),
        puts('b', 41..42, 20_000, false),
        puts('b', 42..60, 90, false),
        vec![Put(long_key('b'), Vec::new()), Flush],
        // Packed records in a segment that is rewritten at once, since most of it is small.
        vec![Open(Compression::Zstd, 1024)],
        puts('c', 0..200, 60, false),
        puts('c', 200..206, 3000, false),
        puts('c', 206..208, 1500, true),
        vec![Put(long_key('c'), Vec::new()), Flush],
        // From here on the manifest has edits: tables that come and go, values that die, a segment
        // that goes.
        vec![Open(Compression::None, 1024)],
        puts('d', 0..24, 1500, true),
        vec![Put(long_key('d'), Vec::new()), Flush],
        puts('d', 0..9, 1600, true),
        deletes('d', 9..11),
        vec![Flush, Compact(b'd')],
        // Plain tables: old versions beside new ones, tombstones, a segment that stays as it is.
        puts('a', 0..12, 40, true),
        puts('a', 12..36, 2100, true),
        vec![Hold],
        puts('a', 0..4, 60, true),
        vec![Flush],
        deletes('a', 4..8),
        puts('a', 8..10, 70, true),
        vec![Flush],
        puts('e', 0..30, 30, true),
        vec![Put(long_key('e'), Vec::new()), Flush],
        // The log.
        puts('f', 0..6, 30, true),
        puts('f', 6..8, 2000, false),
        deletes('e', 0..3),
        vec![Batch(vec![
            (key('f', 8), Some(value(8, 1200, true))),
            (key('e', 3), None),
            (Vec::new(), Some(b"the empty key".to_vec())),
            (key('f', 9), Some(Vec::new())),
        ])],
    ];
    steps.into_iter().flatten().collect()
}

/// What is in it.
pub(super) fn content() -> Map {
    let mut map = Map::new();
    let mut write = |key: Vec<u8>, value: Option<Vec<u8>>| match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    };
    for step in steps() {
        match step {
            Step::Put(key, value) => write(key, Some(value)),
            Step::Delete(key) => write(key, None),
            Step::Batch(entries) => {
                entries.into_iter().for_each(|(key, value)| write(key, value));
            }
            Step::Open(..) | Step::Flush | Step::Hold | Step::Compact(_) => {}
        }
    }
    map
}

/// Writes it on a simulated disk. When background work merges what shall stay apart, it is tried
/// again.
pub(super) fn write() -> SimDisk {
    for _ in 0..100 {
        let disk = play();
        let files: Vec<Vec<u8>> = super::files(&disk).into_iter().map(|(_, bytes)| bytes).collect();
        match missing(&files) {
            None => return disk,
            Some(what) => println!("without {what}"),
        }
    }
    panic!("never was everything in it");
}

fn play() -> SimDisk {
    let disk = SimDisk::new();
    let mut db: Option<Db> = None;
    let mut held = Vec::new();
    for step in steps() {
        if let Step::Open(compression, threshold) = step {
            if let Some(old) = db.take() {
                old.close().unwrap();
            }
            let options = options().compression(compression).value_threshold_bytes(threshold);
            let options = options.space_amplification_percent(1000);
            db = Some(disk.open_db(PATH, &options).unwrap());
            continue;
        }
        let db = db.as_ref().unwrap();
        match step {
            Step::Put(key, value) => _ = db.put(&key, &value).unwrap(),
            Step::Delete(key) => _ = db.delete(&key).unwrap(),
            Step::Batch(entries) => {
                let mut batch = WriteBatch::new();
                for (key, value) in &entries {
                    match value {
                        Some(value) => batch.put(key, value).unwrap(),
                        None => batch.delete(key).unwrap(),
                    }
                }
                let sync = WriteOptions::new().durability(Durability::Sync);
                db.write_with(&batch, &sync).unwrap();
            }
            Step::Flush => db.flush().unwrap(),
            Step::Hold => held.push(db.snapshot().unwrap()),
            Step::Compact(letter) => {
                let upper = letter + 1;
                db.compact(Bound::Included(&[letter]), Bound::Excluded(&[upper])).unwrap();
            }
            Step::Open(..) => unreachable!("handled above"),
        }
    }
    if let Some(db) = db {
        db.close().unwrap();
    }
    drop(held);
    disk
}

/// A number of seven bits in each byte, lowest first, and how many bytes it takes.
fn varint(bytes: &[u8]) -> (usize, usize) {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let number = bytes[..len].iter().rev().fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    (number, len)
}

/// The kinds of the records of a manifest, and the tags in all version edits but the first, which
/// makes the whole state.
fn kinds_and_tags(manifest: &[u8]) -> (BTreeSet<u32>, BTreeSet<usize>) {
    let u32_at = |at: usize| u32::from_le_bytes(manifest[at..at + 4].try_into().unwrap());
    let (mut kinds, mut tags) = (BTreeSet::new(), BTreeSet::new());
    let mut at = MANIFEST_HEADER_LEN;
    // The first record is an edit: kind 1 under the salt.
    let salt = u32_at(at + 20) ^ 1;
    while at + RECORD_HEADER_LEN <= manifest.len() && (1..=3).contains(&(u32_at(at + 20) ^ salt)) {
        let (kind, start) = (u32_at(at + 20) ^ salt, at + RECORD_HEADER_LEN);
        let mut payload = &manifest[start..start + u32_at(at + 16) as usize];
        kinds.insert(kind);
        at = start + payload.len().next_multiple_of(8);
        while kind == 1 && start != MANIFEST_HEADER_LEN + RECORD_HEADER_LEN && !payload.is_empty() {
            let (tag, tag_len) = varint(payload);
            let (len, len_len) = varint(&payload[tag_len..]);
            tags.insert(tag);
            payload = &payload[tag_len + len_len + len..];
        }
    }
    (kinds, tags)
}

/// What of everything that these files shall have they lack.
pub(super) fn missing(files: &[Vec<u8>]) -> Option<&'static str> {
    let starting = |magic: &[u8]| files.iter().filter(|bytes| bytes.starts_with(magic)).count();
    let tables: Vec<&Vec<u8>> = files.iter().filter(|bytes| bytes.ends_with(b"toykvTBL")).collect();
    let number = |table: &[u8], at: usize| {
        let at = table.len() - 160 + at;
        u64::from_le_bytes(table[at..at + 8].try_into().unwrap())
    };
    let has = |condition: &dyn Fn(&[u8]) -> bool| tables.iter().any(|table| condition(table));
    let scheme = |wanted: u8| has(&|table| table[table.len() - 160 + 132] == wanted);
    let manifest = files.iter().find(|bytes| bytes.starts_with(b"toykvMAN"));
    let (kinds, tags) = manifest.map(|bytes| kinds_and_tags(bytes)).unwrap_or_default();
    let checks = [
        ("a plain table", scheme(0)),
        ("a table with LZ4", scheme(1)),
        ("a table with Zstandard", scheme(2)),
        ("a block of several cells", has(&|table| number(table, 24) > number(table, 32))),
        ("old versions", has(&|table| number(table, 48) > number(table, 56))),
        ("tombstones", has(&|table| number(table, 64) > 0)),
        ("separated values", has(&|table| number(table, 72) > 0)),
        ("a segment that was kept, beside the log", starting(b"toykvlog") >= 2),
        ("a rewritten segment", starting(b"toykvval") >= 1),
        ("edits, growth and confirmations", kinds.len() == 3),
        ("every field that an edit can have", TAGS.iter().all(|tag| tags.contains(tag))),
    ];
    checks.into_iter().find(|(_, there)| !there).map(|(what, _)| what)
}
