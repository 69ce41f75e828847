//! Compressed tables: what is stored how, where blocks come from, and claims that are too large.

use super::*;
use crate::checksum::mix64;
use crate::compress::MAX_COMPRESSED_LEN;
use crate::fs::sim::{Fault, OpKind};
use crate::table::packed::{self, PackedBuilder, Place};

/// Entries whose values are alike, or noise.
fn items(count: u64, alike: bool) -> Vec<Item> {
    let value = |i: u64| (0..100).map(move |at| if alike { at as u8 } else { mix64(i, at) as u8 });
    (0..count).map(|i| item(i.to_be_bytes(), BASE + i, value(i).collect::<Vec<u8>>())).collect()
}

fn cache_counts(built: &Built) -> (u64, u64) {
    (built.access.cache.hits(), built.access.cache.misses())
}

#[test]
fn what_shrinks_is_stored_shorter_and_what_does_not_as_it_is() {
    let plain = build(items(2000, true)).summary.size_bytes;
    for codec in [LZ4, ZSTD] {
        let built = build_with(items(2000, true), codec);
        assert!(built.summary.size_bytes * 4 < plain, "{}", built.summary.size_bytes);
        // Blocks of noise are read in place all the same: nothing goes through the cache. The last
        // block is not full, and so not all noise.
        let built = build_with(items(2000, false), codec);
        let table = built.open().unwrap();
        for item in &built.items[..1900] {
            let found = get(&table, &item.key, SeqNo::MAX).unwrap().unwrap();
            assert!(matches!(found.value, Bytes::Mapped(value) if value == item.value));
        }
        assert_eq!(built.access.cache.size_bytes(), 0);
        assert_eq!(cache_counts(&built).0, 0);
    }
}

#[test]
fn a_block_is_decompressed_once_and_goes_with_its_table() {
    let built = build_with(items(1000, true), LZ4);
    let table = built.open().unwrap();
    let read_all = || {
        for item in &built.items {
            let found = get(&table, &item.key, SeqNo::MAX).unwrap();
            assert_eq!(found, Some(as_entry(item)));
        }
    };
    read_all();
    let blocks = table.blocks() as u64;
    assert!(blocks > 5);
    assert_eq!(cache_counts(&built), (1000 - blocks, blocks));
    read_all();
    assert_eq!(cache_counts(&built), (2000 - blocks, blocks));
    let value = get(&table, &built.items[500].key, SeqNo::MAX).unwrap().unwrap().value;
    let Bytes::Shared(kept) = value else { panic!("a compressed value is not mapped") };
    assert!(built.access.cache.size_bytes() > 8192 * blocks);
    drop(table);
    assert_eq!(built.access.cache.size_bytes(), 0);
    assert_eq!(*kept, built.items[500].value[..]);
}

#[test]
fn a_long_scan_leaves_the_cache_to_others_and_a_short_one_uses_it() {
    let built = build_with(items(4000, true), ZSTD);
    let mut iter = built.iter(IterMode::Mapped);
    assert!(scan(&mut iter).unwrap() == built.items);
    let kept = built.access.cache.size_bytes();
    assert!((4 * 8192..5 * 8192).contains(&kept), "{kept}");
    let (hits, misses) = cache_counts(&built);
    iter.seek(&built.items[10].key).unwrap();
    // Once to find the place in the block, once to stand on it.
    assert_eq!(cache_counts(&built), (hits + 2, misses));
    let mut iter = built.iter(IterMode::Buffered);
    assert!(scan(&mut iter).unwrap() == built.items);
    assert_eq!(cache_counts(&built), (hits + 2, misses));
}

#[test]
fn a_table_that_is_read_directly_is_not_mapped_and_a_failing_device_is_an_error() {
    for codec in [PLAIN, ZSTD] {
        let mut built = build_with(items(20_000, true), codec);
        built.access = FileAccess::new(0, true);
        built.disk.fail(Fault::when(|_| true).on(OpKind::Map).forever());
        let table = built.open().unwrap();
        let heap = built.access.cache.file_bytes();
        assert!((5000..1 << 20).contains(&heap), "{heap}");
        let found = get(&table, &built.items[700].key, SeqNo::MAX).unwrap();
        assert_eq!(found, Some(as_entry(&built.items[700])));
        let before = built.disk.operation_count();
        for mode in [IterMode::Mapped, IterMode::Buffered] {
            assert!(scan(&mut built.iter(mode)).unwrap() == built.items);
        }
        // Long scans read ahead, block by block would be hundreds of reads.
        let reads = built.disk.operation_count() - before;
        assert!(reads < 100, "{reads}");
        built.disk.fail(Fault::when(|_| true).on(OpKind::Read).forever());
        let error = get(&table, &built.items[700].key, SeqNo::MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.path(), Some(&*path()));
    }
}

#[test]
fn large_values_are_compressed_up_to_the_limit() {
    for len in [MAX_COMPRESSED_LEN - 100, MAX_COMPRESSED_LEN] {
        let mut items = items(300, true);
        items.insert(100, item([items[99].key.as_slice(), b"+"].concat(), BASE, vec![9; len]));
        let built = build_with(items, LZ4);
        let compressed = built.summary.size_bytes < len as u64;
        assert_eq!(compressed, len < MAX_COMPRESSED_LEN);
        let table = built.open().unwrap();
        for item in built.items.iter().step_by(10) {
            assert!(get(&table, &item.key, SeqNo::MAX).unwrap() == Some(as_entry(item)));
        }
        for mode in [IterMode::Mapped, IterMode::Buffered] {
            assert!(scan(&mut built.iter(mode)).unwrap() == built.items, "{mode:?}");
        }
        table.verify().unwrap();
    }
}

#[test]
fn the_places_of_blocks_come_back_and_nonsense_has_none() {
    let mut builder = PackedBuilder::default();
    builder.add(0, 1, Compression::Lz4);
    builder.add(100, 3, Compression::Lz4);
    builder.add(1000, 2, Compression::None);
    builder.add(1000 + 32_768, 1, Compression::Zstd);
    let words = builder.finish(34_000);
    assert_eq!(words.len() as u64, packed::size_bytes(7));
    assert_eq!(packed::end(&words), Some(34_000));
    let place =
        |offset, len, raw_len, compression| Some(Place { offset, len, raw_len, compression });
    let found = |cell| packed::place(&words, cell, 14);
    assert_eq!(found(0), place(0, 100, 16_384, Compression::Lz4));
    assert_eq!(found(1), place(100, 900, 3 * 16_384, Compression::Lz4));
    assert_eq!((found(2), found(3)), (None, None));
    assert_eq!(found(4), place(1000, 32_768, 32_768, Compression::None));
    assert_eq!(found(5), None);
    assert_eq!(found(6), place(33_768, 232, 16_384, Compression::Zstd));
    assert_eq!((found(7), found(8), found(usize::MAX)), (None, None, None));
    for len in 0..words.len() {
        assert_eq!(packed::place(&words[..len], 6, 14), None);
    }
    // A block that claims more cells than may be compressed.
    let mut builder = PackedBuilder::default();
    builder.add(0, (MAX_COMPRESSED_LEN >> 14) as u64 + 1, Compression::Lz4);
    assert_eq!(packed::place(&builder.finish(50), 0, 14), None);
    let mut builder = PackedBuilder::default();
    builder.add(0, (MAX_COMPRESSED_LEN >> 14) as u64, Compression::Lz4);
    let words = builder.finish(50);
    assert_eq!(packed::place(&words, 0, 14).unwrap().raw_len, MAX_COMPRESSED_LEN);
}

#[test]
fn a_block_that_claims_to_be_longer_than_its_cells_is_refused() {
    for codec in [LZ4, ZSTD] {
        // A bomb: a hundred bytes that decompress to sixteen times the cell.
        let mut stored = Vec::new();
        assert!(packed::store(codec, &vec![0; 16 << 14], 7, &mut stored));
        let mut cell = vec![0; 1 << 14];
        assert!(!packed::restore(codec.compression, &stored, 7, &mut cell));
        let mut whole = vec![0; 16 << 14];
        assert!(packed::restore(codec.compression, &stored, 7, &mut whole));
        assert!(!packed::restore(codec.compression, &stored, 8, &mut whole), "another seed");
        assert!(!packed::restore(codec.compression, &stored[..7], 7, &mut whole));
        assert!(!packed::restore(codec.compression, &stored, 7, &mut []));
    }
}
