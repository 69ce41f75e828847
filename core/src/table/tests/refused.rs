//! Tables whose parts contradict each other behind right checksums, or before any: each refusal
//! with its words and the place that it names. And errors that are no damage, which end a check.

use super::*;
use crate::checksum::mix64;
use crate::fs::sim::{Fault, OpKind};
use crate::table::format::Layout;
use crate::table::hostile::mend;

/// Bytes from one cell to the next.
const CELL: usize = 8192;
/// Where an entry alone in its block starts: behind a header without prefix.
const ENTRY: usize = 25;
/// Where it has its length, when that is a long one: behind three bytes that say so.
const VALUE_LEN: usize = ENTRY + 3;
/// Where its value starts, with a key of two bytes and a sequence number of one.
const VALUE: usize = VALUE_LEN + 4 + 1 + 2;
/// Bytes of the numbers in the index of up to sixteen blocks; where each starts is behind them.
const NUMBERS: usize = 16 * 8;

const DAMAGED: &str = "block is damaged";

/// A value alone in its block between two small ones: three blocks.
fn three_blocks(len: u64, codec: Codec) -> Built {
    let noise: Vec<u8> = (0..len).map(|at| mix64(at, 5) as u8).collect();
    let items = vec![
        item(b"0a", BASE + 1, [1; 40]),
        item(b"0m", BASE + 1, noise),
        item(b"0z", BASE + 1, [3; 40]),
    ];
    build_with(items, codec)
}

/// As a table is read: in place, directly, and directly without its locator in memory.
fn accesses() -> [FileAccess; 3] {
    [access(), FileAccess { direct: true, ..access() }, paged(1 << 20)]
}

fn layout_of(built: &Built) -> Layout {
    built.open().unwrap().parts.layout().clone()
}

/// Replaces bytes of the file and makes its checksums right again.
fn forge(built: &Built, changes: &[(usize, &[u8])]) {
    let mut bytes = built.bytes();
    for (at, new) in changes {
        bytes[*at..*at + new.len()].copy_from_slice(new);
    }
    mend(&mut bytes);
    built.overwrite(0, &bytes);
}

/// The error of damage in the table at this offset, in these words.
#[track_caller]
fn says<T>(result: Result<T>, offset: usize, what: &str) {
    let Err(error) = result else { panic!("nothing is refused") };
    let (file, offset) = (path(), Some(offset as u64));
    let found = (error.kind(), error.path(), error.offset(), error.message());
    assert_eq!(found, (ErrorKind::Corruption, Some(&*file), offset, what));
}

/// A part of the newest value of a key.
fn part<'a>(
    table: &'a Table,
    key: &[u8],
    range: std::ops::Range<usize>,
) -> Result<Option<Bytes<'a>>> {
    let found = table.find::<true>(key, hash_key(key, SEED), SeqNo::MAX, &range)?;
    Ok(found.map(|found| found.value))
}

/// Lets the locator, of one line, look for the first entry of a block in another cell.
fn move_slot(built: &Built, from: usize, to: usize) {
    let (line, bytes) = (layout_of(built).data_end, built.bytes());
    let place = |cell: usize| ((cell * CELL + ENTRY) as u32).to_le_bytes();
    let mut slots = (0..12).map(|slot| line + 24 + 3 * slot);
    let slot = slots.find(|at| bytes[*at..*at + 3] == place(from)[..3]).unwrap();
    forge(built, &[(slot, &place(to)[..3])]);
}

#[test]
fn a_cell_behind_the_last_is_refused_whoever_names_it() {
    // Two blocks of one cell beside one of ten.
    let behind = 12;
    for access in accesses() {
        let mut built = three_blocks(80_000, PLAIN);
        built.access = access;
        let layout = layout_of(&built);
        assert_eq!(layout.data_end, behind * CELL);
        // The index, of the last block.
        let intact = built.bytes();
        forge(&built, &[(layout.locator_end + NUMBERS + 8, &(behind as u32).to_le_bytes())]);
        let seek = |built: &Built| built.iter(IterMode::Mapped).seek(b"0z");
        says(seek(&built), behind * CELL, DAMAGED);
        built.overwrite(0, &intact);
        seek(&built).unwrap();
        // The locator, of the last entry.
        move_slot(&built, behind - 1, behind);
        let table = built.open().unwrap();
        says(get(&table, b"0z", SeqNo::MAX), behind * CELL, DAMAGED);
        assert!(get(&table, b"0a", SeqNo::MAX).unwrap().is_some());
    }
}

#[test]
fn a_cell_behind_the_last_is_refused_where_no_block_is_asked_for_its_length() {
    for access in accesses() {
        // Every block fills one cell.
        let built = Built { access, ..build(vec![item(b"0a", BASE + 1, [1; 40])]) };
        move_slot(&built, 0, 1);
        says(get(&built.open().unwrap(), b"0a", SeqNo::MAX), CELL, DAMAGED);
    }
}

#[test]
fn a_block_that_says_that_it_has_no_cell_or_more_than_are_left_is_refused() {
    for access in accesses() {
        for cells in [0, 12, u32::MAX] {
            let mut built = three_blocks(80_000, PLAIN);
            built.access = access.clone();
            built.overwrite(CELL + 8, &cells.to_le_bytes());
            let table = built.open().unwrap();
            says(get(&table, b"0m", SeqNo::MAX), CELL, DAMAGED);
            says(built.iter(IterMode::Mapped).seek(b"0m"), CELL, DAMAGED);
            assert!(get(&table, b"0z", SeqNo::MAX).unwrap().is_some());
        }
    }
}

#[test]
fn a_block_that_is_none_any_more_after_it_was_checked_is_refused() {
    let built = three_blocks(80_000, PLAIN);
    let table = built.open().unwrap();
    assert_eq!(get(&table, b"0m", SeqNo::MAX).unwrap(), Some(as_entry(&built.items[1])));
    // A block has at least one entry.
    built.overwrite(CELL + 12, &[0, 0]);
    says(get(&table, b"0m", SeqNo::MAX), CELL, DAMAGED);
}

/// The table of a long value in each way in which parts of it are read on their own, and where its
/// block is in the file.
fn read_in_parts() -> Vec<(Built, usize)> {
    let mut tables = Vec::new();
    for (codec, direct) in [(PLAIN, true), (LZ4, false), (LZ4, true)] {
        let mut built = three_blocks(80_000, codec);
        built.access.direct = direct;
        let table = built.open().unwrap();
        let at = if codec == PLAIN { CELL } else { table.parts.place(1).unwrap().offset };
        let value = &built.items[1].value;
        assert_eq!(built.bytes()[at + VALUE..][..value.len()], value[..], "{codec:?}");
        let found = part(&table, b"0m", 70_000..70_009).unwrap().unwrap();
        assert_eq!(*found, value[70_000..70_009], "{codec:?}, direct: {direct}");
        tables.push((built, at));
    }
    tables
}

#[test]
fn a_long_value_that_does_not_fit_its_block_is_refused_before_a_part_of_it_is_read() {
    for (built, at) in read_in_parts() {
        let most = 10 * CELL - VALUE;
        for (len, fits) in [(most, true), (most + 1, false), (u32::MAX as usize, false)] {
            built.overwrite(at + VALUE_LEN, &(len as u32).to_le_bytes());
            let table = built.open().unwrap();
            let found = part(&table, b"0m", 0..9);
            match fits {
                true => assert_eq!(*found.unwrap().unwrap(), built.items[1].value[..9]),
                false => says(found, at, DAMAGED),
            }
        }
    }
}

#[test]
fn a_long_block_that_is_not_the_one_of_the_index_is_refused_before_a_part_of_it_is_read() {
    for (built, at) in read_in_parts() {
        let intact = built.bytes();
        // Cells and entries of the header: not ten, and not one.
        for (field, new) in [(8, 9u8), (8, 11), (12, 0), (12, 2)] {
            built.overwrite(at + field, &[new]);
            says(part(&built.open().unwrap(), b"0m", 0..9), at, DAMAGED);
            built.overwrite(0, &intact);
        }
    }
}

#[test]
fn a_long_block_that_ends_behind_the_last_is_refused_before_a_part_of_it_is_read() {
    let mut built = three_blocks(80_000, PLAIN);
    built.access.direct = true;
    let next = layout_of(&built).locator_end + NUMBERS + 8;
    for cell in [13, 1_000_000, u32::MAX] {
        forge(&built, &[(next, &cell.to_le_bytes())]);
        says(part(&built.open().unwrap(), b"0m", 0..9), CELL, DAMAGED);
    }
}

/// A table of more than sixteen blocks of one cell, so that its index has a root.
fn with_root() -> Built {
    let items = (0..2_000u32).map(|i| item([b"k", &i.to_be_bytes()[..]].concat(), BASE, [1; 80]));
    let built = build(items.collect());
    let blocks = built.open().unwrap().blocks();
    assert!((18..32).contains(&blocks), "{blocks}");
    built
}

#[test]
fn an_index_that_leads_out_of_itself_is_refused() {
    let built = with_root();
    let index = layout_of(&built).locator_end;
    // The sixteenth of the root's numbers, of which two are used, leads to no node.
    forge(&built, &[(index, &[0; 16 * 8])]);
    says(built.iter(IterMode::Mapped).seek(&built.items[900].key), index, "index is damaged");
    says(built.open().unwrap().verify(), index, "index is wrong");
}

#[test]
fn an_index_that_leads_out_of_itself_behind_a_first_key_is_refused() {
    let built = with_root();
    let (index, bytes) = (layout_of(&built).locator_end, built.bytes());
    // The first key of the block after the first one of the second node.
    let number = &bytes[index + (16 + 17) * 8..][..8];
    let first = u64::from_le_bytes(*number.first_chunk().unwrap());
    // Three of its five bytes are shared by all keys.
    let key = &built.items[(first >> 48) as usize].key;
    built.iter(IterMode::Mapped).seek(key).unwrap();
    // Its own number is not beyond those of the root; the next one is beyond all of them.
    forge(&built, &[(index + 2 * 8, &number.repeat(14))]);
    says(built.iter(IterMode::Mapped).seek(key), index, "index is damaged");
    says(built.open().unwrap().verify(), index, "index is wrong");
}

#[test]
fn a_block_that_the_index_passes_over_is_looked_at_all_the_same() {
    let built = three_blocks(9_000, PLAIN);
    let cells = layout_of(&built).locator_end + NUMBERS;
    // Nobody looks into the second block by the index.
    let passed_over = (cells + 4, &[0, 0, 0, 0][..]);
    let kind = built.bytes()[CELL + ENTRY] | 7;
    forge(&built, &[passed_over, (CELL + ENTRY, &[kind])]);
    says(built.open().unwrap().verify(), CELL, DAMAGED);
}

#[test]
fn cells_that_no_block_fills_are_found() {
    let items = vec![item(b"0a", BASE + 1, [1; 40]), item(b"0m", BASE + 1, [0; 9_000])];
    let built = build(items);
    assert_eq!(layout_of(&built).data_end, 3 * CELL);
    built.open().unwrap().verify().unwrap();
    // The second block gives one of its two cells away.
    let (one, shorter) = (1u32.to_le_bytes(), 3_000u32.to_le_bytes());
    forge(&built, &[(CELL + 8, &one), (CELL + VALUE_LEN, &shorter)]);
    says(built.open().unwrap().verify(), 2 * CELL, DAMAGED);
}

/// Notes what damage a check tells of; fails a read of the disk when it has met a key.
struct Notes<'a> {
    built: &'a Built,
    /// The key, and the error number.
    fails: Option<(&'a [u8], i32)>,
    told: Vec<(ErrorKind, Option<u64>)>,
}

impl Watch for Notes<'_> {
    fn read(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn entry(&mut self, key: &[u8], _: Kind, _: &[u8]) -> Result<()> {
        if let Some((_, errno)) = self.fails.filter(|(at, _)| *at == key) {
            self.built.disk.fail(Fault::when(|_| true).on(OpKind::Read).errno(errno));
        }
        Ok(())
    }

    fn damage(&mut self, error: Error, _: &[u8], _: &[u8], entries: Option<u64>) -> Result<()> {
        self.told.push((error.kind(), entries));
        Ok(())
    }
}

#[test]
fn a_read_that_fails_for_want_of_memory_ends_a_check_and_is_no_damage() {
    type Begins = fn(&Layout) -> usize;
    let (pages, padding, blocks): (Begins, Begins, Begins) = (|l| l.data_end, |_| 0, |_| 0);
    let direct = FileAccess { direct: true, ..access() };
    // What is read, how, from where in the file on, and how many entries are lost with it; the
    // last after all blocks were found intact.
    let cases = [
        ("a page of the locator", paged(1 << 20), LZ4, Some(pages), None, Some(3)),
        ("what is before the locator", paged(1 << 20), LZ4, Some(padding), Some(3), Some(0)),
        ("a block", direct.clone(), PLAIN, Some(blocks), Some(1), Some(2)),
        ("a block once more", direct, PLAIN, None, None, Some(0)),
    ];
    for (what, access, codec, begins, lost, intact) in cases {
        for (errno, kind) in [(libc::EIO, ErrorKind::Io), (libc::ENOMEM, ErrorKind::NoMemory)] {
            let mut built = three_blocks(9_000, codec);
            built.access = access.clone();
            let (table, last) = (built.open().unwrap(), &built.items[2].key[..]);
            let fails = begins.is_none().then_some((last, errno));
            if let Some(begins) = begins {
                let layout = table.parts.layout();
                let (from, to) = (begins(layout), layout.data_end);
                let fits = move |at: usize| at >= from && (from == to || at < to);
                let fault = Fault::when(move |read| fits(read.offset as usize));
                built.disk.fail(fault.on(OpKind::Read).errno(errno));
            }
            let mut notes = Notes { built: &built, fails, told: Vec::new() };
            let found = table.inspect(&mut notes);
            assert_eq!(built.disk.faults_struck(), 1, "{what}");
            if kind == ErrorKind::Io {
                assert_eq!((found.ok(), &notes.told[..]), (intact, &[(kind, lost)][..]), "{what}");
                continue;
            }
            let error = found.unwrap_err();
            assert_eq!((error.kind(), error.os_error()), (kind, Some(errno)), "{what}");
            assert_eq!((error.path(), &notes.told[..]), (Some(&*path()), &[][..]), "{what}");
        }
    }
}
