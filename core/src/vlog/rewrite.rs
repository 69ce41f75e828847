//! Writing of rewritten segments (layer L3): the live values of one or several segments, verbatim,
//! in one file, with the offset maps that lead to them.
//!
//! Invariants: a record keeps its bytes, and so its checksum, which has the address in its seed;
//! nothing is durable, and no reader may know of the file, before `finish` has returned.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::format::{MAP_PAGE_ENTRIES, MAX_SEGMENT_SIZE, PAGE, RewrittenHeader, RewrittenIdentity};
use super::map::encode_page;
use super::values::{Source, for_each_value};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem};
use crate::planted::planted;
use crate::types::SegmentId;

/// Bytes written at once, on a grid of as many, so that the system may keep huge pages of the file.
const PIECE: usize = 2 << 20;

/// Records between two looks at whether to go on.
const CHECK_EVERY: usize = 256;

/// A segment in the file being written: its number, and addresses with places, all in units.
struct Part {
    id: SegmentId,
    entries: Vec<(u32, u32)>,
}

/// Writes one file.
pub(crate) struct Rewriter {
    file: Arc<dyn File>,
    identity: RewrittenIdentity,
    /// What is not yet written.
    buffer: Vec<u8>,
    /// Where that begins.
    written: u64,
    parts: Vec<Part>,
}

impl Rewriter {
    /// Creates the file, for writing past the page cache if it is `direct`. After a failure of this
    /// or any later call a part of it may be there.
    pub(crate) fn create(
        fs: &dyn FileSystem,
        path: &Path,
        identity: RewrittenIdentity,
        direct: bool,
    ) -> Result<Rewriter> {
        let file = if direct { fs.create_direct(path)? } else { fs.create(path)? };
        let buffer = vec![0; PAGE as usize];
        Ok(Rewriter { file, identity, buffer, written: 0, parts: Vec::new() })
    }

    /// Copies the live values of a segment; answers how many and how many bytes. `check` is told
    /// of bytes copied and may stop it, which is answered with Cancelled. Takes 8 bytes of memory
    /// a record until the file is finished.
    pub(crate) fn copy<D: Iterator<Item = u32>>(
        &mut self,
        fs: &dyn FileSystem,
        source: Source<'_, D>,
        check: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(u64, u64)> {
        let mut part = Part { id: source.segment.id(), entries: Vec::new() };
        let (mut bytes, mut told) = (0, 0);
        for_each_value(fs, source, &mut |unit, record| {
            if part.entries.len().is_multiple_of(CHECK_EVERY) {
                if check(bytes - told).is_break() {
                    return Err(Error::new(ErrorKind::Cancelled, "collection was cancelled"));
                }
                told = bytes;
            }
            let place = self.written + self.buffer.len() as u64;
            part.entries.push((unit, (place / 8) as u32));
            bytes += record.len() as u64;
            self.put(record)
        })?;
        let count = part.entries.len() as u64;
        self.parts.push(part);
        Ok((count, bytes))
    }

    /// Bytes so far.
    fn len(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes maps, directory and header, and makes the bytes durable, but not the name.
    pub(crate) fn finish(mut self) -> Result<RewrittenIdentity> {
        let salt = self.identity.salt;
        self.pad()?;
        let mut directory = (self.parts.len() as u64).to_le_bytes().to_vec();
        let parts = std::mem::take(&mut self.parts);
        for part in &parts {
            let entries = part.entries.len() as u64;
            for word in [part.id, entries, self.len()] {
                directory.extend_from_slice(&word.to_le_bytes());
            }
            for entries in part.entries.chunks(MAP_PAGE_ENTRIES) {
                let first = entries.first().map_or(0, |(unit, _)| *unit);
                directory.extend_from_slice(&first.to_le_bytes());
                let offset = self.len();
                self.put(&encode_page(entries, salt, offset))?;
            }
        }
        let directory_at = self.len();
        self.put(&directory)?;
        self.pad()?;
        self.identity.size_bytes = self.len();
        self.write_out(self.buffer.len())?;
        if self.identity.size_bytes > MAX_SEGMENT_SIZE {
            return Err(Error::new(ErrorKind::TooLarge, "a rewritten segment of over 32 GiB"));
        }
        let header = RewrittenHeader::new(&self.identity, directory_at, &directory);
        self.file.write_at(&header.encode(), 0)?;
        if !planted("rewritten: not synced") {
            self.file.sync_data()?;
        }
        Ok(self.identity)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        let end = self.len();
        let whole = end - end % PIECE as u64;
        if whole > self.written { self.write_out((whole - self.written) as usize) } else { Ok(()) }
    }

    /// Zeros up to the next page.
    fn pad(&mut self) -> Result<()> {
        let missing = self.len().next_multiple_of(PAGE) - self.len();
        self.put(&vec![0; missing as usize])
    }

    fn write_out(&mut self, len: usize) -> Result<()> {
        let bytes = self.buffer.get(..len).unwrap_or_default();
        self.file.write_at(bytes, self.written)?;
        self.written += len as u64;
        self.buffer.drain(..len);
        Ok(())
    }
}
