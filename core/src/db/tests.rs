//! Databases whose tables and flushed segments are read and written past the page cache, as the
//! kernel sees them.

use std::ops::Bound;
use std::path::PathBuf;

use super::*;
use crate::checksum::mix64;
use crate::fs::past_cache::{directory, open_flags, resident_pages};
use crate::options::IoMode;
use crate::types::Compression;

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| mix64(at, 3) as u8).collect()
}

/// What the kernel tells of a kind of files.
struct Seen {
    bytes: u64,
    /// Pages in the page cache.
    resident: usize,
    files: usize,
    /// Flags of every descriptor of theirs.
    flags: Vec<i32>,
}

impl Seen {
    fn of(paths: &[PathBuf]) -> Seen {
        assert!(!paths.is_empty());
        let size = |path: &PathBuf| OsFileSystem.open(path).unwrap().size().unwrap();
        let flags = open_flags(paths);
        Seen {
            bytes: paths.iter().map(size).sum(),
            resident: paths.iter().map(|path| resident_pages(path)).sum(),
            files: paths.len(),
            flags,
        }
    }

    /// Every file is open once, past the page cache, which has at most the end of each.
    fn assert_direct(&self, what: &str) {
        assert_eq!(self.flags.len(), self.files, "{what}: each is open once");
        assert!(self.flags.iter().all(|flags| flags & libc::O_DIRECT != 0), "{:?}", self.flags);
        assert!(self.resident <= self.files, "{what}: {} pages of {}", self.resident, self.files);
    }

    /// Nobody reads past the page cache, which has much of them.
    fn assert_mapped(&self, what: &str) {
        assert!(self.flags.iter().all(|flags| flags & libc::O_DIRECT == 0), "{:?}", self.flags);
        let pages = self.bytes / 4096;
        assert!(self.resident as u64 > pages / 2, "{what}: {} of {pages} pages", self.resident);
    }
}

/// The tables, and the files of flushed segments.
fn seen(db: &Db) -> [Seen; 2] {
    let view = db.handle.engine().view.load_full();
    let version = &view.version;
    let tables = version.runs.iter().flat_map(|run| &run.tables);
    let tables: Vec<PathBuf> = tables.map(|(_, table)| table.path().into()).collect();
    let mut segments: Vec<PathBuf> =
        version.segments.iter().map(|segment| segment.path().into()).collect();
    segments.sort();
    segments.dedup();
    [Seen::of(&tables), Seen::of(&segments)]
}

fn key(index: u32) -> [u8; 4] {
    (index * 7919 % 8_000).to_be_bytes()
}

/// One in eight is separated; written again it is another.
fn value(index: u32, round: usize) -> Vec<u8> {
    let len = if index.is_multiple_of(8) { 2000 } else { 200 };
    noise(len + 100)[round..len + round].to_vec()
}

fn read_all(db: &Db, rounds: impl Fn(u32) -> usize) {
    for index in 0..8_000u32 {
        let found = db.get(&key(index)).unwrap();
        assert!(found.as_deref() == Some(&value(index, rounds(index))[..]), "{index}");
    }
    assert_eq!(db.scan(&ScanOptions::new()).unwrap().count(), 8_000);
}

/// Loads, flushes, compacts and collects a database, and looks at its files after each.
fn look_at(io: IoMode, compression: Compression) {
    let dir = directory();
    let options = Options::new().io(io).compression(compression).memtable_size_bytes(1 << 20);
    let db = Db::open(dir.path().join("db"), &options).unwrap();
    let look = |when: &str| {
        for (seen, what) in seen(&db).iter().zip(["tables", "segments"]) {
            let what = format!("{what} after {when}");
            match io {
                IoMode::Direct => seen.assert_direct(&what),
                IoMode::Mapped => seen.assert_mapped(&what),
            }
        }
    };
    for round in 0..3 {
        // The last time only a half of the separated ones, so that their segments stay.
        for index in (0..8_000).filter(|index| round < 2 || index % 16 != 0) {
            db.put(&key(index), &value(index, round)).unwrap();
        }
        db.flush().unwrap();
        look("flush");
    }
    let rounds = |index: u32| if index.is_multiple_of(16) { 1 } else { 2 };
    read_all(&db, rounds);
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    look("compaction");
    db.gc().unwrap();
    read_all(&db, rounds);
    look("collection");
    let stats = db.stats();
    assert!(stats.collections > 0, "{stats:?}");
    match io {
        IoMode::Direct => assert!(stats.cache_misses > 0 && stats.file_heap_bytes > 10_000),
        IoMode::Mapped => assert!(stats.cache_misses == 0 || compression != Compression::None),
    }
    db.close().unwrap();
    drop(db);
    let db = Db::open(dir.path().join("db"), &options).unwrap();
    read_all(&db, rounds);
}

#[test]
fn files_that_are_read_directly_leave_the_page_cache_alone() {
    for compression in [Compression::None, Compression::Lz4] {
        look_at(IoMode::Direct, compression);
    }
    // The measure can tell the difference.
    look_at(IoMode::Mapped, Compression::None);
}

/// What was written through the page cache leaves it when it is opened to be read directly.
#[test]
fn a_flushed_segment_of_the_log_leaves_the_page_cache() {
    let dir = directory();
    let options = Options::new().io(IoMode::Direct).memtable_size_bytes(4 << 20);
    let db = Db::open(dir.path().join("db"), &options).unwrap();
    let put_all = || {
        for index in 0..900u32 {
            db.put(&key(index), &noise(4000)).unwrap();
        }
    };
    put_all();
    // Whoever reads the log through its map goes on.
    let held = db.get(&key(7)).unwrap().unwrap();
    db.flush().unwrap();
    let [_, segments] = seen(&db);
    assert!(segments.bytes > 3 << 20, "{} bytes", segments.bytes);
    segments.assert_direct("segments after flush");
    assert!(*held == *noise(4000));
    drop(held);
    drop(db);
    let db = Db::open(dir.path().join("db"), &options).unwrap();
    assert!(*db.get(&key(7)).unwrap().unwrap() == *noise(4000));
    let [_, segments] = seen(&db);
    segments.assert_direct("segments after open");
}

#[test]
fn a_database_reads_what_the_other_mode_wrote() {
    let dir = directory();
    let open = |io| Db::open(dir.path().join("db"), &Options::new().io(io)).unwrap();
    for (round, io) in [IoMode::Mapped, IoMode::Direct, IoMode::Mapped].into_iter().enumerate() {
        let db = open(io);
        for earlier in 0..round {
            let found = db.get(&[earlier as u8]).unwrap().unwrap();
            assert_eq!(*found, noise(500 + earlier)[..]);
        }
        db.put(&[round as u8], &noise(500 + round)).unwrap();
        db.flush().unwrap();
        db.close().unwrap();
    }
}
