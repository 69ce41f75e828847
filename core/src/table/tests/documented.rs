//! Numbers and samples of tables for the test that compares them with FORMAT.md.

use crate::checksum::{checksum64, mix64};
use crate::table::block::{HEADER_LEN, LONG_SUFFIX, LONG_VALUE};
use crate::table::block_builder::{BlockBuilder, put_entry_head};
use crate::table::format::{
    FOOTER_LEN, FORMAT_VERSION, Footer, GRID_SHIFT, INDEX_SEED, MAX_GRID_SHIFT, PAGE, TAIL_SEED,
};
use crate::table::index;
use crate::table::locator::{LINE_LEN, POSITION_LIMIT, build, home, home_lines, size_bytes};
use crate::types::{Compression, Kind};

/// The version that every such file carries.
pub(crate) const VERSION: u32 = FORMAT_VERSION;

/// A heading, an example of what it describes, and the fields of that in order.
type Sample = (&'static str, Vec<u8>, Vec<u64>);

/// The numbers that the document states.
pub(crate) fn numbers() -> Vec<(&'static str, u64)> {
    vec![
        ("TABLE_FOOTER_LEN", FOOTER_LEN as u64),
        ("TABLE_GRID_SHIFT", u64::from(GRID_SHIFT)),
        ("TABLE_MAX_GRID_SHIFT", u64::from(MAX_GRID_SHIFT)),
        ("TABLE_PAGE", PAGE as u64),
        ("INDEX_SEED", INDEX_SEED),
        ("TAIL_SEED", TAIL_SEED),
        ("BLOCK_HEADER_LEN", HEADER_LEN as u64),
        ("LONG_SUFFIX", LONG_SUFFIX as u64),
        ("LONG_VALUE", LONG_VALUE as u64),
        ("LOCATOR_LINE_LEN", LINE_LEN as u64),
        ("LOCATOR_LIMIT", POSITION_LIMIT),
    ]
}

/// One of everything that has a layout.
pub(crate) fn samples() -> Vec<Sample> {
    vec![footer(), block(), locator_line()]
}

fn footer() -> Sample {
    let footer = Footer {
        grid_shift: 14,
        compression: Compression::Zstd,
        data_len: 15,
        number: 32,
        salt: Footer::new_salt(0x5EED, 32),
        cells: 1,
        blocks: 2,
        lines: 3,
        entries: 4,
        keys: 5,
        tombstones: 6,
        value_bytes: 7,
        min_delta: 8,
        max_delta: 9,
        smallest_len: 10,
        largest_len: 11,
        index_checksum: 12,
        tail_checksum: 13,
    };
    let bytes = footer.encode(0x5EED);
    let magic = u64::from_le_bytes(*b"toykvTBL");
    let database = checksum64(b"toykvTBL", 0x5EED);
    let (version, len) = (u64::from(FORMAT_VERSION), FOOTER_LEN as u64);
    let sum = checksum64(&bytes[..136], mix64(3, version << 32 | len));
    let mut fields = vec![32, mix64(0x5EED, 32), database];
    fields.extend([1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 10, 11, 14, 2, sum, version, len, magic]);
    ("Footer", bytes, fields)
}

fn block() -> Sample {
    let (grid, seed) = (8192, 77);
    let mut builder = BlockBuilder::new(grid);
    let keys = [&b"same-aaaaaaaa"[..], b"same-aaaaaaaz", b"same-b"];
    for key in keys {
        assert!(builder.push(key, 0, 300, Kind::Put, false, b"value"));
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes, seed, |_, _| {});
    assert_eq!(bytes.len(), grid);
    let number = |suffix: &[u8; 8]| u64::from_be_bytes(*suffix);
    let base = number(b"aaaaaaaa");
    let range = number(b"b\0\0\0\0\0\0\0") - base;
    let shift = 64 - u64::from(range.leading_zeros()) - 8;
    // Prefix, hints of the second and third entry, their slots, then the first entry.
    let hints = [number(b"aaaaaaaz") - base, range].map(|distance| (distance >> shift) as u8);
    assert_eq!(&bytes[25..32], &[&b"same-"[..], &hints].concat());
    let entry = |suffix: &[u8]| {
        let mut entry = Vec::new();
        put_entry_head(&mut entry, Kind::Put, false, 300, suffix, 5);
        let word = 1 | 2 << 4 | (suffix.len() as u32) << 7 | 5 << 13;
        assert_eq!(entry, [&word.to_le_bytes()[..3], &[0x2C, 1], suffix].concat());
        [&entry[..], b"value"].concat()
    };
    let (first, second) = (entry(b"aaaaaaaa"), entry(b"aaaaaaaz"));
    let slots = [36 + first.len() as u16, 36 + (first.len() + second.len()) as u16];
    assert_eq!(&bytes[32..36], slots.map(u16::to_le_bytes).as_flattened());
    let rest = [first, second, entry(b"b")].concat();
    assert_eq!(&bytes[36..36 + rest.len()], rest);
    let sum = checksum64(&bytes[8..], seed);
    ("Block", bytes, vec![sum, 1, 3, 5, base, shift])
}

/// One key: its line, and the sizes that the document derives.
fn locator_line() -> Sample {
    for keys in [0u64, 1, 9, 10, 96, 97, 1_000_000] {
        let lines = (keys * 100).div_ceil(960).max(1);
        assert_eq!((home_lines(keys), size_bytes(lines)), (lines, (lines + 7) * 64));
    }
    assert_eq!(home(0xC000_0000_0000_0000, 40), 30);
    assert_eq!(index::size_bytes(17, 20), (16 + 32) * 8 + 17 * 4);
    let (hash, position) = (0x1234_5678_9ABC_DEF3u64, 0x0301_0203u32);
    let line = build(&[hash], &[position])[..64].to_vec();
    let lane = hash & 0xFFFC | u64::from(position) >> 24;
    // Where a key cannot be placed, its bit in the filter and bit 3 say so.
    let lost = build(&[hash], &[0]);
    let flags = u32::from_le_bytes(*lost[60..64].first_chunk().unwrap());
    assert_eq!(flags, 8 | 1 << (8 + (((hash >> 16 & 0xFFFF) * 24) >> 16)));
    ("Locator line", line, vec![lane, u64::from(position) & 0xFF_FFFF, 0])
}
