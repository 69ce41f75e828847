//! Files past the page cache: what is read is what was written, sizes stay exact, and the kernel
//! itself says that nothing is in the page cache.

use super::*;

/// Pages of a file that are in the page cache.
pub(crate) fn resident_pages(path: &Path) -> usize {
    let file = OsFileSystem.open(path).unwrap();
    let len = file.size().unwrap() as usize;
    let region = file.map(len, Access::Random).unwrap();
    let mut pages = vec![0u8; len.div_ceil(4096)];
    let start = region.get(0, 1).unwrap().as_ptr().cast_mut().cast();
    // SAFETY: the map is `len` bytes long and there is a byte for each of its pages.
    assert_eq!(unsafe { libc::mincore(start, len, pages.as_mut_ptr()) }, 0);
    pages.iter().map(|page| usize::from(page & 1)).sum()
}

/// A directory on a disk, where this program itself is: /tmp may be in memory.
pub(crate) fn directory() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| crate::checksum::mix64(at, 3) as u8).collect()
}

#[test]
fn what_was_written_in_pieces_of_any_length_is_read_at_any_place() {
    let dir = directory();
    let path = dir.path().join("f");
    let bytes = noise(3_000_001);
    let file = OsFileSystem.create_direct(&path).unwrap();
    let mut at = 0;
    for len in [4096, 1, 4095, 8192, 100, 1 << 20, 12_345, 0, usize::MAX] {
        let len = len.min(bytes.len() - at);
        file.write_at(&bytes[at..at + len], at as u64).unwrap();
        at += len;
        assert_eq!(file.size().unwrap(), at as u64);
    }
    file.sync_data().unwrap();
    let read = OsFileSystem.open_direct(&path).unwrap();
    for file in [&file, &read] {
        for (offset, len) in [
            (0, 1),
            (4095, 2),
            (4096, 4096),
            (5, 2_500_000),
            (2_999_990, 11),
            (0, 3_000_001),
            (3_000_001, 0),
        ] {
            let mut buf = vec![0; len];
            file.read_at(&mut buf, offset as u64).unwrap();
            assert!(buf == bytes[offset..offset + len], "{offset}+{len}");
        }
        let beyond = file.read_at(&mut [0; 12], 2_999_990).unwrap_err();
        assert_eq!((beyond.kind(), beyond.path()), (ErrorKind::Io, Some(&*path)));
    }
    assert_eq!(read.write_at(b"x", 0).unwrap_err().os_error(), Some(libc::EBADF));
    assert_eq!(read.map(1, Access::Random).unwrap_err().kind(), ErrorKind::Misuse);
}

/// Whether half of 16 pages come into the page cache, for which `ask` asks again and again: they
/// may be pushed out again.
fn comes(path: &Path, ask: impl Fn()) -> bool {
    (0..3_000).any(|_| {
        ask();
        std::thread::sleep(std::time::Duration::from_millis(10));
        resident_pages(path) >= 8
    })
}

#[test]
fn what_will_be_needed_comes_without_being_touched() {
    let dir = directory();
    let (path, other) = (dir.path().join("f"), dir.path().join("other"));
    let bytes = noise(4 << 20);
    for path in [&path, &other] {
        OsFileSystem.create_direct(path).unwrap().write_at(&bytes, 0).unwrap();
    }
    #[expect(clippy::disallowed_methods, reason = "asks the kernel itself")]
    let told = fs::File::open(&other).unwrap();
    let advise = || {
        // SAFETY: no memory is handed over.
        let answer = unsafe {
            libc::posix_fadvise(told.as_raw_fd(), 1 << 20, 64 << 10, libc::POSIX_FADV_WILLNEED)
        };
        assert_eq!(answer, 0);
    };
    if !comes(&other, advise) {
        println!("this file system reads nothing ahead");
        return;
    }
    let region = OsFileSystem.open(&path).unwrap().map(bytes.len(), Access::Random).unwrap();
    assert!(resident_pages(&path) <= 1, "{}", resident_pages(&path));
    let comes = comes(&path, || region.will_need(1 << 20, 64 << 10));
    assert!(comes, "{} pages", resident_pages(&path));
    // What is not there, or beyond the end, does no harm.
    region.will_need((4 << 20) - 1, usize::MAX);
    region.will_need(usize::MAX, 1);
    region.let_go();
    assert!(region.get(0, bytes.len()) == Some(&bytes[..]));
}

#[test]
fn only_the_ends_of_what_is_written_are_in_the_page_cache() {
    let dir = directory();
    let path = dir.path().join("f");
    let file = OsFileSystem.create_direct(&path).unwrap();
    file.write_at(&noise(4 << 20), 0).unwrap();
    file.write_at(&noise(5000), 4 << 20).unwrap();
    file.sync_data().unwrap();
    file.read_at(&mut vec![0; 1 << 20], 12_345).unwrap();
    assert!(resident_pages(&path) <= 1, "{}", resident_pages(&path));
}

/// The flags of every descriptor of these files, as the kernel says them.
pub(crate) fn open_flags(paths: &[PathBuf]) -> Vec<i32> {
    let mut flags = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let is_one = fs::read_link(entry.path()).is_ok_and(|target| paths.contains(&target));
        let info = Path::new("/proc/self/fdinfo").join(entry.file_name());
        let Some(text) = is_one.then(|| fs::read_to_string(info).unwrap_or_default()) else {
            continue;
        };
        let octal = text.lines().find_map(|line| line.strip_prefix("flags:"));
        flags.extend(octal.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok()));
    }
    flags
}
