//! Reading what can be read of a damaged segment (layer L3).
//!
//! Invariant: nothing is answered but records with the right checksum. It has the segment's id and
//! the record's address in its seed, so neither header nor offset map is needed to know a record.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use super::format::{
    FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, PAGE, RECORD_HEADER_LEN, RawRecord,
};
use super::segment::Segment;
use crate::buffer::Bytes;
use crate::checksum::hash_key;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::types::{Kind, SegmentId, SeqNo};

/// Told of a record: sequence number, kind, key, and where it lies.
type Visit<'a> = &'a mut dyn FnMut(SeqNo, Kind, &[u8], u64);

/// What is left of a segment of the log, or of a file of rewritten ones.
pub(crate) struct SegmentWreck {
    segment: Segment,
    /// Places of what looks like records, by their keys.
    places: OnceLock<HashMap<u64, Vec<u64>>>,
}

impl SegmentWreck {
    /// Opens what is there of segment `id`, which began with `salt`; its header may say anything.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        id: SegmentId,
        salt: u64,
    ) -> Result<SegmentWreck> {
        let segment = Segment::open_unchecked(fs, path, id, salt)?;
        Ok(SegmentWreck { segment, places: OnceLock::new() })
    }

    /// The value of the record of address `offset`, wherever it lies in the file.
    pub(crate) fn pointed_value(&self, offset: u64, key: &[u8], len: u32) -> Result<Bytes<'_>> {
        let first = self.segment.value_at(offset, offset, key, len);
        let Err(error) = first else { return first };
        let places = self.places.get_or_init(|| self.find_records());
        let found = places.get(&hash_key(key, 0)).into_iter().flatten();
        let mut values =
            found.filter_map(|place| self.segment.value_at(offset, *place, key, len).ok());
        values.next().ok_or(error)
    }

    /// Everything that could be a record, at multiples of 8.
    fn find_records(&self) -> HashMap<u64, Vec<u64>> {
        let mut places: HashMap<u64, Vec<u64>> = HashMap::new();
        let size = self.segment.identity().size_bytes;
        let mut at = FIRST_FRAME;
        while at + RECORD_HEADER_LEN as u64 <= size {
            let bytes = self.segment.bytes(at, size - at);
            // Keys of the one keyspace that there is begin with its number, 0.
            let record = bytes.and_then(RawRecord::decode);
            match record.filter(|own| own.kind != 0 && own.key.first() == Some(&0)) {
                Some(record) => {
                    places.entry(hash_key(record.key, 0)).or_default().push(at);
                    // If its length is a lie, what follows is looked at all the same.
                    at += 8;
                }
                None => at += 8,
            }
        }
        places
    }

    /// Visits the intact records of all frames that can be found, whole or not: sequence number,
    /// kind, key and place; damage goes to `lost`.
    pub(crate) fn for_each_record(&self, visit: Visit<'_>, lost: &mut dyn FnMut(Error)) {
        let size = self.segment.identity().size_bytes;
        let salt = self.segment.identity().salt.to_le_bytes();
        let (mut at, mut hole) = (FIRST_FRAME, None);
        while at + FRAME_HEADER_LEN as u64 <= size {
            let Some((header, _)) = self.segment.frame_header(at) else {
                let begins = self.segment.bytes(at, 8) == Some(&salt[..]);
                // Zeros behind the last frame are no damage.
                let blank = self.segment.bytes(at, 8) == Some(&[0; 8][..]);
                if begins || (!blank && hole.is_none()) {
                    hole.get_or_insert(at);
                }
                at += 8;
                continue;
            };
            if let Some(offset) = hole.take() {
                lost(self.segment.corrupt(offset, "frames of the log are damaged"));
            }
            at = self.frame_records(at, &header, visit, lost);
        }
        if let Some(offset) = hole {
            lost(self.segment.corrupt(offset, "frames of the log are damaged"));
        }
    }

    /// The records of one frame; answers where to go on.
    fn frame_records(
        &self,
        offset: u64,
        header: &FrameHeader,
        visit: Visit<'_>,
        lost: &mut dyn FnMut(Error),
    ) -> u64 {
        let start = offset + FRAME_HEADER_LEN as u64;
        let size = self.segment.identity().size_bytes;
        let end = start.checked_add(header.payload_len).filter(|end| *end <= size);
        let end = end.unwrap_or(size);
        let mut at = start;
        for index in 0..u64::from(header.count) {
            let bytes = self.segment.bytes(at, end.saturating_sub(at));
            let record = bytes.and_then(RawRecord::decode);
            let Some(record) = record.filter(|own| own.is_intact(self.segment.id(), at)) else {
                lost(self.segment.corrupt(at, "a record of the log is damaged"));
                // Its length may be a lie, but if the next record is intact it is none.
                let len = bytes.and_then(RawRecord::lengths).map(|(_, _, len)| len);
                match len.and_then(|len| at.checked_add(len)).filter(|next| *next < end) {
                    Some(next) => at = next,
                    None => break,
                }
                continue;
            };
            let kind = Kind::from_u8(record.kind).unwrap_or(Kind::Put);
            visit(header.first_seqno.saturating_add(index), kind, record.key, at);
            at += record.len();
        }
        end.next_multiple_of(8).max(start).min(size.next_multiple_of(PAGE))
    }

    /// The value of the intact record at a place that `for_each_record` has named.
    pub(crate) fn value(&self, place: u64) -> Result<Bytes<'_>> {
        let record = self.segment.record(place)?;
        match record.kind {
            Kind::Packed => self.segment.unpack(place, record.value),
            _ => Ok(Bytes::Mapped(record.value)),
        }
    }
}
