//! For tests (layer L3): tables whose bytes were changed on purpose and whose checksums say
//! otherwise. Decoders have to live with them.

use crate::checksum::{checksum64, hash_key, mix64};
use crate::table::block::{Block, block_checksum};
use crate::table::format::{
    FOOTER_LEN, Footer, INDEX_SEED, Layout, MAGIC, PAGE, TAIL_SEED, page_seed,
};
use crate::table::locator::{self, LINE_LEN};
use crate::table::packed;
use crate::types::Compression;

/// Where the footer has its checksums.
const INDEX_CHECKSUM: usize = 96;
const TAIL_CHECKSUM: usize = 104;
const CHECKSUM: usize = 136;

fn store(bytes: &mut [u8], at: usize, word: u64) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = word.to_le_bytes();
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Makes every checksum of a table right that the rest of it leaves a place for.
pub(crate) fn mend(bytes: &mut [u8]) {
    let Some(at) = bytes.len().checked_sub(FOOTER_LEN) else { return };
    let decoded = bytes.get(at..at + CHECKSUM).and_then(Footer::decode);
    if let Some((_, footer)) = decoded
        && let Some(layout) = footer.layout().filter(|layout| layout.footer == at)
    {
        mend_parts(bytes, &footer, &layout);
    }
    mend_footer(bytes, at);
}

fn mend_footer(bytes: &mut [u8], at: usize) {
    let (version, len) = (word(bytes, at + 144), word(bytes, at + 148));
    let seed = mix64(3, u64::from(version) << 32 | u64::from(len));
    let sum = checksum64(bytes.get(at..at + CHECKSUM).unwrap_or(&[]), seed);
    store(bytes, at + CHECKSUM, sum);
}

fn mend_parts(bytes: &mut [u8], footer: &Footer, layout: &Layout) {
    let salt = footer.salt;
    match footer.compression {
        Compression::None => mend_grid(bytes, footer, layout),
        Compression::Lz4 | Compression::Zstd => mend_packed(bytes, footer, layout),
    }
    for page in 0..(layout.locator_end - layout.data_end).div_ceil(PAGE) {
        let start = layout.data_end + page * PAGE;
        let covered = &bytes[start..layout.locator_end.min(start + PAGE)];
        let sum = checksum64(covered, page_seed(salt, start));
        store(bytes, layout.index_end + page * 8, sum);
    }
    let index = checksum64(&bytes[layout.locator_end..layout.index_end], mix64(salt, INDEX_SEED));
    store(bytes, layout.footer + INDEX_CHECKSUM, index);
    let tail = checksum64(&bytes[layout.index_end..layout.footer], mix64(salt, TAIL_SEED));
    store(bytes, layout.footer + TAIL_CHECKSUM, tail);
}

fn mend_grid(bytes: &mut [u8], footer: &Footer, layout: &Layout) {
    let shift = footer.grid_shift;
    let mut at = 0;
    while at < layout.data_end {
        let block = Block::parse(&bytes[at..layout.data_end], shift);
        let Some(block) = block.map(|block| block.bytes()) else {
            at += 1 << shift;
            continue;
        };
        let len = block.len();
        let sum = block_checksum(&[block], 1 << shift, page_seed(footer.salt, at));
        store(bytes, at, sum);
        at += len;
    }
}

fn mend_packed(bytes: &mut [u8], footer: &Footer, layout: &Layout) {
    let words_len = packed::size_bytes(footer.cells) as usize;
    let words = bytes[layout.index_end - words_len..layout.index_end].to_vec();
    for cell in 0..footer.cells as usize {
        let Some(place) = packed::place(&words, cell, footer.grid_shift) else { continue };
        let Some(end) = place.offset.checked_add(place.len) else { continue };
        if end > layout.data_end {
            continue;
        }
        let stored = &bytes[place.offset..end];
        let seed = page_seed(footer.salt, place.offset);
        let sum = match place.compression {
            Compression::None => block_checksum(&[stored], 1 << footer.grid_shift, seed),
            Compression::Lz4 | Compression::Zstd => {
                checksum64(stored.get(packed::PREFIX_LEN..).unwrap_or(&[]), seed)
            }
        };
        store(bytes, place.offset, sum);
    }
}

/// Reads `bytes` as a block in every way that there is.
pub(crate) fn read_block(bytes: &[u8]) {
    for shift in [12, 13, 16] {
        let Some(block) = Block::parse(bytes, shift) else { continue };
        assert!(block.bytes().len() <= bytes.len());
        block.verify(shift, 7);
        for index in 0..block.count() {
            let Some(entry) = block.entry(index) else { continue };
            assert!(entry.end <= block.bytes().len());
            let key = [block.prefix(), entry.suffix].concat();
            block.lower_bound(&key, entry.delta);
            block.compare_first(&key, entry.delta);
            assert!(block.has_key(&entry, &key));
        }
        for offset in (0..bytes.len() + 9).step_by(7) {
            if let Some(entry) = block.entry_at(offset) {
                block.has_key(&entry, bytes.get(..offset.min(99)).unwrap_or(&[]));
            }
        }
        block.last_entry_offset().and_then(|last| block.entry_at(last));
        block.lower_bound(bytes.get(..20).unwrap_or(bytes), u64::MAX);
    }
}

/// Reads `bytes` as lines of a locator.
pub(crate) fn read_locator(bytes: &[u8]) {
    for (number, line) in bytes.as_chunks::<LINE_LEN>().0.iter().enumerate() {
        let hash = mix64(number as u64, u64::from(line[0]));
        let mut bits = locator::matches(line, hash);
        assert!(bits < 1 << 12);
        while bits != 0 {
            let position = locator::position(line, bits.trailing_zeros() as usize);
            assert!((position as u64) < locator::POSITION_LIMIT);
            bits &= bits - 1;
        }
        locator::may_be_displaced(line, hash);
        locator::must_search(line);
        assert!(locator::reach(line) < 8);
        assert!(locator::home(hash, number as u64 + 1) <= number);
    }
}

/// Reads `bytes` as the end of a table of `size` bytes, its checksum mended.
pub(crate) fn read_footer(bytes: &[u8], size: usize) {
    let mut bytes = bytes.to_vec();
    let Some(at) = bytes.len().checked_sub(FOOTER_LEN) else { return };
    store(&mut bytes, at + 16, hash_key(&MAGIC, 5));
    mend_footer(&mut bytes, at);
    let Ok((footer, layout)) = Footer::read(&bytes, size, std::path::Path::new("table"), 5) else {
        return;
    };
    let parts = [layout.data_end, layout.locator_end, layout.index_end, layout.checksums_end];
    assert!(parts.is_sorted() && layout.checksums_end <= layout.footer && layout.footer < size);
    let again = footer.encode(5);
    assert_eq!(again.get(..CHECKSUM), bytes.get(at..at + CHECKSUM));
}
