//! What no writer has written, or no table points to, is refused with its place.

use std::ops::ControlFlow;

use super::super::segment::LONG;
use super::*;
use crate::error::{Error, ErrorKind};
use crate::key::MAX_ENCODED_KEY_LEN;
use crate::types::SegmentId;

const OTHER: &str = "record is not the one that a table points to";

fn says(error: &Error, id: SegmentId, offset: u64, what: &str) {
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert_eq!(error.path(), Some(&*path(id)), "{error}");
    assert_eq!(error.offset(), Some(offset), "{error}");
    assert!(error.to_string().contains(what), "{error} does not say {what:?}");
}

/// Segment 1 with a short value, a delete and a long value, mapped, and read directly.
fn both_ways(log: &mut TestLog) -> [Segment; 2] {
    let long = vec![7; LONG as usize];
    log.append(0, &[put(b"a", &[1; 100]), delete(b"b"), put(b"c", &long)]);
    let mapped = open(&log.disk, log.ids[0], OpenFor::Values).unwrap();
    let direct = open(&log.disk, log.ids[0], OpenFor::Values).unwrap();
    let direct = direct.directly(&log.disk).unwrap();
    [mapped, direct]
}

#[test]
fn a_batch_with_a_key_beyond_the_limit_has_no_size() {
    let key = vec![0; MAX_ENCODED_KEY_LEN + 1];
    let size = |key| FrameSize::of([(Kind::Put, key, &b""[..])].into_iter());
    assert!(size(&key[1..]).is_ok());
    let error = size(&key).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("key is beyond the limits of the log"), "{error}");
}

#[test]
fn a_pointer_with_another_key_length_or_place_is_refused_mapped_and_direct() {
    let mut log = TestLog::new(256 << 10);
    let segments = both_ways(&mut log);
    let [short, deleted, long] = [0, 1, 2].map(|index| log.written[index].offset);
    let end = log.ids[0].size_bytes;
    for segment in &segments {
        for (offset, key, len) in [(short, b"\0a", 100), (long, b"\0c", LONG as u32)] {
            let value = segment.pointed_value(offset, key, len, false).unwrap();
            assert_eq!(value.len(), len as usize);
            let part = segment.pointed_part(offset, key, len, 3..9).unwrap();
            assert_eq!(part.len(), 6);
            for (offset, key, len) in [
                (offset, b"\0x", len),
                (offset, key, len - 1),
                (offset, key, len + 1),
                (end - 8, key, len),
            ] {
                let error = segment.pointed_value(offset, key, len, false).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                let error = segment.pointed_part(offset, key, len, 3..9).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            }
            let error = segment.pointed_value(offset, b"\0x", len, false).unwrap_err();
            says(&error, 1, offset, OTHER);
            let error = segment.pointed_part(offset, b"\0x", len, 3..9).unwrap_err();
            says(&error, 1, offset, OTHER);
        }
        let error = segment.pointed_value(deleted, b"\0b", 0, false).unwrap_err();
        says(&error, 1, deleted, OTHER);
    }
}

/// The record of a long value says that it is something else.
#[test]
fn a_part_of_a_long_record_of_a_kind_without_a_value_is_refused() {
    let mut log = TestLog::new(256 << 10);
    let segments = both_ways(&mut log);
    let long = log.written[2].offset;
    assert_eq!(log.bytes(1)[long as usize + 11], Kind::Put as u8);
    log.disk.overwrite(path(1), long + 11, &[Kind::Delete as u8]).unwrap();
    for segment in &segments {
        let error = segment.pointed_part(long, b"\0c", LONG as u32, 3..9).unwrap_err();
        says(&error, 1, long, OTHER);
    }
}

#[test]
fn a_log_that_breaks_off_before_what_was_published_is_told() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1"), put(b"b", b"2")]);
    let segment = open(&log.disk, log.ids[0], OpenFor::Replay).unwrap();
    let (mut damage, mut bytes) = (Vec::new(), 0);
    let mut check = |upto| {
        let mut read = |more| {
            bytes += more;
            Ok(())
        };
        check_log(&log.disk, &segment, upto, &mut read, &mut |error| damage.push(error)).unwrap()
    };
    assert_eq!((check(2), check(3)), (2, 2));
    let [error] = &damage[..] else { panic!("{damage:?}") };
    says(error, 1, log.writer.offset(), "the log breaks off here before sequence number 3");
    assert_eq!(bytes, 2 * (log.writer.offset() - FIRST_FRAME));
}

/// The only record of a segment, forged with these lengths and this kind, and `count` of them said.
fn forged(kind: u8, key_len: u32, value_len: u32, count: u32) -> (TestLog, Segment, u64) {
    let log = TestLog::new(8 << 10);
    let mut record = vec![0; 4];
    record.extend_from_slice(&value_len.to_le_bytes());
    record.extend_from_slice(&(key_len | u32::from(kind) << 24).to_le_bytes());
    record.extend_from_slice(&[7; 20]);
    let header = FrameHeader {
        payload_len: 0,
        first_seqno: 1,
        synced_seqno: 0,
        previous: log.ids[0].salt,
        count,
        fold: 0,
    };
    let frame = forge(&log.ids[0], FIRST_FRAME, header, record);
    let end = FIRST_FRAME + frame.len() as u64;
    log.disk.overwrite(path(1), FIRST_FRAME, &frame).unwrap();
    let segment = open(&log.disk, log.ids[0], OpenFor::Values).unwrap();
    (log, segment, end)
}

fn visit(log: &TestLog, segment: &Segment, end: u64, dead: &[u32]) -> Result<Vec<u32>> {
    let mut units = Vec::new();
    let source = Source { segment, least_len: 1, end, dead: dead.iter().copied() };
    for_each_value(&log.disk, source, &mut |unit, _| {
        units.push(unit);
        Ok(())
    })?;
    Ok(units)
}

#[test]
fn records_that_reach_beyond_the_file_or_are_none_are_not_copied() {
    let first = FIRST_FRAME + FRAME_HEADER_LEN as u64;
    let unit = (first / 8) as u32;
    let (log, segment, end) = forged(Kind::Put as u8, 4, 16, 1);
    assert_eq!(visit(&log, &segment, end, &[]).unwrap(), [unit]);
    let error = visit(&log, &segment, end, &[unit + 1]).unwrap_err();
    says(&error, 1, first + 8, "a dead value that is not here");
    let error = visit(&log, &segment, end + 1, &[]).unwrap_err();
    says(&error, 1, end, "no frame is here");
    for (key_len, value_len) in [(4, u32::MAX), (MAX_ENCODED_KEY_LEN as u32 + 1, 16)] {
        let (log, segment, end) = forged(Kind::Put as u8, key_len, value_len, 1);
        let error = visit(&log, &segment, end, &[]).unwrap_err();
        says(&error, 1, first, "no record of the log is here");
    }
    // Behind the one record there are zeros, each 16 bytes of which look like a delete of nothing.
    let (log, segment, end) = forged(Kind::Put as u8, 4, 16, 1000);
    let error = visit(&log, &segment, end, &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
}

#[test]
fn a_record_of_an_unknown_kind_is_no_record_of_the_log() {
    let first = FIRST_FRAME + FRAME_HEADER_LEN as u64;
    let (_log, segment, _) = forged(0x7F, 4, 16, 1);
    let error = segment.record(first).unwrap_err();
    says(&error, 1, first, "record of a kind that no log has");
    let error = segment.unpack(first, b"\x01not compressed at all").unwrap_err();
    says(&error, 1, first, "a compressed value cannot be decompressed");
}

#[test]
fn after_a_failed_sync_a_value_is_compared_with_its_record() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1234")]);
    let segment = Arc::clone(log.writer.segment());
    let offset = log.written[0].offset;
    // Nobody compares before: the memtable knows the lengths.
    assert_eq!(segment.value(offset, 2, 4).unwrap(), b"1234");
    log.disk.fail(crate::fs::sim::Fault::when(|_| true).on(crate::fs::sim::OpKind::Sync));
    segment.sync().unwrap_err();
    assert_eq!(segment.value(offset, 2, 4).unwrap(), b"1234");
    for (key_len, value_len) in [(1, 4), (2, 3)] {
        let error = segment.value(offset, key_len, value_len).unwrap_err();
        says(&error, 1, offset, "record is not the one that was written");
    }
}

#[test]
fn an_address_that_a_rewritten_segment_does_not_have_is_refused() {
    let mut log = TestLog::new(64 << 10);
    log.append(0, &[put(b"a", &[1; 100]), put(b"b", &[2; 100]), put(b"c", &[3; 100])]);
    let segment = open(&log.disk, log.ids[0], OpenFor::Values).unwrap();
    let [a, b, c] = [0, 1, 2].map(|index| log.written[index].offset);
    let identity = RewrittenIdentity { file: 9, salt: 5, db_id: DB_ID, size_bytes: 0 };
    let mut writer = Rewriter::create(&log.disk, &path(9), identity, false).unwrap();
    let dead = [(b / 8) as u32];
    let end = log.writer.offset();
    let source = Source { segment: &segment, least_len: 1, end, dead: dead.into_iter() };
    let copied = writer.copy(&log.disk, source, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(copied, (2, 2 * record_len(2, 100)));
    let identity = writer.finish().unwrap();
    let moved = Segment::open_rewritten(&log.disk, &path(9), identity, &access()).unwrap();
    let [moved] = &moved[..] else { panic!("{} segments", moved.len()) };
    assert_eq!(&*moved.pointed_value(c, b"\0c", 100, false).unwrap(), &[3; 100]);
    for offset in [b, a - 8, c + 8, 1 << 40] {
        let error = moved.pointed_value(offset, b"\0b", 100, false).unwrap_err();
        says(&error, 9, offset, "no record with this address is in the segment");
    }
}
