//! The separated values of a flushed segment, in the order of their addresses (layer L3): what a
//! collection copies.
//!
//! Invariants: every record is verified before it is handed out; every value that is said to be
//! dead is one of the segment. The file is read with `pread`, in pieces, not through the map, and
//! directly if the segment is.

use std::iter::Peekable;
use std::sync::Arc;

use super::format::{FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, RECORD_HEADER_LEN, RawRecord};
use super::segment::Segment;
use crate::error::Result;
use crate::fs::{File, FileSystem};
use crate::types::Kind;

/// Bytes read at once.
const PIECE: u64 = 256 << 10;

/// The values of one segment.
pub(crate) struct Source<'a, D> {
    /// Where they are.
    pub(crate) segment: &'a Segment,
    /// In a segment as it was first written: values of at least this length are separated.
    pub(crate) least_len: u64,
    /// In a segment as it was first written: where its log ends.
    pub(crate) end: u64,
    /// Addresses of values to leave out, ascending, in units of 8 bytes.
    pub(crate) dead: D,
}

/// Visits the live values of a segment: the address of each, in units of 8 bytes, and its record.
pub(crate) fn for_each_value<D: Iterator<Item = u32>>(
    fs: &dyn FileSystem,
    source: Source<'_, D>,
    visit: &mut dyn FnMut(u32, &[u8]) -> Result<()>,
) -> Result<()> {
    let Source { segment, least_len, end, dead } = source;
    let pieces = Pieces::open(fs, segment)?;
    let mut walk = Walk { segment, pieces, dead: dead.peekable(), visit };
    match segment.map() {
        Some(map) => {
            for (unit, place) in map.entries()? {
                walk.meet(unit, place, 0)?;
            }
        }
        None => walk.frames(least_len, end)?,
    }
    match walk.dead.next() {
        Some(unit) => Err(segment.corrupt(u64::from(unit) * 8, "a dead value that is not here")),
        None => Ok(()),
    }
}

struct Walk<'a, D: Iterator> {
    segment: &'a Segment,
    pieces: Pieces,
    dead: Peekable<D>,
    visit: &'a mut dyn FnMut(u32, &[u8]) -> Result<()>,
}

impl<D: Iterator<Item = u32>> Walk<'_, D> {
    /// All records of a segment as it was first written.
    fn frames(&mut self, least_len: u64, end: u64) -> Result<()> {
        let segment = self.segment;
        let mut at = FIRST_FRAME;
        while at < end {
            let bytes = self.pieces.get(at, FRAME_HEADER_LEN as u64)?;
            let header = bytes.and_then(|b| FrameHeader::decode(b, segment.identity().salt, at));
            let (header, _) = header.ok_or_else(|| segment.corrupt(at, "no frame is here"))?;
            at += FRAME_HEADER_LEN as u64;
            let frame_end = at.saturating_add(header.payload_len);
            for _ in 0..header.count {
                at += self.meet((at / 8) as u32, at, least_len)?;
            }
            if at != frame_end {
                return Err(segment.corrupt(at, "a frame ends elsewhere than it says"));
            }
        }
        Ok(())
    }

    /// The record of address `unit`, which lies at `place`; answers its length.
    fn meet(&mut self, unit: u32, place: u64, least_len: u64) -> Result<u64> {
        let segment = self.segment;
        let none = || segment.corrupt(place, "no record of the log is here");
        let header = self.pieces.get(place, RECORD_HEADER_LEN as u64)?.ok_or_else(none)?;
        let (kind, value_len, len) = RawRecord::lengths(header).ok_or_else(none)?;
        let short = kind == Kind::Put as u8 && value_len < least_len;
        if kind == Kind::Delete as u8 || short {
            return Ok(len);
        }
        if self.dead.next_if_eq(&unit).is_some() {
            return Ok(len);
        }
        let bytes = self.pieces.get(place, len)?.ok_or_else(none)?;
        let record = RawRecord::decode(bytes).ok_or_else(none)?;
        if !record.is_intact(segment.id(), u64::from(unit) * 8) {
            return Err(segment.corrupt(place, "checksum of a record does not match"));
        }
        (self.visit)(unit, bytes)?;
        Ok(len)
    }
}

/// A file read in pieces, mostly in order.
pub(super) struct Pieces {
    file: Arc<dyn File>,
    size: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Pieces {
    /// Of the file of a segment.
    pub(super) fn open(fs: &dyn FileSystem, segment: &Segment) -> Result<Pieces> {
        let file = match segment.file.direct().filter(|_| segment.is_direct()) {
            Some(file) => Arc::clone(file),
            None => fs.open(segment.path())?,
        };
        Ok(Pieces { file, size: segment.identity().size_bytes, start: 0, bytes: Vec::new() })
    }

    /// `len` bytes from `offset`; `None` beyond the end. Memory grows to the longest record.
    pub(super) fn get(&mut self, offset: u64, len: u64) -> Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(len).filter(|&end| end <= self.size) else {
            return Ok(None);
        };
        let held = self.start + self.bytes.len() as u64;
        if offset < self.start || end > held {
            let upto = end.max(offset.saturating_add(PIECE)).min(self.size);
            self.bytes.resize((upto - offset) as usize, 0);
            self.start = offset;
            if let Err(error) = self.file.read_at(&mut self.bytes, offset) {
                self.bytes.clear();
                return Err(error);
            }
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + len as usize))
    }
}
