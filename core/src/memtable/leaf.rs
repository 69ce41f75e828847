//! Leaves of the memtable's tree (part of layer L3's memtable).
//!
//! Invariant: a slot in a published permutation never changes, so a permutation that was loaded is
//! a lasting view of the leaf.

use super::arena::Records;
use super::record::Record;
use std::cmp::Ordering as Cmp;
use std::sync::atomic::{AtomicU64, Ordering};

/// Keys in a full leaf.
pub(super) const LEAF_LEN: usize = 15;

/// Up to 15 keys. Seen as 32-bit lanes, two in a word: lanes 0..15 hold the four key bytes from
/// the leaf's depth on (big endian, short keys padded with zeros), lanes 15..30 the key records;
/// the last word is the permutation.
#[repr(C, align(128))]
pub(super) struct Leaf {
    words: [AtomicU64; 16],
}

const PERMUTATION: usize = 15;

/// The order of a leaf's slots: the count in the low four bits, then slots in key order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permutation(u64);

impl Permutation {
    /// The slots 0, 1, 2 ... in this order.
    pub(super) fn identity(len: usize) -> Permutation {
        debug_assert!(len <= LEAF_LEN);
        Permutation(0xEDCB_A987_6543_2100 | len as u64)
    }

    #[inline(always)]
    pub(super) fn len(self) -> usize {
        (self.0 & 15) as usize
    }

    /// The slot of the key with this rank.
    #[inline(always)]
    pub(super) fn slot(self, rank: usize) -> usize {
        (self.0 >> (4 * rank + 4)) as usize & 15
    }

    /// Adds `slot` at `rank`.
    #[inline(always)]
    pub(super) fn with(self, rank: usize, slot: usize) -> Permutation {
        debug_assert!(rank <= self.len() && self.len() < LEAF_LEN && slot < LEAF_LEN);
        let shift = 4 * rank + 4;
        let below = self.0 & ((1 << shift) - 1);
        let above = (self.0 ^ below) << 4;
        Permutation((above | (slot as u64) << shift | below) + 1)
    }

    /// Puts `slot` in the place of the one with this rank.
    pub(super) fn replaced(self, rank: usize, slot: usize) -> Permutation {
        debug_assert!(rank < self.len() && slot < LEAF_LEN);
        let shift = 4 * rank + 4;
        Permutation(self.0 & !(15 << shift) | (slot as u64) << shift)
    }

    /// The word as it is stored.
    #[inline(always)]
    pub(super) fn to_word(self) -> u64 {
        self.0
    }

    /// Reads a stored word.
    #[inline(always)]
    pub(super) fn from_word(word: u64) -> Permutation {
        Permutation(word)
    }
}

/// A key of a leaf as splits move it: its lane of key bytes and its record.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) window: u32,
    pub(super) record: u32,
}

/// Where a key is, or would be, in a leaf.
#[derive(Clone, Copy)]
pub(super) struct Rank {
    /// Number of smaller keys.
    pub(super) rank: usize,
    /// The key's record, if it is here.
    pub(super) record: Option<u32>,
}

impl Leaf {
    /// A leaf of these keys, in order.
    pub(super) fn new(slots: &[Slot]) -> Leaf {
        let mut lanes = [0; 32];
        for (index, slot) in slots.iter().enumerate() {
            lanes[index] = slot.window;
            lanes[LEAF_LEN + index] = slot.record;
        }
        let mut words = lanes.as_chunks::<2>().0.iter();
        let leaf = Leaf {
            words: std::array::from_fn(|_| {
                let [low, high] = words.next().copied().unwrap_or_default();
                AtomicU64::new(u64::from(high) << 32 | u64::from(low))
            }),
        };
        leaf.publish(Permutation::identity(slots.len()));
        leaf
    }

    /// Fetches both lines of the leaf into the cache.
    #[inline(always)]
    pub(super) fn prefetch(&self) {
        crate::prefetch::prefetch(&self.words[0]);
        crate::prefetch::prefetch(&self.words[PERMUTATION]);
    }

    /// Writes a slot that no published permutation has. Only the writer calls this.
    #[inline(always)]
    pub(super) fn fill(&self, index: usize, slot: Slot) {
        self.set_lane(index, slot.window);
        self.set_lane(LEAF_LEN + index, slot.record);
    }

    #[inline(always)]
    fn set_lane(&self, lane: usize, value: u32) {
        let (word, shift) = (&self.words[lane / 2], lane % 2 * 32);
        // Relaxed, and not one step: nobody else stores, and no reader uses the lane before the
        // permutation with its slot is published. The neighbour keeps its value.
        let kept = word.load(Ordering::Relaxed) & !(u64::from(u32::MAX) << shift);
        word.store(kept | u64::from(value) << shift, Ordering::Relaxed);
    }

    #[inline(always)]
    fn lane(&self, lane: usize) -> u32 {
        (self.words[lane / 2].load(Ordering::Relaxed) >> (lane % 2 * 32)) as u32
    }

    /// The order of the keys: the slots in it may be read.
    #[inline(always)]
    pub(super) fn permutation(&self) -> Permutation {
        Permutation(self.words[PERMUTATION].load(Ordering::Acquire))
    }

    /// Makes the slots of `permutation` visible.
    #[inline(always)]
    pub(super) fn publish(&self, permutation: Permutation) {
        self.words[PERMUTATION].store(permutation.0, Ordering::Release);
    }

    /// The key record of a slot.
    #[inline(always)]
    pub(super) fn record(&self, slot: usize) -> u32 {
        self.lane(LEAF_LEN + slot)
    }

    /// The slot as splits move it.
    pub(super) fn slot(&self, slot: usize) -> Slot {
        Slot { window: self.lane(slot), record: self.record(slot) }
    }

    /// Bit `i` of the first word: the window of slot `i` is below `window`; of the second: equal.
    /// Bits at and above `len` are zero.
    #[inline(always)]
    fn compare(&self, window: u32, len: usize) -> (u32, u32) {
        let used = (1 << len) - 1;
        let (below, equal) = compare_lanes(&self.words, window);
        (below & used, equal & used)
    }

    /// The record of `key` among the slots of `permutation`. Keys of the leaf share the bytes
    /// before `from`, and `key` shares them too.
    #[inline(always)]
    pub(super) fn find(&self, key: &[u8], from: usize, records: &Records) -> Option<u32> {
        let (_, mut equal) = self.compare(window(key, from), self.permutation().len());
        while equal != 0 {
            let record = self.record(equal.trailing_zeros() as usize);
            // SAFETY: the slot is in a permutation that was loaded with Acquire.
            let found = unsafe { Record::at(records, record) }.key();
            // Bytes before `from` are equal, so this compares no more than needed.
            if found.len() == key.len() && found.get(from..) == key.get(from..) {
                return Some(record);
            }
            equal &= equal - 1;
        }
        None
    }

    /// The place of `key` among the slots of `permutation`; conditions as for [`Leaf::find`].
    #[inline(always)]
    pub(super) fn rank(
        &self,
        key: &[u8],
        from: usize,
        permutation: Permutation,
        records: &Records,
    ) -> Rank {
        let (below, equal) = self.compare(window(key, from), permutation.len());
        let low = below.count_ones() as usize;
        if equal == 0 {
            return Rank { rank: low, record: None };
        }
        let high = low + equal.count_ones() as usize;
        self.rank_of_tie(key, from, permutation, records, (low, high))
    }

    /// Binary search among the ranks `low..high`, whose windows equal that of `key`.
    fn rank_of_tie(
        &self,
        key: &[u8],
        from: usize,
        permutation: Permutation,
        records: &Records,
        (mut low, mut high): (usize, usize),
    ) -> Rank {
        let rest = key.get(from..).unwrap_or_default();
        while low < high {
            let middle = low.midpoint(high);
            let record = self.record(permutation.slot(middle));
            // SAFETY: the slot is in a permutation that was loaded with Acquire.
            let found = unsafe { Record::at(records, record) }.key();
            match found.get(from..).unwrap_or_default().cmp(rest) {
                Cmp::Less => low = middle + 1,
                Cmp::Greater => high = middle,
                Cmp::Equal => return Rank { rank: middle, record: Some(record) },
            }
        }
        Rank { rank: low, record: None }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn compare_lanes(words: &[AtomicU64; 16], window: u32) -> (u32, u32) {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of every x86_64; the intrinsics work on registers only.
    unsafe {
        let sign = _mm_set1_epi32(i32::MIN);
        let key = _mm_set1_epi32(window as i32);
        let signed_key = _mm_xor_si128(key, sign);
        let mut below = [_mm_setzero_si128(); 4];
        let mut equal = below;
        for quarter in 0..4 {
            let low = words[2 * quarter].load(Ordering::Relaxed);
            let high = words[2 * quarter + 1].load(Ordering::Relaxed);
            let lanes = _mm_set_epi64x(high as i64, low as i64);
            below[quarter] = _mm_cmpgt_epi32(signed_key, _mm_xor_si128(lanes, sign));
            equal[quarter] = _mm_cmpeq_epi32(lanes, key);
        }
        (lane_bits(below), lane_bits(equal))
    }
}

/// One bit for each of the 16 lanes, which are all ones or all zeros.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lane_bits(masks: [std::arch::x86_64::__m128i; 4]) -> u32 {
    use std::arch::x86_64::*;
    // SAFETY: SSE2 is part of every x86_64; the intrinsics work on registers only.
    unsafe {
        let low = _mm_packs_epi32(masks[0], masks[1]);
        let high = _mm_packs_epi32(masks[2], masks[3]);
        _mm_movemask_epi8(_mm_packs_epi16(low, high)) as u32
    }
}

/// The same without vectors: for other processors, and to test the one above.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn compare_lanes_portable(words: &[AtomicU64; 16], window: u32) -> (u32, u32) {
    let (mut below, mut equal) = (0, 0);
    for lane in 0..16 {
        let value = (words[lane / 2].load(Ordering::Relaxed) >> (lane % 2 * 32)) as u32;
        below |= u32::from(value < window) << lane;
        equal |= u32::from(value == window) << lane;
    }
    (below, equal)
}

#[cfg(not(target_arch = "x86_64"))]
use compare_lanes_portable as compare_lanes;

/// The four bytes of `key` from `from` on, big endian, zeros behind the end.
#[inline(always)]
pub(super) fn window(key: &[u8], from: usize) -> u32 {
    let rest = key.get(from..).unwrap_or_default();
    if let Some(bytes) = rest.first_chunk::<4>() {
        return u32::from_be_bytes(*bytes);
    }
    let mut bytes = [0; 4];
    bytes[..rest.len()].copy_from_slice(rest);
    u32::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(permutation: Permutation) -> Vec<usize> {
        (0..permutation.len()).map(|rank| permutation.slot(rank)).collect()
    }

    #[test]
    fn a_permutation_is_a_list_of_slots() {
        let mut permutation = Permutation::identity(0);
        let mut list = Vec::new();
        for (slot, rank) in [0, 0, 1, 3, 0, 5, 2, 7, 8, 4, 0, 11, 6, 13, 7].into_iter().enumerate()
        {
            permutation = permutation.with(rank, slot);
            list.insert(rank, slot);
            assert_eq!(ranks(permutation), list);
        }
        list[14] = 3;
        assert_eq!(ranks(permutation.replaced(14, 3)), list);
        assert_eq!(ranks(Permutation::identity(15)), (0..15).collect::<Vec<_>>());
    }

    #[test]
    fn windows_are_four_bytes_and_zeros() {
        assert_eq!(window(b"abcdef", 1), u32::from_be_bytes(*b"bcde"));
        assert_eq!(window(b"abc", 1), u32::from_be_bytes(*b"bc\0\0"));
        assert_eq!(window(b"abc", 3), 0);
        assert_eq!(window(b"abc", 9), 0);
    }

    #[test]
    fn lanes_are_compared_without_sign_and_alike_on_all_processors() {
        let lanes = [0, 1, 0x7FFF_FFFF, 0x8000_0000, u32::MAX, 5, 5, 4];
        let words: [AtomicU64; 16] = std::array::from_fn(|word| {
            let (low, high) = (lanes[2 * word % 8], lanes[(2 * word + 1) % 8]);
            AtomicU64::new(u64::from(low) | u64::from(high) << 32)
        });
        let expected = |holds: fn(u32, u32) -> bool, window| {
            (0..16).fold(0, |bits, lane| bits | u32::from(holds(lanes[lane % 8], window)) << lane)
        };
        for window in lanes {
            let bits = (expected(|a, b| a < b, window), expected(|a, b| a == b, window));
            assert_eq!(compare_lanes(&words, window), bits);
            assert_eq!(compare_lanes_portable(&words, window), bits);
        }
    }

    #[test]
    fn slots_come_back_as_they_were_written() {
        let slots: Vec<Slot> =
            (0..15).map(|n| Slot { window: n * 0x1111_1111, record: u32::MAX - n }).collect();
        let (first, rest) = slots.split_at(6);
        let leaf = Leaf::new(first);
        rest.iter().enumerate().for_each(|(index, &slot)| leaf.fill(6 + index, slot));
        for (index, slot) in slots.iter().enumerate() {
            let found = leaf.slot(index);
            assert_eq!((found.window, found.record), (slot.window, slot.record));
        }
        assert_eq!(leaf.permutation(), Permutation::identity(6));
    }
}
