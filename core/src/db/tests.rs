//! Databases whose tables are read and written past the page cache, as the kernel sees them.

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

/// Loads, flushes and compacts a database; pages of its tables in the page cache, and bytes.
fn compacted(io: IoMode, compression: Compression) -> (usize, u64) {
    let dir = directory();
    let options = Options::new().io(io).compression(compression).memtable_size_bytes(1 << 20);
    let db = Db::open(dir.path().join("db"), &options).unwrap();
    let value = noise(200);
    for round in 0..3u32 {
        for key in 0..8_000u32 {
            db.put(&(key * 7919 % 8_000).to_be_bytes(), &value[round as usize..]).unwrap();
        }
        db.flush().unwrap();
    }
    db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
    for key in 0..8_000u32 {
        assert_eq!(db.get(&key.to_be_bytes()).unwrap().as_deref(), Some(&value[2..]));
    }
    assert_eq!(db.scan(&ScanOptions::new()).unwrap().count(), 8_000);
    let tables: Vec<PathBuf> = OsFileSystem
        .list_dir(&dir.path().join("db"))
        .unwrap()
        .into_iter()
        .filter(|entry| entry.name.ends_with(".table"))
        .map(|entry| dir.path().join("db").join(entry.name))
        .collect();
    assert!(!tables.is_empty());
    let flags = open_flags(&tables);
    match io {
        IoMode::Direct => {
            assert_eq!(flags.len(), tables.len(), "each table is open once");
            assert!(flags.iter().all(|flags| flags & libc::O_DIRECT != 0), "{flags:?}");
            assert!(db.stats().cache_misses > 0 && db.stats().table_heap_bytes > 1000);
        }
        IoMode::Mapped => assert_eq!(flags, []),
    }
    let resident = tables.iter().map(|path| resident_pages(path)).sum::<usize>();
    (resident - resident.min(tables.len()), db.stats().table_bytes)
}

#[test]
fn a_compaction_of_tables_that_are_read_directly_leaves_the_page_cache_alone() {
    for compression in [Compression::None, Compression::Lz4] {
        let (resident, bytes) = compacted(IoMode::Direct, compression);
        assert!(bytes > 100_000, "{bytes}");
        assert_eq!(resident, 0, "pages beside one for each table's end");
    }
    // The measure can tell the difference.
    let (resident, bytes) = compacted(IoMode::Mapped, Compression::None);
    assert!(resident as u64 > bytes / 4096 / 2, "{resident} pages of {bytes} bytes");
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
