//! Checking the log while it is written (layer L3).

use super::format::{FIRST_FRAME, FRAME_HEADER_LEN, FrameHeader, RECORD_HEADER_LEN, RawRecord};
use super::segment::Segment;
use super::values::Pieces;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::types::SeqNo;

/// Reads the frames of a segment of the log up to the one with sequence number `upto`, which must
/// have been published, and checks their records; answers how many are intact. Damage goes to
/// `damage`; the first error of `read`, which is told of bytes, ends it. The file is read with
/// `pread`: what lies behind that frame may be changing.
pub(crate) fn check_log(
    fs: &dyn FileSystem,
    segment: &Segment,
    upto: SeqNo,
    read: &mut dyn FnMut(u64) -> Result<()>,
    damage: &mut dyn FnMut(Error),
) -> Result<u64> {
    let mut pieces = Pieces::open(fs, segment)?;
    let (mut at, mut intact) = (FIRST_FRAME, 0);
    loop {
        let bytes = pieces.get(at, FRAME_HEADER_LEN as u64)?;
        let header = bytes.and_then(|b| FrameHeader::decode(b, segment.identity().salt, at));
        let Some((header, _)) = header else {
            let what = format!("the log breaks off here before sequence number {upto}");
            damage(segment.corrupt(at, what));
            return Ok(intact);
        };
        let start = at + FRAME_HEADER_LEN as u64;
        let end = start.saturating_add(header.payload_len);
        let mut place = start;
        for _ in 0..header.count {
            let Some(len) = check_record(&mut pieces, segment, place, end)? else {
                damage(segment.corrupt(place, "a record of the log is damaged"));
                break;
            };
            intact += 1;
            place += len;
        }
        read(end.min(segment.identity().size_bytes).saturating_sub(at))?;
        if header.first_seqno.saturating_add(u64::from(header.count)) > upto {
            return Ok(intact);
        }
        at = end;
    }
}

/// The length of an intact record.
fn check_record(
    pieces: &mut Pieces,
    segment: &Segment,
    place: u64,
    end: u64,
) -> Result<Option<u64>> {
    let Some(header) = pieces.get(place, RECORD_HEADER_LEN as u64)? else { return Ok(None) };
    let Some((_, _, len)) = RawRecord::lengths(header) else { return Ok(None) };
    if place.saturating_add(len) > end {
        return Ok(None);
    }
    let Some(bytes) = pieces.get(place, len)? else { return Ok(None) };
    let record = RawRecord::decode(bytes);
    Ok(record.filter(|own| own.is_intact(segment.id(), place)).map(|own| own.len()))
}
