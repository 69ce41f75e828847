//! What was appended comes back.

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::fs::OsFileSystem;

#[test]
fn batches_come_back_in_order_with_their_places() {
    let mut log = TestLog::new(64 << 10);
    log.append(0, &[put(b"a", b"1"), delete(b"b"), put(b"", b"")]);
    log.append(3, &[put(b"key", &[7; 5000])]);
    let empty = log.append_empty(4).unwrap();
    assert_eq!(empty.end - empty.offset, 56);
    log.append_at(100, 4, &[delete(b"after a gap")]);
    let (found, seen) = log.replay().unwrap();
    assert_eq!(seen, log.written);
    assert_eq!(seen[0].seqno, 1);
    assert_eq!(seen[4].seqno, 100);
    let end = LogPosition { segment: 1, offset: log.writer.offset() };
    assert_eq!(found.stopped_at, Some(end));
    assert_eq!((found.frames, found.records), (4, 5));
    assert_eq!((found.last_seqno, found.last_in_log, found.synced_seqno), (100, 100, 4));
    assert_eq!(found.chain, log.writer.chain());
}

#[test]
fn values_are_read_where_the_memtable_says() {
    let mut log = TestLog::new(64 << 10);
    log.append(0, &[put(b"a", b"first"), put(b"bc", &[9; 3000]), put(b"", b"")]);
    let segment = Arc::clone(log.writer.segment());
    let reopened = log.open();
    for seen in &log.written {
        let Entry { key, value, .. } = &seen.entry;
        let len = value.len() as u32;
        assert_eq!(segment.value(seen.offset, key.len(), len).unwrap(), value);
        for segment in [&segment, &reopened[0]] {
            assert_eq!(segment.pointed_value(seen.offset, key, len, true).unwrap()[..], value[..]);
            assert_eq!(segment.pointed_value(seen.offset, key, len, true).unwrap()[..], value[..]);
            let record = segment.record(seen.offset).unwrap();
            assert_eq!((record.kind, record.key, record.value), (Kind::Put, &key[..], &value[..]));
            assert_eq!(record.len, record_len(key.len(), len));
        }
    }
}

#[test]
fn the_chain_leads_through_segments_and_through_one_that_got_nothing() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    log.rotate(8 << 10);
    log.rotate(32 << 10);
    log.append(1, &[put(b"big", &[1; 20_000])]);
    let (found, seen) = log.replay().unwrap();
    assert_eq!(seen, log.written);
    assert_eq!(seen[1].segment_index, 2);
    assert_eq!(found.frames, 3);
    // Without its predecessors the last segment stands alone: they were flushed.
    let (found, seen) = collect(&log.open()[2..], 1).unwrap();
    assert_eq!((seen.len(), found.last_seqno), (1, 2));
}

#[test]
fn a_log_without_frames_and_one_without_segments_are_empty() {
    let log = TestLog::new(8 << 10);
    let (found, seen) = collect(&log.open(), 7).unwrap();
    assert_eq!((seen.len(), found.last_seqno, found.last_in_log), (0, 7, 0));
    assert_eq!(found.stopped_at, Some(LogPosition { segment: 1, offset: FIRST_FRAME }));
    let (found, _) = collect(&[], 7).unwrap();
    assert_eq!((found.stopped_at, found.last_seqno), (None, 7));
}

#[test]
fn frames_longer_than_the_window_and_across_its_end() {
    let mut log = TestLog::new(32 << 20);
    log.append(0, &[put(b"small", b"before")]);
    let big: Vec<u8> = (0..9_000_001u32).map(|n| ((n * 7) >> 3) as u8).collect();
    log.append(0, &[put(b"big", &big), put(b"small", b"within")]);
    let many: Vec<Entry> =
        (0..3000u32).map(|n| put(&n.to_be_bytes(), &vec![n as u8; 1500])).collect();
    log.append(0, &many);
    for n in 0..3000u32 {
        log.append(0, &[put(&n.to_be_bytes(), &vec![n as u8; (n % 1999) as usize])]);
    }
    let (found, seen) = log.replay().unwrap();
    assert_eq!(found.frames, 3003);
    assert!(seen == log.written);
}

#[test]
fn a_segment_is_filled_to_its_end_and_never_beyond() {
    let mut log = TestLog::new(8 << 10);
    let entry = [put(b"k", &[3; 100])];
    let size = FrameSize::of(parts(&entry)).unwrap();
    assert_eq!(size.bytes(), 56 + 120);
    while log.writer.has_room(size) {
        log.append(0, &entry);
    }
    assert!(log.writer.free_bytes() < size.bytes());
    let before = (log.writer.offset(), log.writer.chain(), log.writer.last_seqno());
    let first = log.writer.last_seqno() + 1;
    let error = log.writer.append(size, stamp(first), parts(&entry), |_| panic!()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(before, (log.writer.offset(), log.writer.chain(), log.writer.last_seqno()));
    // The last place is kept for a frame that says how far the log is synced.
    assert!(log.append_empty(before.2).is_some());
    while log.append_empty(before.2).is_some() {}
    assert!(log.writer.offset() <= 8 << 10 && log.writer.free_bytes() == 0);
    let (found, seen) = log.replay().unwrap();
    assert_eq!((seen, found.synced_seqno), (log.written, before.2));
}

#[test]
fn least_segment_size_is_enough_and_not_more() {
    for len in [0, 1, 3900, 3908, 3912, 3913, 3920, 100_000] {
        let entry = [put(b"k", &vec![5; len])];
        let size = FrameSize::of(parts(&entry)).unwrap();
        let mut log = TestLog::new(size.least_segment_size());
        log.append(0, &entry);
        assert!(log.append_empty(1).is_some());
        assert_eq!(log.replay().unwrap().1, log.written);
        assert!(log.writer.free_bytes() < 4096);
    }
}

#[test]
fn numbers_that_do_not_ascend_are_refused_and_change_nothing() {
    let mut log = TestLog::new(8 << 10);
    log.append_at(10, 0, &[put(b"a", b"1"), put(b"b", b"2")]);
    let entry = [put(b"c", b"3")];
    let size = FrameSize::of(parts(&entry)).unwrap();
    let offset = log.writer.offset();
    for (first, synced) in [(0, 0), (10, 0), (11, 0), (1 << 56, 0), (u64::MAX, 0), (12, 12)] {
        let stamp = Stamp { synced_seqno: synced, ..stamp(first) };
        let error = log.writer.append(size, stamp, parts(&entry), |_| panic!());
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Misuse, "{first} {synced}");
    }
    let nothing = FrameSize::of(parts(&[])).unwrap();
    let error = log.writer.append(nothing, stamp(12), parts(&[]), |_| panic!()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert!(log.writer.append_empty(12, Store::Map).is_err());
    assert_eq!(log.writer.offset(), offset);
    log.append_at((1 << 56) - 1, 11, &entry);
    assert_eq!(log.replay().unwrap().1, log.written);
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let mut log = TestLog::new(8 << 10);
    let at = log.append_at(5, 0, &[put(b"ab", b"xyz"), delete(b"q")]);
    let second = log.append(6, &[put(b"", b"")]);
    let bytes = log.bytes(1);
    let word = |at: u64| u64::from_le_bytes(bytes[at as usize..][..8].try_into().unwrap());
    let id = identity(1, 8 << 10);
    assert_eq!(&bytes[..16], b"toykvlog\x01\0\0\0\0\0\0\0");
    assert_eq!([word(16), word(24), word(32), word(40)], [1, id.salt, DB_ID, 8192]);
    assert!(bytes[48..4088].iter().all(|&byte| byte == 0));
    assert_eq!((at.segment, at.offset, at.end, at.last_seqno), (1, 4096, 4096 + 56 + 24 + 16, 6));
    assert_eq!(word(4096), id.salt);
    assert_eq!([word(4112), word(4120), word(4128), word(4136)], [40, 5, 0, 0]);
    assert_eq!(bytes[4144..4148], [2, 0, 0, 0]);
    assert_eq!(bytes[4156..4176], *b"\x03\0\0\0\x03\0\0\x01\0abxyz\0\0\0\0\0\0");
    assert_eq!(bytes[4180..4192], *b"\0\0\0\0\x02\0\0\x02\0q\0\0");
    assert_eq!(second.offset, 4192);
    assert_eq!([word(4192 + 24), word(4192 + 32), word(4192 + 40)], [7, 6, word(4104)]);
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry =
        (any::<bool>(), 0..40usize, 0..3000usize, any::<u8>()).prop_map(|(del, k, v, b)| {
            if del { delete(&vec![b; k]) } else { put(&vec![b; k], &vec![b ^ 0x55; v]) }
        });
    prop::collection::vec(entry, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn batches_of_any_size_over_several_segments(
        batches in prop::collection::vec((entries(), 0..3u64, any::<bool>()), 1..40),
    ) {
        let mut log = TestLog::new(16 << 10);
        for (batch, gap, empty) in &batches {
            let size = FrameSize::of(parts(batch)).unwrap();
            if !log.writer.has_room(size) {
                log.rotate(size.least_segment_size().max(16 << 10));
            }
            let last = log.writer.last_seqno();
            log.append_at(last + 1 + gap, last, batch);
            if *empty {
                log.append_empty(last);
            }
        }
        let (found, seen) = log.replay().unwrap();
        prop_assert_eq!(&seen, &log.written);
        prop_assert_eq!(found.last_seqno, log.writer.last_seqno());
        prop_assert_eq!(found.chain, log.writer.chain());
    }
}

#[test]
fn pages_touched_ahead_never_replace_what_was_written() {
    let mut log = TestLog::new(8 << 20);
    log.store = Store::Write;
    while log.writer.offset() < 2_500_000 {
        log.append(0, &[put(b"written", &vec![7; 200_000])]);
    }
    log.store = Store::Map;
    log.append(0, &[put(b"mapped", b"1")]);
    log.writer.segment().prepare_window().unwrap();
    log.store = Store::Write;
    while log.writer.offset() < 4_200_000 {
        log.append(0, &[put(b"written", &vec![8; 100_000])]);
    }
    log.append(0, &[put(b"long", &vec![9; 3_000_000])]);
    log.store = Store::Map;
    log.append(0, &[put(b"mapped", b"2")]);
    assert!(log.replay().unwrap().1 == log.written);
}

#[test]
fn windows_of_the_operating_system() {
    for (prefill, ahead) in
        [(Prefill::Window, true), (Prefill::Window, false), (Prefill::All, false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let identity = identity(1, (8 << 20) + 4096);
        let path = dir.path().join("1.vlog");
        let segment = Segment::create(&OsFileSystem, &path, identity, prefill, &access());
        let segment = segment.unwrap();
        let mut writer = LogWriter::new(Arc::new(segment), 0, 0).unwrap();
        let (mut offsets, mut windows) = (Vec::new(), 0);
        let value = |n: u64| vec![n as u8; (n * n % 5000) as usize];
        loop {
            let n = offsets.len() as u64;
            let entry = [put(&n.to_be_bytes(), &value(n))];
            let size = FrameSize::of(parts(&entry)).unwrap();
            if !writer.has_room(size) {
                break;
            }
            let store = if n.is_multiple_of(7) { Store::Write } else { Store::Map };
            let stamp = Stamp { store, ..stamp(n + 1) };
            writer
                .append(size, stamp, parts(&entry), |record| offsets.push(record.offset))
                .unwrap();
            if writer.wants_window() {
                windows += 1;
                if ahead {
                    writer.segment().prepare_window().unwrap();
                }
            }
        }
        assert_eq!(windows, 4);
        let opened = Segment::open(&OsFileSystem, &path, identity, OpenFor::Replay, &access());
        let opened = opened.unwrap();
        let (_, seen) = collect(&[Arc::new(opened)], 0).unwrap();
        assert_eq!(seen.len(), offsets.len());
        for (n, (seen, offset)) in (0u64..).zip(seen.iter().zip(&offsets)) {
            assert_eq!((seen.offset, seen.seqno), (*offset, n + 1));
            assert!(seen.entry == put(&n.to_be_bytes(), &value(n)));
            let found = writer.segment().value(*offset, 9, seen.entry.value.len() as u32);
            assert!(found.unwrap() == value(n));
        }
    }
}
