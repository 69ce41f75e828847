//! What recovery reads (layer L3): every record of every whole frame, in order, up to the first
//! frame that is not whole.
//!
//! Invariants: what was visited is a prefix of what was appended, across segments; a record is
//! visited only after its whole frame was verified; nothing is written. When something that was
//! known to be durable is missing, the answer is Corruption.

use std::sync::Arc;

use super::format::{FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, RawRecord, fold};
use super::packed;
use super::segment::Segment;
use crate::error::{Error, ErrorKind, Result};
use crate::key;
use crate::planted::planted;
use crate::types::{Kind, MAX_KEY_LEN, MAX_SEQNO, SegmentId, SeqNo};

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogPosition {
    /// The segment.
    pub(crate) segment: SegmentId,
    /// The offset in it.
    pub(crate) offset: u64,
}

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord<'a> {
    /// Which of the segments it is in, from 0.
    pub(crate) segment_index: usize,
    /// Put, Packed or Delete.
    pub(crate) kind: Kind,
    /// The encoded key.
    pub(crate) key: &'a [u8],
    /// The value as it is stored; its length fits in 32 bits.
    pub(crate) value: &'a [u8],
    /// Its sequence number.
    pub(crate) seqno: SeqNo,
    /// Offset of the record in its segment, a multiple of 8.
    pub(crate) offset: u64,
}

/// What a replay found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Replayed {
    /// Where the next frame would have been; `None` when there was no segment.
    pub(crate) stopped_at: Option<LogPosition>,
    /// Sequence number of the last record, or what the caller passed where that is larger.
    pub(crate) last_seqno: SeqNo,
    /// Sequence number of the last record; 0 when there was none.
    pub(crate) last_in_log: SeqNo,
    /// The largest number up to which a frame says that the log is durable.
    pub(crate) synced_seqno: SeqNo,
    /// Number of whole frames, empty ones included.
    pub(crate) frames: u64,
    /// Number of records.
    pub(crate) records: u64,
    /// Checksum of the last frame; 0 when there was none.
    pub(crate) chain: u64,
}

/// Visits the records of `segments`, which are all unflushed ones, oldest first. `flushed_seqno` is
/// the last sequence number that tables hold: what the log held up to there is not missed.
///
/// Corruption when a frame is missing that a later one proves to have been synced, or when whole
/// frames say what no writer writes; what was visited until then is to be thrown away. An error of
/// `visit` ends the replay.
pub(crate) fn replay(
    segments: &[Arc<Segment>],
    flushed_seqno: SeqNo,
    mut visit: impl FnMut(LogRecord<'_>) -> Result<()>,
) -> Result<Replayed> {
    let mut found = Replayed {
        stopped_at: None,
        last_seqno: flushed_seqno,
        last_in_log: 0,
        synced_seqno: 0,
        frames: 0,
        records: 0,
        chain: 0,
    };
    let mut stopped_index = 0;
    for (index, segment) in segments.iter().enumerate() {
        let end = replay_segment(index, segment, &mut found, &mut visit)?;
        if index == 0 || end > FIRST_FRAME {
            stopped_index = index;
            found.stopped_at = Some(LogPosition { segment: segment.id(), offset: end });
        }
        if end == FIRST_FRAME {
            break;
        }
    }
    if let Some(position) = found.stopped_at.filter(|_| !planted("replay: holes are torn ends")) {
        refuse_synced_holes(segments.get(stopped_index..).unwrap_or_default(), position, &found)?;
    }
    Ok(found)
}

/// Visits the frames of one segment as far as they are whole and chain; answers where they end.
fn replay_segment(
    segment_index: usize,
    segment: &Segment,
    found: &mut Replayed,
    visit: &mut impl FnMut(LogRecord<'_>) -> Result<()>,
) -> Result<u64> {
    let mut offset = FIRST_FRAME;
    while let Some(frame) = whole_frame(segment, offset, found)? {
        let first_seqno = frame.header.first_seqno;
        let mut at = offset + FRAME_HEADER_LEN as u64;
        for index in 0..u64::from(frame.header.count) {
            let Some(record) = record_at(segment, at, frame.end) else { break };
            let kind = Kind::from_u8(record.kind).unwrap_or(Kind::Put);
            let RawRecord { key, value, .. } = record;
            let seqno = first_seqno + index;
            visit(LogRecord { segment_index, kind, key, value, seqno, offset: at })?;
            found.last_in_log = seqno;
            at += record.len();
        }
        found.last_seqno = found.last_seqno.max(found.last_in_log);
        found.frames += 1;
        found.records += u64::from(frame.header.count);
        found.chain = frame.checksum;
        found.synced_seqno = found.synced_seqno.max(frame.header.synced_seqno);
        offset = frame.end;
    }
    Ok(offset)
}

struct WholeFrame {
    header: FrameHeader,
    checksum: u64,
    end: u64,
}

/// The frame at `offset` with all its records verified; `None` when it is not whole or does not
/// chain. Corruption when it is and yet cannot have been written.
fn whole_frame(segment: &Segment, offset: u64, found: &Replayed) -> Result<Option<WholeFrame>> {
    let Some((header, checksum)) = segment.frame_header(offset) else { return Ok(None) };
    if found.frames > 0 && header.previous != found.chain && !planted("replay: any chain") {
        return Ok(None);
    }
    let start = offset + FRAME_HEADER_LEN as u64;
    let Some(end) = start.checked_add(header.payload_len) else { return Ok(None) };
    if segment.bytes(start, header.payload_len).is_none() {
        return Ok(None);
    }
    let mut at = start;
    let mut folded = 0;
    for _ in 0..header.count {
        let Some(record) = record_at(segment, at, end) else { return Ok(None) };
        if !record.is_intact(segment.id(), at) && !planted("replay: record unchecked") {
            return Ok(None);
        }
        check_record(segment, at, &record)?;
        folded = fold(folded, record.checksum);
        at += record.len();
    }
    if (at != end || folded != header.fold) && !planted("replay: fold unchecked") {
        return Ok(None);
    }
    check_numbers(segment, offset, &header, found)?;
    Ok(Some(WholeFrame { header, checksum, end }))
}

fn record_at(segment: &Segment, offset: u64, end: u64) -> Option<RawRecord<'_>> {
    let record = RawRecord::decode(segment.bytes(offset, end.checked_sub(offset)?)?)?;
    (record.len() <= end - offset).then_some(record)
}

/// Refuses an intact record that no writer of this version writes.
fn check_record(segment: &Segment, offset: u64, record: &RawRecord<'_>) -> Result<()> {
    match Kind::from_u8(record.kind) {
        Some(Kind::Put) => {}
        Some(Kind::Packed) => check_packed(segment, offset, record)?,
        Some(Kind::Delete) if record.value.is_empty() => {}
        Some(_) => return Err(segment.corrupt(offset, "record that no log has")),
        None => return Err(unknown(segment, "record of kind", record.kind)),
    }
    match key::split(record.key) {
        Some((_, user_key)) if user_key.len() <= MAX_KEY_LEN => Ok(()),
        _ => Err(segment.corrupt(offset, "record with a key that no database has")),
    }
}

/// Refuses a compressed value that no writer of this version makes.
fn check_packed(segment: &Segment, offset: u64, record: &RawRecord<'_>) -> Result<()> {
    match packed::check(record.value) {
        Ok(()) => Ok(()),
        Err(Some(scheme)) => Err(unknown(segment, "value of compression", scheme)),
        Err(None) => Err(segment.corrupt(offset, "compressed value that no log has")),
    }
}

#[cold]
fn unknown(segment: &Segment, what: &str, number: u8) -> Error {
    let path = segment.path().display();
    let text = format!("{path}: {what} {number}, which this version does not know");
    Error::new(ErrorKind::UnsupportedFormat, text)
}

/// Refuses an intact frame whose sequence numbers do not follow those before it.
fn check_numbers(
    segment: &Segment,
    offset: u64,
    header: &FrameHeader,
    found: &Replayed,
) -> Result<()> {
    if header.count == 0 {
        return Ok(());
    }
    let last = header.first_seqno.saturating_add(u64::from(header.count) - 1);
    if header.first_seqno > found.last_in_log && last <= MAX_SEQNO {
        return Ok(());
    }
    let what =
        format!("frame of sequence number {} after {}", header.first_seqno, found.last_in_log);
    Err(segment.corrupt(offset, what))
}

/// Looks behind the place where replay stopped for a frame which says that the log was durable
/// beyond the last record. `segments` starts with the one of `position`.
fn refuse_synced_holes(
    segments: &[Arc<Segment>],
    position: LogPosition,
    found: &Replayed,
) -> Result<()> {
    let mut from = position.offset;
    for segment in segments {
        if let Some((offset, synced)) = find_claim(segment, from, found.last_seqno) {
            let hole = segments.first().unwrap_or(segment);
            let what = format!(
                "the log breaks off here after sequence number {}, but was synced up to {synced}, \
                 as the frame at offset {offset} of segment {} says",
                found.last_seqno,
                segment.id()
            );
            return Err(hole.corrupt(position.offset, what));
        }
        from = FIRST_FRAME;
    }
    Ok(())
}

/// The first frame header from `from` on that says the log was synced beyond `last_seqno`: its
/// offset and what it says. The header is proof enough, its records may be gone too.
fn find_claim(segment: &Segment, from: u64, last_seqno: SeqNo) -> Option<(u64, SeqNo)> {
    let salt = segment.identity().salt.to_le_bytes();
    let rest = segment.bytes(from, segment.identity().size_bytes.checked_sub(from)?)?;
    for (index, word) in rest.chunks_exact(8).enumerate() {
        if word != salt {
            continue;
        }
        let offset = from + index as u64 * 8;
        match segment.frame_header(offset) {
            Some((header, _)) if header.synced_seqno > last_seqno => {
                return Some((offset, header.synced_seqno));
            }
            _ => {}
        }
    }
    None
}
