//! The locator of a table (layer L3): a hash index from a key to its newest entry.
//!
//! Lines of 64 bytes, one cache line each: twelve lanes of 16 bits, twelve positions of 24 bits,
//! one word of flags. A lane holds 14 bits of the key's hash and the two highest bits of a 26-bit
//! byte position. A key that finds its home line full is displaced to one of the seven after it;
//! if those are full too, or its entry lies beyond 64 MiB, it must be searched for in the blocks.
//! The home line's flags say how far to look, whether to search, and, in a filter of 24 bits, for
//! which keys at all.

/// Bytes of a line.
pub(super) const LINE_LEN: usize = 64;
/// Entries of a line.
pub(super) const SLOTS: usize = 12;
/// Lines after the home line that may hold a key of it.
const REACH: usize = 7;
/// Percentage of the slots that is filled.
const LOAD_PERCENT: u64 = 80;
/// The first position that cannot be stored.
pub(super) const POSITION_LIMIT: u64 = 1 << 26;

const POSITIONS: usize = 2 * SLOTS;
const FLAGS: usize = POSITIONS + 3 * SLOTS;
const SEARCH: u32 = 8;
const FILTER_BITS: u64 = 24;
const TAG_MASK: u16 = 0xfffc;

/// A line of a locator.
pub(super) type Line = [u8; LINE_LEN];

/// Home lines for so many keys.
pub(super) fn home_lines(keys: u64) -> u64 {
    (keys * 100).div_ceil(SLOTS as u64 * LOAD_PERCENT).max(1)
}

/// Bytes of a locator with so many home lines.
pub(super) fn size_bytes(lines: u64) -> u64 {
    (lines + REACH as u64) * LINE_LEN as u64
}

/// All lines of a locator with so many home lines.
pub(super) fn line_count(lines: u64) -> usize {
    lines as usize + REACH
}

/// The home line of a key.
#[inline]
pub(super) fn home(hash: u64, lines: u64) -> usize {
    (((hash >> 32) * lines) >> 32) as usize
}

/// Slots of a line that may hold a key, as bits.
#[inline]
pub(super) fn matches(line: &Line, hash: u64) -> u32 {
    let tag = hash as u16 & TAG_MASK;
    #[cfg(target_arch = "x86_64")]
    return matches_sse2(line, tag);
    #[cfg(not(target_arch = "x86_64"))]
    matches_portable(line, tag)
}

/// [`matches`], eight lanes at a time. SSE2 is part of x86-64.
#[cfg(target_arch = "x86_64")]
#[inline]
fn matches_sse2(line: &Line, tag: u16) -> u32 {
    use std::arch::x86_64::{
        _mm_and_si128, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x,
        _mm_set1_epi16,
    };
    let (words, _) = line.as_chunks::<8>();
    let word = |index: usize| i64::from_le_bytes(words[index]);
    // SAFETY: values only; SSE2 is there on every x86-64.
    let bits = unsafe {
        let (mask, tag) = (_mm_set1_epi16(TAG_MASK as i16), _mm_set1_epi16(tag as i16));
        let low = _mm_and_si128(_mm_set_epi64x(word(1), word(0)), mask);
        let high = _mm_and_si128(_mm_set_epi64x(word(3), word(2)), mask);
        let equal = _mm_packs_epi16(_mm_cmpeq_epi16(low, tag), _mm_cmpeq_epi16(high, tag));
        _mm_movemask_epi8(equal)
    };
    bits as u32 & ((1 << SLOTS) - 1)
}

/// [`matches`] for every processor.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn matches_portable(line: &Line, tag: u16) -> u32 {
    let (lanes, _) = line[..POSITIONS].as_chunks::<2>();
    lanes.iter().enumerate().fold(0, |bits, (slot, lane)| {
        bits | u32::from(u16::from_le_bytes(*lane) & TAG_MASK == tag) << slot
    })
}

/// The position in a slot below twelve; 0 where the slot is empty.
#[inline]
pub(super) fn position(line: &Line, slot: usize) -> usize {
    let slot = slot.min(SLOTS - 1);
    let at = POSITIONS + 3 * slot;
    let low = u32::from_le_bytes([line[at], line[at + 1], line[at + 2], line[at + 3]]) & 0xff_ffff;
    ((u32::from(line[2 * slot]) & 3) << 24 | low) as usize
}

#[inline]
fn flags(line: &Line) -> u32 {
    u32::from_le_bytes([line[FLAGS], line[FLAGS + 1], line[FLAGS + 2], line[FLAGS + 3]])
}

/// The bit of the flags that says that a key may be displaced.
#[inline]
fn filter_bit(hash: u64) -> u32 {
    1 << (8 + (((hash >> 16 & 0xffff) * FILTER_BITS) >> 16))
}

/// True when a key that is not in its home line may be elsewhere.
#[inline]
pub(super) fn may_be_displaced(line: &Line, hash: u64) -> bool {
    flags(line) & filter_bit(hash) != 0
}

/// Lines after this one in which displaced keys of this home line may be.
pub(super) fn reach(line: &Line) -> usize {
    flags(line) as usize & REACH
}

/// True when displaced keys of this home line may be in no line at all.
pub(super) fn must_search(line: &Line) -> bool {
    flags(line) & SEARCH != 0
}

/// The stored locator for keys with these hashes and positions; position 0 is one that cannot be
/// stored.
pub(super) fn build(hashes: &[u64], positions: &[u32]) -> Vec<u8> {
    let lines = home_lines(hashes.len() as u64);
    let mut out = vec![0; size_bytes(lines) as usize];
    let (table, _) = out.as_chunks_mut::<LINE_LEN>();
    let mut used = vec![0u8; table.len()];
    let mut displaced = Vec::new();
    for (&hash, &position) in hashes.iter().zip(positions) {
        let home = home(hash, lines);
        if position == 0 || !put(&mut table[home], &mut used[home], hash, position) {
            displaced.push((hash, position));
        }
    }
    for (hash, position) in displaced {
        let home = home(hash, lines);
        let found = (1..=REACH).find(|step| {
            position != 0 && put(&mut table[home + step], &mut used[home + step], hash, position)
        });
        let old = flags(&table[home]);
        let new = match found {
            Some(step) => old & !(REACH as u32) | (old & REACH as u32).max(step as u32),
            None => old | SEARCH,
        };
        table[home][FLAGS..].copy_from_slice(&(new | filter_bit(hash)).to_le_bytes());
    }
    out
}

/// Puts an entry into a line, unless it is full.
fn put(line: &mut Line, used: &mut u8, hash: u64, position: u32) -> bool {
    let slot = usize::from(*used);
    if slot == SLOTS {
        return false;
    }
    let lane = hash as u16 & TAG_MASK | (position >> 24) as u16;
    line[2 * slot..2 * slot + 2].copy_from_slice(&lane.to_le_bytes());
    let at = POSITIONS + 3 * slot;
    line[at..at + 3].copy_from_slice(&position.to_le_bytes()[..3]);
    *used += 1;
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::mix64;

    /// Every position that the locator offers for a hash, and whether it says "search".
    fn probe(locator: &[u8], keys: usize, hash: u64) -> (Vec<u32>, bool) {
        let lines = home_lines(keys as u64);
        let (table, _) = locator.as_chunks::<LINE_LEN>();
        let home = home(hash, lines);
        let mut found = Vec::new();
        let displaced = may_be_displaced(&table[home], hash);
        let reach = if displaced { reach(&table[home]) } else { 0 };
        for line in &table[home..=home + reach] {
            let bits = matches(line, hash);
            assert_eq!(bits, matches_portable(line, hash as u16 & TAG_MASK));
            found.extend((0..12).filter(|s| bits >> s & 1 == 1).map(|s| position(line, s) as u32));
        }
        (found, may_be_displaced(&table[home], hash) && must_search(&table[home]))
    }

    #[test]
    fn every_key_is_found_or_the_line_says_search() {
        for keys in [1usize, 2, 11, 100, 10_000] {
            let hashes: Vec<u64> = (0..keys as u64).map(|i| mix64(i, 7)).collect();
            let positions: Vec<u32> =
                (0..keys as u32).map(|i| (i * 6_701 + 25) % POSITION_LIMIT as u32).collect();
            let locator = build(&hashes, &positions);
            let mut searched = 0;
            for (&hash, &position) in hashes.iter().zip(&positions) {
                let (found, search) = probe(&locator, keys, hash);
                assert!(search || found.contains(&position));
                searched += usize::from(!found.contains(&position));
            }
            assert!(searched * 1000 <= keys, "{searched} of {keys}");
        }
    }

    #[test]
    fn absent_keys_rarely_match() {
        let hashes: Vec<u64> = (0..20_000).map(|i| mix64(i, 7)).collect();
        let locator = build(&hashes, &vec![25; hashes.len()]);
        let offered: usize =
            (0..20_000).map(|i| probe(&locator, 20_000, mix64(i, 8)).0.len()).sum();
        assert!(offered < 40, "{offered} of 20000");
    }

    #[test]
    fn equal_hashes_overflow_into_seven_lines_and_then_into_a_search() {
        let hashes = vec![0x1234_5678_9abc_def0; 100];
        let positions: Vec<u32> = (1..=100).collect();
        let (found, search) = probe(&build(&hashes, &positions), 100, hashes[0]);
        assert_eq!(found, (1..=96).collect::<Vec<u32>>());
        assert!(search);
        let (found, search) = probe(&build(&hashes[..96], &positions[..96]), 96, hashes[0]);
        assert_eq!((found.len(), search), (96, false));
    }

    #[test]
    fn a_position_that_cannot_be_stored_means_search() {
        let (found, search) = probe(&build(&[77], &[0]), 1, 77);
        assert!(search && found.iter().all(|position| *position == 0));
        let (found, _) = probe(&build(&[77], &[POSITION_LIMIT as u32 - 1]), 1, 77);
        assert_eq!(found, [POSITION_LIMIT as u32 - 1]);
    }
}
