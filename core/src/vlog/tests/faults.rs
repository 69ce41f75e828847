//! What fails is said, sticks, and leaves nothing half done.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::error::{Error, ErrorKind};
use crate::fs::{Access, DirEntry, LockGuard, LockKind, PathKind, Region, Window};

/// The operating system's files, with switches that make a call fail and a count of live files.
#[derive(Debug, Default)]
struct Faults {
    windows: AtomicBool,
    syncs: AtomicBool,
    allocations: AtomicBool,
    files: AtomicU64,
    sync_calls: AtomicU64,
}

#[derive(Clone, Debug, Default)]
struct FaultyFileSystem(Arc<Faults>);

#[derive(Debug)]
struct FaultyFile(Arc<dyn File>, Arc<Faults>);

fn fault(switch: &AtomicBool, path: &Path, errno: i32) -> Result<()> {
    if switch.load(Ordering::Relaxed) {
        return Err(Error::io("go on", path, &std::io::Error::from_raw_os_error(errno)));
    }
    Ok(())
}

impl FaultyFileSystem {
    fn wrap(&self, file: Arc<dyn File>) -> Arc<dyn File> {
        self.0.files.fetch_add(1, Ordering::Relaxed);
        Arc::new(FaultyFile(file, Arc::clone(&self.0)))
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.1.files.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileSystem for FaultyFileSystem {
    fn kind(&self, path: &Path) -> Result<PathKind> {
        OsFileSystem.kind(path)
    }
    fn create_dir(&self, dir: &Path) -> Result<()> {
        OsFileSystem.create_dir(dir)
    }
    fn list_dir(&self, dir: &Path) -> Result<Vec<DirEntry>> {
        OsFileSystem.list_dir(dir)
    }
    fn create(&self, path: &Path) -> Result<Arc<dyn File>> {
        OsFileSystem.create(path).map(|file| self.wrap(file))
    }
    fn open(&self, path: &Path) -> Result<Arc<dyn File>> {
        OsFileSystem.open(path).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        OsFileSystem.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> Result<()> {
        OsFileSystem.remove_file(path)
    }
    fn remove_dir(&self, dir: &Path) -> Result<()> {
        OsFileSystem.remove_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<()> {
        OsFileSystem.sync_dir(dir)
    }
    fn lock(&self, path: &Path, kind: LockKind) -> Result<Box<dyn LockGuard>> {
        OsFileSystem.lock(path, kind)
    }
}

impl File for FaultyFile {
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn size(&self) -> Result<u64> {
        self.0.size()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        self.0.write_at(data, offset)
    }
    fn allocate(&self, size: u64) -> Result<()> {
        fault(&self.1.allocations, self.path(), libc::ENOSPC)?;
        self.0.allocate(size)
    }
    fn sync_data(&self) -> Result<()> {
        self.1.sync_calls.fetch_add(1, Ordering::Relaxed);
        fault(&self.1.syncs, self.path(), libc::EIO)?;
        self.0.sync_data()
    }
    fn map(&self, len: usize, access: Access) -> Result<Region> {
        self.0.map(len, access)
    }
    fn map_window(&self, offset: u64, len: usize) -> Result<Window> {
        fault(&self.1.windows, self.path(), libc::ENOMEM)?;
        self.0.map_window(offset, len)
    }
}

struct FaultyLog {
    fs: FaultyFileSystem,
    log: TestLog,
}

fn faulty_log(size_bytes: u64) -> FaultyLog {
    let fs = FaultyFileSystem::default();
    let dir = tempfile::tempdir().unwrap();
    let identity = identity(1, size_bytes);
    let segment =
        Segment::create(&fs, &dir.path().join("1.vlog"), identity, Prefill::Window).unwrap();
    let writer = LogWriter::new(Arc::new(segment), 0, 0).unwrap();
    FaultyLog {
        fs,
        log: TestLog { dir, writer, store: Store::Map, ids: vec![identity], written: Vec::new() },
    }
}

#[test]
fn a_window_that_cannot_be_mapped_poisons_the_writer_and_changes_nothing() {
    let FaultyLog { fs, mut log } = faulty_log(8 << 20);
    log.append(0, &[put(b"a", b"1")]);
    fs.0.windows.store(true, Ordering::Relaxed);
    log.append(0, &[put(b"within the window", b"2")]);
    let big = [put(b"big", &vec![1; 3 << 20])];
    let size = FrameSize::of(parts(&big)).unwrap();
    let before = (log.writer.offset(), log.writer.chain(), log.writer.last_seqno());
    let error = log.writer.append(size, stamp(3), parts(&big), |_| panic!()).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::ENOMEM));
    fs.0.windows.store(false, Ordering::Relaxed);
    let small = [put(b"c", b"3")];
    let size = FrameSize::of(parts(&small)).unwrap();
    let error = log.writer.append(size, stamp(3), parts(&small), |_| panic!()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    assert_eq!(log.writer.append_empty(0, Store::Map).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(before, (log.writer.offset(), log.writer.chain(), log.writer.last_seqno()));
    assert_eq!(log.replay().unwrap().1, log.written);
    let segment = log.writer.segment();
    assert_eq!(segment.value(log.written[0].offset, 2, 1).unwrap(), b"1");
}

#[test]
fn a_failed_sync_is_not_forgotten() {
    let FaultyLog { fs, mut log } = faulty_log(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    let segment = Arc::clone(log.writer.segment());
    segment.sync().unwrap();
    fs.0.syncs.store(true, Ordering::Relaxed);
    let error = segment.sync().unwrap_err();
    assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, Some(libc::EIO)));
    fs.0.syncs.store(false, Ordering::Relaxed);
    let calls = fs.0.sync_calls.load(Ordering::Relaxed);
    for _ in 0..2 {
        let error = segment.sync().unwrap_err();
        assert_eq!((error.kind(), error.os_error()), (ErrorKind::Poisoned, Some(libc::EIO)));
        assert_eq!(error.path(), Some(&*log.path(1)));
    }
    assert_eq!(fs.0.sync_calls.load(Ordering::Relaxed), calls);
    assert_eq!(segment.record(log.written[0].offset).unwrap().value, b"1");
}

#[test]
fn the_descriptor_stays_until_a_sync_after_the_last_append() {
    let FaultyLog { fs, mut log } = faulty_log(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    let files = || fs.0.files.load(Ordering::Relaxed);
    log.writer.segment().sync().unwrap();
    assert_eq!(files(), 1);
    let first = log.rotate(8 << 10);
    assert!(!first.is_settled());
    fs.0.syncs.store(true, Ordering::Relaxed);
    first.sync().unwrap_err();
    assert_eq!((files(), first.is_settled()), (1, false));

    let FaultyLog { fs, mut log } = faulty_log(8 << 10);
    let files = || fs.0.files.load(Ordering::Relaxed);
    log.append(0, &[put(b"a", b"1")]);
    let first = log.rotate(8 << 10);
    first.sync().unwrap();
    assert_eq!((files(), first.is_settled()), (0, true));
    let calls = fs.0.sync_calls.load(Ordering::Relaxed);
    first.sync().unwrap();
    assert_eq!(fs.0.sync_calls.load(Ordering::Relaxed), calls);
    assert_eq!(first.value(log.written[0].offset, 2, 1).unwrap(), b"1");
    drop((log, first));

    // What replay found may not have been synced by the process that died: its first sync is real.
    let FaultyLog { fs, log } = faulty_log(8 << 10);
    let opened = |purpose| Segment::open(&fs, &log.path(1), log.ids[0], purpose).unwrap();
    let calls = fs.0.sync_calls.load(Ordering::Relaxed);
    let replayed = opened(OpenFor::Replay);
    assert!(!replayed.is_settled());
    replayed.sync().unwrap();
    assert!(replayed.is_settled());
    assert_eq!(fs.0.sync_calls.load(Ordering::Relaxed), calls + 1);
    assert!(opened(OpenFor::Values).is_settled());
}

#[test]
fn an_old_segment_is_never_appended_to() {
    let FaultyLog { fs, log } = faulty_log(8 << 10);
    for purpose in [OpenFor::Replay, OpenFor::Values] {
        let segment = Segment::open(&fs, &log.path(1), log.ids[0], purpose).unwrap();
        let error = LogWriter::new(Arc::new(segment), 0, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse);
    }
    let mut log = log;
    let first = log.rotate(8 << 10);
    let error = LogWriter::new(Arc::clone(&first), 0, 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(log.writer.rotate(first).unwrap_err().kind(), ErrorKind::Misuse);
    log.append(0, &[put(b"a", b"1")]);
    assert_eq!(log.replay().unwrap().1, log.written);
}

#[test]
fn a_full_disk_and_sizes_that_cannot_be() {
    let fs = FaultyFileSystem::default();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1.vlog");
    for size in [0, 1, 4096, 8191, 12_289, (8 << 32) + 4096, u64::MAX] {
        let error = Segment::create(&fs, &path, identity(1, size), Prefill::Window).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{size}");
    }
    fs.0.allocations.store(true, Ordering::Relaxed);
    let error = Segment::create(&fs, &path, identity(1, 8192), Prefill::Window).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    assert_eq!(fs.0.files.load(Ordering::Relaxed), 0);
}

#[test]
fn a_batch_that_is_not_the_measured_one_makes_no_frame() {
    let mut log = TestLog::new(8 << 10);
    log.append(0, &[put(b"a", b"1")]);
    let size = FrameSize::of(parts(&[put(b"b", b"22")])).unwrap();
    let other = [put(b"b", &[2; 500])];
    let error = log.writer.append(size, stamp(2), parts(&other), |_| panic!()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(log.writer.append_empty(0, Store::Map).unwrap_err().kind(), ErrorKind::Poisoned);
    assert_eq!(log.replay().unwrap().1, log.written);
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
