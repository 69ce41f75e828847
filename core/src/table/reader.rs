//! Reading a table (layer L3): an open table is immutable, shared by all threads, and answers from
//! its map without lock, copy or allocation.

use std::cmp::Ordering;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use crate::checksum::{checksum64, mix64};
use crate::coding::Decoder;
use crate::error::{Error, Result};
use crate::fs::{Access, File, FileSystem, Region};
use crate::table::block::{Block, RawEntry, common_prefix, prefix8};
use crate::table::format::{Footer, INDEX_SEED, Layout, PAGE, TAIL_SEED, page_seed};
use crate::table::index::Index;
use crate::table::locator::{self, LINE_LEN, Line};
use crate::types::{FileNumber, Kind, SeqNo};

/// An entry of a table; the value lies in the table's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry<'a> {
    /// Its sequence number.
    pub(crate) seqno: SeqNo,
    /// What it says about its key.
    pub(crate) kind: Kind,
    /// The value, or an encoded pointer of 16 bytes, or nothing.
    pub(crate) value: &'a [u8],
}

/// An open table.
#[repr(align(64))]
pub(crate) struct Table {
    region: Region,
    grid_shift: u32,
    lines: u64,
    layout: Layout,
    seqno_base: SeqNo,
    verified_blocks: Bits,
    verified_pages: Bits,
    verified_index: Bits,
    index: Index,
    footer: Footer,
    shared: usize,
    fs: Arc<dyn FileSystem>,
    path: PathBuf,
}

/// One bit for every part that was checked. The bytes never change, so order does not matter.
struct Bits(Box<[AtomicU64]>);

impl Bits {
    fn new(len: usize) -> Bits {
        Bits((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    #[inline]
    fn get(&self, index: usize) -> bool {
        self.0
            .get(index / 64)
            .is_some_and(|word| word.load(Memory::Relaxed) >> (index % 64) & 1 == 1)
    }

    fn set(&self, index: usize) {
        if let Some(word) = self.0.get(index / 64) {
            word.fetch_or(1 << (index % 64), Memory::Relaxed);
        }
    }
}

/// A place in a table: a block's number and an entry's index in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) block: usize,
    pub(super) entry: usize,
}

impl Table {
    /// Maps the table `number` at `path` and checks its footer. `size_bytes` and `seqno_base` are
    /// what the version says; the file must have that size. The file itself is closed again.
    pub(crate) fn open(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        number: FileNumber,
        size_bytes: u64,
        hash_seed: u64,
        seqno_base: SeqNo,
    ) -> Result<Table> {
        let file = fs.open(path)?;
        let size = file.size()?;
        if size != size_bytes {
            let what = format!("table has {size} bytes instead of {size_bytes}");
            return Err(Error::corruption(path, size.min(size_bytes), what));
        }
        let len = usize::try_from(size)
            .map_err(|_| Error::corruption(path, 0, "table is larger than memory can be"))?;
        let region = file.map(len, Access::Random)?;
        let (footer, layout) = Footer::read(&region, path, hash_seed)?;
        if footer.number != number {
            let what = format!("this is table {} instead of {number}", footer.number);
            return Err(Error::corruption(path, layout.footer as u64, what));
        }
        let cells = layout.data_end >> footer.grid_shift;
        let mut table = Table {
            region,
            grid_shift: footer.grid_shift,
            lines: footer.lines,
            seqno_base,
            verified_blocks: Bits::new(cells),
            verified_pages: Bits::new((layout.locator_end - layout.data_end).div_ceil(PAGE)),
            verified_index: Bits::new(1),
            index: Index::new(footer.blocks, footer.cells),
            layout,
            footer,
            shared: 0,
            fs: Arc::clone(fs),
            path: path.to_path_buf(),
        };
        table.check_tail()?;
        Ok(table)
    }

    /// Checks the tail and learns the prefix that all keys share.
    fn check_tail(&mut self) -> Result<()> {
        let (start, end) = (self.layout.index_end, self.layout.footer);
        let tail = self.bytes(start..end)?;
        if checksum64(tail, mix64(self.footer.salt, TAIL_SEED)) != self.footer.tail_checksum {
            return Err(self.corrupt(start, "tail is damaged"));
        }
        self.shared = common_prefix(self.smallest(), self.largest());
        Ok(())
    }

    /// The smallest encoded key.
    pub(crate) fn smallest(&self) -> &[u8] {
        let start = self.layout.checksums_end;
        self.region.get(start, self.footer.smallest_len as usize).unwrap_or(&[])
    }

    /// The largest encoded key.
    pub(crate) fn largest(&self) -> &[u8] {
        let len = self.footer.largest_len as usize;
        self.region.get(self.layout.footer.saturating_sub(len), len).unwrap_or(&[])
    }

    /// Entries, all versions counted.
    pub(crate) fn entries(&self) -> u64 {
        self.footer.entries
    }

    /// Different keys.
    pub(crate) fn keys(&self) -> u64 {
        self.footer.keys
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts to load what a `get` of a key with this hash reads first.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        let line = self.layout.data_end + locator::home(hash, self.lines) * LINE_LEN;
        prefetch(self.region.address(line));
    }

    /// The newest version of `key` with a sequence number up to `max_seqno`. `key` is encoded and
    /// `hash` its hash under the database's seed.
    #[inline]
    pub(crate) fn get(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'_>>> {
        let home = locator::home(hash, self.lines);
        let line = self.line(home)?;
        if let Some(found) = self.probe(line, key, hash)? {
            return self.visible(found, key, max_seqno);
        }
        if locator::may_be_displaced(line, hash) {
            self.get_displaced(key, hash, max_seqno)
        } else {
            Ok(None)
        }
    }

    /// The kind of the newest version of `key`.
    #[inline]
    pub(crate) fn contains_newest(&self, key: &[u8], hash: u64) -> Result<Option<Kind>> {
        Ok(self.get(key, hash, SeqNo::MAX)?.map(|entry| entry.kind))
    }

    /// As get, for keys that are not in their home line.
    #[cold]
    fn get_displaced(
        &self,
        key: &[u8],
        hash: u64,
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'_>>> {
        let home = locator::home(hash, self.lines);
        let line = self.line(home)?;
        for step in 1..=locator::reach(line) {
            if let Some(found) = self.probe(self.line(home + step)?, key, hash)? {
                return self.visible(found, key, max_seqno);
            }
        }
        if locator::must_search(line) { self.search(key, max_seqno) } else { Ok(None) }
    }

    /// The entry of `key` that a line of the locator points at.
    #[inline(always)]
    fn probe(&self, line: &Line, key: &[u8], hash: u64) -> Result<Option<Found<'_>>> {
        let mut bits = locator::matches(line, hash);
        while bits != 0 {
            let position = locator::position(line, bits.trailing_zeros() as usize);
            bits &= bits - 1;
            if position == 0 {
                continue;
            }
            let cell = position >> self.grid_shift;
            // The entry and its block's header are loaded side by side.
            prefetch(self.region.address(position));
            if !self.verified_blocks.get(cell) {
                self.verify_block(cell)?;
            }
            let Some(block) = self.parse_block(cell) else { return Err(self.damaged(cell)) };
            let Some(entry) = block.entry_at(position - (cell << self.grid_shift)) else {
                return Err(self.damaged(cell));
            };
            if is_key(&block, &entry, key) {
                return Ok(Some(Found { block, entry }));
            }
        }
        Ok(None)
    }

    /// The found version, or an older one, that `max_seqno` sees.
    #[inline(always)]
    fn visible<'a>(
        &'a self,
        found: Found<'a>,
        key: &[u8],
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'a>>> {
        let entry = self.entry(&found.entry);
        if entry.seqno <= max_seqno {
            Ok(Some(entry))
        } else {
            self.get_older(found, key, max_seqno)
        }
    }

    #[inline]
    fn entry<'a>(&self, entry: &RawEntry<'a>) -> TableEntry<'a> {
        let seqno = self.seqno_base.wrapping_add(entry.delta);
        TableEntry { seqno, kind: entry.kind, value: entry.value }
    }

    /// Follows the older versions of a key a few steps, then searches.
    #[cold]
    fn get_older<'a>(
        &'a self,
        found: Found<'a>,
        key: &[u8],
        max_seqno: SeqNo,
    ) -> Result<Option<TableEntry<'a>>> {
        let Found { block, mut entry } = found;
        let last = block.entry_offset(block.count() - 1).unwrap_or(0);
        for _ in 0..16 {
            if entry.end > last {
                break;
            }
            let Some(next) = block.entry_at(entry.end).filter(|next| next.older) else {
                return Ok(None);
            };
            if self.entry(&next).seqno <= max_seqno {
                return Ok(Some(self.entry(&next)));
            }
            entry = next;
        }
        self.search(key, max_seqno)
    }

    /// As get, through the index instead of the locator.
    fn search(&self, key: &[u8], max_seqno: SeqNo) -> Result<Option<TableEntry<'_>>> {
        let Some(delta) = max_seqno.checked_sub(self.seqno_base) else { return Ok(None) };
        let place = self.lower_bound(key, delta)?;
        if place.block >= self.index.blocks() {
            return Ok(None);
        }
        let cell = self.cell_of(place.block)?;
        let block = self.block_in_cell(cell)?;
        let entry = block.entry(place.entry).ok_or_else(|| self.damaged(cell))?;
        Ok(is_key(&block, &entry, key).then(|| self.entry(&entry)))
    }

    /// About where in the file `key` is or would be.
    pub(crate) fn approx_offset_of(&self, key: &[u8]) -> Result<u64> {
        let before = self.blocks_before(key, SeqNo::MAX)?;
        let cell = if before == 0 { 0 } else { self.cell_of(before - 1)? };
        Ok((cell as u64) << self.grid_shift)
    }

    /// The place of the first entry at or after (key, base + `delta`). The entry is below its
    /// block's count; the block may be the one after the last.
    pub(super) fn lower_bound(&self, key: &[u8], delta: SeqNo) -> Result<Place> {
        let before = self.blocks_before(key, delta)?;
        if before == 0 {
            return Ok(Place { block: 0, entry: 0 });
        }
        let cell = self.cell_of(before - 1)?;
        let block = self.block_in_cell(cell)?;
        let entry = block.lower_bound(key, delta).ok_or_else(|| self.damaged(cell))?;
        if entry < block.count() {
            Ok(Place { block: before - 1, entry })
        } else {
            Ok(Place { block: before, entry: 0 })
        }
    }

    /// How many blocks start before (key, base + `delta`).
    fn blocks_before(&self, key: &[u8], delta: SeqNo) -> Result<usize> {
        let blocks = self.index.blocks();
        let common = &self.smallest()[..self.shared];
        let (head, rest) = key.split_at(common.len().min(key.len()));
        match head.cmp(&common[..head.len()]) {
            Ordering::Less => return Ok(0),
            Ordering::Greater => return Ok(blocks),
            Ordering::Equal if head.len() < common.len() => return Ok(0),
            Ordering::Equal => {}
        }
        let (bytes, target) = (self.index_bytes()?, prefix8(rest));
        let index_error = || self.corrupt(self.layout.locator_end, "index is damaged");
        let below = self.index.count_below(bytes, target).ok_or_else(index_error)?;
        if below >= blocks || self.index.number(bytes, below) != Some(target) {
            return Ok(below);
        }
        // Several first keys have the same eight bytes: look at the keys themselves.
        let upto = match target.checked_add(1) {
            Some(next) => self.index.count_below(bytes, next).ok_or_else(index_error)?,
            None => blocks,
        };
        let (mut low, mut high) = (below, upto);
        while low < high {
            let middle = low + (high - low) / 2;
            let cell = self.cell_of(middle)?;
            let order = self.block_in_cell(cell)?.compare_first(key, delta);
            if order.ok_or_else(|| self.damaged(cell))?.is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// Blocks.
    #[inline]
    pub(super) fn blocks(&self) -> usize {
        self.index.blocks()
    }

    /// The cell in which a block starts.
    #[inline]
    pub(super) fn cell_of(&self, block: usize) -> Result<usize> {
        let bytes = self.index_bytes()?;
        let cell = self.index.cell(bytes, block);
        cell.ok_or_else(|| self.corrupt(self.layout.locator_end, "index is damaged"))
    }

    /// The block that starts in a cell, checked.
    #[inline]
    pub(super) fn block_in_cell(&self, cell: usize) -> Result<Block<'_>> {
        if !self.verified_blocks.get(cell) {
            self.verify_block(cell)?;
        }
        self.parse_block(cell).ok_or_else(|| self.damaged(cell))
    }

    #[inline(always)]
    fn parse_block(&self, cell: usize) -> Option<Block<'_>> {
        let start = cell.checked_mul(1 << self.grid_shift)?;
        let len = self.layout.data_end.checked_sub(start)?;
        Block::parse(self.region.get(start, len)?, self.grid_shift)
    }

    #[cold]
    fn verify_block(&self, cell: usize) -> Result<()> {
        let block = self.parse_block(cell).filter(|block| block.verify(self.block_seed(cell)));
        if block.is_none() {
            return Err(self.damaged(cell));
        }
        self.verified_blocks.set(cell);
        Ok(())
    }

    /// What the checksum of the block in a cell is seeded with.
    pub(super) fn block_seed(&self, cell: usize) -> u64 {
        page_seed(self.footer.salt, cell << self.grid_shift)
    }

    /// A line of the locator, checked.
    #[inline(always)]
    fn line(&self, number: usize) -> Result<&Line> {
        let offset = number * LINE_LEN;
        if !self.verified_pages.get(offset / PAGE) {
            self.verify_page(offset / PAGE)?;
        }
        let start = self.layout.data_end + offset;
        let line = self.region.get(start, LINE_LEN).and_then(|line| line.first_chunk());
        line.ok_or_else(|| self.corrupt(start, "locator is damaged"))
    }

    #[cold]
    fn verify_page(&self, page: usize) -> Result<()> {
        let start = self.layout.data_end + page * PAGE;
        let bytes = self.bytes(start..self.layout.locator_end.min(start + PAGE))?;
        let stored = self.layout.index_end + page * 8;
        let stored = self.bytes(stored..self.layout.checksums_end)?;
        if Decoder::new(stored).u64() != Some(checksum64(bytes, page_seed(self.footer.salt, start)))
        {
            return Err(self.corrupt(start, "locator is damaged"));
        }
        self.verified_pages.set(page);
        Ok(())
    }

    /// The index, checked.
    #[inline]
    fn index_bytes(&self) -> Result<&[u8]> {
        let bytes = self.bytes(self.layout.locator_end..self.layout.index_end)?;
        if !self.verified_index.get(0) {
            self.verify_index(bytes)?;
        }
        Ok(bytes)
    }

    #[cold]
    fn verify_index(&self, bytes: &[u8]) -> Result<()> {
        let seed = mix64(self.footer.salt, INDEX_SEED);
        if checksum64(bytes, seed) != self.footer.index_checksum {
            return Err(self.corrupt(self.layout.locator_end, "index is damaged"));
        }
        self.verified_index.set(0);
        Ok(())
    }

    #[inline]
    fn bytes(&self, range: Range<usize>) -> Result<&[u8]> {
        let bytes = self.region.get(range.start, range.end.saturating_sub(range.start));
        bytes.ok_or_else(|| self.corrupt(range.start, "table is too short"))
    }

    /// `len` bytes of the blocks, for values found before.
    #[inline]
    pub(super) fn slice(&self, start: usize, len: usize) -> &[u8] {
        self.region.get(start, len).unwrap_or(&[])
    }

    /// Log2 of the grid.
    #[inline]
    pub(super) fn grid_shift(&self) -> u32 {
        self.grid_shift
    }

    /// End of the blocks.
    pub(super) fn data_end(&self) -> usize {
        self.layout.data_end
    }

    /// What sequence numbers are stored relative to.
    #[inline]
    pub(super) fn seqno_base(&self) -> SeqNo {
        self.seqno_base
    }

    /// The file once more, for reading it without the map.
    pub(super) fn open_file(&self) -> Result<Arc<dyn File>> {
        self.fs.open(&self.path)
    }

    #[cold]
    fn corrupt(&self, offset: usize, what: &str) -> Error {
        Error::corruption(&self.path, offset as u64, what)
    }

    /// The error of a block that is not what was written.
    #[cold]
    pub(super) fn damaged(&self, cell: usize) -> Error {
        self.corrupt(cell << self.grid_shift, "block is damaged")
    }
}

/// An entry that a probe found, and its block.
struct Found<'a> {
    block: Block<'a>,
    entry: RawEntry<'a>,
}

/// True when the entry has this key.
#[inline]
fn is_key(block: &Block<'_>, entry: &RawEntry<'_>, key: &[u8]) -> bool {
    key.split_at_checked(block.prefix().len())
        .is_some_and(|(head, rest)| equal(rest, entry.suffix) && equal(head, block.prefix()))
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({}, {} entries)", self.path.display(), self.footer.entries)
    }
}

/// `a == b` without a call for short keys.
#[inline(always)]
fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() || a.len() > 64 {
        return a == b;
    }
    let (a_words, a_rest) = a.as_chunks::<8>();
    let (b_words, b_rest) = b.as_chunks::<8>();
    let mut differ = 0;
    for (a, b) in a_words.iter().zip(b_words) {
        differ |= u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
    }
    if let (Some(a), Some(b)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) {
        return differ | (u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b)) == 0;
    }
    a_rest.iter().zip(b_rest).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Asks the processor to load a cache line.
#[inline]
fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing into the program and cannot fault at any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
