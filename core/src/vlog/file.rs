//! A file of segments as its readers hold it (layer L3): where it is, the cache that keeps what was
//! read of it and not in place, and the open file where it is read directly.
//!
//! Invariants: who reads a segment holds its file; when the file goes, so does what the cache has
//! of it; what the cache has was checked.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use super::identify::open_file;
use crate::buffer::Buffer;
use crate::cache::{Cache, FileAccess};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem};
use crate::types::FileNumber;

/// Longer records do not go into the cache: one would push out too much else.
const MOST_KEPT: usize = 256 << 10;

/// A file of one segment or of several rewritten ones, which share it.
pub(super) struct SegmentFile {
    path: PathBuf,
    /// The number in its name.
    number: FileNumber,
    size_bytes: u64,
    pub(super) cache: Arc<Cache>,
    /// The file, when it is read directly.
    direct: OnceLock<Arc<dyn File>>,
    /// Something of it was put into the cache at some time.
    kept: AtomicBool,
}

impl SegmentFile {
    /// The file `number` of so many bytes at `path`, which is mapped.
    pub(super) fn mapped(
        path: &Path,
        (number, size_bytes): (FileNumber, u64),
        cache: &Arc<Cache>,
    ) -> SegmentFile {
        SegmentFile {
            path: path.to_path_buf(),
            number,
            size_bytes,
            cache: Arc::clone(cache),
            direct: OnceLock::new(),
            kept: AtomicBool::new(false),
        }
    }

    /// The file `number` at `path`, which must be there and have this size, read as `access` says.
    pub(super) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        number_and_size: (FileNumber, u64),
        access: &FileAccess,
    ) -> Result<(SegmentFile, Arc<dyn File>)> {
        let opened = open_file(fs, path, number_and_size.1, access.direct)?;
        let file = SegmentFile::mapped(path, number_and_size, &access.cache);
        if access.direct {
            file.direct.get_or_init(|| Arc::clone(&opened));
        }
        Ok((file, opened))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From now on it can be read directly, too.
    pub(super) fn open_directly(&self, fs: &dyn FileSystem) -> Result<()> {
        if self.direct.get().is_none() {
            let file = fs.open_direct(&self.path)?;
            self.direct.get_or_init(|| file);
        }
        Ok(())
    }

    /// The open file, when it is read directly.
    pub(super) fn direct(&self) -> Option<&Arc<dyn File>> {
        self.direct.get()
    }

    /// What the cache has of the record or the page of a map at this place.
    pub(super) fn cached(&self, place: u64) -> Option<Buffer> {
        self.cache.get(self.key(place)?)
    }

    /// Puts into the cache what was read at this place and checked.
    pub(super) fn keep(&self, place: u64, bytes: &Buffer) {
        if let Some(key) = self.key(place).filter(|_| bytes.len() <= MOST_KEPT) {
            self.kept.store(true, Ordering::Relaxed);
            self.cache.insert(key, bytes);
        }
    }

    /// None where nothing begins.
    fn key(&self, place: u64) -> Option<(FileNumber, u32)> {
        let unit = u32::try_from(place / 8).ok().filter(|_| place.is_multiple_of(8))?;
        Some((self.number, unit))
    }

    /// Bytes of the file when it is read directly; Corruption beyond its end.
    pub(super) fn read(&self, place: u64, len: usize) -> Result<Box<[u8]>> {
        let end = place.checked_add(len as u64);
        if end.is_none_or(|end| end > self.size_bytes) {
            return Err(Error::corruption(&self.path, place, "the segment ends before this"));
        }
        let mut bytes = vec![0; len].into_boxed_slice();
        match self.direct() {
            Some(file) => file.read_at(&mut bytes, place)?,
            None => return Err(Error::new(ErrorKind::Misuse, "a mapped segment is read in place")),
        }
        Ok(bytes)
    }
}

impl Drop for SegmentFile {
    fn drop(&mut self) {
        if *self.kept.get_mut() {
            self.cache.forget(self.number);
        }
    }
}
