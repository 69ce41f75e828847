//! A sorted run and ranges of keys (layer L4).

use std::ops::Bound;
use std::sync::Arc;

use super::meta::{RunId, TableMeta};
use crate::types::SeqNo;

/// A range of encoded keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange<'a> {
    /// Where it starts.
    pub(crate) lower: Bound<&'a [u8]>,
    /// Where it ends.
    pub(crate) upper: Bound<&'a [u8]>,
}

impl<'a> KeyRange<'a> {
    /// Every key.
    #[cfg(test)]
    pub(crate) const ALL: KeyRange<'static> =
        KeyRange { lower: Bound::Unbounded, upper: Bound::Unbounded };

    /// From `first` to `last`, both included.
    pub(crate) fn inclusive(first: &'a [u8], last: &'a [u8]) -> KeyRange<'a> {
        KeyRange { lower: Bound::Included(first), upper: Bound::Included(last) }
    }

    /// True when `key` lies before the range.
    fn starts_after(&self, key: &[u8]) -> bool {
        match self.lower {
            Bound::Included(lower) => key < lower,
            Bound::Excluded(lower) => key <= lower,
            Bound::Unbounded => false,
        }
    }

    /// True when `key` lies behind the range.
    fn ends_before(&self, key: &[u8]) -> bool {
        match self.upper {
            Bound::Included(upper) => key > upper,
            Bound::Excluded(upper) => key >= upper,
            Bound::Unbounded => false,
        }
    }
}

/// Tables with disjoint key ranges, as one sorted whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunMeta {
    /// Its number; larger is newer.
    pub(crate) id: RunId,
    /// Its tables by key; never empty.
    pub(crate) tables: Vec<Arc<TableMeta>>,
}

impl RunMeta {
    /// Size of all its tables.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.sum(|table| table.size_bytes)
    }

    /// Sum of the lengths of the values in the value log that its entries point to.
    pub(crate) fn value_bytes(&self) -> u64 {
        self.sum(|table| table.value_bytes)
    }

    /// Number of entries.
    pub(crate) fn entries(&self) -> u64 {
        self.sum(|table| table.entries)
    }

    /// Number of tombstones.
    pub(crate) fn tombstones(&self) -> u64 {
        self.sum(|table| table.tombstones)
    }

    /// The smallest sequence number; 0 for a run without tables.
    pub(crate) fn min_seqno(&self) -> SeqNo {
        self.tables.iter().map(|table| table.min_seqno).min().unwrap_or(0)
    }

    /// The largest sequence number; 0 for a run without tables.
    pub(crate) fn max_seqno(&self) -> SeqNo {
        self.tables.iter().map(|table| table.max_seqno).max().unwrap_or(0)
    }

    /// From its first key to its last; `None` for a run without tables.
    pub(crate) fn key_range(&self) -> Option<KeyRange<'_>> {
        Some(KeyRange::inclusive(&self.tables.first()?.smallest, &self.tables.last()?.largest))
    }

    /// Its tables that may hold a key of `range`: those whose own range overlaps it.
    pub(crate) fn overlapping(&self, range: KeyRange<'_>) -> &[Arc<TableMeta>] {
        let start = self.tables.partition_point(|table| range.starts_after(&table.largest));
        let behind = self.tables.get(start..).unwrap_or(&[]);
        let len = behind.partition_point(|table| !range.ends_before(&table.smallest));
        behind.get(..len).unwrap_or(&[])
    }

    /// True when one of its tables may hold a key of `range`.
    pub(crate) fn overlaps(&self, range: KeyRange<'_>) -> bool {
        !self.overlapping(range).is_empty()
    }

    /// The position of the one table that may hold `key`.
    #[cfg(test)]
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        let index = self.tables.partition_point(|table| table.largest.as_slice() < key);
        (self.tables.get(index)?.smallest.as_slice() <= key).then_some(index)
    }

    fn sum(&self, of: impl Fn(&TableMeta) -> u64) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(of(table)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::table;
    use super::*;

    fn sample() -> RunMeta {
        let tables = [table(1, "b", "d", 1, 9), table(2, "f", "f", 4, 5), table(3, "h", "k", 2, 3)];
        RunMeta { id: 7, tables: tables.map(Arc::new).to_vec() }
    }

    fn numbers(tables: &[Arc<TableMeta>]) -> Vec<u64> {
        tables.iter().map(|table| table.number).collect()
    }

    #[test]
    fn the_tables_that_overlap_a_range_are_those_that_share_a_key_with_it() {
        let run = sample();
        let keys: Vec<Vec<u8>> = (b'a'..=b'm').map(|letter| vec![0, letter]).collect();
        let bounds = |key| [Bound::Included(key), Bound::Excluded(key), Bound::Unbounded];
        for first in &keys {
            for last in keys.iter().filter(|last| *last > first) {
                for lower in bounds(first.as_slice()) {
                    for upper in bounds(last.as_slice()) {
                        let range = KeyRange { lower, upper };
                        let inside =
                            |key: &[u8]| !range.starts_after(key) && !range.ends_before(key);
                        // Every table of the sample that reaches into a range has an end in it or
                        // spans it; keys of one more byte stand for what lies between letters.
                        let touches = |table: &TableMeta| {
                            let mut probes = keys.clone();
                            probes.extend(keys.iter().map(|key| [key, &b"!"[..]].concat()));
                            probes.iter().any(|key| {
                                inside(key) && table.smallest <= *key && *key <= table.largest
                            })
                        };
                        let mut expected = Vec::new();
                        for table in run.tables.iter().filter(|table| touches(table)) {
                            expected.push(table.number);
                        }
                        assert_eq!(numbers(run.overlapping(range)), expected, "{range:?}");
                        assert_eq!(run.overlaps(range), !expected.is_empty());
                    }
                }
            }
        }
        assert_eq!(numbers(run.overlapping(KeyRange::ALL)), [1, 2, 3]);
    }

    #[test]
    fn a_key_is_in_at_most_one_table() {
        let run = sample();
        let found = |key: &str| run.find(&[b"\0", key.as_bytes()].concat());
        let keys = ["a", "b", "c", "d", "d!", "e", "f", "g", "h", "k", "l"];
        let expected =
            [None, Some(0), Some(0), Some(0), None, None, Some(1), None, Some(2), Some(2), None];
        assert_eq!(keys.map(found), expected);
    }

    #[test]
    fn sums_and_ends_of_a_run() {
        let run = sample();
        assert_eq!((run.min_seqno(), run.max_seqno()), (1, 9));
        assert_eq!(run.key_range(), Some(KeyRange::inclusive(b"\0b", b"\0k")));
        assert_eq!((run.size_bytes(), run.value_bytes()), (3 * 4096, 3 * 77));
        assert_eq!((run.entries(), run.tombstones()), (30, 3));
    }
}
