//! Reading what can be read of a damaged table (layer L3): the intact blocks, in order.
//!
//! Every block carries its checksum, whose seed has the table's salt and the block's place, so an
//! intact block is known as such wherever it lies. Where footer and index are right they say where
//! blocks begin. Without them a block is tried on every place of the grid; in a table with
//! compression blocks lie one behind the other, and how long a compressed one is follows from
//! which length has the checksum that it begins with.
//!
//! Invariant: nothing is answered but the entries of blocks with the right checksum.

use std::path::{Path, PathBuf};

use crate::checksum::Streaming;
use crate::compress;
use crate::error::{Error, Result};
use crate::fs::{Access, FileSystem, Region};
use crate::planted::planted;
use crate::table::block::{Block, block_checksum};
use crate::table::format::{
    FOOTER_LEN, FOOTER_SPACE, Footer, GRID_SHIFT, INDEX_SEED, Layout, MAX_GRID_SHIFT, PAGE,
    page_seed,
};
use crate::table::packed::{self, PREFIX_LEN, restore};
use crate::types::{Compression, FileNumber, Kind, SeqNo};

/// Places that are tried for the next block, one byte after the other, before the rest is given up:
/// more than a block of the usual grid.
const MOST_TRIES: usize = 10_000;

/// An entry of an intact block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WreckEntry {
    /// The encoded key.
    pub(crate) key: Vec<u8>,
    /// Its sequence number over the table's base.
    pub(crate) delta: SeqNo,
    /// What it says about its key.
    pub(crate) kind: Kind,
    /// The value, or an encoded pointer, or nothing.
    pub(crate) value: Vec<u8>,
}

/// What is left of a table.
pub(crate) struct Wreck {
    region: Region,
    path: PathBuf,
    salt: u64,
    /// Log2 of the grid, once it is known.
    shift: Option<u32>,
    /// The end of the blocks, or of the file.
    end: usize,
    layout: How,
    /// Every block so far was plain and where the one before it ends.
    on_grid: bool,
    /// Where to look for the next block.
    at: usize,
    /// The current block, and the next entry in it.
    block: Vec<u8>,
    entry: usize,
    /// The last key of the last intact block.
    last: Vec<u8>,
    /// Damage that was met, with the last key before it.
    lost: Vec<(Error, Vec<u8>)>,
}

/// How blocks are found.
enum How {
    /// On every place of the grid; `at` is an offset.
    Grid,
    /// By the words of the index; `at` is a cell.
    Words(Vec<u8>),
    /// By trying; `at` is an offset. What the blocks were compressed with, if that is known.
    Trying(Option<Compression>),
}

impl Wreck {
    /// Opens what is there of the table `number` of the database with this hash seed.
    pub(crate) fn open(
        fs: &dyn FileSystem,
        path: &Path,
        number: FileNumber,
        hash_seed: u64,
    ) -> Result<Wreck> {
        let file = fs.open(path)?;
        let len = usize::try_from(file.size()?).unwrap_or(usize::MAX);
        let region = file.map(len, Access::Sequential)?;
        let bytes = region.get(0, len).unwrap_or(&[]);
        let footer_end = bytes.get(len.saturating_sub(FOOTER_SPACE)..).unwrap_or(&[]);
        let mut wreck = Wreck {
            salt: Footer::new_salt(hash_seed, number),
            shift: None,
            end: len,
            layout: How::Trying(None),
            on_grid: false,
            at: 0,
            block: Vec::new(),
            entry: 0,
            last: Vec::new(),
            lost: Vec::new(),
            path: path.to_path_buf(),
            region: region.clone(),
        };
        match Footer::read(footer_end, len, path, hash_seed) {
            // Another table's entries are newer or older than this one's; none is looked for.
            Ok((footer, _)) if footer.number != number => {
                let what = format!("this is table {} instead of {number}", footer.number);
                wreck.lose(len.saturating_sub(FOOTER_LEN), &what);
                wreck.end = 0;
            }
            Ok((footer, layout)) => wreck.follow(&footer, &layout, bytes),
            Err(error) => {
                wreck.lost.push((error, Vec::new()));
                // It may be the seed that is wrong: a footer's own checksum does not need it.
                let intact = Footer::body(footer_end).filter(|(version, _)| *version == 1);
                if let Some((_, footer)) = intact.and_then(|(_, body)| Footer::decode(body))
                    && let Some(layout) = footer.layout()
                    && layout.footer.checked_add(FOOTER_LEN) == Some(len)
                    && footer.number == number
                {
                    wreck.follow(&footer, &layout, bytes);
                }
            }
        }
        Ok(wreck)
    }

    fn follow(&mut self, footer: &Footer, layout: &Layout, bytes: &[u8]) {
        self.salt = footer.salt;
        self.shift = Some(footer.grid_shift);
        self.end = layout.data_end.min(bytes.len().saturating_sub(FOOTER_LEN));
        if footer.compression == Compression::None {
            self.layout = How::Grid;
            return;
        }
        self.layout = How::Trying(Some(footer.compression));
        let index = bytes.get(layout.locator_end..layout.index_end).unwrap_or(&[]);
        let seed = crate::checksum::mix64(footer.salt, INDEX_SEED);
        if crate::checksum::checksum64(index, seed) != footer.index_checksum {
            self.lose(layout.locator_end, "index is damaged");
            return;
        }
        let words = index.len().saturating_sub(packed::size_bytes(footer.cells) as usize);
        self.layout = How::Words(index.get(words..).unwrap_or(&[]).to_vec());
    }

    /// The next entry of an intact block; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<WreckEntry> {
        loop {
            let block = self.shift.and_then(|shift| Block::parse(&self.block, shift));
            let entry = block.and_then(|block| {
                let raw = block.entry(self.entry).filter(|_| self.entry < block.count())?;
                let key = [block.prefix(), raw.suffix].concat();
                Some(WreckEntry { key, delta: raw.delta, kind: raw.kind, value: raw.value.into() })
            });
            if let Some(entry) = entry {
                self.entry += 1;
                self.last.clone_from(&entry.key);
                return Some(entry);
            }
            self.entry = 0;
            if !self.advance() {
                self.block.clear();
                return None;
            }
        }
    }

    /// Damage that was met so far, each with the last key before it.
    pub(crate) fn take_lost(&mut self) -> Vec<(Error, Vec<u8>)> {
        std::mem::take(&mut self.lost)
    }

    fn lose(&mut self, offset: usize, what: &str) {
        let error = Error::corruption(&self.path, offset as u64, what);
        self.lost.push((error, self.last.clone()));
    }

    /// Makes the next intact block the current one.
    fn advance(&mut self) -> bool {
        match &self.layout {
            How::Grid => self.next_on_grid(),
            How::Words(_) => {
                let How::Words(words) = std::mem::replace(&mut self.layout, How::Grid) else {
                    return false;
                };
                let found = self.next_by_words(&words);
                self.layout = How::Words(words);
                found
            }
            How::Trying(compression) => {
                let compression = *compression;
                self.next_by_trying(compression)
            }
        }
    }

    fn next_on_grid(&mut self) -> bool {
        let grid = 1 << self.shift.unwrap_or(MAX_GRID_SHIFT);
        let mut hole = None;
        while self.at < self.end {
            if self.take_plain(self.at) {
                self.close(hole);
                return true;
            }
            hole.get_or_insert(self.at);
            self.at += grid;
        }
        let trying = matches!(self.layout, How::Trying(_));
        match hole.filter(|_| trying) {
            Some(offset) => self.lose(offset, "no more blocks are found from here on"),
            None => self.close(hole),
        }
        false
    }

    fn close(&mut self, hole: Option<usize>) {
        if let Some(offset) = hole {
            self.lose(offset, "block is damaged");
        }
    }

    fn next_by_words(&mut self, words: &[u8]) -> bool {
        let shift = self.shift.unwrap_or(MAX_GRID_SHIFT);
        while (self.at + 1) * 8 < words.len() {
            let place = packed::place(words, self.at, shift);
            self.at += 1;
            let Some(place) = place else { continue };
            let end = place.offset.saturating_add(place.len).min(self.end);
            let stored = self.bytes(place.offset, end).to_vec();
            let restored = match place.compression {
                Compression::None => self.plain(place.offset).map(<[u8]>::to_vec),
                compression => {
                    let mut block = vec![0; place.raw_len];
                    let seed = page_seed(self.salt, place.offset);
                    restore(compression, &stored, seed, &mut block).then_some(block)
                }
            };
            match restored {
                Some(block) => {
                    self.block = block;
                    return true;
                }
                None => self.lose(place.offset, "block is damaged"),
            }
        }
        false
    }

    fn next_by_trying(&mut self, compression: Option<Compression>) -> bool {
        if compression.is_none() && self.on_grid {
            return self.next_on_grid();
        }
        let (start, mut tries) = (self.at, 0);
        while self.at < self.end && tries < MOST_TRIES {
            let (at, first) = (self.at, tries == 0);
            if first && self.is_padding(at) {
                self.at = self.end;
                return false;
            }
            let plain = self.take_plain(at);
            if plain || self.take_compressed(at, compression, first) {
                // As long as all blocks are plain and fill their cells, they are on the grid.
                self.on_grid = plain && (self.on_grid || at == 0);
                if !first {
                    self.lose(start, "block is damaged");
                }
                return true;
            }
            self.on_grid = false;
            tries += 1;
            self.at += 1;
        }
        // The locator and the index follow the blocks; where they begin is not known.
        self.lose(start, "no more blocks are found from here on");
        self.at = self.end;
        false
    }

    /// Whether zeros lead from here to the end of a page, as they do behind the last block.
    fn is_padding(&self, at: usize) -> bool {
        let rest = self.bytes(at, at.next_multiple_of(PAGE).min(self.end));
        !rest.is_empty() && rest.iter().all(|byte| *byte == 0)
    }

    fn take_plain(&mut self, at: usize) -> bool {
        let shifts = match self.shift {
            Some(shift) => shift..=shift,
            None => 12..=MAX_GRID_SHIFT,
        };
        for shift in shifts {
            if let Some(block) = self.plain_of(at, shift).map(<[u8]>::to_vec) {
                self.shift = Some(shift);
                self.at = at + block.len();
                self.block = block;
                return true;
            }
        }
        false
    }

    fn plain(&self, at: usize) -> Option<&[u8]> {
        self.shift.and_then(|shift| self.plain_of(at, shift))
    }

    /// The intact plain block at an offset.
    fn plain_of(&self, at: usize, shift: u32) -> Option<&[u8]> {
        let block = Block::parse(self.bytes(at, self.end), shift)?;
        let stored = block.bytes().first_chunk().map(|sum| u64::from_le_bytes(*sum));
        let sum = block_checksum(&[block.bytes()], 1 << shift, page_seed(self.salt, at));
        (stored == Some(sum) || planted("salvage: any block")).then_some(block.bytes())
    }

    /// The intact compressed block at an offset: the length is the first that has the checksum.
    fn take_compressed(&mut self, at: usize, scheme: Option<Compression>, far: bool) -> bool {
        let bytes = self.bytes(at, self.end);
        let Some((stored, packed)) = bytes.split_first_chunk::<PREFIX_LEN>() else { return false };
        // Most blocks are one cell; only where one is known to begin is it worth to look further.
        let usual = 1 << self.shift.unwrap_or(GRID_SHIFT);
        let most = if far { compress::MAX_COMPRESSED_LEN } else { usual };
        let mut sum = Streaming::new(page_seed(self.salt, at));
        let stored = u64::from_le_bytes(*stored);
        let found = packed.iter().take(most).position(|byte| {
            sum.update(&[*byte]);
            sum.digest() == stored
        });
        let Some(len) = found.map(|index| index + 1) else { return false };
        let packed = packed.get(..len).unwrap_or(&[]).to_vec();
        let schemes = [Compression::Lz4, Compression::Zstd];
        for scheme in schemes.into_iter().filter(|own| scheme.is_none_or(|given| given == *own)) {
            let mut block = vec![0; 8];
            if !compress::decompress_all(scheme, &packed, &mut block) {
                continue;
            }
            let shifts = (12..=MAX_GRID_SHIFT).filter(|own| self.shift.is_none_or(|s| s == *own));
            let fits = |shift: &u32| {
                Block::parse(&block, *shift).is_some_and(|own| own.bytes().len() == block.len())
            };
            let Some(shift) = shifts.into_iter().find(fits) else { continue };
            self.shift = Some(shift);
            self.at = at + PREFIX_LEN + len;
            self.block = block;
            return true;
        }
        false
    }

    fn bytes(&self, start: usize, end: usize) -> &[u8] {
        self.region.get(start, end.saturating_sub(start)).unwrap_or(&[])
    }
}
