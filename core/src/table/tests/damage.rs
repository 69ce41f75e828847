//! Damaged files: every bit, every length, and nonsense behind mended checksums.

use super::*;
use crate::checksum::{checksum64, mix64};
use crate::table::block::block_checksum;
use crate::table::format::{FOOTER_LEN, Footer, PAGE, page_seed};

/// One block with several versions and a tombstone, and if asked for one of a large value.
fn sample(large: bool) -> Built {
    build(sample_items(large))
}

fn sample_items(large: bool) -> Vec<Item> {
    let mut items = Vec::new();
    for key in 0..40u32 {
        for version in (0..1 + key % 3).rev() {
            let value = vec![key as u8; 20 + version as usize];
            items.push(item(
                [b"0user", &key.to_be_bytes()[..]].concat(),
                BASE + u64::from(version),
                value,
            ));
        }
    }
    items[7].kind = Kind::Delete;
    if large {
        items.push(item(b"0v", BASE + 1, vec![1; 8300]));
    }
    items
}

/// The sample compressed, with a block that is compressed, one that is not, and a large one.
fn packed_sample(codec: Codec) -> Built {
    let mut items = sample_items(false);
    let noise = |seed: u64, len: u64| (0..len).map(|i| mix64(seed, i) as u8).collect::<Vec<u8>>();
    items.push(item(b"0w", BASE + 1, noise(1, 9_000)));
    items.push(item(b"0x", BASE + 1, noise(2, 9_000)));
    items.push(item(b"0y", BASE + 1, vec![5; 40_000]));
    build_with(items, codec)
}

/// Reads everything in every way; every answer must be right or Corruption, and name the file.
fn probe(built: &Built) -> usize {
    let refused = probe_as(built);
    for access in [FileAccess { direct: true, ..access() }, paged(1 << 20)] {
        let directly = probe_as(&Built { access, ..built.share() });
        assert_eq!(refused > 0, directly > 0, "read directly");
    }
    refused
}

fn probe_as(built: &Built) -> usize {
    let mut refused = 0;
    let mut judge = |right: Result<bool>| match right {
        Ok(right) => assert!(right, "a wrong answer"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert_eq!(error.path(), Some(&*path()));
            assert!(error.offset().is_some());
            refused += 1;
        }
    };
    let table = match built.open() {
        Ok(table) => table,
        Err(error) => {
            judge(Err(error));
            return refused;
        }
    };
    for item in &built.items {
        let found = get(&table, &item.key, item.seqno);
        judge(found.map(|found| found == Some(as_entry(item))));
    }
    judge(get(&table, b"0user", SeqNo::MAX).map(|found| found.is_none()));
    for mode in [IterMode::Mapped, IterMode::Buffered] {
        let mut iter = TableIter::new(Arc::clone(&table), mode).unwrap();
        judge(scan(&mut iter).map(|items| items == built.items));
    }
    let mut iter = TableIter::new(Arc::clone(&table), IterMode::Mapped).unwrap();
    let middle = &built.items[30].key;
    judge(iter.seek(middle).map(|()| iter.key() == middle));
    judge(iter.seek_before(middle).map(|()| iter.key() == &built.items[29].key[..]));
    refused
}

/// Flips every `step`-th bit of a table, and all of its last ones, and looks whether it is found
/// before it matters.
fn flip(built: &Built, step: usize) {
    let bytes = built.bytes();
    assert_eq!(probe(built), 0);
    let (bits, last) = (bytes.len() * 8, (bytes.len() - FOOTER_LEN) * 8);
    for bit in (0..last).step_by(step).chain(last..bits) {
        built.overwrite(bit / 8, &[bytes[bit / 8] ^ 1 << (bit % 8)]);
        assert!(probe(built) > 0, "bit {bit} is under no checksum");
        if bit % 5 == 0 {
            let verified = built.open().and_then(|table| table.verify());
            assert_eq!(verified.unwrap_err().kind(), ErrorKind::Corruption);
        }
        built.overwrite(bit / 8, &bytes[bit / 8..=bit / 8]);
    }
}

#[test]
fn flipped_bits_are_found_before_they_matter() {
    flip(&sample(false), 19);
    flip(&sample(true), 61);
    flip(&packed_sample(LZ4), 171);
    flip(&packed_sample(ZSTD), 197);
}

#[test]
fn every_other_length_is_refused() {
    refuse_lengths(&sample(true), 1);
    refuse_lengths(&packed_sample(ZSTD), 7);
}

fn refuse_lengths(built: &Built, step: usize) {
    let bytes = built.bytes();
    for len in (0..bytes.len()).step_by(step).chain([bytes.len() + 1, bytes.len() + 8192]) {
        built.disk.write_file(path(), &bytes).unwrap();
        built.disk.truncate(path(), len as u64).unwrap();
        assert_eq!(probe(built), 1, "length {len}");
        // A version that knows the wrong length meets the footer.
        let table = Table::open(&built.fs, &path(), NUMBER, len as u64, SEED, BASE, &access());
        assert_eq!(table.unwrap_err().kind(), ErrorKind::Corruption, "length {len}");
    }
}

/// Where the parts of the sample lie, and its seed.
struct Map {
    salt: u64,
    /// Start and length of every block.
    blocks: Vec<(usize, usize)>,
    /// Start and length of every compressed block.
    packed: Vec<(usize, usize)>,
    locator: usize,
    index: usize,
    tail: usize,
    footer: usize,
    grid: usize,
}

const GRID: usize = 8192;

fn word(bytes: &[u8], at: usize) -> usize {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize
}

fn map_of(bytes: &[u8]) -> Map {
    let footer = bytes.len() - FOOTER_LEN;
    let (cells, lines) = (word(bytes, footer + 24), word(bytes, footer + 40));
    let locator = word(bytes, footer + 112);
    let index = locator + (lines + 7) * 64;
    let bounds =
        (120..128).step_by(4).map(|at| word(bytes, footer + at) as u32 as usize).sum::<usize>();
    let bounds = footer - bounds;
    let tail = bounds - (index - locator).div_ceil(PAGE) * 8;
    let (mut blocks, mut packed) = (Vec::new(), Vec::new());
    let is_packed = word(bytes, footer + 132) as u32 != 0;
    let words = tail - (cells + 1) * 8;
    for cell in (0..cells).take_while(|_| is_packed) {
        let (from, to) = (word(bytes, words + cell * 8), word(bytes, words + cell * 8 + 8));
        let list = if from & 3 == 0 { &mut blocks } else { &mut packed };
        list.push((from >> 2, (to >> 2) - (from >> 2)));
    }
    let mut start = 0;
    while start < locator && !is_packed {
        let len = word(bytes, start + 8) as u32 as usize * GRID;
        blocks.push((start, len));
        start += len;
    }
    blocks.retain(|(_, len)| *len > 0);
    let salt = Footer::new_salt(SEED, NUMBER);
    let grid = 1 << (word(bytes, footer + 128) as u32);
    Map { salt, blocks, packed, locator, index, tail, footer, grid }
}

/// Makes every checksum right, as somebody who wants to do harm would.
fn mend(bytes: &mut [u8], map: &Map) {
    let put = |bytes: &mut [u8], at: usize, checksum: u64| {
        bytes[at..at + 8].copy_from_slice(&checksum.to_le_bytes());
    };
    for &(start, len) in &map.blocks {
        // A block may claim other cells than it has; a claim that fits is what is checked.
        let claimed = word(bytes, start + 8) as u32 as usize * map.grid;
        let fits = claimed > 0 && claimed <= map.locator - start && map.packed.is_empty();
        let len = if fits { claimed } else { len };
        let checksum =
            block_checksum(&[&bytes[start..start + len]], map.grid, page_seed(map.salt, start));
        put(bytes, start, checksum);
    }
    for &(start, len) in &map.packed {
        let checksum = checksum64(&bytes[start + 8..start + len], page_seed(map.salt, start));
        put(bytes, start, checksum);
    }
    for (page, start) in (map.locator..map.index).step_by(PAGE).enumerate() {
        let end = map.index.min(start + PAGE);
        let checksum = checksum64(&bytes[start..end], page_seed(map.salt, start));
        put(bytes, map.tail + 8 * page, checksum);
    }
    let index = checksum64(&bytes[map.index..map.tail], mix64(map.salt, 1));
    put(bytes, map.footer + 96, index);
    let tail = checksum64(&bytes[map.tail..map.footer], mix64(map.salt, 2));
    put(bytes, map.footer + 104, tail);
    let seed = mix64(3, 1 << 32 | FOOTER_LEN as u64);
    let footer = checksum64(&bytes[map.footer..map.footer + 136], seed);
    put(bytes, map.footer + 136, footer);
}

/// Does everything that can be done; any answer is good that comes, and no table is larger than its
/// file says.
fn exercise(built: &Built) -> bool {
    let Ok(table) = built.open() else { return false };
    let mut errors = usize::from(table.verify().is_err());
    for item in &built.items {
        errors += usize::from(get(&table, &item.key, item.seqno).is_err());
        errors += usize::from(get(&table, &item.key, BASE).is_err());
    }
    for mode in [IterMode::Mapped, IterMode::Buffered] {
        let mut iter = TableIter::new(Arc::clone(&table), mode).unwrap();
        errors += usize::from(scan(&mut iter).is_err());
        errors += usize::from(iter.seek_to_last().is_err());
        while iter.valid() {
            errors += usize::from(iter.prev().is_err());
        }
        for item in built.items.iter().step_by(7) {
            errors += usize::from(iter.seek(&item.key).is_err());
            errors += usize::from(iter.next().is_err());
            errors += usize::from(iter.seek_before(&item.key).is_err());
            errors += usize::from(iter.prev().is_err());
        }
    }
    errors == 0
}

#[test]
fn nonsense_behind_right_checksums_is_survived() {
    survive_nonsense(&sample(true), 1);
    survive_nonsense(&packed_sample(LZ4), 5);
    survive_nonsense(&packed_sample(ZSTD), 5);
}

fn survive_nonsense(built: &Built, step: usize) {
    let bytes = built.bytes();
    let map = map_of(&bytes);
    let mut same = bytes.clone();
    mend(&mut same, &map);
    assert!(same == bytes, "the test's own idea of the format is wrong");
    let mut accepted = 0;
    let mut cases = 0;
    let mut attempt = |change: &dyn Fn(&mut [u8])| {
        let mut hostile = bytes.clone();
        change(&mut hostile);
        mend(&mut hostile, &map);
        built.overwrite(0, &hostile);
        accepted += usize::from(exercise(built));
        cases += 1;
    };
    // Where nothing but the bytes of large values are.
    let large = |at: usize| {
        map.blocks.iter().any(|&(start, len)| {
            let first = if map.packed.is_empty() { map.blocks.last().unwrap().0 } else { start };
            start >= first && (start + 60..start + len - 16).contains(&at)
        })
    };
    for at in (0..bytes.len()).step_by(step) {
        if large(at) && !at.is_multiple_of(911) {
            continue;
        }
        attempt(&|hostile| hostile[at] ^= 1 << (mix64(at as u64, 1) % 8));
        attempt(&|hostile| {
            for byte in hostile.iter_mut().skip(at).take(4) {
                *byte = 0xff;
            }
        });
        if at % 3 == 0 {
            attempt(&|hostile| hostile[at] = 0);
        }
    }
    for round in 0..2000 / step as u64 {
        attempt(&|hostile| {
            for change in 0..=round % 20 {
                let random = mix64(round, change);
                let at = random as usize % hostile.len();
                hostile[at] = (random >> 40) as u8;
            }
        });
    }
    assert!(accepted > cases / 20 && accepted < cases, "{accepted} of {cases}");
}

#[test]
fn who_reads_ahead_checks_blocks_that_were_checked_before() {
    let large: Vec<u8> = (0..30_000).map(|at| mix64(at, 3) as u8).collect();
    for (codec, direct) in [(PLAIN, false), (PLAIN, true), (LZ4, false), (LZ4, true)] {
        let items = vec![item(b"a", BASE, [1; 50]), item(b"b", BASE, &large)];
        let mut built = build_with(items, codec);
        built.access.direct = direct;
        let table = built.open().unwrap();
        let read = |mode| {
            let mut iter = TableIter::new(Arc::clone(&table), mode).unwrap();
            iter.set_read_ahead(1);
            scan(&mut iter)
        };
        assert!(read(IterMode::Mapped).unwrap() == built.items);
        let bytes = built.bytes();
        let at = bytes.windows(16).position(|window| window == &large[15_000..15_016]).unwrap();
        built.overwrite(at, &[!bytes[at]]);
        let found = read(IterMode::Buffered).map(drop).unwrap_err();
        assert_eq!(found.kind(), ErrorKind::Corruption, "{codec:?}, direct: {direct}");
    }
}
