//! Dead values of one segment (layer L4): the offsets of those records that no table points to any
//! more, and what they take.
//!
//! Invariant DEAD: offsets ascend, none is there twice; a value that is dead stays so. Kept as it
//! is stored, one to three bytes each.

use std::sync::Arc;

use crate::coding::{Decoder, put_varint};
use crate::vlog::MAX_SEGMENT_SIZE;

/// Bytes that a record of a value takes at least: its header, in whole units of 8 bytes.
pub(super) const LEAST_RECORD_LEN: u64 = 16;

/// Offsets of records of one segment, in units of 8 bytes, and the sum of the records' lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeadSet {
    /// Each offset as its distance from the one before, the first from 0.
    deltas: Arc<[u8]>,
    /// The last offset, 0 when there is none.
    last: u32,
    count: u64,
    bytes: u64,
}

impl DeadSet {
    /// The records at `units`, in any order, each once, which take `bytes` together.
    pub(crate) fn new(mut units: Vec<u32>, bytes: u64) -> DeadSet {
        units.sort_unstable();
        let (count, (deltas, last)) = (units.len() as u64, encode(units.into_iter()));
        DeadSet { deltas, last, count, bytes }
    }

    /// Number of records.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes that the records take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The last offset, in units of 8 bytes; 0 when nothing is dead.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// True when nothing is dead.
    pub(crate) fn is_empty(&self) -> bool {
        self.deltas.is_empty()
    }

    /// The offsets in ascending order, in units of 8 bytes.
    pub(crate) fn units(&self) -> impl Iterator<Item = u32> + '_ {
        let mut rest = Decoder::new(&self.deltas);
        let mut last = 0u64;
        std::iter::from_fn(move || {
            last += rest.varint()?;
            u32::try_from(last).ok()
        })
    }

    /// Both together; `None` when they share an offset.
    pub(crate) fn union(&self, other: &DeadSet) -> Option<DeadSet> {
        let mut all: Vec<u32> = self.units().collect();
        all.extend(other.units());
        all.sort();
        if all.windows(2).any(|pair| pair.first() == pair.last()) {
            return None;
        }
        let (count, bytes) = (all.len() as u64, self.bytes + other.bytes);
        let (deltas, last) = encode(all.into_iter());
        Some(DeadSet { deltas, last, count, bytes })
    }

    /// What has died since `earlier`, all of which is in it.
    pub(crate) fn since(&self, earlier: &DeadSet) -> DeadSet {
        let mut old = earlier.units().peekable();
        let fresh = self.units().filter(|unit| old.next_if_eq(unit).is_none());
        let (deltas, last) = encode(fresh);
        let count = self.count.saturating_sub(earlier.count);
        DeadSet { deltas, last, count, bytes: self.bytes.saturating_sub(earlier.bytes) }
    }

    /// Appends the stored form, which has no end of its own.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.bytes);
        out.extend_from_slice(&self.deltas);
    }

    /// Reads the stored form up to the end of the input.
    pub(super) fn decode(from: &mut Decoder<'_>) -> Option<DeadSet> {
        let bytes = from.varint()?;
        let deltas = from.rest();
        let (mut last, mut count) = (0u64, 0u64);
        while !from.is_empty() {
            let delta = from.varint().filter(|&delta| delta != 0)?;
            last = last.checked_add(delta).filter(|&last| last <= u64::from(u32::MAX))?;
            count += 1;
        }
        // A record has a header, takes whole units, and lies in the segment.
        let possible = bytes.is_multiple_of(8) && bytes <= MAX_SEGMENT_SIZE;
        let sound = possible && count > 0 && bytes / LEAST_RECORD_LEN >= count;
        // What is kept is what would be written: numbers in their shortest form.
        let set = DeadSet { deltas: deltas.into(), last: last as u32, count, bytes };
        (sound && encode(set.units()).0 == set.deltas).then_some(set)
    }
}

/// The stored form, and the last of the offsets.
fn encode(ascending: impl Iterator<Item = u32>) -> (Arc<[u8]>, u32) {
    let mut deltas = Vec::new();
    let mut last = 0;
    for unit in ascending {
        debug_assert!(unit > last, "offsets ascend");
        put_varint(&mut deltas, u64::from(unit - last));
        last = unit;
    }
    (deltas.into(), last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(units: &[u32], bytes: u64) -> DeadSet {
        DeadSet::new(units.to_vec(), bytes)
    }

    fn units(set: &DeadSet) -> Vec<u32> {
        set.units().collect()
    }

    #[test]
    fn sets_are_joined_and_told_apart() {
        let (old, new) = (set(&[700, 512, 9000], 3000), set(&[u32::MAX, 513], 48));
        let both = old.union(&new).unwrap();
        assert_eq!(units(&both), [512, 513, 700, 9000, u32::MAX]);
        assert_eq!((both.bytes(), both.count(), both.last()), (3048, 5, u32::MAX));
        assert_eq!((old.last(), DeadSet::default().last()), (9000, 0));
        assert_eq!(both.since(&old), new);
        assert_eq!(both.since(&new), old);
        assert_eq!(both.since(&both), DeadSet::default());
        assert_eq!(both.since(&DeadSet::default()), both);
        assert_eq!(old.union(&set(&[1, 700], 48)), None, "dead twice");
        assert!(DeadSet::default().is_empty() && !new.is_empty());
    }

    #[test]
    fn a_set_comes_back_and_its_bytes_are_those_of_the_format() {
        let set = set(&[512, 640, 20_000], 4096);
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        assert_eq!(bytes, [0x80, 0x20, 0x80, 0x04, 0x80, 0x01, 0xa0, 0x97, 0x01]);
        assert_eq!(set.deltas.len(), 7);
        assert_eq!(DeadSet::decode(&mut Decoder::new(&bytes)), Some(set));
    }

    #[test]
    fn what_no_writer_writes_is_refused() {
        let decode = |bytes: &[u8]| DeadSet::decode(&mut Decoder::new(bytes));
        assert!(decode(&[32, 5, 1]).is_some());
        for (what, bytes) in [
            ("nothing", &[][..]),
            ("no offsets", &[32]),
            ("an offset twice", &[32, 5, 0]),
            ("records too short to be any", &[24, 5, 1]),
            ("half a unit", &[33, 5]),
            ("a long form", &[32, 0x85, 0x00]),
            ("an offset cut short", &[32, 5, 0x80]),
            ("an offset beyond every segment", &[64, 5, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            ("more bytes than a segment has", &[0x88, 0x80, 0x80, 0x80, 0x80, 0x01, 5]),
        ] {
            assert_eq!(decode(bytes), None, "{what}");
        }
    }
}
