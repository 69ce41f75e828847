//! Making of a frame in memory (layer L3), be that the log's window or a buffer to be written.
//!
//! Invariants: checksums are taken of the copy, so what the caller changes meanwhile cannot make a
//! record that does not verify; the header is stored after the records.

use std::sync::atomic::{Ordering, compiler_fence};

use super::format::{
    FRAME_HEADER_LEN, FrameHeader, RECORD_HEADER_LEN, fold, record_checksum, record_len,
};
use crate::error::{Error, ErrorKind, Result};
use crate::key::MAX_ENCODED_KEY_LEN;
use crate::types::{Kind, SegmentId, SeqNo};

/// What a batch takes in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameSize {
    payload_len: u64,
    count: u32,
}

/// One record that has just been written; the key is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written<'a> {
    /// Its number in the batch, from 0.
    pub(crate) index: u32,
    /// Put, Packed or Delete.
    pub(crate) kind: Kind,
    /// The encoded key.
    pub(crate) key: &'a [u8],
    /// Its sequence number.
    pub(crate) seqno: SeqNo,
    /// Offset of the record in the segment, a multiple of 8.
    pub(crate) offset: u64,
    /// Length of its value, as it is stored.
    pub(crate) value_len: u32,
}

/// Where a frame is to be found later, whatever memory it is made in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) segment: SegmentId,
    pub(super) salt: u64,
    pub(super) offset: u64,
}

impl FrameSize {
    /// The size of a frame without records.
    pub(super) const EMPTY: FrameSize = FrameSize { payload_len: 0, count: 0 };

    /// Measures a batch; TooLarge when a part of it is beyond the limits of the format.
    #[inline]
    pub(crate) fn of<'a>(
        entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])>,
    ) -> Result<FrameSize> {
        let mut size = FrameSize::EMPTY;
        for (_, key, value) in entries {
            let value_len = u32::try_from(value.len()).map_err(|_| too_large("value"))?;
            if key.len() > MAX_ENCODED_KEY_LEN {
                return Err(too_large("key"));
            }
            size.payload_len += record_len(key.len(), value_len);
            size.count = size.count.checked_add(1).ok_or_else(|| too_large("number of entries"))?;
        }
        Ok(size)
    }

    /// Bytes of the frame, its header included.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.payload_len + FRAME_HEADER_LEN as u64
    }

    /// Number of records.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The header of such a frame, its fold still missing.
    #[inline]
    pub(super) fn header(&self, first_seqno: SeqNo, synced: SeqNo, previous: u64) -> FrameHeader {
        let FrameSize { payload_len, count } = *self;
        FrameHeader { payload_len, first_seqno, synced_seqno: synced, previous, count, fold: 0 }
    }
}

/// Fills `frame`, which has room for exactly this header and these entries; answers the frame's
/// checksum, or `None`, without a header, when the entries are not those that were measured.
#[inline]
pub(super) fn fill_frame<'a>(
    frame: &mut [u8],
    place: Place,
    mut header: FrameHeader,
    entries: impl Iterator<Item = (Kind, &'a [u8], &'a [u8])>,
    mut on_record: impl FnMut(Written<'a>),
) -> Option<u64> {
    let (head, mut rest) = frame.split_first_chunk_mut::<FRAME_HEADER_LEN>()?;
    let mut offset = place.offset + FRAME_HEADER_LEN as u64;
    for (index, (kind, key, value)) in (0u32..).zip(entries) {
        let len = record_len(key.len(), value.len() as u32);
        let (record, after) = rest.split_at_mut_checked(len as usize)?;
        let checksum = fill_record(record, kind, key, value, (place.segment, offset))?;
        header.fold = fold(header.fold, checksum);
        let seqno = header.first_seqno + u64::from(index);
        on_record(Written { index, kind, key, seqno, offset, value_len: value.len() as u32 });
        rest = after;
        offset += len;
    }
    if !rest.is_empty() {
        return None;
    }
    let (bytes, checksum) = header.encode(place.salt, place.offset);
    // A process that dies between two stores must not leave the header without the records.
    compiler_fence(Ordering::SeqCst);
    *head = bytes;
    Some(checksum)
}

/// Fills one record, its padding included, and answers its checksum.
#[inline]
fn fill_record(
    record: &mut [u8],
    kind: Kind,
    key: &[u8],
    value: &[u8],
    (segment, offset): (SegmentId, u64),
) -> Option<u32> {
    *record.last_chunk_mut::<8>()? = [0; 8];
    let (head, body) = record.split_first_chunk_mut::<RECORD_HEADER_LEN>()?;
    head[4..8].copy_from_slice(&(value.len() as u32).to_le_bytes());
    head[8..12].copy_from_slice(&(key.len() as u32 | u32::from(kind as u8) << 24).to_le_bytes());
    let (key_copy, body) = body.split_at_mut_checked(key.len())?;
    key_copy.copy_from_slice(key);
    body.get_mut(..value.len())?.copy_from_slice(value);
    let covered = record.get(4..RECORD_HEADER_LEN + key.len() + value.len())?;
    let checksum = record_checksum(covered, segment, offset);
    *record.first_chunk_mut::<4>()? = checksum.to_le_bytes();
    Some(checksum)
}

#[cold]
fn too_large(what: &str) -> Error {
    Error::new(ErrorKind::TooLarge, format!("{what} is beyond the limits of the log"))
}
