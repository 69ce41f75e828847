//! Whether a file is the segment that the version means (layer L3).
//!
//! Invariant: nothing of a file is believed before number, salt, database and size have been
//! compared; what is missing or another is Corruption, what another version wrote is
//! UnsupportedFormat.

use std::path::Path;
use std::sync::Arc;

use super::format::{
    FORMAT_VERSION, HeaderFault, RewrittenHeader, RewrittenIdentity, SegmentIdentity,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{File, FileSystem, PathKind};

/// The length of the map of a segment.
pub(super) fn map_len(identity: &SegmentIdentity) -> Result<usize> {
    usize::try_from(identity.size_bytes)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "segment is larger than the address space"))
}

/// Opens a file, which must be there and have this size, for reading.
pub(super) fn open_file(
    fs: &dyn FileSystem,
    path: &Path,
    size_bytes: u64,
    direct: bool,
) -> Result<Arc<dyn File>> {
    if fs.kind(path)? == PathKind::Absent {
        return Err(Error::corruption(path, 0, "this segment of the log is missing"));
    }
    let file = if direct { fs.open_direct(path)? } else { fs.open(path)? };
    let size = file.size()?;
    if size != size_bytes {
        let what = format!("segment has {size} bytes, not {size_bytes}");
        return Err(Error::corruption(path, size.min(size_bytes), what));
    }
    Ok(file)
}

fn header_error(path: &Path, fault: HeaderFault) -> Error {
    match fault {
        HeaderFault::Damage(what) => Error::corruption(path, 0, what),
        HeaderFault::Version(found) => {
            let what = format!(
                "{}: segment has format version {found}, this library reads {FORMAT_VERSION}",
                path.display()
            );
            Error::new(ErrorKind::UnsupportedFormat, what)
        }
    }
}

/// Compares the header of a segment with what the version says of it.
pub(super) fn check_identity(path: &Path, header: &[u8], expected: &SegmentIdentity) -> Result<()> {
    let found = SegmentIdentity::decode(header).map_err(|fault| header_error(path, fault))?;
    let words = |of: &SegmentIdentity| [of.id, of.salt, of.db_id, of.size_bytes];
    check_words(path, words(&found), words(expected))
}

/// As check_identity, of a file of rewritten segments.
pub(super) fn check_rewritten(
    path: &Path,
    header: &[u8],
    expected: &RewrittenIdentity,
) -> Result<RewrittenHeader> {
    let found = RewrittenHeader::decode(header).map_err(|fault| header_error(path, fault))?;
    let words = |of: &RewrittenIdentity| [of.file, of.salt, of.db_id, of.size_bytes];
    check_words(path, words(&found.identity), words(expected))?;
    Ok(found)
}

/// Compares number, salt, database and size, which both headers have in the same places.
fn check_words(path: &Path, found: [u64; 4], expected: [u64; 4]) -> Result<()> {
    let names = [(16, "number"), (24, "salt"), (32, "database"), (40, "size")];
    for ((offset, name), (found, expected)) in
        names.into_iter().zip(found.into_iter().zip(expected))
    {
        if found != expected {
            let what = format!("another segment is here: {name} {found:#x}, not {expected:#x}");
            return Err(Error::corruption(path, offset, what));
        }
    }
    Ok(())
}
