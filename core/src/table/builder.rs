//! Building a table (layer L3): entries in order go in, a complete and synced file comes out.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::checksum::{checksum64, mix64};
use crate::compress::{Codec, MAX_COMPRESSED_LEN};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::File;
use crate::planted::planted;
use crate::table::block::{HEADER_LEN, block_checksum, common_prefix};
use crate::table::block_builder::{BlockBuilder, entry_size, start_single};
use crate::table::format::{
    Footer, GRID_SHIFT, INDEX_SEED, MAX_GRID_SHIFT, PAGE, TAIL_SEED, page_seed,
};
use crate::table::index::{self, IndexBuilder};
use crate::table::locator;
use crate::table::packed::{self, PackedBuilder};
use crate::types::{Compression, FileNumber, Kind, MAX_SEQNO, SeqNo, ValuePointer};

/// Bytes collected before a write.
const WRITE_SIZE: usize = 2 << 20;

/// What a new table is to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableParams {
    /// The number in the file's name.
    pub(crate) number: FileNumber,
    /// The database's seed for key hashes.
    pub(crate) hash_seed: u64,
    /// Sequence numbers are stored as distances from here; not stored in the file.
    pub(crate) seqno_base: SeqNo,
    /// How its blocks are compressed.
    pub(crate) codec: Codec,
}

/// What is in a finished table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableSummary {
    /// The file's size.
    pub(crate) size_bytes: u64,
    /// Entries, all versions counted.
    pub(crate) entries: u64,
    /// Different keys.
    pub(crate) keys: u64,
    /// Entries that are tombstones.
    pub(crate) tombstones: u64,
    /// The smallest encoded key.
    pub(crate) smallest: Vec<u8>,
    /// The largest encoded key.
    pub(crate) largest: Vec<u8>,
    /// The smallest sequence number.
    pub(crate) min_seqno: SeqNo,
    /// The largest sequence number.
    pub(crate) max_seqno: SeqNo,
    /// Sum of the lengths of separated values.
    pub(crate) value_bytes: u64,
}

/// Writes a table. After an error the file is of no use.
pub(crate) struct TableBuilder {
    file: Arc<dyn File>,
    params: TableParams,
    salt: u64,
    grid_shift: u32,
    block: BlockBuilder,
    index: IndexBuilder,
    packed: PackedBuilder,
    /// A block that is to be compressed.
    scratch: Vec<u8>,
    hashes: Vec<u64>,
    positions: Vec<u32>,
    out: Vec<u8>,
    written: u64,
    last_key: Vec<u8>,
    last_seqno: SeqNo,
    size_estimate: u64,
    entries: u64,
    tombstones: u64,
    value_bytes: u64,
    min_seqno: SeqNo,
    max_seqno: SeqNo,
}

/// Entries that a block is to have, so that little of it is lost at its end.
const BLOCK_ENTRIES: usize = 32;

impl TableBuilder {
    /// Starts a table in a new, empty file.
    pub(crate) fn new(file: Arc<dyn File>, params: TableParams) -> TableBuilder {
        let mut builder = TableBuilder {
            file,
            params,
            salt: Footer::new_salt(params.hash_seed, params.number),
            grid_shift: GRID_SHIFT,
            block: BlockBuilder::new(1 << GRID_SHIFT),
            index: IndexBuilder::default(),
            packed: PackedBuilder::default(),
            scratch: Vec::new(),
            hashes: Vec::new(),
            positions: Vec::new(),
            out: Vec::with_capacity(WRITE_SIZE + (1 << MAX_GRID_SHIFT)),
            written: 0,
            last_key: Vec::new(),
            last_seqno: SeqNo::MAX,
            size_estimate: 0,
            entries: 0,
            tombstones: 0,
            value_bytes: 0,
            min_seqno: SeqNo::MAX,
            max_seqno: 0,
        };
        builder.estimate_size();
        builder
    }

    /// Adds the next entry: keys ascend, sequence numbers of one key descend. `key` is encoded,
    /// `hash` its hash, `value` the value or an encoded pointer. Answers whether it is an older
    /// version of the key before.
    pub(crate) fn add(
        &mut self,
        key: &[u8],
        hash: u64,
        seqno: SeqNo,
        kind: Kind,
        value: &[u8],
    ) -> Result<bool> {
        let order = if self.entries == 0 { Ordering::Greater } else { key.cmp(&self.last_key) };
        let older = order == Ordering::Equal;
        let in_order = if older { seqno < self.last_seqno } else { order == Ordering::Greater };
        let delta = seqno.checked_sub(self.params.seqno_base).filter(|_| seqno <= MAX_SEQNO);
        let (true, Some(delta)) = (in_order, delta) else {
            return Err(self.misuse("entries out of order or below the base"));
        };
        if !self.block.push(key, hash, delta, kind, older, value) {
            if self.index.blocks() == 0 && self.widen_grid() {
                return self.add(key, hash, seqno, kind, value);
            }
            self.finish_block()?;
            if !self.block.push(key, hash, delta, kind, older, value) {
                self.write_single(key, hash, delta, kind, older, value)?;
            }
        }
        self.count(key, seqno, kind, value)?;
        Ok(older)
    }

    /// The key of the last entry.
    pub(crate) fn last_key(&self) -> &[u8] {
        &self.last_key
    }

    /// Before the first block is finished: doubles the grid if a block would have few entries.
    fn widen_grid(&mut self) -> bool {
        let few = self.block.size() * BLOCK_ENTRIES > self.block.count() << self.grid_shift;
        if self.block.is_empty() || !few || self.grid_shift >= MAX_GRID_SHIFT {
            return false;
        }
        self.grid_shift += 1;
        self.block.set_grid(1 << self.grid_shift);
        true
    }

    /// Counts an entry that was added.
    fn count(&mut self, key: &[u8], seqno: SeqNo, kind: Kind, value: &[u8]) -> Result<()> {
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.last_seqno = seqno;
        self.entries += 1;
        self.min_seqno = self.min_seqno.min(seqno);
        self.max_seqno = self.max_seqno.max(seqno);
        match kind {
            Kind::Put => {}
            Kind::Delete => self.tombstones += 1,
            Kind::Pointer => {
                let pointer = ValuePointer::decode(value);
                let pointer = pointer.ok_or_else(|| self.misuse("pointer of a wrong length"))?;
                self.value_bytes += u64::from(pointer.len);
            }
            Kind::Packed => return Err(self.misuse("record of the log in a table")),
        }
        Ok(())
    }

    #[cold]
    fn misuse(&self, what: &str) -> Error {
        Error::new(ErrorKind::Misuse, format!("{}: {what}", self.file.path().display()))
    }

    /// About the size that the file will have if nothing more is added.
    pub(crate) fn file_size_estimate(&self) -> u64 {
        self.size_estimate
    }

    /// To be called when a block has been finished.
    fn estimate_size(&mut self) {
        let (cells, keys) = (self.index.cells() + 1, self.hashes.len() as u64 + 64);
        self.size_estimate = (cells << self.grid_shift)
            + locator::size_bytes(locator::home_lines(keys))
            + index::size_bytes(self.index.blocks() + 1, cells);
    }

    /// Moves the pending block to the output.
    fn finish_block(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let offset = self.index.cells() << self.grid_shift;
        if !self.index.add(self.block.first_key(), 1) {
            return Err(self.misuse("too many blocks"));
        }
        let place = self.end();
        let seed = page_seed(self.salt, place as usize);
        let packs = self.packs();
        let out = if packs { &mut self.scratch } else { &mut self.out };
        let (hashes, positions) = (&mut self.hashes, &mut self.positions);
        self.block.finish(out, seed, |hash, at| {
            hashes.push(hash);
            positions.push(stored_position(offset + at as u64));
        });
        if packs {
            self.put_packed(1);
            self.scratch.clear();
        }
        self.estimate_size();
        if self.out.len() >= WRITE_SIZE {
            let before = self.written;
            self.write_pages()?;
            self.file.start_write_back(before, (self.written - before) as usize);
        }
        Ok(())
    }

    /// Where the next block will lie in the file.
    fn end(&self) -> u64 {
        self.written + self.out.len() as u64
    }

    /// Whether blocks are compressed.
    fn packs(&self) -> bool {
        self.params.codec.compression != Compression::None
    }

    /// Moves the block in `scratch`, whose checksum is that of a plain one, to the output,
    /// compressed if that makes it shorter.
    fn put_packed(&mut self, cells: u64) {
        let offset = self.end();
        let seed = page_seed(self.salt, offset as usize);
        let codec = self.params.codec;
        let compression = match packed::store(codec, &self.scratch, seed, &mut self.out) {
            true => codec.compression,
            false => {
                self.out.extend_from_slice(&self.scratch);
                Compression::None
            }
        };
        self.packed.add(offset, cells, compression);
    }

    /// Writes an entry too large for a cell as a block of its own, without copying its value.
    fn write_single(
        &mut self,
        key: &[u8],
        hash: u64,
        delta: SeqNo,
        kind: Kind,
        older: bool,
        value: &[u8],
    ) -> Result<()> {
        if u32::try_from(value.len()).is_err() {
            return Err(self.misuse("value too long"));
        }
        let grid = 1 << self.grid_shift;
        let offset = self.index.cells() << self.grid_shift;
        let cells = (HEADER_LEN + entry_size(key.len(), value.len(), delta)).div_ceil(grid);
        if !self.index.add(key, cells as u64) {
            return Err(self.misuse("too many blocks"));
        }
        self.write_out()?;
        let mut first = start_single(cells as u32, key, kind, older, delta, value.len());
        // Whole cells of the value are written from where they are; what comes before and after
        // them is copied and filled up to whole cells.
        let split = (first.len().next_multiple_of(grid) - first.len()).min(value.len());
        let (head, rest) = value.split_at(split);
        first.extend_from_slice(head);
        first.resize(first.len().next_multiple_of(grid), 0);
        let (whole, rest) = rest.split_at(rest.len() / grid * grid);
        let mut last = rest.to_vec();
        last.resize(rest.len().next_multiple_of(grid), 0);
        let seed = page_seed(self.salt, self.written as usize);
        let checksum = block_checksum(&[&first, whole, &last], grid, seed);
        first[..8].copy_from_slice(&checksum.to_le_bytes());
        let parts = [&first[..], whole, &last];
        if self.packs() && cells * grid <= MAX_COMPRESSED_LEN {
            parts.iter().for_each(|part| self.scratch.extend_from_slice(part));
            self.put_packed(cells as u64);
            self.scratch = Vec::new();
        } else {
            if self.packs() {
                self.packed.add(self.written, cells as u64, Compression::None);
            }
            for part in parts {
                self.file.write_at(part, self.written)?;
                self.written += part.len() as u64;
            }
        }
        if !older {
            self.hashes.push(hash);
            self.positions.push(stored_position(offset + HEADER_LEN as u64));
        }
        self.estimate_size();
        Ok(())
    }

    /// Writes what is ready.
    fn write_out(&mut self) -> Result<()> {
        self.write_some(self.out.len())
    }

    /// Writes what is ready in whole pages, which may go past the page cache.
    fn write_pages(&mut self) -> Result<()> {
        self.write_some(self.out.len() / PAGE * PAGE)
    }

    fn write_some(&mut self, len: usize) -> Result<()> {
        self.file.write_at(&self.out[..len], self.written)?;
        self.written += len as u64;
        self.out.drain(..len);
        Ok(())
    }

    /// Writes what is left, makes the file durable and says what is in it.
    pub(crate) fn finish(mut self) -> Result<TableSummary> {
        self.finish_block()?;
        let smallest = self.index.smallest().to_vec();
        let locator = locator::build(&self.hashes, &self.positions);
        let mut index = self.index.finish(common_prefix(&smallest, &self.last_key));
        if self.packs() {
            index.extend(self.packed.finish(self.end()));
            let padding = self.end().next_multiple_of(PAGE as u64) - self.end();
            self.out.resize(self.out.len() + padding as usize, 0);
        }
        let data_len = self.end();
        let mut tail = locator_checksums(&locator, self.salt, data_len as usize);
        tail.extend_from_slice(&smallest);
        tail.extend_from_slice(&self.last_key);
        let footer = self.footer(data_len, &index, &tail);
        for part in [locator, index, tail, footer.encode(self.params.hash_seed)] {
            self.out.extend_from_slice(&part);
            self.write_pages()?;
        }
        self.write_out()?;
        if !planted("table: not synced") {
            self.file.sync_data()?;
        }
        Ok(TableSummary {
            size_bytes: self.written,
            entries: self.entries,
            keys: self.hashes.len() as u64,
            tombstones: self.tombstones,
            smallest,
            largest: self.last_key,
            min_seqno: self.min_seqno.min(self.max_seqno),
            max_seqno: self.max_seqno,
            value_bytes: self.value_bytes,
        })
    }

    fn footer(&self, data_len: u64, index: &[u8], tail: &[u8]) -> Footer {
        let base = self.params.seqno_base;
        Footer {
            grid_shift: self.grid_shift,
            compression: self.params.codec.compression,
            data_len,
            number: self.params.number,
            salt: self.salt,
            cells: self.index.cells(),
            blocks: self.index.blocks(),
            lines: locator::home_lines(self.hashes.len() as u64),
            entries: self.entries,
            keys: self.hashes.len() as u64,
            tombstones: self.tombstones,
            value_bytes: self.value_bytes,
            min_delta: self.min_seqno.min(self.max_seqno).saturating_sub(base),
            max_delta: self.max_seqno.saturating_sub(base),
            smallest_len: self.index.smallest().len() as u32,
            largest_len: self.last_key.len() as u32,
            index_checksum: checksum64(index, mix64(self.salt, INDEX_SEED)),
            tail_checksum: checksum64(tail, mix64(self.salt, TAIL_SEED)),
        }
    }
}

/// What the locator stores for an entry at this offset of the file; 0 where it cannot.
fn stored_position(offset: u64) -> u32 {
    if offset < locator::POSITION_LIMIT { offset as u32 } else { 0 }
}

/// The checksums of the locator's pages.
fn locator_checksums(locator: &[u8], salt: u64, start: usize) -> Vec<u8> {
    let pages = locator.chunks(PAGE).enumerate();
    let sums = pages.map(|(page, bytes)| checksum64(bytes, page_seed(salt, start + page * PAGE)));
    sums.flat_map(u64::to_le_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::sim::SimDisk;
    use crate::fs::{Access, FileSystem, OsFileSystem};
    use std::path::Path;

    const PATH: &str = "/000007.table";

    fn start() -> TableBuilder {
        let codec = Codec { compression: Compression::None, level: 3 };
        let params = TableParams { number: 7, hash_seed: 5, seqno_base: 1, codec };
        TableBuilder::new(SimDisk::new().create(Path::new(PATH)).unwrap(), params)
    }

    fn put(builder: &mut TableBuilder, key: &[u8], value: &[u8]) -> Result<bool> {
        builder.add(key, 1, 2, Kind::Put, value)
    }

    /// Misuse that says this of the table.
    #[track_caller]
    fn says<T>(result: Result<T>, what: &str) {
        let Err(error) = result else { panic!("nothing is refused") };
        let message = format!("{PATH}: {what}");
        assert_eq!((error.kind(), error.message()), (ErrorKind::Misuse, &message[..]));
    }

    #[test]
    fn what_only_the_log_has_and_pointers_that_are_none_are_refused() {
        let value = ValuePointer { segment: 3, offset: 8, len: 9 }.encode();
        start().add(b"a", 1, 2, Kind::Pointer, &value).unwrap();
        says(start().add(b"a", 1, 2, Kind::Packed, &value), "record of the log in a table");
        let pointer = |value: &[u8]| start().add(b"a", 1, 2, Kind::Pointer, value);
        says(pointer(&value[..15]), "pointer of a wrong length");
    }

    #[test]
    fn a_table_with_as_many_cells_as_can_be_counted_takes_no_block_more() {
        let with_cells = |cells: u32| {
            let mut builder = start();
            assert!(builder.index.add(b"a", u64::from(cells)));
            builder
        };
        let mut builder = with_cells(u32::MAX - 1);
        put(&mut builder, b"b", b"small").unwrap();
        builder.finish().unwrap();
        let mut builder = with_cells(u32::MAX);
        put(&mut builder, b"b", b"small").unwrap();
        says(builder.finish(), "too many blocks");
        // Of an entry that needs nine cells of its own only eight are left.
        let large = vec![1; 70_000];
        put(&mut with_cells(u32::MAX - 9), b"b", &large).unwrap();
        says(put(&mut with_cells(u32::MAX - 8), b"b", &large), "too many blocks");
    }

    #[test]
    fn a_value_of_four_gib_is_too_long() {
        // A hole in a file: no byte of it is looked at.
        let (dir, len) = (tempfile::tempdir().unwrap(), 1 << 32);
        let file = OsFileSystem.create(&dir.path().join("hole")).unwrap();
        file.write_at(&[0], len - 1).unwrap();
        let hole = file.map(len as usize, Access::Random).unwrap();
        let value = hole.get(0, len as usize).unwrap();
        says(put(&mut start(), b"a", value), "value too long");
    }
}
