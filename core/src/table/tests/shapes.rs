//! Tables of unusual entries.

use super::*;
use crate::checksum::{checksum64, mix64};
use crate::fs::sim::{CrashPolicy, Times};
use crate::table::Place;
use crate::table::format::FOOTER_LEN;
use crate::types::ValuePointer;

fn random_items(count: u64, key_len: usize, value_len: usize) -> Vec<Item> {
    let mut keys: Vec<Vec<u8>> = (0..count)
        .map(|i| {
            let words = [mix64(i, 1), mix64(i, 2)].map(u64::to_be_bytes).concat();
            [&[0], &words[..key_len]].concat()
        })
        .collect();
    keys.sort();
    keys.dedup();
    let value = |i: usize| vec![i as u8; value_len];
    keys.iter()
        .enumerate()
        .map(|(i, k)| item(k, BASE + mix64(i as u64, 3) % 5000, value(i)))
        .collect()
}

#[test]
fn a_table_without_entries_answers_nothing() {
    let built = build(Vec::new());
    check(&built);
    assert_eq!(get(&built.open().unwrap(), b"a", SeqNo::MAX).unwrap(), None);
    assert_eq!((built.summary.min_seqno, built.summary.max_seqno), (0, 0));
}

#[test]
fn one_entry_with_the_empty_key_and_value() {
    check(&build(vec![item([0], BASE, [])]));
    check(&build(vec![item([], BASE + 1, [])]));
}

#[test]
fn many_random_entries_come_back() {
    check(&build(random_items(3000, 16, 100)));
    check(&build(random_items(5000, 8, 0)));
}

#[test]
fn who_reads_ahead_little_holds_little_and_reads_the_same() {
    let large = vec![item([0xff, 1], BASE, [3; 30_000]), item([0xff, 2], BASE, [4; 50])];
    for codec in [PLAIN, LZ4] {
        let items = [random_items(3000, 16, 100), large.clone()].concat();
        let built = build_with(items, codec);
        for most in [1, 20_000, 1 << 30] {
            let mut iter = built.iter(IterMode::Buffered);
            iter.set_read_ahead(most);
            iter.seek_to_first().unwrap();
            for item in &built.items {
                assert_eq!(current(&iter).as_ref(), Some(item));
                // One block, also right behind a longer one.
                let block = if item.value.len() == 30_000 { 32 << 10 } else { 8 << 10 };
                let restored = if codec == PLAIN { 0 } else { 40 << 10 };
                let held = iter.held_bytes();
                assert!(held <= most.clamp(block, 512 << 10) + restored, "{held} of {most}");
                iter.next().unwrap();
            }
            assert!(!iter.valid());
        }
    }
}

#[test]
fn versions_of_one_key_fill_many_blocks() {
    let mut items = vec![item(b"a", BASE, b"before")];
    items.extend((0..2000).rev().map(|i| item(b"key", BASE + i, vec![i as u8; 40])));
    items.push(item(b"key\0", BASE + 7, b"behind"));
    let built = build(items);
    check(&built);
    assert_eq!(built.summary.keys, 3);
    let table = built.open().unwrap();
    for seqno in [BASE - 1, 0] {
        assert_eq!(get(&table, b"key", seqno).unwrap(), None);
    }
}

#[test]
fn versions_on_both_sides_of_every_block_border() {
    for padding in 0..12 {
        let mut items = Vec::new();
        for key in 0..300u32 {
            for version in (0..5).rev() {
                let value = vec![version as u8; 60 + padding];
                items.push(item(key.to_be_bytes(), BASE + 10 * version, value));
            }
        }
        let built = build(items);
        let table = built.open().unwrap();
        for key in 0..300u32 {
            for seqno in BASE - 2..BASE + 50 {
                let expected = built.expected(&key.to_be_bytes(), seqno).map(as_entry);
                assert_eq!(get(&table, &key.to_be_bytes(), seqno).unwrap(), expected);
            }
        }
    }
}

#[test]
fn the_longest_keys_with_equal_beginnings() {
    let long = |last: u8, len: usize| [vec![0x61; len - 1], vec![last]].concat();
    let mut items = Vec::new();
    for len in [9, 62, 63, 64, 65, 100, 2000, 8000, 9000, 65_540] {
        for last in [0x62, 0x63] {
            items.push(item(long(last, len), BASE + len as u64, [last]));
        }
    }
    items.sort_by(|a, b| a.key.cmp(&b.key));
    check(&build(items));
    // All eight bytes after the shared prefix are equal for many blocks.
    let keys = (0..2000u32).map(|i| [&[5; 3000][..], &[6; 20], &i.to_be_bytes()].concat());
    let mut items: Vec<Item> = keys.map(|key| item(key, BASE + 1, b"v")).collect();
    items.insert(0, item([5; 2999], BASE, b"first"));
    let built = build(items);
    let table = built.open().unwrap();
    let mut iter = built.iter(IterMode::Mapped);
    for item in &built.items {
        assert_eq!(get(&table, &item.key, SeqNo::MAX).unwrap(), Some(as_entry(item)));
        iter.seek(&item.key).unwrap();
        assert_eq!(iter.key(), item.key);
    }
    assert!(scan(&mut built.iter(IterMode::Buffered)).unwrap() == built.items);
}

#[test]
fn values_around_every_length_that_is_stored_differently() {
    let lens = [0, 1, 2046, 2047, 2048, 8000, 8140, 8150, 8160, 8192, 8193, 16_300, 600_000];
    let mut items: Vec<Item> = Vec::new();
    for (index, len) in lens.into_iter().enumerate() {
        for small in 0..3u8 {
            items.push(item([index as u8, small], BASE + 3, [small; 50]));
        }
        items.push(item([index as u8, 9], BASE + (1 << index), vec![index as u8; len]));
    }
    check(&build(items));
}

#[test]
fn every_entry_size_around_a_cell() {
    for len in 8192 - 60..8192 + 10 {
        let built = build(vec![item(b"0key", BASE, vec![1; len]), item(b"0kez", BASE, b"2")]);
        check(&built);
    }
}

#[test]
fn seqnos_of_every_width_and_all_kinds() {
    let pointer = ValuePointer { segment: 9, offset: 64, len: 4096 };
    let mut items = Vec::new();
    for bits in 0..56 {
        let seqno = (1 << bits) - 1 + if bits < 55 { BASE } else { 0 };
        let kind = [Kind::Put, Kind::Delete, Kind::Pointer][bits % 3];
        let value = match kind {
            Kind::Put => b"value".to_vec(),
            Kind::Delete => Vec::new(),
            _ => pointer.encode().to_vec(),
        };
        items.push(Item { key: vec![0, bits as u8], seqno, kind, value });
    }
    let built = build(items);
    check(&built);
    assert_eq!(built.summary.tombstones, 19);
    assert_eq!(built.summary.value_bytes, 18 * 4096);
    assert_eq!((built.summary.min_seqno, built.summary.max_seqno), (BASE, (1 << 55) - 1));
}

#[test]
fn a_cursor_shows_each_pointer_ahead_once() {
    const COUNT: usize = 5;
    let pointer = |n: u64| ValuePointer { segment: 9, offset: 8 * n, len: 4096 }.encode().to_vec();
    // Puts and pointers, some of them in an older version, too.
    let items = (0..2_000u64).flat_map(|n| {
        let key = (n - u64::from(n % 7 == 6)).to_be_bytes();
        let seqno = BASE + 9 - n % 7;
        match n % 3 {
            0 => vec![item(key, seqno, b"value")],
            _ => vec![Item { kind: Kind::Pointer, value: pointer(n), ..item(key, seqno, b"") }],
        }
    });
    let items: Vec<Item> = items.collect();
    for codec in [PLAIN, LZ4] {
        let built = build_with(items.clone(), codec);
        // Every entry, and after a first one each third, in both directions.
        for (forward, steps) in [(true, 1), (false, 1), (true, 3), (false, 3), (true, 7)] {
            let mut iter = built.iter(IterMode::Mapped);
            let mut shown: Vec<(usize, Vec<u8>)> = Vec::new();
            let mut walk: Vec<(usize, Item)> = Vec::new();
            let (mut last, mut asking) = (Place::NOWHERE, Vec::new());
            if forward {
                iter.seek_to_first().unwrap()
            } else {
                iter.seek_to_last().unwrap()
            }
            while let Some(item) = current(&iter) {
                let at = walk.len();
                walk.push((iter.place().block, item));
                if at.is_multiple_of(steps) {
                    asking.push(at);
                    iter.pointers_ahead(forward, COUNT, &mut last, |value| {
                        shown.push((at, value.to_vec()));
                    });
                }
                if forward { iter.next().unwrap() } else { iter.prev().unwrap() }
            }
            assert!(walk.len() == 2_000 && walk[0].0 != walk[1_999].0);
            // The first who asks within reach of a pointer, from its block, is shown it.
            let mut wanted = Vec::new();
            for (at, (block, item)) in walk.iter().enumerate() {
                let older =
                    items.iter().any(|other| other.key == item.key && other.seqno > item.seqno);
                let asks = |from: &&usize| {
                    **from <= at && at - **from <= COUNT && walk[**from].0 == *block
                };
                if let (Kind::Pointer, false, Some(from)) =
                    (item.kind, older, asking.iter().find(asks))
                {
                    wanted.push((*from, item.value.clone()));
                }
            }
            wanted.sort();
            shown.sort();
            assert_eq!(shown, wanted, "{forward} {steps} {codec:?}");
        }
    }
}

#[test]
fn a_table_is_read_relative_to_the_base_it_is_opened_with() {
    let built = build(vec![item(b"a", BASE + 5, b"x")]);
    let size = built.summary.size_bytes;
    let table = Table::open(&built.fs, &path(), NUMBER, size, SEED, 70_000, &access()).unwrap();
    assert_eq!(get(&table, b"a", 70_004).unwrap(), None);
    assert_eq!(get(&table, b"a", 70_005).unwrap().unwrap().seqno, 70_005);
}

#[test]
fn the_wrong_order_and_seqnos_below_the_base_are_refused() {
    let mut builder = start(&SimDisk::new(), PLAIN).unwrap();
    builder.add(b"b", 1, BASE + 5, Kind::Put, b"").unwrap();
    for (key, seqno) in [(b"a", BASE + 4), (b"b", BASE + 5), (b"b", BASE + 6), (b"c", BASE - 1)] {
        let error = builder.add(key, 1, seqno, Kind::Put, b"").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
    }
    builder.add(b"b", 1, BASE + 4, Kind::Put, b"").unwrap();
    assert!(builder.add(b"c", 1, BASE, Kind::Pointer, b"short").is_err());
}

#[test]
fn the_size_estimate_is_close() {
    let items = random_items(4000, 16, 100);
    let mut builder = start(&SimDisk::new(), PLAIN).unwrap();
    items.iter().for_each(|item| add(&mut builder, item).unwrap());
    let estimate = builder.file_size_estimate();
    let size = builder.finish().unwrap().size_bytes;
    assert!(estimate.abs_diff(size) < size / 20, "{estimate} for {size}");
}

#[test]
fn a_failing_operation_while_building_or_opening_is_told_and_nothing_else_happens() {
    let items = random_items(24_000, 16, 100);
    let quiet = SimDisk::new();
    let summary = write(&quiet, &items, PLAIN).unwrap();
    let run = |disk: &SimDisk| -> Result<Vec<Item>> {
        write(disk, &items, PLAIN)?;
        let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
        let table = Table::open(&fs, &path(), NUMBER, summary.size_bytes, SEED, BASE, &access())?;
        scan(&mut TableIter::new(Arc::new(table), IterMode::Buffered)?)
    };
    let counted = SimDisk::new();
    assert!(run(&counted).unwrap() == items);
    let operations = counted.operation_count();
    assert!(operations > 12, "{operations}");
    for index in 0..operations {
        let disk = SimDisk::new();
        disk.fail_at(index, libc::EIO, Times::Once);
        let error = run(&disk).unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, Some(libc::EIO)));
    }
}

#[test]
fn a_finished_table_outlives_a_power_loss() {
    let items = random_items(500, 16, 100);
    let disk = SimDisk::new();
    let summary = write(&disk, &items, PLAIN).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    for (name, policy) in CrashPolicy::standard() {
        let fs: Arc<dyn FileSystem> = Arc::new(disk.crash_image(&policy, 5));
        let table =
            Table::open(&fs, &path(), NUMBER, summary.size_bytes, SEED, BASE, &access()).unwrap();
        let mut iter = TableIter::new(Arc::new(table), IterMode::Mapped).unwrap();
        assert!(scan(&mut iter).unwrap() == items, "{name}");
    }
}

#[test]
fn a_table_of_another_number_database_or_format_is_refused_by_name() {
    let built = build(vec![item(b"a", BASE, b"x")]);
    let size = built.summary.size_bytes;
    let open = |number, seed| Table::open(&built.fs, &path(), number, size, seed, BASE, &access());
    for (number, seed) in [(NUMBER + 1, SEED), (NUMBER, SEED + 1)] {
        let error = open(number, seed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.message().contains("this is table 32") || seed != SEED, "{error}");
        assert!(error.message().contains("another database") || seed == SEED, "{error}");
    }
    // A later version may have another footer, but its end is the same.
    let (footer, len) = (size as usize - FOOTER_LEN, FOOTER_LEN as u64);
    let mut end = built.bytes()[footer..].to_vec();
    let checksum = checksum64(&end[..FOOTER_LEN - 24], mix64(3, 2 << 32 | len));
    end[FOOTER_LEN - 24..FOOTER_LEN - 16].copy_from_slice(&checksum.to_le_bytes());
    end[FOOTER_LEN - 16] = 2;
    built.overwrite(footer, &end);
    let error = open(NUMBER, SEED).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    assert!(error.message().contains("format 2") && error.message().contains("format 1"));
}

#[test]
fn the_format_is_what_it_was() {
    let mut items = random_items(300, 16, 30);
    items.push(item([0xff], BASE + 9, b"newer"));
    items.push(item([0xff], BASE + 8, vec![7; 70_000]));
    let built = build(items);
    assert_eq!(built.summary.size_bytes, 101_130);
    assert_eq!(
        checksum64(&built.bytes(), 0),
        974_408_192_730_912_461,
        "a new format needs a new version number"
    );
}

#[test]
fn large_entries_lose_little_at_the_end_of_blocks() {
    for value_len in [100, 400, 1000, 2000] {
        let items = random_items(2000, 16, value_len);
        let net: usize = items.iter().map(|item| item.key.len() + item.value.len()).sum();
        let size = build(items).summary.size_bytes as usize;
        assert!((size - net) / 2000 < 20 + value_len / 25, "{value_len}: {size} for {net}");
    }
}

#[test]
fn one_huge_value_does_not_make_the_blocks_of_small_ones_wider() {
    let mut items = random_items(600, 8, 20);
    items[15].value = vec![3; 100_000];
    let built = build(items);
    check(&built);
    assert!(built.summary.size_bytes < 100_000 + 600 * 50 + 4 * 8192, "{:?}", built.summary);
}

#[test]
fn entries_beyond_what_the_locator_can_address_are_found_all_the_same() {
    let mut items = vec![item(b"a", BASE, b"before")];
    items.push(item(b"b", BASE, vec![5; 65 << 20]));
    for key in 0..500u32 {
        items.push(item([b"c", &key.to_be_bytes()[..]].concat(), BASE + 2, [1; 20]));
        items.push(item([b"c", &key.to_be_bytes()[..]].concat(), BASE + 1, [2; 20]));
    }
    let built = build(items);
    let table = built.open().unwrap();
    for item in &built.items {
        assert!(get(&table, &item.key, item.seqno).unwrap() == Some(as_entry(item)));
        assert!(get(&table, &item.key, BASE - 1).unwrap().is_none());
    }
    assert!(get(&table, b"c", SeqNo::MAX).unwrap().is_none());
    table.verify().unwrap();
    let mut iter = built.iter(IterMode::Buffered);
    iter.seek(b"b").unwrap();
    assert_eq!((iter.value().len(), iter.value()[65 << 19]), (65 << 20, 5));
}
