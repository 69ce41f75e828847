//! The operating system's file system on real files.

pub(crate) mod past_cache;

use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;

const FS: OsFileSystem = OsFileSystem;

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 % 253) as u8).collect()
}

#[test]
fn kinds_and_listing() {
    let dir = temp();
    let at = |name: &str| dir.path().join(name);
    FS.create_dir(&at("sub")).unwrap();
    FS.create(&at("file")).unwrap().write_at(b"abc", 0).unwrap();
    symlink(at("file"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    assert_eq!(FS.kind(&at("sub")).unwrap(), PathKind::Directory);
    assert_eq!(FS.kind(&at("file")).unwrap(), PathKind::File);
    assert_eq!(FS.kind(&at("link")).unwrap(), PathKind::File);
    assert_eq!(FS.kind(&at("dangling")).unwrap(), PathKind::Other);
    assert_eq!(FS.kind(&at("loop")).unwrap(), PathKind::Other);
    assert_eq!(FS.kind(&at("none")).unwrap(), PathKind::Absent);
    assert_eq!(FS.kind(Path::new("/dev/null")).unwrap(), PathKind::Other);
    assert_eq!(FS.kind(&at("file/below")).unwrap_err().os_error(), Some(libc::ENOTDIR));

    let mut entries = FS.list_dir(dir.path()).unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let entry = |name: &str, kind, size| DirEntry { name: name.to_owned(), kind, size };
    let expected = [
        entry("dangling", PathKind::Other, 0),
        entry("file", PathKind::File, 3),
        entry("link", PathKind::File, 3),
        entry("loop", PathKind::Other, 0),
        entry("sub", PathKind::Directory, 0),
    ];
    assert_eq!(entries, expected);
    let error = FS.list_dir(&at("none")).unwrap_err();
    assert_eq!((error.kind(), error.os_error()), (ErrorKind::Io, Some(libc::ENOENT)));
    assert_eq!(error.path(), Some(&*at("none")));
    FS.sync_dir(dir.path()).unwrap();
    assert_eq!(FS.sync_dir(&at("file")).unwrap_err().os_error(), Some(libc::ENOTDIR));
    FS.remove_dir(&at("sub")).unwrap();
    assert_eq!(FS.kind(&at("sub")).unwrap(), PathKind::Absent);
}

#[test]
fn creating_opening_renaming_removing() {
    let dir = temp();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    assert_eq!(FS.open(&a).unwrap_err().os_error(), Some(libc::ENOENT));
    let file = FS.create(&a).unwrap();
    assert_eq!(file.path(), a);
    assert_eq!(FS.create(&a).unwrap_err().os_error(), Some(libc::EEXIST));
    file.write_at(b"first", 0).unwrap();
    FS.create(&b).unwrap().write_at(b"second", 0).unwrap();
    FS.rename(&a, &b).unwrap();
    assert_eq!(FS.kind(&a).unwrap(), PathKind::Absent);
    let renamed = FS.open(&b).unwrap();
    let mut buf = [0; 5];
    renamed.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"first");
    assert_eq!(renamed.write_at(b"x", 0).unwrap_err().os_error(), Some(libc::EBADF));
    let error = FS.rename(&a, &b).unwrap_err();
    assert!(error.message().contains(b.to_str().unwrap()), "{error}");
    FS.remove_file(&b).unwrap();
    assert_eq!(FS.remove_file(&b).unwrap_err().os_error(), Some(libc::ENOENT));
    // A removed file is still there for those that have it.
    renamed.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"first");
}

#[test]
fn reading_writing_and_size() {
    let dir = temp();
    let file = FS.create(&dir.path().join("f")).unwrap();
    assert_eq!(file.size().unwrap(), 0);
    file.write_at(b"world", 6).unwrap();
    file.write_at(b"hello ", 0).unwrap();
    assert_eq!(file.size().unwrap(), 11);
    file.sync_data().unwrap();
    let mut buf = [0; 11];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"hello world");
    let error = file.read_at(&mut buf, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains("read 11 bytes at offset 1"), "{error}");
    assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap_err().kind(), ErrorKind::Io);
    file.read_at(&mut [], 11).unwrap();
    for offset in [u64::MAX, i64::MAX as u64] {
        let error = file.write_at(b"x", offset).unwrap_err();
        assert_eq!(error.os_error(), Some(libc::EFBIG));
    }
    assert_eq!(file.size().unwrap(), 11);
}

#[test]
fn allocation_makes_blocks_and_never_truncates() {
    use std::os::unix::fs::MetadataExt;
    let dir = temp();
    let path = dir.path().join("f");
    let file = FS.create(&path).unwrap();
    file.allocate(0).unwrap();
    assert_eq!(file.size().unwrap(), 0);
    file.allocate(1 << 20).unwrap();
    assert_eq!(file.size().unwrap(), 1 << 20);
    assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20, "sparse");
    let bytes = pattern(10_000);
    file.write_at(&bytes, 5).unwrap();
    file.allocate(4096).unwrap();
    file.allocate((1 << 20) + 1).unwrap();
    assert_eq!(file.size().unwrap(), (1 << 20) + 1);
    let mut buf = vec![1; 10_010];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(buf[..5], [0; 5]);
    assert_eq!(buf[5..10_005], bytes);
    assert_eq!(buf[10_005..], [0; 5]);
}

#[test]
fn a_failed_allocation_leaves_the_file_as_it_was() {
    let dir = temp();
    let file = FS.create(&dir.path().join("f")).unwrap();
    file.write_at(b"abc", 0).unwrap();
    // More than any disk has, less than the largest offset: the file system refuses it.
    for size in [1 << 62, u64::MAX] {
        let error = file.allocate(size).unwrap_err();
        assert!(matches!(error.os_error(), Some(libc::ENOSPC | libc::EFBIG)), "{error}");
        assert_eq!(file.size().unwrap(), 3);
    }
    let mut buf = [0; 3];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"abc");
}

#[test]
fn without_fallocate_zeros_are_written() {
    let dir = temp();
    let path = dir.path().join("f");
    FS.create(&path).unwrap().write_at(b"abc", 0).unwrap();
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true);
    let file = OsFile::open(&path, &options, "open").unwrap();
    file.write_zeros(3, 200_001).unwrap();
    assert_eq!(file.size().unwrap(), 200_001);
    let mut buf = [1; 5];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"abc\0\0");
}

#[test]
fn a_map_shows_the_file_and_outlives_it() {
    let dir = temp();
    let path = dir.path().join("f");
    let bytes = pattern(9_999);
    let file = FS.create(&path).unwrap();
    file.write_at(&bytes, 0).unwrap();
    let random = file.map(9_999, Access::Random).unwrap();
    let opened = FS.open(&path).unwrap();
    let sequential = opened.map(5_000, Access::Sequential).unwrap();
    drop((file, opened));
    FS.remove_file(&path).unwrap();
    assert_eq!(random.len(), 9_999);
    assert_eq!(random.get(0, 9_999), Some(&bytes[..]));
    assert_eq!(random.get(9_000, 999), Some(&bytes[9_000..]));
    assert_eq!(random.get(9_999, 0), Some(&[][..]));
    assert_eq!(random.get(9_000, 1_000), None);
    assert_eq!(random.get(10_000, 0), None);
    assert_eq!(random.get(usize::MAX, 2), None);
    assert_eq!(sequential.get(0, 5_000), Some(&bytes[..5_000]));
    assert_eq!(sequential.get(0, 5_001), None);
}

#[test]
fn mapping_what_is_not_there_is_an_error() {
    let dir = temp();
    let path = dir.path().join("f");
    let file = FS.create(&path).unwrap();
    assert_eq!(file.map(0, Access::Random).unwrap().get(0, 0), Some(&[][..]));
    assert_eq!(file.map(1, Access::Random).unwrap_err().kind(), ErrorKind::Io);
    file.allocate(8192).unwrap();
    for len in [8193, 1 << 30, usize::MAX] {
        let error = file.map(len, Access::Random).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.path(), Some(&*path));
    }
    for (offset, len) in [(0, 12_288), (4096, 8192), (8192, 4096), (u64::MAX - 4095, 8192)] {
        assert_eq!(file.map_window(offset, len).unwrap_err().kind(), ErrorKind::Io);
    }
    for (offset, len) in [(0, 0), (0, 100), (100, 4096), (4095, 4096)] {
        assert_eq!(file.map_window(offset, len).unwrap_err().kind(), ErrorKind::Misuse);
    }
    let error = FS.open(&path).unwrap().map_window(0, 4096).unwrap_err();
    assert_eq!(error.os_error(), Some(libc::EACCES));
}

#[test]
fn a_store_into_a_window_is_seen_by_maps_and_reads() {
    let dir = temp();
    let file = FS.create(&dir.path().join("f")).unwrap();
    file.allocate(16_384).unwrap();
    let region = file.map(16_384, Access::Random).unwrap();
    let mut window = file.map_window(4096, 8192).unwrap();
    assert_eq!(window.len(), 8192);
    window.write(0, b"first");
    window.write(8192 - 4, b"last");
    assert_eq!(window.read(0, 5), b"first");
    assert_eq!(region.get(4096, 5), Some(&b"first"[..]));
    assert_eq!(region.get(12_284, 5), Some(&b"last\0"[..]));
    let mut buf = [0; 5];
    file.read_at(&mut buf, 4096).unwrap();
    assert_eq!(&buf, b"first");
    // And the other way: both ways of writing are coherent.
    file.write_at(b"FIRST", 4096).unwrap();
    assert_eq!(window.read(0, 6), b"FIRST\0");
    assert_eq!(region.get(4096, 5), Some(&b"FIRST"[..]));
    let next = file.map_window(12_288, 4096).unwrap();
    drop(window);
    file.sync_data().unwrap();
    assert_eq!(next.read(0, 4), [0; 4]);
    drop((next, file));
    assert_eq!(region.get(12_284, 4), Some(&b"last"[..]));
}

#[test]
fn what_is_no_regular_file_is_refused_without_waiting() {
    let dir = temp();
    let pipe = dir.path().join("pipe");
    let name = std::ffi::CString::new(pipe.to_str().unwrap()).unwrap();
    // SAFETY: the name is a C string that lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    assert_eq!(FS.kind(&pipe).unwrap(), PathKind::Other);
    assert!(FS.open(&pipe).unwrap_err().message().contains("not a regular file"));
    assert!(FS.open(dir.path()).unwrap_err().message().contains("not a regular file"));
    for kind in [LockKind::Shared, LockKind::Exclusive] {
        assert_eq!(FS.lock(&pipe, kind).unwrap_err().kind(), ErrorKind::Io);
    }
}

#[test]
fn one_writer_or_many_readers() {
    let dir = temp();
    let path = dir.path().join("LOCK");
    let nothing = FS.lock(&path, LockKind::Shared).unwrap();
    assert_eq!(FS.kind(&path).unwrap(), PathKind::Absent);

    let writer = FS.lock(&path, LockKind::Exclusive).unwrap();
    let error = FS.lock(&path, LockKind::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let named = format!("locked by process {} (since ", std::process::id());
    assert!(error.message().contains(&named), "{error}");
    assert!(error.message().contains("which is this one"), "{error}");
    assert_eq!(error.path(), Some(&*path));
    assert_eq!(FS.lock(&path, LockKind::Shared).unwrap_err().kind(), ErrorKind::Locked);
    drop(nothing);
    assert_eq!(FS.lock(&path, LockKind::Shared).unwrap_err().kind(), ErrorKind::Locked);
    drop(writer);

    let readers = [(); 3].map(|()| FS.lock(&path, LockKind::Shared).unwrap());
    assert_eq!(FS.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::Locked);
    drop(readers);
    drop(FS.lock(&path, LockKind::Exclusive).unwrap());
}

#[test]
fn the_holder_is_named_only_while_it_lives() {
    let dir = temp();
    let path = dir.path().join("LOCK");
    let refused = |words: &[u8]| {
        FS.remove_file(&path).ok();
        FS.create(&path).unwrap().write_at(words, 0).unwrap();
        let _reader = FS.lock(&path, LockKind::Shared).unwrap();
        FS.lock(&path, LockKind::Exclusive).unwrap_err().message().to_owned()
    };
    let stale = format!("{:63}\n", "pid 1 start 18446744073709551615");
    assert!(refused(stale.as_bytes()).contains("by a process that reads it, or by process 1"));
    for words in [&b""[..], b"pid 1", &[0xff; 64], &[b' '; 64]] {
        assert!(refused(words).contains("by a process that has not said which"));
    }
    // Whatever the file held, the next writer's words take its place.
    FS.remove_file(&path).unwrap();
    FS.create(&path).unwrap().write_at(&[b'x'; 1000], 0).unwrap();
    let _writer = FS.lock(&path, LockKind::Exclusive).unwrap();
    let file = FS.open(&path).unwrap();
    assert_eq!(file.size().unwrap(), 64);
    let mut buf = [0; 64];
    file.read_at(&mut buf, 0).unwrap();
    assert!(buf.starts_with(format!("pid {} start ", std::process::id()).as_bytes()));
}

#[test]
fn a_lock_whose_file_was_replaced_locks_the_new_one() {
    let dir = temp();
    let path = dir.path().join("LOCK");
    let first = FS.lock(&path, LockKind::Exclusive).unwrap();
    FS.remove_file(&path).unwrap();
    let _second = FS.lock(&path, LockKind::Exclusive).unwrap();
    drop(first);
    assert_eq!(FS.lock(&path, LockKind::Exclusive).unwrap_err().kind(), ErrorKind::Locked);
}

/// Runs one of the tests below, which are ignored otherwise, in a process of its own.
fn run_in_child(test: &str, dir: &Path) {
    let name = format!("fs::os::tests::{test}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--ignored", "--test-threads=1"])
        .env(CHILD_DIR, dir)
        // What `make coverage` would write at its end may be beyond the limit of a file's size.
        .env("LLVM_PROFILE_FILE", "/dev/null")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{:?}: {text}", output.status);
    assert!(text.contains("1 passed"), "the child did not run {name}: {text}");
}

const CHILD_DIR: &str = "TOYKV_TEST_CHILD_DIR";

/// The directory that a child's test works in; `None` when somebody runs the ignored tests.
fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

#[test]
fn the_file_size_limit_is_an_error_and_no_signal() {
    let dir = temp();
    run_in_child("child_with_a_file_size_limit", dir.path());
}

#[test]
#[ignore = "sets a limit of its whole process: the test above runs it in a child"]
fn child_with_a_file_size_limit() {
    let Some(dir) = child_dir() else { return };
    let limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
    // SAFETY: the pointer is to a live `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
    let file = FS.create(&dir.join("f")).unwrap();
    file.allocate(65_536).unwrap();
    file.write_at(b"x", 65_535).unwrap();
    let too_large = Some(libc::EFBIG);
    assert_eq!(file.allocate(65_537).unwrap_err().os_error(), too_large);
    assert_eq!(file.write_at(b"xy", 65_535).unwrap_err().os_error(), too_large);
    assert_eq!(file.write_at(b"x", 65_536).unwrap_err().os_error(), too_large);
    assert_eq!(file.write_at(b"x", 1 << 40).unwrap_err().os_error(), too_large);
    assert_eq!(file.size().unwrap(), 65_536);
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
    assert_eq!(file.write_at(b"x", 0).unwrap_err().os_error(), too_large);
    // A lock that cannot write the holder's name holds all the same.
    let path = dir.join("LOCK");
    let _lock = FS.lock(&path, LockKind::Exclusive).unwrap();
    let error = FS.lock(&path, LockKind::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    assert!(error.message().contains("has not said which"), "{error}");
}

#[test]
fn another_process_is_locked_out_and_told_by_whom() {
    let dir = temp();
    let lock = FS.lock(&dir.path().join("LOCK"), LockKind::Exclusive).unwrap();
    run_in_child("child_that_is_locked_out", dir.path());
    drop(lock);
}

#[test]
#[ignore = "is the second process of the test above, which runs it"]
fn child_that_is_locked_out() {
    let Some(dir) = child_dir() else { return };
    let error = FS.lock(&dir.join("LOCK"), LockKind::Exclusive).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let parent = std::os::unix::process::parent_id();
    let named = format!("locked by process {parent} (since ");
    assert!(error.message().contains(&named), "{error}");
    assert!(!error.message().contains("this one"), "{error}");
}

#[test]
fn descriptors_are_above_the_standard_ones_and_not_inherited() {
    let dir = temp();
    run_in_child("child_without_standard_descriptors", dir.path());
}

#[test]
#[ignore = "closes standard input of its process: the test above runs it in a child"]
fn child_without_standard_descriptors() {
    let Some(dir) = child_dir() else { return };
    // SAFETY: standard input is not used by this process; its number becomes free.
    assert_eq!(unsafe { libc::close(0) }, 0);
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create_new(true);
    let file = OsFile::open(&dir.join("f"), &options, "create").unwrap();
    assert!(file.as_raw_fd() > 2);
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    // SAFETY: no memory is passed; the number is still free, for nothing else runs here.
    assert_eq!(unsafe { libc::fcntl(0, libc::F_GETFD) }, -1);
    file.write_at(b"through the duplicate", 0).unwrap();
    assert_eq!(file.size().unwrap(), 21);
}
