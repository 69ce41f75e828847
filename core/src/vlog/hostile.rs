//! For tests (layer L3): segments whose bytes were changed on purpose and whose checksums say
//! otherwise. Replay and readers have to live with them.

use std::path::Path;
use std::sync::Arc;

use super::format::{
    FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, MAGIC, MAP_PAGE_ENTRIES, PAGE, REWRITTEN_MAGIC,
    RawRecord, RewrittenHeader, SEGMENT_HEADER_LEN, SegmentIdentity, fold, record_checksum,
};
use super::open::OpenFor;
use super::segment::Segment;
use super::values::{Source, for_each_value};
use super::{record_len, replay};
use crate::cache::FileAccess;
use crate::checksum::{checksum64, mix64};
use crate::coding::Decoder;
use crate::fs::{FileSystem, sim::SimDisk};
use crate::types::SegmentId;

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| Decoder::new(rest).u64()).unwrap_or(0)
}

fn store(bytes: &mut [u8], at: usize, word: u64) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = word.to_le_bytes();
    }
}

/// Makes every checksum of a segment right, rewritten or not, that the rest leaves a place for.
pub(crate) fn mend(bytes: &mut [u8]) {
    if bytes.len() < SEGMENT_HEADER_LEN {
        return;
    }
    if bytes.starts_with(&MAGIC) {
        mend_frames(bytes);
    } else if bytes.starts_with(&REWRITTEN_MAGIC) {
        mend_rewritten(bytes);
    }
    let sum = checksum64(&bytes[..SEGMENT_HEADER_LEN - 8], 0);
    store(bytes, SEGMENT_HEADER_LEN - 8, sum);
}

/// Frames one behind the other, each chained to the one before.
fn mend_frames(bytes: &mut [u8]) {
    let (id, salt) = (word(bytes, 16), word(bytes, 24));
    let mut at = FIRST_FRAME as usize;
    let mut previous = None;
    while let Some(head) = bytes.get(at..).and_then(|rest| rest.get(..FRAME_HEADER_LEN)) {
        let (payload_len, count) = (word(head, 16), word(head, 48) as u32);
        if word(head, 0) != salt {
            break;
        }
        let folded = mend_records(bytes, id, at + FRAME_HEADER_LEN, payload_len, count);
        let header = FrameHeader {
            payload_len,
            first_seqno: word(bytes, at + 24),
            synced_seqno: word(bytes, at + 32),
            previous: previous.unwrap_or_else(|| word(bytes, at + 40)),
            count,
            fold: folded,
        };
        let (encoded, sum) = header.encode(salt, at as u64);
        bytes[at..at + FRAME_HEADER_LEN].copy_from_slice(&encoded);
        previous = Some(sum);
        let end = usize::try_from(payload_len).ok().and_then(|len| len.checked_add(at));
        let Some(end) = end.and_then(|end| end.checked_add(FRAME_HEADER_LEN)) else { break };
        at = end;
    }
}

fn mend_records(bytes: &mut [u8], id: SegmentId, start: usize, len: u64, count: u32) -> u32 {
    let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len));
    let end = end.unwrap_or(usize::MAX).min(bytes.len());
    let (mut at, mut folded) = (start, 0);
    for _ in 0..count {
        let Some((sum, len)) = mend_record(bytes, at, end, id, at as u64) else { break };
        folded = fold(folded, sum);
        at += len;
    }
    folded
}

/// The checksum and the length of the record at `at`, which is mended.
fn mend_record(
    bytes: &mut [u8],
    at: usize,
    end: usize,
    id: SegmentId,
    address: u64,
) -> Option<(u32, usize)> {
    let record = RawRecord::decode(bytes.get(at..end)?)?;
    let (key_len, value_len) = (record.key.len(), record.value.len());
    let covered = bytes.get(at + 4..at + 12 + key_len + value_len)?;
    let sum = record_checksum(covered, id, address);
    bytes.get_mut(at..at + 4)?.copy_from_slice(&sum.to_le_bytes());
    Some((sum, record_len(key_len, value_len as u32) as usize))
}

fn mend_rewritten(bytes: &mut [u8]) {
    let salt = word(bytes, 24);
    let (at, len) = (word(bytes, 48) as usize, word(bytes, 56) as usize);
    let Some(directory) = at.checked_add(len).and_then(|end| bytes.get(at..end)) else { return };
    let directory = directory.to_vec();
    store(bytes, 64, checksum64(&directory, salt));
    let mut from = Decoder::new(&directory);
    let count = from.u64().unwrap_or(0);
    for _ in 0..count {
        if mend_map(bytes, salt, &mut from).is_none() {
            break;
        }
    }
}

fn mend_map(bytes: &mut [u8], salt: u64, from: &mut Decoder<'_>) -> Option<()> {
    let (id, entries, start) = (from.u64()?, from.u64()?, from.u64()?);
    let pages = usize::try_from(entries.div_ceil(MAP_PAGE_ENTRIES as u64)).ok()?;
    from.take(pages.checked_mul(4)?)?;
    for page in 0..pages {
        let offset = usize::try_from(start).ok()?.checked_add(page * PAGE as usize)?;
        let end = offset.checked_add(PAGE as usize)?;
        let pairs = bytes.get(offset + 8..end)?.to_vec();
        for pair in pairs.as_chunks::<8>().0 {
            let pair = u64::from_le_bytes(*pair);
            let (unit, place) = (pair & 0xffff_ffff, (pair >> 32) as usize * 8);
            if place >= SEGMENT_HEADER_LEN && place < bytes.len() {
                mend_record(bytes, place, bytes.len(), id, unit * 8);
            }
        }
        let sum = checksum64(bytes.get(offset + 8..end)?, mix64(salt, offset as u64));
        store(bytes, offset, sum);
    }
    Some(())
}

/// Reads `body` as the frames of a segment, checksums mended: as recovery and as a collection do.
pub(crate) fn read_frames(body: &[u8]) {
    let size_bytes = (SEGMENT_HEADER_LEN + body.len()).next_multiple_of(PAGE as usize) as u64;
    let size_bytes = size_bytes.max(2 * PAGE);
    let identity = SegmentIdentity { id: 9, salt: 0x5A17, db_id: 3, size_bytes };
    let mut bytes = identity.encode();
    bytes.extend_from_slice(body);
    bytes.resize(size_bytes as usize, 0);
    // What is not there cannot be fuzzed: the first frame always has the segment's salt.
    store(&mut bytes, FIRST_FRAME as usize, identity.salt);
    mend(&mut bytes);
    let (disk, path) = (SimDisk::new(), Path::new("000009.vlog"));
    if disk.write_file(path, &bytes).is_err() {
        return;
    }
    let fs: &dyn FileSystem = &disk;
    let access = FileAccess::new(0, false);
    let opened = Segment::open(fs, path, identity, OpenFor::Replay, &access);
    let Ok(segment) = opened else { return };
    let segment = Arc::new(segment);
    let (mut last, mut places) = (0, Vec::new());
    let replayed = replay(&[Arc::clone(&segment)], 0, |record| {
        assert!(record.seqno > last && record.offset.is_multiple_of(8));
        last = record.seqno;
        places.push((record.offset, record.key.to_vec(), record.value.len() as u32));
        Ok(())
    });
    for (offset, key, len) in &places {
        segment.record(*offset).ok();
        segment.pointed_value(*offset, key, *len, true).ok();
        segment.value(*offset, key.len(), *len).ok();
    }
    if let Ok(replayed) = replayed {
        let end = replayed.stopped_at.map_or(0, |stopped| stopped.offset);
        let source = Source { segment: &segment, least_len: 4, end, dead: std::iter::empty() };
        for_each_value(fs, source, &mut |_, _| Ok(())).ok();
    }
}

/// Reads `bytes` as a file of rewritten segments, checksums mended.
pub(crate) fn read_rewritten(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(PAGE as usize).max(2 * PAGE as usize), 0);
    bytes[..8].copy_from_slice(&REWRITTEN_MAGIC);
    let size = bytes.len() as u64;
    store(&mut bytes, 8, 1);
    store(&mut bytes, 40, size);
    mend(&mut bytes);
    let Ok(header) = RewrittenHeader::decode(&bytes[..SEGMENT_HEADER_LEN]) else { return };
    let (disk, path) = (SimDisk::new(), Path::new("000009.vlog"));
    if disk.write_file(path, &bytes).is_err() {
        return;
    }
    let mut segments = Vec::new();
    for direct in [false, true] {
        let access = FileAccess::new(1 << 20, direct);
        segments.extend(Segment::open_rewritten(&disk, path, header.identity, &access));
    }
    for segment in segments.iter().flatten() {
        let source = Source { segment, least_len: 0, end: 0, dead: std::iter::empty() };
        let visit = &mut |unit: u32, record: &[u8]| {
            if let Some(raw) = RawRecord::decode(record) {
                let (offset, len) = (u64::from(unit) * 8, raw.value.len() as u32);
                segment.pointed_value(offset, raw.key, len, true).ok();
                segment.pointed_part(offset, raw.key, len, 5..70_000).ok();
            }
            Ok(())
        };
        for_each_value(&disk, source, visit).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame without records that claims to have so many bytes of them, in a segment of values.
    #[test]
    fn a_frame_that_claims_to_go_on_for_ever_is_refused_by_a_collection() {
        let identity = SegmentIdentity { id: 9, salt: 0x5A17, db_id: 3, size_bytes: 2 * PAGE };
        for payload_len in [u64::MAX, u64::MAX - 7, 1 << 63] {
            let header = FrameHeader {
                payload_len,
                first_seqno: 1,
                synced_seqno: 0,
                previous: 0,
                count: 0,
                fold: 0,
            };
            let mut bytes = identity.encode();
            bytes.extend_from_slice(&header.encode(identity.salt, FIRST_FRAME).0);
            bytes.resize(2 * PAGE as usize, 0);
            let (disk, path) = (SimDisk::new(), Path::new("000009.vlog"));
            disk.write_file(path, &bytes).unwrap();
            let access = FileAccess::new(0, false);
            let segment = Segment::open(&disk, path, identity, OpenFor::Values, &access).unwrap();
            let end = FIRST_FRAME + FRAME_HEADER_LEN as u64 + 8;
            let source = Source { segment: &segment, least_len: 0, end, dead: std::iter::empty() };
            let refused = for_each_value(&disk, source, &mut |_, _| Ok(())).unwrap_err();
            assert_eq!(refused.kind(), crate::error::ErrorKind::Corruption, "{refused}");
        }
    }

    /// A directory whose one map claims to lie at the end of all offsets.
    #[test]
    fn a_map_that_lies_nowhere_is_refused() {
        for start in [u64::MAX, u64::MAX - 4095, 1 << 63] {
            let mut bytes = vec![0; SEGMENT_HEADER_LEN];
            store(&mut bytes, 16, 9);
            store(&mut bytes, 48, SEGMENT_HEADER_LEN as u64);
            store(&mut bytes, 56, 40);
            // One segment: id, 600 records, start; the first addresses of two pages.
            for word in [1, 5, 600, start, 1 << 32 | 1] {
                bytes.extend_from_slice(&u64::to_le_bytes(word));
            }
            read_rewritten(&bytes);
        }
    }
}
