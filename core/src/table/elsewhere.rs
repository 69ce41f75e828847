//! Where the blocks of a table come from that are not read in place (layer L3), and the pages of
//! its locator where that is not kept in memory.
//!
//! Invariant: when the table goes, so do its blocks in the cache.

use std::sync::Arc;

use crate::buffer::Buffer;
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
    /// Pages of the locator that were.
    kept_pages: Bits,
    /// Cells whose blocks are plain, mapped, and checked.
    pub(super) plain: Bits,
}

impl Elsewhere {
    /// Blocks of the table `number` with so many cells, and with so many pages of its locator,
    /// through `cache`; from `file` if the table is not mapped.
    pub(super) fn new(
        cache: Arc<Cache>,
        number: FileNumber,
        cells: u64,
        pages: usize,
        file: Option<Arc<dyn File>>,
    ) -> Elsewhere {
        let (kept, plain) = (Bits::new(cells as usize), Bits::new(cells as usize));
        Elsewhere { cache, number, file, kept, kept_pages: Bits::new(pages), plain }
    }

    /// What it takes on the heap beside the cache.
    pub(super) fn heap_bytes(&self) -> u64 {
        self.kept.heap_bytes() + self.kept_pages.heap_bytes() + self.plain.heap_bytes()
    }

    /// The file, when it is read directly.
    pub(super) fn file(&self) -> Option<&Arc<dyn File>> {
        self.file.as_ref()
    }

    /// The block that starts in a cell, if the cache has it.
    #[inline]
    pub(super) fn cached(&self, cell: usize) -> Option<Buffer> {
        self.cache.get(self.key(cell))
    }

    /// Whether the cache has a block; counts neither hit nor miss.
    pub(super) fn has(&self, cell: usize) -> bool {
        self.cache.has(self.key(cell))
    }

    /// Puts a block into the cache.
    pub(super) fn keep(&self, cell: usize, block: &Buffer) {
        self.kept.set(cell);
        self.cache.insert(self.key(cell), block);
    }

    /// A page of the locator, if the cache has it.
    pub(super) fn cached_page(&self, page: usize) -> Option<Buffer> {
        self.cache.get(self.page_key(page))
    }

    /// Puts a page of the locator into the cache.
    pub(super) fn keep_page(&self, page: usize, bytes: &Buffer) {
        self.kept_pages.set(page);
        self.cache.insert(self.page_key(page), bytes);
    }

    /// A buffer of bytes that were read.
    pub(super) fn buffer(&self, block: Box<[u8]>) -> Buffer {
        self.cache.buffer(block)
    }

    /// The cache, for who reads past it.
    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    fn key(&self, cell: usize) -> (FileNumber, u32) {
        (self.number, cell as u32)
    }

    /// Counted from the other end: no table has so many cells and pages.
    fn page_key(&self, page: usize) -> (FileNumber, u32) {
        (self.number, u32::MAX - page as u32)
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.kept.iter().for_each(|cell| self.cache.remove(self.key(cell)));
        self.kept_pages.iter().for_each(|page| self.cache.remove(self.page_key(page)));
    }
}
