//! A database beside its model: performs operations on both and compares.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::PathBuf;

use toykv::sim::{Intervention, SimDisk};
use toykv::{Db, Options, Scan, ScanOptions, Snapshot, Value, WriteBatch};

use super::operation::{Key, Move, Operation, Range, Settings, Write};
use crate::support::value_of;

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Where the database lies.
pub(super) enum Place {
    Real(tempfile::TempDir),
    Simulated(SimDisk, PathBuf),
}

impl Place {
    fn path(&self) -> PathBuf {
        match self {
            Place::Real(dir) => dir.path().join("db"),
            Place::Simulated(_, path) => path.clone(),
        }
    }

    fn open(&self, options: &Options) -> Db {
        match self {
            Place::Real(_) => Db::open(self.path(), options).unwrap(),
            Place::Simulated(disk, path) => disk.open_db(path, options).unwrap(),
        }
    }

    /// Many tables and joined runs, as large databases have them.
    pub(super) fn small_tables(&self) -> [Intervention; 5] {
        let limit = |name, bytes| Intervention::limit(self.path(), name, bytes);
        let files = [limit("joined files", 2), limit("collected file size", 1 << 20)];
        let [joined, collected] = files;
        // And in no memory for the locators of tables that are read directly.
        let paged = limit("heap of files", 2000);
        [limit("table size", 8000), limit("join size", 1000), joined, collected, paged]
    }
}

fn options(settings: &Settings) -> Options {
    let options = Options::new()
        .memtable_size_bytes(settings.memtable_size_bytes)
        .backlog_limit_bytes(4 * settings.memtable_size_bytes)
        .value_threshold_bytes(settings.value_threshold_bytes)
        .space_amplification_percent(settings.space_amplification_percent)
        .durability(settings.durability)
        .compression(settings.compression)
        .io(settings.io);
    let options = match settings.memory_budget {
        Some(bytes) => options.memory_budget(bytes),
        None => options,
    };
    match settings.cache_size_bytes {
        Some(bytes) => options.cache_size_bytes(bytes),
        None => options,
    }
}

/// A scan and what it must show, in its direction, with its place between two entries.
struct Walker {
    scan: Scan,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    reverse: bool,
    at: usize,
    limit: u64,
    left: u64,
}

pub(super) struct Machine {
    place: Place,
    settings: Settings,
    db: Db,
    map: Map,
    seqno: u64,
    snapshots: Vec<(Snapshot, Map)>,
    walkers: Vec<Walker>,
    /// Values that were read, some from databases that are closed now.
    values: Vec<(Value, Vec<u8>)>,
}

impl Machine {
    pub(super) fn new(place: Place, settings: Settings) -> Machine {
        let db = place.open(&options(&settings));
        let (map, snapshots, walkers, values) = (Map::new(), Vec::new(), Vec::new(), Vec::new());
        Machine { place, settings, db, map, seqno: 0, snapshots, walkers, values }
    }

    /// Performs an operation; afterwards what is recorded of dead values is still exact.
    pub(super) fn perform(&mut self, operation: &Operation) {
        self.do_it(operation);
        self.db.audit().unwrap();
    }

    fn do_it(&mut self, operation: &Operation) {
        match operation {
            Operation::Write(write) => self.write_one(write),
            Operation::Batch(writes) => self.write(writes, None),
            Operation::LargeBatch(writes, mark) => self.write(writes, Some(*mark)),
            Operation::Fill(mark) => self.fill(*mark),
            Operation::Get(key) => self.get(&key.bytes()),
            Operation::MultiGet(keys) => self.multi_get(keys),
            Operation::Scan(range, moves) => {
                let scan = self.db.scan(&scan_options(range)).unwrap();
                let mut walker = Walker::new(scan, range, &self.map);
                moves.iter().for_each(|step| walker.step(step));
                walker.finish();
            }
            Operation::TakeSnapshot => {
                let snapshot = self.db.snapshot().unwrap();
                assert_eq!(snapshot.seqno(), self.seqno);
                self.snapshots.push((snapshot, self.map.clone()));
            }
            Operation::UseSnapshot(index, range, keys) => self.use_snapshot(*index, range, keys),
            Operation::DropSnapshot(index) => {
                if !self.snapshots.is_empty() {
                    self.snapshots.swap_remove(index % self.snapshots.len());
                }
            }
            Operation::HoldScan(range, moves) => self.hold_scan(range, moves),
            Operation::MoveScan(index, moves) => {
                if !self.walkers.is_empty() {
                    let index = index % self.walkers.len();
                    moves.iter().for_each(|step| self.walkers[index].step(step));
                }
            }
            Operation::PopFirst => self.pop(true),
            Operation::PopLast => self.pop(false),
            Operation::Len => self.check_len(),
            Operation::Flush => self.db.flush().unwrap(),
            Operation::Sync => self.db.sync().unwrap(),
            Operation::Compact(lower, upper) => {
                let (lower, upper) =
                    (lower.as_ref().map(Key::bytes), upper.as_ref().map(Key::bytes));
                self.db.compact(slices(&lower), slices(&upper)).unwrap();
            }
            Operation::Gc => self.db.gc().unwrap(),
            Operation::Reopen(settings) => {
                self.settings = settings.clone();
                self.reopen(&options(settings));
            }
            Operation::ReopenToRead(range) => {
                self.reopen(&options(&self.settings).read_only(true));
                self.check_all(range);
                self.reopen(&options(&self.settings));
            }
        }
    }

    /// Everything is looked at once more, before and after closing.
    pub(super) fn finish(mut self) {
        for reverse in [false, true] {
            self.check_all(&whole(reverse));
        }
        while let Some((snapshot, map)) = self.snapshots.pop() {
            let scan = snapshot.scan(&ScanOptions::new()).unwrap();
            drop(snapshot);
            Walker::new(scan, &whole(false), &map).finish();
        }
        self.walkers.drain(..).for_each(Walker::finish);
        self.reopen(&options(&self.settings));
        self.check_all(&whole(false));
        self.db.close().unwrap();
        for (value, expected) in &self.values {
            assert!(value[..] == expected[..], "a value changed after it was read");
        }
    }

    fn write_one(&mut self, (key, data): &Write) {
        let key = key.bytes();
        self.seqno += 1;
        let seqno = match data {
            Some(data) => self.db.put(&key, &data.bytes()),
            None => self.db.delete(&key),
        };
        assert_eq!(seqno.unwrap(), self.seqno);
        match data {
            Some(data) => self.map.insert(key, data.bytes()),
            None => self.map.remove(&key),
        };
    }

    fn write(&mut self, writes: &[Write], large: Option<u64>) {
        let mut batch = WriteBatch::new();
        for (key, data) in writes {
            let key = key.bytes();
            match data {
                Some(data) => {
                    batch.put(&key, &data.bytes()).unwrap();
                    self.map.insert(key, data.bytes());
                }
                None => {
                    batch.delete(&key).unwrap();
                    self.map.remove(&key);
                }
            }
        }
        for i in large.map_or(0..0, |_| 0..60u8) {
            let (key, value) = filling(large.unwrap_or(0), i);
            batch.put(&key, &value).unwrap();
            self.map.insert(key, value);
        }
        self.seqno += batch.len() as u64;
        assert_eq!(self.db.write(&batch).unwrap(), self.seqno);
    }

    fn fill(&mut self, mark: u64) {
        for i in 0..60 {
            let (key, value) = filling(mark, i);
            self.seqno += 1;
            assert_eq!(self.db.put(&key, &value).unwrap(), self.seqno);
            self.map.insert(key, value);
        }
    }

    fn get(&mut self, key: &[u8]) {
        let expected = self.map.get(key);
        let found = self.db.get(key).unwrap();
        assert!(found.as_deref() == expected.map(Vec::as_slice), "get");
        assert_eq!(self.db.contains(key).unwrap(), expected.is_some(), "contains");
        let shown = self.db.get_with(key, <[u8]>::to_vec).unwrap();
        assert!(shown.as_ref() == expected, "get_with");
        let (start, len) = (key.len() * 37 % 700, 90 + key.len() * 13);
        let part = self.db.get_range(key, start as u64, len).unwrap();
        let end = |value: &[u8]| (start + len).min(value.len());
        let cut = expected.map(|value| value[start.min(value.len())..end(value)].to_vec());
        assert!(part.as_deref() == cut.as_deref(), "get_range");
        let mut buf = vec![7; 500];
        let len = self.db.get_into(key, &mut buf).unwrap();
        assert_eq!(len, expected.map(Vec::len), "get_into");
        match expected {
            Some(value) if value.len() <= 500 => assert!(buf.starts_with(value), "get_into"),
            _ => assert_eq!(buf, [7; 500], "get_into"),
        }
        if let (Some(value), Some(expected)) = (found, expected) {
            self.values.push((value, expected.clone()));
        }
    }

    fn multi_get(&mut self, keys: &[Key]) {
        let keys: Vec<Vec<u8>> = keys.iter().map(Key::bytes).collect();
        let found = self.db.multi_get(&keys).unwrap();
        assert_eq!(found.len(), keys.len());
        for (key, value) in keys.iter().zip(found) {
            assert!(value.as_deref() == self.map.get(key).map(Vec::as_slice), "multi_get");
        }
    }

    fn use_snapshot(&mut self, index: usize, range: &Range, keys: &[Key]) {
        if self.snapshots.is_empty() {
            return;
        }
        let (snapshot, map) = &self.snapshots[index % self.snapshots.len()];
        let keys: Vec<Vec<u8>> = keys.iter().map(Key::bytes).collect();
        let many = snapshot.multi_get(&keys).unwrap();
        for (key, value) in keys.iter().zip(many) {
            let expected = map.get(key).map(Vec::as_slice);
            assert!(value.as_deref() == expected, "multi_get of a snapshot");
            assert!(snapshot.get(key).unwrap().as_deref() == expected, "get of a snapshot");
            let shown = snapshot.get_with(key, <[u8]>::to_vec).unwrap();
            assert!(shown.as_deref() == expected, "get_with of a snapshot");
            assert_eq!(snapshot.contains(key).unwrap(), expected.is_some());
        }
        let scan = snapshot.scan(&scan_options(range)).unwrap();
        Walker::new(scan, range, map).finish();
    }

    fn hold_scan(&mut self, range: &Range, moves: &[Move]) {
        let (scan, map) = match self.snapshots.last() {
            Some((snapshot, map)) => (snapshot.scan(&scan_options(range)).unwrap(), map),
            None => (self.db.scan(&scan_options(range)).unwrap(), &self.map),
        };
        let mut walker = Walker::new(scan, range, map);
        moves.iter().for_each(|step| walker.step(step));
        self.walkers.push(walker);
    }

    fn pop(&mut self, first: bool) {
        let (found, expected) = match first {
            true => (self.db.pop_first(), self.map.pop_first()),
            false => (self.db.pop_last(), self.map.pop_last()),
        };
        let found = found.unwrap();
        self.seqno += u64::from(expected.is_some());
        let found = found.map(|(key, value)| (key, value.to_vec()));
        assert!(found == expected, "pop, first: {first}");
    }

    fn check_len(&self) {
        assert_eq!(self.db.len().unwrap(), self.map.len() as u64, "len");
    }

    fn check_all(&self, range: &Range) {
        self.check_len();
        for (key, value) in &self.map {
            assert!(self.db.get(key).unwrap().as_deref() == Some(&value[..]), "get");
        }
        Walker::new(self.db.scan(&scan_options(range)).unwrap(), range, &self.map).finish();
    }

    /// Closes, by call or by dropping, and opens again.
    fn reopen(&mut self, options: &Options) {
        let scan = self.walkers.drain(..).next();
        if let Some(mut walker) = scan {
            self.db.close().unwrap();
            let error = walker.scan.next_entry().unwrap_err();
            assert_eq!(error.kind(), toykv::ErrorKind::Closed);
        }
        if let Some((snapshot, _)) = self.snapshots.drain(..).next() {
            self.db.close().unwrap();
            let error = snapshot.get(b"").unwrap_err();
            assert_eq!(error.kind(), toykv::ErrorKind::Closed);
        }
        self.db.close().unwrap();
        self.db = self.place.open(options);
        assert_eq!(self.db.stats().seqno, self.seqno, "sequence numbers go on");
    }
}

impl Walker {
    fn new(scan: Scan, range: &Range, map: &Map) -> Walker {
        let entries = expected(range, map);
        let limit = range.limit.unwrap_or(u64::MAX);
        Walker { scan, entries, reverse: range.reverse, at: 0, limit, left: limit }
    }

    fn step(&mut self, step: &Move) {
        match step {
            Move::Next => drop(self.next()),
            Move::Prev => {
                let found = self.scan.prev_entry().unwrap();
                let found = found.map(|entry| (entry.key.to_vec(), entry.value.to_vec()));
                self.at = self.at.wrapping_sub(1);
                let expected = self.entries.get(self.at);
                self.at = if expected.is_some() { self.at } else { 0 };
                assert!(found.as_ref() == expected, "prev_entry at {}", self.at);
            }
            Move::Seek(key) => {
                let key = key.bytes();
                self.scan.seek(&key).unwrap();
                let before = |entry: &(Vec<u8>, Vec<u8>)| match self.reverse {
                    false => entry.0 < key,
                    true => entry.0 > key,
                };
                self.at = self.entries.partition_point(before);
                self.left = self.limit;
            }
            Move::Start => {
                self.scan.seek_to_start().unwrap();
                (self.at, self.left) = (0, self.limit);
            }
            Move::End => {
                self.scan.seek_to_end().unwrap();
                (self.at, self.left) = (self.entries.len(), self.limit);
            }
        }
    }

    /// One entry forward; false at the end or the limit.
    fn next(&mut self) -> bool {
        let found = self.scan.next_entry().unwrap();
        let expected = self.entries.get(self.at).filter(|_| self.left > 0);
        let same = match (&found, expected) {
            (Some(entry), Some((key, value))) => entry.key == key && entry.value == value,
            (None, None) => true,
            _ => false,
        };
        assert!(same, "next_entry at {} of {}", self.at, self.entries.len());
        let moved = expected.is_some();
        self.at += usize::from(moved);
        self.left -= u64::from(moved);
        moved
    }

    /// From here to the end, then from the start.
    fn finish(mut self) {
        while self.next() {}
        self.step(&Move::Start);
        while self.next() {}
    }
}

/// The entries of a range in the direction of its scan.
fn expected(range: &Range, map: &Map) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (lower, upper) =
        (range.lower.as_ref().map(Key::bytes), range.upper.as_ref().map(Key::bytes));
    let prefix = range.prefix.as_ref().map(Key::bytes).unwrap_or_default();
    let inside = |key: &Vec<u8>| {
        let above = match &lower {
            Bound::Unbounded => true,
            Bound::Included(bound) => key >= bound,
            Bound::Excluded(bound) => key > bound,
        };
        let below = match &upper {
            Bound::Unbounded => true,
            Bound::Included(bound) => key <= bound,
            Bound::Excluded(bound) => key < bound,
        };
        above && below && key.starts_with(&prefix)
    };
    let value = |value: &Vec<u8>| if range.keys_only { Vec::new() } else { value.clone() };
    let mut entries: Vec<_> = map
        .iter()
        .filter(|(key, _)| inside(key))
        .map(|(key, bytes)| (key.clone(), value(bytes)))
        .collect();
    if range.reverse {
        entries.reverse();
    }
    entries
}

fn scan_options(range: &Range) -> ScanOptions {
    let (lower, upper) =
        (range.lower.as_ref().map(Key::bytes), range.upper.as_ref().map(Key::bytes));
    let mut options = ScanOptions::new()
        .lower(slices(&lower))
        .upper(slices(&upper))
        .reverse(range.reverse)
        .keys_only(range.keys_only);
    if let Some(prefix) = &range.prefix {
        options = options.prefix(&prefix.bytes());
    }
    if let Some(limit) = range.limit {
        options = options.limit(limit);
    }
    options
}

fn whole(reverse: bool) -> Range {
    let (lower, upper) = (Bound::Unbounded, Bound::Unbounded);
    Range { lower, upper, prefix: None, reverse, keys_only: false, limit: None }
}

fn slices(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

/// One of the entries that fill memtables: 60 of them are more than 128 KiB.
fn filling(mark: u64, index: u8) -> (Vec<u8>, Vec<u8>) {
    let number = mark.wrapping_add(u64::from(index) * 17) % 97;
    let len = 1500 + (mark % 31) as usize * 100;
    (format!("fill/{number:02}").into_bytes(), value_of(mark ^ u64::from(index), len))
}
