//! What rules make fail, how often, and what happens all the same.

use super::*;

#[test]
fn an_operation_fails_once_or_for_ever() {
    let disk = disk();
    let file = disk.create(path("/db/f")).unwrap();
    let next = disk.operation_count();
    disk.fail_at(next + 1, libc::ENOSPC, Times::Once);
    file.write_at(b"a", 0).unwrap();
    let error = file.write_at(b"b", 1).unwrap_err();
    assert_eq!((error.kind(), error.os_error()), (ErrorKind::DiskFull, Some(libc::ENOSPC)));
    assert_eq!(error.path(), Some(path("/db/f")));
    assert_eq!(file.size().unwrap(), 1);
    file.write_at(b"b", 1).unwrap();
    assert_eq!(disk.faults_struck(), 1);

    disk.fail_at(disk.operation_count() + 1, libc::EROFS, Times::Forever);
    file.write_at(b"c", 2).unwrap();
    for _ in 0..3 {
        let error = file.write_at(b"d", 3).unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (ErrorKind::ReadOnly, Some(libc::EROFS)));
        assert!(disk.sync_dir(path("/db")).is_err());
        assert!(disk.kind(path("/db")).is_err());
    }
    assert_eq!(disk.faults_struck(), 10);
    disk.clear_faults();
    file.write_at(b"d", 3).unwrap();
    assert_eq!(disk.read_file("/db/f").unwrap(), b"abcd");
}

#[test]
fn every_operation_can_fail_with_any_number() {
    let disk = disk();
    let file = durable(&disk, "/db/f", &[1; 8192]);
    let numbers = [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EINTR, libc::EMFILE, libc::EROFS];
    let run = |kind| match kind {
        OpKind::Inspect => disk.kind(path("/db")).map(drop),
        OpKind::CreateDir => disk.create_dir(path("/db/sub")),
        OpKind::ListDir => disk.list_dir(path("/db")).map(drop),
        OpKind::Create => disk.create(path("/db/new")).map(drop),
        OpKind::Open => disk.open(path("/db/f")).map(drop),
        OpKind::Rename => disk.rename(path("/db/f"), path("/db/g")),
        OpKind::RemoveFile => disk.remove_file(path("/db/f")),
        OpKind::RemoveDir => disk.remove_dir(path("/db")),
        OpKind::SyncDir => disk.sync_dir(path("/db")),
        OpKind::Lock => disk.lock(path("/db/LOCK"), LockKind::Exclusive).map(drop),
        OpKind::Size => file.size().map(drop),
        OpKind::Read => file.read_at(&mut [0], 0),
        OpKind::Write => file.write_at(b"x", 0),
        OpKind::Allocate => file.allocate(10_000),
        OpKind::Sync => file.sync_data(),
        OpKind::Map => file.map(1, Access::Random).map(drop),
        OpKind::MapWindow => file.map_window(0, 4096).map(drop),
    };
    let kinds = [
        OpKind::Inspect,
        OpKind::CreateDir,
        OpKind::ListDir,
        OpKind::Create,
        OpKind::Open,
        OpKind::Rename,
        OpKind::RemoveFile,
        OpKind::RemoveDir,
        OpKind::SyncDir,
        OpKind::Lock,
        OpKind::Size,
        OpKind::Read,
        OpKind::Write,
        OpKind::Allocate,
        OpKind::Sync,
        OpKind::Map,
        OpKind::MapWindow,
    ];
    for kind in kinds {
        for number in numbers {
            disk.fail(Fault::when(|_| true).on(kind).errno(number));
            assert_eq!(run(kind).unwrap_err().os_error(), Some(number), "{kind:?}");
        }
    }
    assert_eq!(disk.files(), [("/db/f".into(), 8192)], "a failure without effect has none");
    assert_eq!(disk.read_file("/db/f").unwrap(), [1; 8192]);
}

#[test]
fn a_rule_can_look_at_the_operation() {
    let disk = disk();
    let (a, b) = (disk.create(path("/db/a.log")).unwrap(), disk.create(path("/db/b")).unwrap());
    let on_logs = |op: &Operation<'_>| op.path.extension().is_some_and(|end| end == "log");
    disk.fail(Fault::when(on_logs).on(OpKind::Sync).forever());
    disk.fail(Fault::when(|op| op.offset >= 4096 && op.len == 2).errno(libc::EDQUOT));
    a.write_at(b"xx", 0).unwrap();
    a.sync_data().unwrap_err();
    b.sync_data().unwrap();
    b.write_at(b"x", 4096).unwrap();
    assert_eq!(b.write_at(b"xx", 4097).unwrap_err().kind(), ErrorKind::DiskFull);
    b.write_at(b"xx", 4097).unwrap();
    a.sync_data().unwrap_err();
    disk.fail(Fault::when(|op| op.to == Some(path("/db/c"))));
    disk.rename(path("/db/b"), path("/db/d")).unwrap();
    disk.rename(path("/db/d"), path("/db/c")).unwrap_err();
}

#[test]
fn the_first_rule_that_fits_decides_until_it_is_spent() {
    let disk = disk();
    disk.fail(Fault::when(|_| true).errno(libc::EIO));
    disk.fail(Fault::when(|_| true).errno(libc::EMFILE));
    let number = || disk.kind(path("/db")).err().and_then(|error| error.os_error());
    assert_eq!(number(), Some(libc::EIO));
    assert_eq!(number(), Some(libc::EMFILE));
    assert_eq!(number(), None);
}

#[test]
fn a_failing_operation_may_happen_all_the_same() {
    let disk = disk();
    let file = durable(&disk, "/db/f", b"....");
    let fault = |kind, effect| disk.fail(Fault::when(|_| true).on(kind).effect(effect));
    fault(OpKind::Write, Effect::Half);
    file.write_at(b"abcd", 0).unwrap_err();
    assert_eq!(disk.read_file("/db/f").unwrap(), b"ab..");
    fault(OpKind::Write, Effect::Done);
    file.write_at(b"ABCD", 0).unwrap_err();
    assert_eq!(disk.read_file("/db/f").unwrap(), b"ABCD");
    fault(OpKind::Write, Effect::Nothing);
    file.write_at(b"----", 0).unwrap_err();
    assert_eq!(disk.read_file("/db/f").unwrap(), b"ABCD");
    fault(OpKind::Rename, Effect::Half);
    disk.rename(path("/db/f"), path("/db/g")).unwrap_err();
    assert_eq!(disk.files(), [("/db/f".into(), 4)]);
    fault(OpKind::Rename, Effect::Done);
    disk.rename(path("/db/f"), path("/db/g")).unwrap_err();
    assert_eq!(disk.files(), [("/db/g".into(), 4)]);
    fault(OpKind::Create, Effect::Done);
    disk.create(path("/db/new")).unwrap_err();
    assert_eq!(disk.files().len(), 2);
    fault(OpKind::SyncDir, Effect::Nothing);
    disk.sync_dir(path("/db")).unwrap_err();
    assert!(outcomes(&disk, "/db/new").contains(&None));
    fault(OpKind::SyncDir, Effect::Done);
    disk.sync_dir(path("/db")).unwrap_err();
    assert_eq!(outcomes(&disk, "/db/new"), [some(b"")].into());
}

/// A file of four durable pages of 1 with 2 stored over them, after a sync that failed.
fn after_failed_sync(effect: Effect) -> (SimDisk, Arc<dyn File>) {
    let disk = disk();
    let file = durable(&disk, "/db/f", &[1; 4 * 4096]);
    file.map_window(0, 4 * 4096).unwrap().write(0, &[2; 4 * 4096]);
    disk.fail(Fault::when(|_| true).on(OpKind::Sync).effect(effect));
    assert_eq!(file.sync_data().unwrap_err().os_error(), Some(libc::EIO));
    (disk, file)
}

#[test]
fn a_sync_that_failed_lies_the_second_time() {
    let (disk, file) = after_failed_sync(Effect::Nothing);
    assert_eq!(disk.read_file("/db/f").unwrap(), [2; 4 * 4096], "the cache shows the new bytes");
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [some(&[1; 4 * 4096])].into());
    // A page that changes again is written again, as a whole.
    file.write_at(b"x", 4096).unwrap();
    file.sync_data().unwrap();
    let mut expected = vec![1; 4 * 4096];
    expected[4096..8192].fill(2);
    expected[4096] = b'x';
    assert_eq!(outcomes(&disk, "/db/f"), [some(&expected)].into());
    disk.sync_all();
    assert_eq!(outcomes(&disk, "/db/f"), [some(&disk.read_file("/db/f").unwrap())].into());
}

#[test]
fn bytes_that_were_given_up_once_can_be_written_later() {
    let (disk, file) = after_failed_sync(Effect::Nothing);
    for byte in [3, 2] {
        file.write_at(&[byte; 4 * 4096], 0).unwrap();
        file.sync_data().unwrap();
        assert_eq!(outcomes(&disk, "/db/f"), [some(&[byte; 4 * 4096])].into());
    }
}

#[test]
fn a_failed_sync_may_have_written_half() {
    let (disk, file) = after_failed_sync(Effect::Half);
    file.sync_data().unwrap();
    let bytes = disk.crash_image(&CrashPolicy::KEEP_ALL, 0).read_file("/db/f").unwrap();
    let pages: Vec<u8> = bytes.chunks(4096).map(|page| page[0]).collect();
    assert_eq!(pages, [2, 1, 2, 1]);
}

#[test]
fn a_failed_sync_may_have_written_everything() {
    let (disk, _file) = after_failed_sync(Effect::Done);
    assert_eq!(outcomes(&disk, "/db/f"), [some(&[2; 4 * 4096])].into());
}

#[test]
fn a_failed_sync_may_bring_the_old_bytes_back() {
    let (disk, file) = after_failed_sync(Effect::Reverted);
    assert_eq!(disk.read_file("/db/f").unwrap(), [1; 4 * 4096]);
    let region = file.map(4 * 4096, Access::Random).unwrap();
    assert_eq!(region.get(0, 4 * 4096), Some(&[1; 4 * 4096][..]));
    file.sync_data().unwrap();
    assert_eq!(outcomes(&disk, "/db/f"), [some(&[1; 4 * 4096])].into());
}

#[test]
fn a_sync_that_failed_keeps_the_size_undurable() {
    let disk = disk();
    let file = durable(&disk, "/db/f", b"1234");
    file.write_at(b"5678", 4).unwrap();
    disk.fail(Fault::when(|_| true).on(OpKind::Sync));
    file.sync_data().unwrap_err();
    let found = outcomes(&disk, "/db/f");
    assert!(found.contains(&some(b"1234")) && found.contains(&some(b"1234\0\0\0\0")), "{found:?}");
    assert!(!found.contains(&some(b"12345678")), "given up");
}

#[test]
fn a_lie_does_nothing_and_reports_success() {
    let disk = disk();
    let file = durable(&disk, "/db/f", b"old");
    disk.fail(Fault::when(|_| true).effect(Effect::Lie).forever());
    file.write_at(b"lost", 0).unwrap();
    disk.clear_faults();
    assert_eq!(disk.read_file("/db/f").unwrap(), b"old");
    file.write_at(b"new", 0).unwrap();
    disk.create(path("/db/g")).unwrap();
    disk.fail(Fault::when(|_| true).effect(Effect::Lie).forever());
    file.sync_data().unwrap();
    disk.sync_dir(path("/db")).unwrap();
    assert!(disk.create(path("/db/h")).is_err());
    assert!(disk.lock(path("/db/LOCK"), LockKind::Exclusive).is_err());
    let image = disk.crash_image(&CrashPolicy::DROP_ALL, 1);
    assert_eq!(image.read_file("/db/f").unwrap(), b"old");
    assert!(image.read_file("/db/g").is_err());
    disk.clear_faults();
    file.sync_data().unwrap();
    let image = disk.crash_image(&CrashPolicy::DROP_ALL, 1);
    assert_eq!(image.read_file("/db/f").unwrap(), b"new");
}
