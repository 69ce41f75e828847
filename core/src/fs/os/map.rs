//! Shared maps of files (layer L1).
//!
//! Invariant: a map is made only of bytes that exist, which the caller checks; nothing in a
//! database is ever truncated, so they go on existing.

use std::any::Any;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw, UncheckedAdvice};

use super::OsFile;
use crate::fs::{Access, Hint, Region, Window};

/// Maps the first `len` bytes for reading.
pub(super) fn region(file: &OsFile, len: usize, access: Access) -> io::Result<Region> {
    if len == 0 {
        // SAFETY: no byte can be read from an empty region.
        return Ok(unsafe { Region::new(NonNull::dangling().as_ptr(), 0, Arc::new(())) });
    }
    let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
    let advice = match access {
        Access::Random => Advice::Random,
        Access::Sequential => Advice::Sequential,
    };
    // Read-ahead is a matter of speed: a kernel that does not take the advice does no harm.
    map.advise(advice).ok();
    let start = map.as_ptr();
    let owner: Arc<dyn Any + Send + Sync> = Arc::new(map);
    // SAFETY: the map is `len` bytes long, readable, and lives as long as its owner.
    let region = unsafe { Region::new(start, len, owner) };
    Ok(region.that_hints_by(hint))
}

/// Tells the kernel about the pages of a map that `region` made; a matter of speed only.
fn hint(owner: &(dyn Any + Send + Sync), hint: Hint) {
    let Some(map) = owner.downcast_ref::<MmapRaw>() else { return };
    match hint {
        // SAFETY: the map is shared with a file, so whoever reads these pages finds what the file
        // has, and that is what they held.
        Hint::LetGo => unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) }.ok(),
        Hint::WillNeed { offset, len } => map.advise_range(Advice::WillNeed, offset, len).ok(),
    };
}

/// Maps `len` bytes from `offset` for writing and touches every page.
pub(super) fn window(file: &OsFile, offset: u64, len: usize) -> io::Result<Window> {
    let map = WindowMap::new(MmapOptions::new().offset(offset).len(len).map_raw(file)?);
    map.raw.advise(Advice::DontFork)?;
    populate(&map.raw)?;
    let start = map.raw.as_mut_ptr();
    let owner: Arc<dyn Any + Send + Sync> = Arc::new(map);
    // SAFETY: the map is `len` bytes long, writable, and lives as long as its owner; the log
    // writer, who asks for windows, is the only one that writes to the file.
    Ok(unsafe { Window::new(start, len, owner) })
}

/// Makes every page present and writable now. The kernel's own way reports what a store would
/// answer with a signal; before Linux 5.14 the pages are touched one by one.
fn populate(map: &MmapRaw) -> io::Result<()> {
    loop {
        match map.advise(Advice::PopulateWrite) {
            Ok(()) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            Err(error) => return Err(error),
        }
    }
    touch(map);
    Ok(())
}

fn touch(map: &MmapRaw) {
    for offset in (0..map.len()).step_by(4096) {
        let byte = map.as_mut_ptr().wrapping_add(offset);
        // SAFETY: the byte lies in the map, and nobody else writes to these pages, so writing
        // back what was read changes nothing.
        unsafe { byte.write_volatile(byte.read_volatile()) };
    }
}

/// A map that a child process does not have.
struct WindowMap {
    raw: ManuallyDrop<MmapRaw>,
    process: u32,
}

impl WindowMap {
    fn new(map: MmapRaw) -> WindowMap {
        WindowMap { raw: ManuallyDrop::new(map), process: std::process::id() }
    }
}

impl Drop for WindowMap {
    fn drop(&mut self) {
        // After a fork the addresses may belong to something else: then they are not ours to unmap.
        if std::process::id() == self.process {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.raw) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::{FileSystem, OsFileSystem};

    #[test]
    fn touching_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let file = OsFileSystem.create(&path).unwrap();
        let bytes: Vec<u8> = (0..4 * 4096u32).map(|i| (i % 251) as u8).collect();
        file.write_at(&bytes, 0).unwrap();
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true);
        let file = OsFile::open(&path, &options, "open").unwrap();
        let map = MmapOptions::new().len(bytes.len()).map_raw(&file).unwrap();
        touch(&map);
        populate(&map).unwrap();
        let region = region(&file, bytes.len(), Access::Sequential).unwrap();
        assert_eq!(region.get(0, bytes.len()), Some(&bytes[..]));
    }
}
