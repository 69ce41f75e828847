//! For tests (layer L4): manifests whose bytes were changed on purpose and whose checksums say
//! otherwise. Loading has to live with them.

use std::path::Path;

use super::edit::VersionEdit;
use super::layout::{CURRENT_SEED, HEADER_LEN, HEADER_SEED, encode_current, record_len};
use super::load::load;
use super::state::VersionState;
use crate::checksum::{checksum64, mix64};
use crate::filename::FileName;
use crate::fs::FileSystem;
use crate::fs::sim::SimDisk;

fn word(bytes: &[u8], at: usize) -> u64 {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn store(bytes: &mut [u8], at: usize, word: u64) {
    if let Some(place) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = word.to_le_bytes();
    }
}

/// Makes the checksum of a CURRENT right.
pub(crate) fn mend_current(bytes: &mut [u8]) {
    let Some(space) = bytes.iter().position(|byte| *byte == b' ') else { return };
    let sum = checksum64(&bytes[..space], CURRENT_SEED);
    let digits = format!("{sum:016x}");
    if let Some(place) = bytes.get_mut(space + 1..space + 17) {
        place.copy_from_slice(digits.as_bytes());
    }
}

/// Makes the checksums of a manifest right: of the header, and of the records as far as their
/// lengths lead from one to the next; each is chained to the one before.
pub(crate) fn mend_manifest(bytes: &mut [u8]) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let old = word(bytes, HEADER_LEN - 8);
    let salt = checksum64(&bytes[..HEADER_LEN - 8], HEADER_SEED);
    store(bytes, HEADER_LEN - 8, salt);
    let (mut at, mut chain) = (HEADER_LEN, salt);
    while at + 24 <= bytes.len() {
        let claims = word(bytes, at + 16);
        let (len, kind) = (claims as u32 as usize, (claims >> 32) as u32 ^ old as u32);
        let end = at + record_len(len);
        if end > bytes.len() || (word(bytes, at) == 0 && claims == 0) {
            break;
        }
        store(bytes, at + 8, chain);
        store(bytes, at + 16, u64::from(kind ^ salt as u32) << 32 | len as u64);
        chain = checksum64(&bytes[at + 8..end], mix64(salt, at as u64));
        store(bytes, at, chain);
        at = end;
    }
}

/// Reads `bytes` as an edit, and applies it.
pub(crate) fn read_edit(bytes: &[u8]) {
    let Ok(edit) = VersionEdit::decode(bytes) else { return };
    let again = VersionEdit::decode(&edit.encode());
    assert_eq!(again.as_ref().ok(), Some(&edit));
    let mut state = VersionState::new(1, 2);
    if state.apply(&edit).is_ok() && state.check_invariants().is_ok() {
        assert!(state.with(&VersionEdit::new()).is_ok());
    }
}

/// Reads `bytes` as a manifest, checksums mended.
pub(crate) fn read_manifest(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(16 << 10), 0);
    bytes[..8].copy_from_slice(b"toykvMAN");
    store(&mut bytes, 8, 1 | (HEADER_LEN as u64) << 32);
    store(&mut bytes, 32, 7);
    mend_manifest(&mut bytes);
    let (disk, dir) = (SimDisk::new(), Path::new("/db"));
    let written = disk.create_dir(dir).and_then(|()| {
        disk.write_file(FileName::Manifest(7).path(dir), &bytes)?;
        disk.write_file(FileName::Current.path(dir), encode_current(7).as_bytes())
    });
    if written.is_ok()
        && let Ok(Some(loaded)) = load(&disk, dir)
    {
        assert!(loaded.state.with(&VersionEdit::new()).is_ok());
    }
}
