//! Where the blocks of a table come from that are not read in place (layer L3).
//!
//! Invariant: when the table goes, so do its blocks in the cache.

use std::sync::Arc;

use crate::cache::Cache;
use crate::fs::File;
use crate::table::bits::Bits;
use crate::types::FileNumber;

/// Where blocks come from that are not read in place.
pub(super) struct Elsewhere {
    cache: Arc<Cache>,
    number: FileNumber,
    /// The file, when it is read directly.
    file: Option<Arc<dyn File>>,
    /// Cells whose blocks were put into the cache at some time.
    kept: Bits,
    /// Cells whose blocks are plain, mapped, and checked.
    pub(super) plain: Bits,
}

impl Elsewhere {
    /// Blocks of the table `number` with so many cells, through `cache`; from `file` if the table
    /// is not mapped.
    pub(super) fn new(
        cache: Arc<Cache>,
        number: FileNumber,
        cells: u64,
        file: Option<Arc<dyn File>>,
    ) -> Elsewhere {
        let cells = cells as usize;
        Elsewhere { cache, number, file, kept: Bits::new(cells), plain: Bits::new(cells) }
    }

    /// The file, when it is read directly.
    pub(super) fn file(&self) -> Option<&Arc<dyn File>> {
        self.file.as_ref()
    }

    /// The block that starts in a cell, if the cache has it.
    #[inline]
    pub(super) fn cached(&self, cell: usize) -> Option<Arc<[u8]>> {
        self.cache.get(self.key(cell))
    }

    /// Puts a block into the cache.
    pub(super) fn keep(&self, cell: usize, block: &Arc<[u8]>) {
        self.kept.set(cell);
        self.cache.insert(self.key(cell), block);
    }

    fn key(&self, cell: usize) -> (FileNumber, u32) {
        (self.number, cell as u32)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.kept.iter().for_each(|cell| self.cache.remove(self.key(cell)));
    }
}
