//! For tests (layer L6): files that were changed on purpose with checksums that say otherwise, and
//! bytes that pretend to be parts of them. What reads them must answer or refuse, never panic.

use crate::batch::WriteBatch;
use crate::filename::FileName;
use crate::{table, version, vlog};

/// Makes every checksum right of the file with this name in a database that the rest of its bytes
/// leaves a place for.
pub fn mend(name: &str, bytes: &mut [u8]) {
    match FileName::parse(name) {
        Some(FileName::Current) => version::hostile::mend_current(bytes),
        Some(FileName::Manifest(_)) => version::hostile::mend_manifest(bytes),
        Some(FileName::Segment(_)) => vlog::hostile::mend(bytes),
        Some(FileName::Table(_)) => table::hostile::mend(bytes),
        Some(FileName::Lock | FileName::CurrentTemp(_)) | None => {}
    }
}

/// Reads bytes as one part of a file, its checksum mended; panics when that goes wrong in any way
/// but a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The frames of a segment.
    Frames,
    /// A file of rewritten segments.
    Rewritten,
    /// A block of a table.
    Block,
    /// Lines of a locator.
    Locator,
    /// The end of a table; the first eight bytes say how large that is.
    Footer,
    /// A version edit.
    Edit,
    /// A manifest.
    Manifest,
    /// The wire form of a batch.
    Batch,
}

impl Part {
    /// Reads `bytes` as this part.
    pub fn read(self, bytes: &[u8]) {
        match self {
            Part::Frames => vlog::hostile::read_frames(bytes),
            Part::Rewritten => vlog::hostile::read_rewritten(bytes),
            Part::Block => table::hostile::read_block(bytes),
            Part::Locator => table::hostile::read_locator(bytes),
            Part::Footer => {
                if let Some((size, rest)) = bytes.split_first_chunk() {
                    table::hostile::read_footer(rest, u64::from_le_bytes(*size) as usize);
                }
            }
            Part::Edit => version::hostile::read_edit(bytes),
            Part::Manifest => version::hostile::read_manifest(bytes),
            Part::Batch => read_batch(bytes),
        }
    }
}

fn read_batch(bytes: &[u8]) {
    let Ok(batch) = WriteBatch::from_bytes(bytes) else { return };
    let again = WriteBatch::from_bytes(&batch.to_bytes());
    assert_eq!(again.ok().as_ref(), Some(&batch));
    assert_eq!(batch.entries().count(), batch.len());
}
