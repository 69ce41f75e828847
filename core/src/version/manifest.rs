//! Writing of the manifest (layer L4): the file of version edits that `CURRENT` names.
//!
//! - ACK: [`Manifest::append`] answers Ok only when the edit is durable.
//! - SWITCH: a new manifest, and its name, are durable before `CURRENT` names it.
//! - STICKY: after a failed write or sync nothing is appended any more.
//! - SIZE: the file is grown ahead of the edits and says how large it is, so a shortened file is
//!   never taken for one with fewer edits.
//! - CONFIRM: what follows a durable edit proves that it was durable, so that damage to it is told
//!   from an edit that a crash cut short.

use std::path::Path;
use std::sync::Arc;

use super::edit::VersionEdit;
use super::layout::{GROW_LEN, HEADER_LEN, Header, Record, RecordKind, encode_current, record_len};
use super::state::VersionState;
use crate::coding::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{File, FileSystem};
use crate::planted::planted;
use crate::types::FileNumber;

/// Manifests grow by multiples of this.
pub(super) const STEP: u64 = 16 << 10;

/// The live manifest, open for appending by the one thread that may.
#[derive(Debug)]
pub(crate) struct Manifest {
    file: Arc<dyn File>,
    number: FileNumber,
    /// The header's checksum, which goes into that of every record.
    salt: u64,
    /// Checksum of the newest record.
    chain: u64,
    /// Bytes of the header and the first edit.
    base: u64,
    /// Where the next record goes; at least [`GROW_LEN`] before the end of the file.
    end: u64,
    /// Durable size of the file.
    size: u64,
    /// The failure after which nothing may be appended.
    poison: Option<Error>,
}

impl Manifest {
    /// Writes a new manifest that makes `state`, and makes it the live one. `number` is below
    /// `state.next_file` and names no file yet.
    ///
    /// When it fails with another kind than Poisoned, the manifest that was live still is. Poisoned
    /// means that either may be live after a crash, so no edit may be appended to either.
    pub(crate) fn create(
        fs: &dyn FileSystem,
        dir: &Path,
        number: FileNumber,
        state: &VersionState,
    ) -> Result<Manifest> {
        if planted("manifest: live before it is there") {
            make_current(fs, dir, number)?;
            return Manifest::write_new(fs, dir, number, state);
        }
        let manifest = Manifest::write_new(fs, dir, number, state)?;
        if !planted("manifest: name not synced before CURRENT") {
            fs.sync_dir(dir)?;
        }
        make_current(fs, dir, number)?;
        Ok(manifest)
    }

    /// Appends an edit and makes it durable. It must fit the state, see [`VersionState::with`].
    ///
    /// DiskFull comes before anything is written, when there is no room to grow the file: the same
    /// edit may be tried again. After any failure of a write or a sync, whether the edit is durable
    /// is unknown; later calls answer Poisoned.
    pub(crate) fn append(&mut self, edit: &VersionEdit) -> Result<()> {
        if let Some(error) = &self.poison {
            return Err(error.with_kind(ErrorKind::Poisoned));
        }
        let payload = encode(edit)?;
        self.make_room(record_len(payload.len()) as u64)?;
        self.append_record(RecordKind::Edit, &payload)?;
        self.confirm();
        Ok(())
    }

    /// The number in the file's name.
    pub(crate) fn number(&self) -> FileNumber {
        self.number
    }

    /// Bytes that its edits take; when it has become large a new one is shorter.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.end
    }

    /// Bytes that its first edit, which makes the whole state, took.
    pub(crate) fn base_bytes(&self) -> u64 {
        self.base
    }

    /// Whether a write or sync has failed, so that its last edit may or may not be durable.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.poison.is_some()
    }

    fn write_new(
        fs: &dyn FileSystem,
        dir: &Path,
        number: FileNumber,
        state: &VersionState,
    ) -> Result<Manifest> {
        let outcome = state.check_invariants().and_then(|()| {
            let fits = number < state.next_file;
            fits.then_some(()).ok_or_else(|| format!("manifest {number} has a used number"))
        });
        outcome.map_err(|what| Error::new(ErrorKind::Misuse, what))?;
        let payload = encode(&state.to_edit())?;
        let end = (HEADER_LEN + record_len(payload.len())) as u64;
        let size = (end + GROW_LEN).next_multiple_of(STEP);
        let (db_id, hash_seed) = (state.db_id, state.hash_seed);
        let mut bytes = Header { db_id, hash_seed, number, size_bytes: size }.encode();
        let salt = bytes.last_chunk::<8>().and_then(|bytes| Decoder::new(bytes).u64());
        let salt = salt.unwrap_or_default();
        let edit = (RecordKind::Edit, payload.as_slice());
        let chain = Record::put(&mut bytes, salt, HEADER_LEN as u64, salt, edit)?;
        let file = fs.create(&FileName::Manifest(number).path(dir))?;
        file.allocate(size)?;
        file.write_at(&bytes, 0)?;
        if !planted("manifest: not synced when new") {
            file.sync_data()?;
        }
        Ok(Manifest { file, number, salt, chain, base: end, end, size, poison: None })
    }

    /// Grows the file until a record of `len` bytes fits, and records the new size before anything
    /// relies on it: first the size becomes durable, then the record that tells it.
    fn make_room(&mut self, len: u64) -> Result<()> {
        if self.end + len + GROW_LEN <= self.size {
            return Ok(());
        }
        let size = (self.end + GROW_LEN + len + GROW_LEN).next_multiple_of(STEP);
        self.file.allocate(size)?;
        if !planted("manifest: grown without a sync") {
            let synced = self.file.sync_data();
            self.poisoning(synced)?;
        }
        self.append_record(RecordKind::Grow, &size.to_le_bytes())?;
        self.size = size;
        Ok(())
    }

    fn append_record(&mut self, kind: RecordKind, payload: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        let checksum = Record::put(&mut bytes, self.salt, self.end, self.chain, (kind, payload))?;
        let written = self.file.write_at(&bytes, self.end);
        let written = match planted("manifest: edit not synced") {
            true => written,
            false => written.and_then(|()| self.file.sync_data()),
        };
        self.poisoning(written)?;
        self.chain = checksum;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Writes the proof that everything before it is durable, to become durable whenever. It only
    /// helps to recognise damage, so a failure is no matter.
    fn confirm(&mut self) {
        let mut bytes = Vec::new();
        let confirm = (RecordKind::Confirm, &b""[..]);
        if Record::put(&mut bytes, self.salt, self.end, self.chain, confirm).is_ok() {
            let _ = self.file.write_at(&bytes, self.end);
        }
    }

    fn poisoning(&mut self, outcome: Result<()>) -> Result<()> {
        if planted("manifest: goes on after a failure") {
            return outcome;
        }
        outcome.inspect_err(|error| self.poison = Some(error.clone()))
    }
}

/// The stored form of an edit, if it will be read as this edit: Corruption otherwise, before
/// anything is written. Numbers from a forged table could make one that nobody can read again.
fn encode(edit: &VersionEdit) -> Result<Vec<u8>> {
    let payload = edit.encode();
    match VersionEdit::decode(&payload) {
        Ok(again) if again == *edit => Ok(payload),
        _ => Err(Error::new(ErrorKind::Corruption, "a version edit would not be read again")),
    }
}

/// Makes `CURRENT` name a manifest whose bytes and name are durable.
pub(crate) fn make_current(fs: &dyn FileSystem, dir: &Path, number: FileNumber) -> Result<()> {
    let temp = FileName::CurrentTemp(number).path(dir);
    let file = fs.create(&temp)?;
    file.write_at(encode_current(number).as_bytes(), 0)?;
    if !planted("CURRENT: not synced") {
        file.sync_data()?;
    }
    let renamed = fs.rename(&temp, &FileName::Current.path(dir));
    if planted("CURRENT: rename not synced") {
        return renamed;
    }
    renamed.and_then(|()| fs.sync_dir(dir)).map_err(|error| error.with_kind(ErrorKind::Poisoned))
}

#[cfg(test)]
mod tests;
