//! Ordered reads.
use crate::Result;
use std::ops::Bound;
/// SKELETON: what a scan covers. All setters copy their keys.
#[derive(Clone, Debug, Default)]
pub struct ScanOptions {
    _p: (),
}
impl ScanOptions {
    /// Everything, forward.
    pub fn new() -> Self {
        todo!()
    }
    /// Lower bound. Bound::Included/Excluded/Unbounded.
    pub fn lower(self, _bound: Bound<&[u8]>) -> Self {
        todo!()
    }
    /// Upper bound.
    pub fn upper(self, _bound: Bound<&[u8]>) -> Self {
        todo!()
    }
    /// Only keys with this prefix (intersected with the bounds).
    pub fn prefix(self, _prefix: &[u8]) -> Self {
        todo!()
    }
    /// From large to small.
    pub fn reverse(self, _yes: bool) -> Self {
        todo!()
    }
    /// At most so many entries from next_entry (seek restarts the count).
    pub fn limit(self, _count: u64) -> Self {
        todo!()
    }
    /// Values come back empty and are not read.
    pub fn keys_only(self, _yes: bool) -> Self {
        todo!()
    }
}
/// One entry; valid until the scan moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /** key */
    pub key: &'a [u8],
    /** value */
    pub value: &'a [u8],
}
/// SKELETON: a position between entries of a frozen state. Send. Valid while everything changes; Closed after close; errors stick.
#[derive(Debug)]
pub struct Scan {
    _p: (),
}
impl Scan {
    /// The next entry in the direction of the scan, or None at the end; stepping over it.
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>> {
        todo!()
    }
    /// The entry before the position (what next_entry returned last), stepping back over it; None at the start.
    pub fn prev_entry(&mut self) -> Result<Option<Entry<'_>>> {
        todo!()
    }
    /// Moves so that next_entry answers the first entry at or after `key` in the direction of the scan; bounds still hold.
    pub fn seek(&mut self, _key: &[u8]) -> Result<()> {
        todo!()
    }
    /// To the start of the scan.
    pub fn seek_to_start(&mut self) -> Result<()> {
        todo!()
    }
    /// Behind the last entry of the scan, for prev_entry.
    pub fn seek_to_end(&mut self) -> Result<()> {
        todo!()
    }
}
impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>)>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
