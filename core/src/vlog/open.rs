//! Making segments and opening them (layer L3).
//!
//! Invariant: a segment's identity is checked before anybody reads from it.

use std::path::Path;
use std::sync::Arc;

use super::ahead::Ahead;
use super::file::SegmentFile;
use super::format::{RewrittenIdentity, SEGMENT_HEADER_LEN, SegmentIdentity};
use super::identify::{check_identity, check_rewritten, map_len};
use super::map::{MapFile, decode_directory};
use super::segment::Segment;
use crate::cache::FileAccess;
use crate::error::{ErrorKind, Result};
use crate::fs::{Access, File, FileSystem, Region};
use crate::planted::planted;
use crate::types::SegmentId;

/// What a segment is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenFor {
    /// Replay: read in order, and synced once before a table may point into it, so the descriptor
    /// stays open until then.
    Replay,
    /// Values that tables point to: read anywhere, already durable.
    Values,
}

/// How much of a new segment is written with zeros before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefill {
    /// The first window; the rest just before it is reached.
    Window,
    /// All of it, durably: a sync of fresh blocks costs half as much again. For databases that sync
    /// every write.
    All,
}

impl Segment {
    /// Makes a segment ready for its first append: blocks allocated, identity written, file and
    /// directory durable, pages touched. Slow; meant for a background thread. After a
    /// failure a part of the file may be there.
    pub(crate) fn create(
        fs: &dyn FileSystem,
        path: &Path,
        identity: SegmentIdentity,
        prefill: Prefill,
        access: &FileAccess,
    ) -> Result<Segment> {
        identity.check_size()?;
        let size = identity.size_bytes;
        let file = fs.create(path)?;
        file.allocate(size)?;
        file.write_at(&identity.encode(), 0)?;
        let mut ahead = Ahead::new(Arc::clone(&file), size, SEGMENT_HEADER_LEN as u64);
        if prefill == Prefill::All {
            ahead.prefill(size)?;
        }
        if !planted("segment: not synced when new") {
            file.sync_data()?;
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        if !planted("segment: name not synced") {
            fs.sync_dir(dir.unwrap_or(Path::new(".")))?;
        }
        let region = file.map(map_len(&identity)?, Access::Random)?;
        if prefill == Prefill::Window {
            ahead.prepare()?;
        }
        let own = SegmentFile::mapped(path, (identity.id, size), &access.cache);
        let segment = Segment::new(identity, Arc::new(own), region, Some(file));
        segment.begin(ahead);
        Ok(segment)
    }

    /// Opens a segment that the version knows. Corruption when the file is missing or is another
    /// segment; UnsupportedFormat when another version wrote it. Changes nothing.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        identity: SegmentIdentity,
        purpose: OpenFor,
        access: &FileAccess,
    ) -> Result<Segment> {
        let told = identity.check_size();
        told.map_err(|error| error.with_kind(ErrorKind::Corruption).in_file(path, 0))?;
        let (order, direct) = match purpose {
            OpenFor::Replay => (Access::Sequential, false),
            OpenFor::Values => (Access::Random, access.direct),
        };
        let (cache, number_and_size) = (&access.cache, (identity.id, identity.size_bytes));
        let access = FileAccess { cache: Arc::clone(cache), direct };
        let (own, file) = SegmentFile::open(fs, path, number_and_size, &access)?;
        let (region, header) = read_header(&own, &*file, &identity, order)?;
        check_identity(path, &header, &identity)?;
        let file = (purpose == OpenFor::Replay).then_some(file);
        Ok(Segment::new(identity, Arc::new(own), region, file))
    }

    /// Opens a file of rewritten segments that the version knows; errors as for `open`.
    pub(crate) fn open_rewritten(
        fs: &dyn FileSystem,
        path: &Path,
        expected: RewrittenIdentity,
        access: &FileAccess,
    ) -> Result<Vec<Segment>> {
        let RewrittenIdentity { file: number, salt, db_id, size_bytes } = expected;
        let identity = SegmentIdentity { id: 0, salt, db_id, size_bytes };
        let (own, file) = SegmentFile::open(fs, path, (number, size_bytes), access)?;
        let (region, header) = read_header(&own, &*file, &identity, Access::Random)?;
        let header = check_rewritten(path, &header, &expected)?;
        let own = Arc::new(own);
        let file = MapFile { region: region.clone(), file: Arc::clone(&own), salt };
        let maps = decode_directory(&file, &header)?;
        let open = |(id, map)| {
            let identity = SegmentIdentity { id, ..identity };
            Segment::new(identity, Arc::clone(&own), region.clone(), None).with_map(map)
        };
        Ok(maps.into_iter().map(open).collect())
    }

    /// Opens a file as segment `id` whatever its header says and however long it is.
    pub(super) fn open_unchecked(
        fs: &dyn FileSystem,
        path: &Path,
        id: SegmentId,
        salt: u64,
    ) -> Result<Segment> {
        let file = fs.open(path)?;
        let identity = SegmentIdentity { id, salt, db_id: 0, size_bytes: file.size()? };
        let region = file.map(map_len(&identity)?, Access::Random)?;
        let own =
            SegmentFile::mapped(path, (id, identity.size_bytes), &FileAccess::new(0, false).cache);
        Ok(Segment::new(identity, Arc::new(own), region, None))
    }
}

/// The map of a file, none if it is read directly, and its header.
fn read_header(
    own: &SegmentFile,
    file: &dyn File,
    identity: &SegmentIdentity,
    order: Access,
) -> Result<(Region, Vec<u8>)> {
    if own.direct().is_some() {
        let len = identity.size_bytes.min(SEGMENT_HEADER_LEN as u64);
        return Ok((Region::empty(), own.read(0, len as usize)?.into_vec()));
    }
    let region = file.map(map_len(identity)?, order)?;
    let header = region.get(0, SEGMENT_HEADER_LEN).unwrap_or_default().to_vec();
    Ok((region, header))
}
