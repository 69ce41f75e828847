//! What fails is said, sticks, and leaves nothing half done.

use super::*;
use crate::error::{Error, ErrorKind};
use crate::fs::sim::{Effect, Fault, OpKind};

/// Everything that an append must not change when it fails.
fn state(log: &TestLog) -> (u64, u64, SeqNo) {
    (log.writer.offset(), log.writer.chain(), log.writer.last_seqno())
}

fn append_fails(log: &mut TestLog, entries: &[Entry], store: Store) -> Error {
    let before = state(log);
    let size = FrameSize::of(parts(entries)).unwrap();
    let stamp = Stamp { store, ..stamp(before.2 + 1) };
    let error = log.writer.append(size, stamp, parts(entries), |_| panic!()).unwrap_err();
    assert_eq!(state(log), before);
    error
}

/// How often the disk was asked to sync segment 1.
fn sync_count(log: &TestLog) -> usize {
    log.disk.trace().iter().filter(|line| line.contains("Sync /1.vlog")).count()
}

#[test]
fn a_window_that_cannot_be_mapped_poisons_the_writer_and_changes_nothing() {
    let mut log = TestLog::new(8 << 20);
    log.append(0, &[put(b"a", b"1")]);
    log.disk.fail(Fault::when(|_| true).on(OpKind::MapWindow).errno(libc::EIO));
    log.append(0, &[put(b"within the window", b"2")]);
    let error = append_fails(&mut log, &[put(b"big", &vec![1; 3 << 20])], Store::Map);
    assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, Some(libc::EIO)));
    for store in [Store::Map, Store::Write] {
        let error = append_fails(&mut log, &[put(b"c", b"3")], store);
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        let error = log.writer.append_empty(0, store).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Poisoned);
    }
    assert_eq!(log.replay().unwrap().1, log.written);
    let segment = log.writer.segment();
    assert_eq!(segment.value(log.written[0].offset, 2, 1).unwrap(), b"1");
}

#[test]
fn a_write_that_fails_poisons_the_writer_and_changes_nothing() {
    for effect in [Effect::Nothing, Effect::Half, Effect::Done] {
        let mut log = TestLog::new(64 << 10);
        log.store = Store::Write;
        log.append(0, &[put(b"a", b"1")]);
        log.disk.fail(Fault::when(|_| true).on(OpKind::Write).effect(effect));
        let error = append_fails(&mut log, &[put(b"b", b"2")], Store::Write);
        assert_eq!(error.kind(), ErrorKind::Io);
        let error = append_fails(&mut log, &[put(b"c", b"3")], Store::Map);
        assert_eq!(error.kind(), ErrorKind::Poisoned);
        let (_, seen) = log.replay().unwrap();
        assert_eq!(seen[0], log.written[0]);
        assert_eq!(seen.len(), if effect == Effect::Done { 2 } else { 1 });
    }
}

#[test]
fn a_disk_that_is_full_for_a_while_poisons_nothing() {
    let mut log = TestLog::new(8 << 20);
    log.append(0, &[put(b"a", b"1")]);
    log.disk.fail(Fault::when(|_| true).on(OpKind::Write).errno(libc::ENOSPC));
    let big = [put(b"big", &vec![1; 3 << 20])];
    assert_eq!(append_fails(&mut log, &big, Store::Map).kind(), ErrorKind::DiskFull);
    log.append(0, &big);
    log.append(0, &[put(b"b", b"2")]);
    assert!(log.replay().unwrap().1 == log.written);
}

#[test]
fn a_failed_sync_is_not_forgotten() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    let segment = Arc::clone(log.writer.segment());
    segment.sync().unwrap();
    log.disk.record_trace(true);
    log.disk.fail(Fault::when(|_| true).on(OpKind::Sync).errno(libc::EIO));
    let error = segment.sync().unwrap_err();
    assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, Some(libc::EIO)));
    for _ in 0..2 {
        let error = segment.sync().unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (ErrorKind::Poisoned, Some(libc::EIO)));
        assert_eq!(error.path(), Some(&*path(1)));
    }
    assert_eq!(sync_count(&log), 1);
    assert_eq!(segment.record(log.written[0].offset).unwrap().value, b"1");
}

#[test]
fn the_descriptor_stays_until_a_sync_after_the_last_append() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    log.writer.segment().sync().unwrap();
    assert!(!log.writer.segment().is_settled());
    let first = log.rotate(8 << 10);
    assert!(!first.is_settled());
    log.disk.record_trace(true);
    first.sync().unwrap();
    assert!(first.is_settled());
    first.sync().unwrap();
    assert_eq!(sync_count(&log), 1);
    assert_eq!(first.value(log.written[0].offset, 2, 1).unwrap(), b"1");
    // A sync that fails settles nothing.
    let second = log.rotate(8 << 10);
    log.disk.fail(Fault::when(|_| true).on(OpKind::Sync));
    second.sync().unwrap_err();
    assert!(!second.is_settled());
    // What replay finds may not have been synced by the process that died: the first sync is real.
    let replayed = open(&log.disk, log.ids[0], OpenFor::Replay).unwrap();
    assert!(!replayed.is_settled());
    replayed.sync().unwrap();
    assert!(replayed.is_settled());
    assert_eq!(sync_count(&log), 2);
    let values = open(&log.disk, log.ids[0], OpenFor::Values).unwrap();
    assert!(values.is_settled());
}

#[test]
fn an_old_segment_is_never_appended_to() {
    let mut log = TestLog::new(8 << 10);
    for purpose in [OpenFor::Replay, OpenFor::Values] {
        let segment = Arc::new(open(&log.disk, log.ids[0], purpose).unwrap());
        let error = LogWriter::new(Arc::clone(&segment), 0, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
        assert_eq!(log.writer.rotate(segment).unwrap_err().kind(), ErrorKind::Misuse);
    }
    let first = log.rotate(8 << 10);
    let error = LogWriter::new(Arc::clone(&first), 0, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(log.writer.rotate(Arc::clone(&first)).unwrap_err().kind(), ErrorKind::Misuse);
    first.prepare_window().unwrap();
    log.append(0, &[put(b"a", b"1")]);
    assert_eq!(log.replay().unwrap().1, log.written);
}

#[test]
fn creating_fails_at_every_step_with_the_disks_own_error() {
    let disk = SimDisk::new();
    create(&disk, identity(1, 64 << 10)).unwrap();
    let steps = disk.operation_count();
    assert!(steps >= 7);
    for step in 0..steps {
        let disk = SimDisk::new();
        disk.fail_at(step, libc::ENOSPC, crate::fs::sim::Times::Once);
        let error = create(&disk, identity(1, 64 << 10)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DiskFull, "{step}");
    }
    let disk = SimDisk::new();
    for size in [0, 1, 4096, 8191, 12_289, (8 << 32) + 4096, u64::MAX] {
        let error = create(&disk, identity(1, size)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{size}");
    }
    assert_eq!(disk.operation_count(), 0);
}

#[test]
fn a_batch_that_is_not_the_measured_one_makes_no_frame() {
    for (measured, given) in [(2, 500), (500, 2)] {
        for store in [Store::Map, Store::Write] {
            let mut log = TestLog::new(8 << 10);
            log.append(0, &[put(b"a", b"1")]);
            let size = FrameSize::of(parts(&[put(b"b", &vec![1; measured])])).unwrap();
            let other = [put(b"b", &vec![2; given])];
            let stamp = Stamp { store, ..stamp(2) };
            let error = log.writer.append(size, stamp, parts(&other), |_| {}).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Misuse);
            let error = log.writer.append_empty(0, Store::Map).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Poisoned);
            assert_eq!(log.replay().unwrap().1, log.written);
        }
    }
}

#[test]
fn an_error_of_the_visitor_ends_the_replay() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1"), put(b"b", b"2")]);
    let mut calls = 0;
    let result = replay(&log.open(), 0, |_| {
        calls += 1;
        Err(Error::new(ErrorKind::NoMemory, "no room"))
    });
    assert_eq!((result.unwrap_err().kind(), calls), (ErrorKind::NoMemory, 1));
}

#[test]
fn replay_writes_nothing() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    log.rotate(8 << 10);
    log.append(0, &[put(b"b", b"2")]);
    let before = log.disk.change_count();
    assert_eq!(log.replay().unwrap().1, log.written);
    let segment = open(&log.disk, log.ids[0], OpenFor::Values).unwrap();
    segment.pointed_value(log.written[0].offset, b"\0a", 1, true).unwrap();
    assert_eq!(log.disk.change_count(), before);
}
