//! Files past the page cache (layer L1): `O_DIRECT`, which moves whole aligned pieces between a
//! device and aligned memory. Everything else is done here: reads are widened, and what is left of
//! a write at its ends goes through the page cache.
//!
//! Invariant: the size of a file is what was written, never rounded up.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::{OsFile, check_size_limit, open_regular_with};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::aligned::{ALIGNMENT, AlignedBytes};
use crate::fs::{Access, File, Region, Window};

/// Bytes that are moved at once.
const PIECE: usize = 1 << 20;

/// An open file that is read, and for the most part written, directly.
#[derive(Debug)]
pub(super) struct DirectFile {
    /// With `O_DIRECT`.
    direct: OsFile,
    /// Without, in a file that is written.
    buffered: Option<OsFile>,
    /// Offsets, lengths and addresses are multiples of it.
    alignment: usize,
}

impl DirectFile {
    /// Opens for reading. What other ways of writing left in the page cache is let go.
    pub(super) fn open(path: &Path) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        let file = DirectFile::with(path, &options, None)?;
        // SAFETY: the descriptor is open. A hint: what fails only leaves pages in memory.
        unsafe {
            libc::posix_fadvise(file.direct.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED)
        };
        Ok(Arc::new(file))
    }

    /// Goes on with a file that has just been created.
    pub(super) fn created(buffered: OsFile) -> Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true);
        let path = buffered.path.clone();
        Ok(Arc::new(DirectFile::with(&path, &options, Some(buffered))?))
    }

    fn with(
        path: &Path,
        options: &fs::OpenOptions,
        buffered: Option<OsFile>,
    ) -> Result<DirectFile> {
        let file = match open_regular_with(path, options, libc::O_DIRECT) {
            Ok(file) => file,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Err(unsupported(path));
            }
            Err(error) => return Err(Error::io("open", path, &error)),
        };
        let alignment = alignment(&file).ok_or_else(|| unsupported(path))?;
        let direct = OsFile { file, path: path.to_path_buf() };
        Ok(DirectFile { direct, buffered, alignment })
    }

    /// Reads whole pieces until `wanted` bytes are there.
    fn read_piece(&self, piece: &mut [u8], offset: u64, wanted: usize) -> io::Result<()> {
        let mut have = 0;
        while have < wanted {
            match self.direct.file.read_at(&mut piece[have..], offset + have as u64) {
                Ok(len) if have + len >= wanted => return Ok(()),
                // Less than whole units come only at the end of the file.
                Ok(len) if len == 0 || len % self.alignment != 0 => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(len) => have += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes `data`, whole units of it directly.
    fn write_pieces(&self, buffered: &OsFile, data: &[u8], offset: u64) -> io::Result<()> {
        let unit = self.alignment as u64;
        let head = (offset.next_multiple_of(unit) - offset).min(data.len() as u64) as usize;
        let whole = (data.len() - head) / self.alignment * self.alignment;
        let (head, rest) = data.split_at(head);
        let (whole, tail) = rest.split_at(whole);
        let mut at = offset;
        buffered.file.write_all_at(head, at)?;
        at += head.len() as u64;
        let mut piece = AlignedBytes::zeroed(whole.len().min(PIECE), self.alignment);
        for part in whole.chunks(PIECE) {
            let piece = &mut piece[..part.len()];
            piece.copy_from_slice(part);
            self.direct.file.write_all_at(piece, at)?;
            at += part.len() as u64;
        }
        buffered.file.write_all_at(tail, at)
    }
}

/// What a file system asks of direct reads and writes; `None` where it allows none. Before Linux
/// 6.1 it does not say; no usual one asks for more than a page.
fn alignment(file: &fs::File) -> Option<usize> {
    // SAFETY: all zeros are a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (flags, mask) = (libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN);
    // SAFETY: the path is an empty C string, the descriptor is open, the result is ours.
    let answer = unsafe { libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, mask, &mut found) };
    if answer != 0 || found.stx_mask & mask == 0 {
        return Some(ALIGNMENT);
    }
    let asked = found.stx_dio_offset_align.max(found.stx_dio_mem_align) as usize;
    (found.stx_dio_offset_align != 0).then(|| asked.max(ALIGNMENT).next_power_of_two())
}

#[cold]
fn unsupported(path: &Path) -> Error {
    let path = path.display();
    let what = format!("{path}: this file system has no direct I/O; open with io = mapped");
    Error::new(ErrorKind::Unsupported, what)
}

impl File for DirectFile {
    fn path(&self) -> &Path {
        &self.direct.path
    }

    fn size(&self) -> Result<u64> {
        self.direct.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let unit = self.alignment as u64;
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let start = at / unit * unit;
            let skipped = (at - start) as usize;
            let wanted = (skipped + rest.len()).min(PIECE.max(2 * self.alignment));
            let len = wanted.next_multiple_of(self.alignment);
            let mut piece = AlignedBytes::zeroed(len, self.alignment);
            self.read_piece(&mut piece, start, wanted).map_err(|error| {
                let len = rest.len();
                self.direct.fail(&format!("read {len} bytes at offset {at}"), &error)
            })?;
            let (part, behind) = rest.split_at_mut(wanted - skipped);
            part.copy_from_slice(&piece[skipped..wanted]);
            at += part.len() as u64;
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let written = match &self.buffered {
            None => Err(io::Error::from_raw_os_error(libc::EBADF)),
            Some(buffered) => check_size_limit(offset.checked_add(data.len() as u64))
                .and_then(|()| self.write_pieces(buffered, data, offset)),
        };
        written.map_err(|error| {
            let len = data.len();
            self.direct.fail(&format!("write {len} bytes at offset {offset}"), &error)
        })
    }

    fn allocate(&self, size: u64) -> Result<()> {
        self.buffered.as_ref().unwrap_or(&self.direct).allocate(size)
    }

    fn sync_data(&self) -> Result<()> {
        self.direct.sync_data()
    }

    fn map(&self, _len: usize, _access: Access) -> Result<Region> {
        Err(Error::new(ErrorKind::Misuse, "a file that is read directly is not mapped"))
    }

    fn map_window(&self, _offset: u64, _len: usize) -> Result<Window> {
        Err(Error::new(ErrorKind::Misuse, "a file that is written directly is not mapped"))
    }
}
