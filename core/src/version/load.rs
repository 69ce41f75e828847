//! Reading of the manifest (layer L4).
//!
//! - DETECT: the state is that of all edits that were ever durable, or the answer is an error. Only
//!   the last edit may be missing, and only when no byte behind it proves that it was durable.
//! - Nothing is changed, whatever is found.

use std::path::Path;

use super::edit::VersionEdit;
use super::layout::{
    HEADER_LEN, Header, MAX_CURRENT_LEN, RECORD_HEADER_LEN, Record, RecordKind, decode_current,
    edit_error, record_kind, unsupported,
};
use super::state::VersionState;
use crate::coding::Decoder;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::fs::{Access, FileSystem, PathKind};
use crate::planted::planted;
use crate::types::FileNumber;

/// What the live manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// The state after its last edit.
    pub(crate) state: VersionState,
    /// Its number. It is not appended to any more: whoever will write creates a new one.
    pub(crate) number: FileNumber,
    /// Nothing was appended to it, so all of it was durable before CURRENT named it.
    pub(crate) is_fresh: bool,
}

/// Loads the version of the database in a directory; `None` where there is none, or only what a
/// crash left of creating one.
pub(crate) fn load(fs: &dyn FileSystem, dir: &Path) -> Result<Option<Loaded>> {
    let Some(number) = read_current(fs, dir)? else { return Ok(None) };
    let path = FileName::Manifest(number).path(dir);
    if fs.kind(&path)? != PathKind::File {
        return Err(Error::corruption(&path, 0, "CURRENT names this manifest and it is missing"));
    }
    let file = fs.open(&path)?;
    let size = file.size()?;
    let len = usize::try_from(size).ok().filter(|&len| len >= HEADER_LEN);
    let len = len.ok_or_else(|| Error::corruption(&path, size, "a manifest cut in its header"))?;
    let region = file.map(len, Access::Sequential)?;
    let bytes = region.get(0, len).unwrap_or(&[]);
    let (state, edits) = Replay::new(&path, bytes, number)?.run()?;
    Ok(Some(Loaded { state, number, is_fresh: edits == 1 }))
}

/// The number of the live manifest; `None` when there is no database.
pub(super) fn read_current(fs: &dyn FileSystem, dir: &Path) -> Result<Option<FileNumber>> {
    let path = FileName::Current.path(dir);
    let bad = |what: &str| Error::corruption(&path, 0, what);
    match fs.kind(&path)? {
        PathKind::File => {}
        PathKind::Absent => {
            let data = |name: &str| {
                matches!(FileName::parse(name), Some(FileName::Table(_) | FileName::Segment(_)))
            };
            return match fs.list_dir(dir)?.into_iter().find(|entry| data(&entry.name)) {
                Some(entry) => Err(bad(&format!("missing, though {} is there", entry.name))),
                None => Ok(None),
            };
        }
        PathKind::Directory | PathKind::Other => return Err(bad("not a file")),
    }
    let file = fs.open(&path)?;
    let size = file.size()?;
    if size > MAX_CURRENT_LEN {
        return Err(bad("names no manifest: too long"));
    }
    let mut bytes = vec![0; size as usize];
    file.read_at(&mut bytes, 0)?;
    let number = decode_current(&bytes).ok_or_else(|| bad("names no manifest"))?;
    Ok(Some(number))
}

/// The bytes of a manifest on their way to a state.
struct Replay<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    salt: u64,
    /// Checksum of the newest record.
    chain: u64,
    /// Where the next record begins.
    offset: usize,
    /// The file is at least this large.
    size: u64,
    state: VersionState,
}

impl<'a> Replay<'a> {
    fn new(path: &'a Path, bytes: &'a [u8], number: FileNumber) -> Result<Replay<'a>> {
        let (header, salt) = Header::decode(path, bytes)?;
        if header.number != number {
            let what = format!("this is manifest {}, not {number}", header.number);
            return Err(Error::corruption(path, 32, what));
        }
        let state = VersionState::new(header.db_id, header.hash_seed);
        let (offset, size) = (HEADER_LEN, header.size_bytes);
        let replay = Replay { path, bytes, salt, chain: salt, offset, size, state };
        replay.check_size()?;
        Ok(replay)
    }

    /// The state after the last edit, and the number of records that led there.
    fn run(mut self) -> Result<(VersionState, u64)> {
        let (mut newest, mut records) = (HEADER_LEN, 0);
        while let Some(record) = self.next_record() {
            newest = self.offset;
            records += 1;
            if !self.read(record)? {
                break;
            }
            self.chain = record.checksum;
            self.offset += record.len;
        }
        if self.offset == HEADER_LEN {
            return Err(self.bad(self.offset, "the manifest's first edit is not whole"));
        }
        self.check_tail()?;
        self.state.check_invariants().map_err(|what| self.bad(newest, what))?;
        Ok((self.state, records))
    }

    /// The record at the offset, if it is whole and follows the one before.
    fn next_record(&self) -> Option<Record<'a>> {
        let record = Record::claimed(self.bytes, self.offset, self.salt)?;
        let whole = record.is_whole(self.bytes, self.offset, self.salt);
        let whole = whole || planted("manifest: edit unchecked");
        (whole && record.previous == self.chain).then_some(record)
    }

    /// Does what a record says; false when no more follow.
    fn read(&mut self, record: Record<'_>) -> Result<bool> {
        let start = self.offset + RECORD_HEADER_LEN;
        match record_kind(record.kind) {
            Some(RecordKind::Confirm) => return Ok(false),
            Some(RecordKind::Edit) => {
                let edit = VersionEdit::decode(record.payload)
                    .map_err(|error| edit_error(self.path, start as u64, &error))?;
                self.state.apply(&edit).map_err(|what| self.bad(self.offset, what))?;
            }
            Some(RecordKind::Grow) if self.offset > HEADER_LEN => {
                let mut payload = Decoder::new(record.payload);
                let size = payload.u64().filter(|&size| payload.is_empty() && size > self.size);
                self.size = size.ok_or_else(|| self.bad(start, "an impossible size"))?;
                self.check_size()?;
            }
            Some(RecordKind::Grow) => {
                return Err(self.bad(self.offset, "the manifest's first record is no edit"));
            }
            None => {
                let what = format!("record of the unknown kind {}", record.kind);
                return Err(unsupported(self.path, self.offset as u64, what));
            }
        }
        Ok(true)
    }

    fn check_size(&self) -> Result<()> {
        let len = self.bytes.len();
        if (len as u64) < self.size {
            return Err(self.bad(len, format!("cut short from {} bytes", self.size)));
        }
        Ok(())
    }

    /// Refuses a manifest whose records go on behind the offset: whatever is written behind an edit
    /// is written after it is durable.
    fn check_tail(&self) -> Result<()> {
        // Each claim of a record costs a checksum over its length. Only a forged file has so many
        // that they cost more than this.
        let mut budget = self.bytes.len().saturating_mul(64);
        if planted("manifest: what follows is ignored") {
            return Ok(());
        }
        for offset in (self.offset + 8..self.bytes.len()).step_by(8) {
            let Some(record) = Record::claimed(self.bytes, offset, self.salt) else { continue };
            if record_kind(record.kind).is_none() {
                continue;
            }
            let Some(rest) = budget.checked_sub(record.len) else {
                return Err(self.bad(offset, "bytes made to look like many records"));
            };
            budget = rest;
            if record.is_whole(self.bytes, offset, self.salt) {
                let what = format!("damaged: a whole record follows at offset {offset}");
                return Err(self.bad(self.offset, what));
            }
        }
        Ok(())
    }

    fn bad(&self, offset: usize, what: impl Into<String>) -> Error {
        Error::corruption(self.path, offset as u64, what)
    }
}

#[cfg(test)]
mod tests;
