//! Values that are not read in place (layer L3): those of files that are read directly, and those
//! that are stored compressed. They come from the cache, or from the file into it.
//!
//! Invariant: a record is verified when it is read from the device, each time. What the cache has
//! is laid out as a record, its value decompressed, its checksum left open.

use std::ops::Range;

use super::format::{RECORD_HEADER_LEN, RawRecord, SEGMENT_HEADER_LEN, record_len};
use super::packed::unpack_behind;
use super::segment::{LONG, Segment};
use crate::buffer::{Buffer, Bytes};
use crate::error::Result;
use crate::types::Kind;

impl Segment {
    /// The value of the record of address `offset`, to which a table's pointer for `key` leads,
    /// from the cache or the file; `kept`: it is to be in the cache afterwards.
    #[inline(never)]
    pub(super) fn load_value(
        &self,
        offset: u64,
        key: &[u8],
        value_len: u32,
        kept: bool,
    ) -> Result<Bytes<'_>> {
        let place = self.place_of(offset)?;
        if let Some(record) = self.file.cached(place) {
            return self.value_in(&record, offset, key, value_len);
        }
        let len = self.checked_len(offset, place, key, value_len)?;
        let bytes = self.file.read(place, len)?;
        let record = RawRecord::decode(&bytes).ok_or_else(|| self.not_pointed(offset))?;
        self.check(offset, place, &record)?;
        let record = match Kind::from_u8(record.kind) {
            Some(Kind::Packed) => self.restore(offset, &record)?,
            _ => self.file.cache.buffer(bytes),
        };
        if kept {
            self.file.keep(place, &record);
        }
        self.value_in(&record, offset, key, value_len)
    }

    /// As load_value, cut to `range`. A long value that is not compressed is not verified, and
    /// nothing else of it is read.
    pub(super) fn load_part(
        &self,
        offset: u64,
        key: &[u8],
        value_len: u32,
        range: Range<usize>,
    ) -> Result<Bytes<'_>> {
        let place = self.place_of(offset)?;
        let whole = || {
            let mut value = self.load_value(offset, key, value_len, true)?;
            value.cut(range.clone());
            Ok(value)
        };
        if record_len(key.len(), value_len) < LONG || self.file.cached(place).is_some() {
            return whole();
        }
        self.checked_len(offset, place, key, value_len)?;
        let start = RECORD_HEADER_LEN + key.len();
        let head = self.file.read(place, start)?;
        let (kind, stored_len, _) =
            RawRecord::lengths(&head).ok_or_else(|| self.not_pointed(offset))?;
        let named = head.get(RECORD_HEADER_LEN..) == Some(key) && has_key_len(&head, key.len());
        if !named || stored_len != u64::from(value_len) {
            return Err(self.not_pointed(offset));
        }
        match Kind::from_u8(kind) {
            Some(Kind::Put) => {
                let end = range.end.min(value_len as usize);
                let from = range.start.min(end);
                let part = self.file.read(place + (start + from) as u64, end - from)?;
                let len = part.len();
                Ok(Bytes::Shared(self.file.cache.buffer(part).part(0..len)))
            }
            Some(Kind::Packed) => whole(),
            _ => Err(self.not_pointed(offset)),
        }
    }

    /// The length of a record that is to lie at `place`.
    fn checked_len(&self, offset: u64, place: u64, key: &[u8], value_len: u32) -> Result<usize> {
        let len = record_len(key.len(), value_len);
        let end = place.checked_add(len).filter(|end| *end <= self.identity().size_bytes);
        let aligned = place.is_multiple_of(8) && place >= SEGMENT_HEADER_LEN as u64;
        match end.filter(|_| aligned).and_then(|_| usize::try_from(len).ok()) {
            Some(len) => Ok(len),
            None => Err(self.not_pointed(offset)),
        }
    }

    /// The value in a record as the cache has it.
    fn value_in(
        &self,
        bytes: &Buffer,
        offset: u64,
        key: &[u8],
        value_len: u32,
    ) -> Result<Bytes<'static>> {
        let record = RawRecord::decode(bytes).ok_or_else(|| self.not_pointed(offset))?;
        // How long the stored form was of one that is decompressed now was checked before.
        let right = match Kind::from_u8(record.kind) {
            Some(Kind::Put) => record.value.len() == value_len as usize,
            Some(Kind::Packed) => true,
            _ => false,
        };
        if !right || record.key != key {
            return Err(self.not_pointed(offset));
        }
        let start = RECORD_HEADER_LEN + key.len();
        Ok(Bytes::Shared(bytes.part(start..start + record.value.len())))
    }

    /// The value of a mapped record whose stored form is compressed, from the cache if it has it.
    #[cold]
    pub(super) fn restored_value(
        &self,
        offset: u64,
        place: u64,
        record: &RawRecord<'_>,
        kept: bool,
    ) -> Result<Bytes<'static>> {
        let (key, len) = (record.key, record.value.len() as u32);
        if let Some(cached) = self.file.cached(place) {
            return self.value_in(&cached, offset, key, len);
        }
        let restored = self.restore(offset, record)?;
        if kept {
            self.file.keep(place, &restored);
        }
        self.value_in(&restored, offset, key, len)
    }

    /// A record with its value decompressed.
    fn restore(&self, offset: u64, record: &RawRecord<'_>) -> Result<Buffer> {
        let mut bytes = unpack_behind(RECORD_HEADER_LEN + record.key.len(), record.value)
            .ok_or_else(|| self.not_restored(offset))?;
        let (head, value) = bytes.split_at_mut(RECORD_HEADER_LEN + record.key.len());
        record.put_head(value.len() as u32, head);
        Ok(self.file.cache.buffer(bytes))
    }
}

/// Whether a record's header says that its key is so long.
fn has_key_len(head: &[u8], len: usize) -> bool {
    let [.., k0, k1, k2, _] = *head.first_chunk::<RECORD_HEADER_LEN>().unwrap_or(&[0; 12]);
    u32::from_le_bytes([k0, k1, k2, 0]) as usize == len
}
