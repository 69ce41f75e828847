//! What was damaged, lost or put there by somebody else is never taken for a record.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

/// Frames of one, two and three records and an empty one, in one small segment.
fn small_log() -> TestLog {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    log.append(0, &[put(b"bb", &[2; 1100]), delete(b"a")]);
    log.append(0, &[put(b"c", b"333"), put(b"d", b""), put(b"e", &[5; 70])]);
    log
}

fn is_prefix(log: &TestLog, seen: &[Seen]) -> bool {
    let whole_frames = [0, 1, 3, 6];
    log.written.starts_with(seen) && whole_frames.contains(&seen.len())
}

#[test]
fn a_torn_tail_is_cut_off_and_all_before_it_stays() {
    let log = small_log();
    let bytes = log.bytes(1);
    let end = log.writer.offset() as usize;
    for cut in 4096..=end {
        for filler in [0u8, 0xA5] {
            let mut torn = bytes.clone();
            torn[cut..].fill(filler);
            log.replace(1, &torn);
            let (found, seen) = log.replay().unwrap();
            // A frame is there as soon as the last byte of its last value is.
            let whole = [0, 2, 5].map(|last| {
                let Seen { offset, entry, .. } = &log.written[last];
                *offset as usize + 12 + entry.key.len() + entry.value.len() <= cut
            });
            let expected = [0, 1, 3, 6][whole.iter().filter(|&&whole| whole).count()];
            assert_eq!(seen, log.written[..expected], "{cut}");
            assert_eq!(found.records as usize, expected);
        }
    }
}

#[test]
fn every_bit_of_a_segment() {
    let mut log = small_log();
    log.append_empty(3);
    let bytes = log.bytes(1);
    let (mut refused, mut short, mut whole) = (0, 0, 0);
    for offset in 0..bytes.len() {
        for bit in 0..8 {
            let byte = [bytes[offset] ^ (1 << bit)];
            log.disk.overwrite(path(1), offset as u64, &byte).unwrap();
            let opened = open(&log.disk, log.ids[0], OpenFor::Replay);
            match opened.and_then(|segment| collect(&[Arc::new(segment)], 0)) {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{offset}.{bit}: {error}");
                    assert_eq!(error.path(), Some(&*path(1)));
                    refused += 1;
                }
                Ok((_, seen)) if seen == log.written => whole += 1,
                Ok((_, seen)) => {
                    assert!(is_prefix(&log, &seen), "{offset}.{bit}");
                    short += 1;
                }
            }
        }
        log.disk.overwrite(path(1), offset as u64, &bytes[offset..=offset]).unwrap();
    }
    assert!(refused > 4096 * 8 && short > 0 && whole > 0, "{refused} {short} {whole}");
}

#[test]
fn every_length_of_a_file() {
    let log = small_log();
    let size = log.ids[0].size_bytes;
    let bytes = log.bytes(1);
    for len in (0..size).chain([size + 1, size * 2]) {
        let disk = SimDisk::new();
        let mut other = bytes.clone();
        other.resize(len as usize, 0);
        disk.write_file(path(1), &other).unwrap();
        let error = open(&disk, log.ids[0], OpenFor::Replay).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{len}");
        assert_eq!(error.path(), Some(&*path(1)));
    }
}

#[test]
fn a_hole_before_what_was_synced_is_corruption_with_its_place() {
    for synced in [1, 2] {
        let mut log = TestLog::new(8 << 10);
        log.append(0, &[put(b"a", b"1")]);
        let lost = log.append(1, &[put(b"b", b"2")]);
        log.append(1, &[put(b"c", b"3")]);
        log.append(synced, &[put(b"d", b"4")]);
        log.flip(1, lost.offset + 60);
        if synced == 1 {
            // Only the first frame was synced, and that is there.
            let (found, seen) = log.replay().unwrap();
            assert_eq!(seen, log.written[..1]);
            let stopped_at = LogPosition { segment: 1, offset: lost.offset };
            assert_eq!(found.stopped_at, Some(stopped_at));
        } else {
            let error = log.replay().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert_eq!(error.path(), Some(&*path(1)));
            assert_eq!(error.offset(), Some(lost.offset));
            assert!(error.message().contains("synced up to 2"), "{error}");
        }
    }
}

#[test]
fn a_later_segment_proves_that_a_hole_was_synced() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    let lost = log.append(0, &[put(b"b", b"2")]);
    log.rotate(8 << 10);
    log.append(1, &[put(b"c", b"3")]);
    log.rotate(8 << 10);
    log.append(1, &[put(b"d", b"4")]);
    log.append_empty(2);
    log.flip(1, lost.offset + 8);
    let error = log.replay().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corruption, Some(lost.offset)));
    assert_eq!(error.path(), Some(&*path(1)));
}

#[test]
fn a_lost_first_frame_is_missed_unless_tables_hold_it() {
    let mut log = TestLog::new(8 << 10);
    let first = log.append(0, &[put(b"a", b"1")]);
    log.append_empty(1);
    log.append(1, &[put(b"b", b"2")]);
    log.flip(1, first.offset + 24);
    let error = log.replay().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corruption, Some(FIRST_FRAME)));
    let (found, seen) = collect(&log.open(), 1).unwrap();
    assert_eq!((seen.len(), found.last_seqno), (0, 1));
}

#[test]
fn a_number_given_to_a_batch_outside_the_log_is_not_missed() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    // 2 to 20 went into tables; the log is synced up to its last record.
    let synced = log.writer.last_seqno();
    let lost = log.append_at(21, synced, &[put(b"b", b"2")]);
    log.append(synced, &[put(b"c", b"3")]);
    log.flip(1, lost.offset + 56);
    assert_eq!(log.replay().unwrap().1, log.written[..1]);
}

#[test]
fn nothing_behind_a_hole_is_replayed_from_the_next_segment() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    let lost = log.append(0, &[put(b"b", b"2")]);
    log.rotate(8 << 10);
    log.append(0, &[put(b"c", b"3")]);
    let bytes = log.bytes(1);
    // The frame torn, the frame gone as if it had never been written, the first frame gone.
    for (from, to) in [(lost.end - 8, lost.end), (lost.offset, 8192), (FIRST_FRAME, 8192)] {
        let mut torn = bytes.clone();
        torn[from as usize..to as usize].fill(0);
        log.replace(1, &torn);
        let (found, seen) = log.replay().unwrap();
        let left = usize::from(from > FIRST_FRAME);
        assert_eq!(seen, log.written[..left], "{from}");
        let offset = if left == 1 { lost.offset } else { FIRST_FRAME };
        assert_eq!(found.stopped_at, Some(LogPosition { segment: 1, offset }));
    }
    // The second segment lost its first frame: the first one still counts.
    log.replace(1, &bytes);
    log.flip(2, FIRST_FRAME);
    let (found, seen) = log.replay().unwrap();
    assert_eq!(seen, log.written[..2]);
    assert_eq!(found.stopped_at, Some(LogPosition { segment: 1, offset: lost.end }));
}

#[test]
fn a_segment_missing_in_the_middle_ends_the_log() {
    let mut log = TestLog::new(8 << 10);
    for n in 0..3 {
        log.append(0, &[put(b"k", &[n])]);
        log.rotate(8 << 10);
    }
    let segments = log.open();
    let without = [0, 2, 3].map(|index| Arc::clone(&segments[index]));
    let (_, seen) = collect(&without, 0).unwrap();
    assert_eq!(seen, log.written[..1]);
    let swapped = [0, 2, 1, 3].map(|index| Arc::clone(&segments[index]));
    assert_eq!(collect(&swapped, 0).unwrap().1, log.written[..1]);
}

#[test]
fn a_frame_of_another_segment_is_not_taken() {
    let mut log = TestLog::new(8 << 10);
    let frame = log.append(0, &[put(b"a", b"1")]);
    log.rotate(8 << 10);
    log.append(0, &[put(b"b", b"2")]);
    let (first, mut second) = (log.bytes(1), log.bytes(2));
    second[4096..].fill(0);
    let range = frame.offset as usize..frame.end as usize;
    second[range.clone()].copy_from_slice(&first[range.clone()]);
    log.replace(2, &second);
    assert_eq!(log.replay().unwrap().1, log.written[..1]);
    assert!(collect(&log.open()[1..], 0).unwrap().1.is_empty());
    // Nor with the salt mended: the frame's checksum is of its salt, the record's of its segment.
    second[4096..4104].copy_from_slice(&log.ids[1].salt.to_le_bytes());
    log.replace(2, &second);
    assert!(collect(&log.open()[1..], 0).unwrap().1.is_empty());
    // Nor with the whole header made anew: the record is of another segment.
    let (header, _) =
        FrameHeader::decode(&first[range.clone()], log.ids[0].salt, FIRST_FRAME).unwrap();
    second[4096..4152].copy_from_slice(&header.encode(log.ids[1].salt, FIRST_FRAME).0);
    log.replace(2, &second);
    assert!(collect(&log.open()[1..], 0).unwrap().1.is_empty());
    // A frame of this segment at another place is not taken either.
    let mut moved = first.clone();
    moved[4096..].fill(0);
    moved[4104..][..range.len()].copy_from_slice(&first[range]);
    log.replace(1, &moved);
    assert!(collect(&log.open()[..1], 0).unwrap().1.is_empty());
}

#[test]
fn a_moved_frame_is_not_taken() {
    let mut log = TestLog::new(8 << 10);
    let first = log.append(0, &[put(b"a", b"1")]);
    let empty = log.append_empty(0).unwrap();
    let mut bytes = log.bytes(1);
    bytes.copy_within(empty.offset as usize..empty.end as usize, first.offset as usize);
    log.replace(1, &bytes);
    assert_eq!(log.replay().unwrap().0.frames, 0);
}

#[test]
fn a_frame_whose_records_are_not_those_it_was_made_of_is_not_taken() {
    let mut log = TestLog::new(8 << 10);
    let frame = log.append(0, &[put(b"a", b"1")]);
    let mut bytes = log.bytes(1);
    let salt = log.ids[0].salt;
    let (header, _) = FrameHeader::decode(&bytes[4096..], salt, frame.offset).unwrap();
    for (fold, frames) in [(header.fold ^ 1, 0), (header.fold, 1)] {
        let (head, _) = FrameHeader { fold, ..header }.encode(salt, frame.offset);
        bytes[4096..4152].copy_from_slice(&head);
        log.replace(1, &bytes);
        assert_eq!(log.replay().unwrap().0.frames, frames);
    }
}

#[test]
fn a_moved_record_is_not_taken() {
    let mut log = TestLog::new(16 << 10);
    let frame = log.append(0, &[put(b"a", &[1; 2000]), put(b"b", &[2; 2000])]);
    let offsets = [log.written[0].offset as usize, log.written[1].offset as usize];
    let len = offsets[1] - offsets[0];
    let mut bytes = log.bytes(1);
    let (first, second) = bytes[offsets[0]..][..2 * len].split_at_mut(len);
    first.swap_with_slice(second);
    log.replace(1, &bytes);
    let segments = log.open();
    let (found, seen) = collect(&segments, 0).unwrap();
    assert!(seen.is_empty());
    assert_eq!(found.stopped_at.unwrap().offset, frame.offset);
    for offset in offsets {
        for key in [b"\0a", b"\0b"] {
            let error = segments[0].pointed_value(offset as u64, key, 2000, true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corruption);
            assert_eq!(error.offset(), Some(offset as u64));
        }
        assert!(segments[0].record(offset as u64).is_err());
    }
}

#[test]
fn pointed_values_are_verified() {
    let mut log = TestLog::new(16 << 10);
    log.append(0, &[put(b"long", &[1; 2000]), put(b"short", &[2; 100]), delete(b"gone")]);
    for direct in [false, true] {
        verify_pointed(&log, direct);
    }
}

fn verify_pointed(log: &TestLog, direct: bool) {
    let [long, short, gone] = [0, 1, 2].map(|index| log.written[index].offset);
    let open = || {
        let access = FileAccess::new(1 << 20, direct);
        Segment::open(&log.disk, &path(1), log.ids[0], OpenFor::Values, &access).unwrap()
    };
    let segment = open();
    assert!(segment.pointed_value(long, b"\0long", 2000, true).is_ok());
    assert!(segment.pointed_value(short, b"\0short", 100, true).is_ok());
    let wrong: [(u64, &[u8], u32); 9] = [
        (long, b"\0lonG", 2000),
        (long, b"\0long", 1999),
        (gone, b"\0gone", 0),
        (short, b"\0long", 2000),
        (long + 8, b"\0long", 2000),
        (long + 1, b"\0long", 2000),
        (16 << 10, b"\0long", 2000),
        (u64::MAX, b"\0long", 2000),
        (0, b"", 0),
    ];
    for (offset, key, len) in wrong {
        let error = segment.pointed_value(offset, key, len, true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption, "{offset}");
        assert_eq!(error.path(), Some(&*path(1)));
    }
    assert_eq!(segment.value(16 << 10, 1, 1).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(segment.value(u64::MAX - 5, 1, 1).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(segment.value(long, 1, u32::MAX).unwrap_err().kind(), ErrorKind::Corruption);
    for (offset, key, len) in [(long, &b"\0long"[..], 2000), (short, b"\0short", 100)] {
        for at in [0, 4, 8, 11, 12, 40] {
            log.flip(1, offset + at);
            assert!(open().pointed_value(offset, key, len, true).is_err(), "{offset} {at}");
            log.flip(1, offset + at);
        }
    }
}

#[test]
fn a_record_is_not_trusted_because_its_neighbour_was_verified() {
    let mut log = TestLog::new(16 << 10);
    log.append(0, &[put(b"s", &[1; 200]), put(b"t", &[2; 200]), put(b"long", &[3; 2000])]);
    let [s, t, long] = [0, 1, 2].map(|index| log.written[index].offset);
    assert_eq!(s >> 10, long >> 10);
    let segment = open(&log.disk, log.ids[0], OpenFor::Values).unwrap();
    segment.pointed_value(s, b"\0s", 200, true).unwrap();
    segment.pointed_value(long, b"\0long", 2000, true).unwrap();
    log.flip(1, t + 30);
    assert_eq!(segment.record(t).unwrap_err().kind(), ErrorKind::Corruption);
    let error = segment.pointed_value(t, b"\0t", 200, true).unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corruption, Some(t)));
    // A long one is verified once.
    log.flip(1, long + 30);
    assert!(segment.pointed_value(long, b"\0long", 2000, true).is_ok());
    assert_eq!(segment.record(long).unwrap_err().kind(), ErrorKind::Corruption);
}

#[test]
fn another_segment_in_the_place_is_named() {
    let log = small_log();
    let id = log.ids[0];
    let others = [
        (SegmentIdentity { id: 2, ..id }, "number"),
        (SegmentIdentity { salt: 2, ..id }, "salt"),
        (SegmentIdentity { db_id: 2, ..id }, "database"),
        (SegmentIdentity { size_bytes: 16384, ..id }, "8192 bytes, not 16384"),
    ];
    for (other, word) in others {
        let opened = Segment::open(&log.disk, &path(1), other, OpenFor::Values, &access());
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.message().contains(word), "{error}");
    }
    let error = open(&log.disk, SegmentIdentity { id: 9, ..id }, OpenFor::Replay).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption);
    assert_eq!(error.path(), Some(&*path(9)));
    assert!(error.message().contains("missing"), "{error}");
}

#[test]
fn a_newer_format_is_named_and_not_called_damage() {
    let log = small_log();
    let mut bytes = log.bytes(1);
    bytes[8] = 2;
    let sum = crate::checksum::checksum64(&bytes[..4088], 0);
    bytes[4088..4096].copy_from_slice(&sum.to_le_bytes());
    log.replace(1, &bytes);
    let error = open(&log.disk, log.ids[0], OpenFor::Replay);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedFormat);
    assert!(error.message().contains("format version 2"), "{error}");
    assert!(error.message().contains("reads 1"), "{error}");
}

/// What replay says to a first frame with one record with these first 12 bytes and this rest.
fn replay_forged(first_seqno: u64, count: u32, head: (u32, u32, u8), rest: &[u8]) -> Result<u64> {
    let log = TestLog::new(8 << 10);
    let (value_len, key_len, kind) = head;
    let mut record = vec![0; 4];
    record.extend_from_slice(&value_len.to_le_bytes());
    record.extend_from_slice(&(key_len | u32::from(kind) << 24).to_le_bytes());
    record.extend_from_slice(rest);
    let header =
        FrameHeader { payload_len: 0, first_seqno, synced_seqno: 0, previous: 77, count, fold: 0 };
    let mut bytes = log.bytes(1);
    let frame = forge(&log.ids[0], FIRST_FRAME, header, record);
    bytes[4096..][..frame.len()].copy_from_slice(&frame);
    log.replace(1, &bytes);
    log.replay().map(|(found, _)| found.records)
}

#[test]
fn intact_nonsense_is_refused_or_ignored() {
    assert_eq!(replay_forged(1, 1, (1, 2, 1), b"\0kv").unwrap(), 1);
    // Lengths and counts that claim more than there is.
    for head in [(u32::MAX, 2, 1), (1, 0x00FF_FFFF, 1), (1, 65_541, 1), (4000, 2, 1)] {
        assert_eq!(replay_forged(1, 1, head, b"\0kv").unwrap(), 0, "{head:?}");
    }
    for count in [0, 2, u32::MAX] {
        assert_eq!(replay_forged(1, count, (1, 2, 1), b"\0kv").unwrap(), 0, "{count}");
    }
    let kind = |result: Result<u64>| result.unwrap_err().kind();
    // Kinds: a pointer, a delete with a value, one of the future.
    assert_eq!(kind(replay_forged(1, 1, (1, 2, 3), b"\0kv")), ErrorKind::Corruption);
    assert_eq!(kind(replay_forged(1, 1, (1, 2, 2), b"\0kv")), ErrorKind::Corruption);
    for future in [0, 4, 5, 255] {
        let found = kind(replay_forged(1, 1, (1, 2, future), b"\0kv"));
        assert_eq!(found, ErrorKind::UnsupportedFormat, "{future}");
    }
    // Compressed values: of no compression, too short, longer than any, and one of the future.
    for value in [&b"\x05\0\0\0\0v"[..], b"\x05\0\0\0", b"\x01\0\0\x01\x01v", b"\x05\0\0\0\x07v"] {
        let found =
            kind(replay_forged(1, 1, (value.len() as u32, 2, 6), &[b"\0k", value].concat()));
        let future = value.get(4) == Some(&7);
        let expected = if future { ErrorKind::UnsupportedFormat } else { ErrorKind::Corruption };
        assert_eq!(found, expected, "{value:?}");
    }
    // Keys without a keyspace.
    assert_eq!(kind(replay_forged(1, 1, (1, 0, 1), b"v")), ErrorKind::Corruption);
    assert_eq!(kind(replay_forged(1, 1, (1, 2, 1), b"\xF0kv")), ErrorKind::Corruption);
    // Sequence numbers.
    for first in [0, 1 << 56, u64::MAX] {
        assert_eq!(kind(replay_forged(first, 1, (1, 2, 1), b"\0kv")), ErrorKind::Corruption);
    }
}

#[test]
fn an_intact_frame_whose_numbers_go_back_is_corruption() {
    let mut log = TestLog::new(8 << 10);
    log.append_at(10, 0, &[put(b"a", b"1")]);
    let at = log.writer.offset();
    let header = FrameHeader {
        payload_len: 0,
        first_seqno: 10,
        synced_seqno: 0,
        previous: log.writer.chain(),
        count: 1,
        fold: 0,
    };
    let record = b"\0\0\0\0\x01\0\0\0\x02\0\0\x01\0kv".to_vec();
    let frame = forge(&log.ids[0], at, header, record);
    let mut bytes = log.bytes(1);
    bytes[at as usize..][..frame.len()].copy_from_slice(&frame);
    log.replace(1, &bytes);
    let error = log.replay().unwrap_err();
    assert_eq!((error.kind(), error.offset()), (ErrorKind::Corruption, Some(at)));
}

#[test]
fn a_copy_of_the_log_within_a_value_proves_nothing() {
    let mut log = TestLog::new(32 << 10);
    log.append(0, &[put(b"a", b"1")]);
    log.append(1, &[put(b"b", b"2")]);
    let copy = log.bytes(1)[4096..6144].to_vec();
    let torn = log.append(1, &[put(b"backup", &copy)]);
    log.flip(1, torn.offset + 100);
    assert_eq!(log.replay().unwrap().1, log.written[..2]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn any_damage_leaves_whole_frames_from_the_start(
        patches in prop::collection::vec(
            (4096..8192usize, prop::collection::vec(any::<u8>(), 1..600)), 1..4),
        zero in any::<bool>(),
        synced in 0..=6u64,
    ) {
        let mut log = small_log();
        log.append_empty(synced);
        let mut bytes = log.bytes(1);
        for (at, patch) in patches {
            for (to, from) in bytes[at..].iter_mut().zip(patch) {
                *to = if zero { 0 } else { from };
            }
        }
        log.replace(1, &bytes);
        match log.replay() {
            Ok((_, seen)) => prop_assert!(is_prefix(&log, &seen)),
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Corruption),
        }
    }
}
