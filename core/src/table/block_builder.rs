//! Writing one block (layer L3): entries are collected until the block is full, because the prefix
//! that they share is known only then.

use crate::table::block::{
    HEADER_LEN, LONG_SUFFIX, LONG_VALUE, block_checksum, common_prefix, prefix8, spread,
};
use crate::types::{Kind, SeqNo};

/// Appends an entry's bytes before its value.
#[inline]
pub(super) fn put_entry_head(
    out: &mut Vec<u8>,
    kind: Kind,
    older: bool,
    delta: SeqNo,
    suffix: &[u8],
    value_len: usize,
) {
    let delta_len = delta_len(delta);
    let word = u32::from(kind as u8)
        | u32::from(older) << 3
        | (delta_len as u32) << 4
        | (suffix.len().min(LONG_SUFFIX) as u32) << 7
        | (value_len.min(LONG_VALUE) as u32) << 13;
    put_low_bytes(out, u64::from(word), 3);
    if suffix.len() >= LONG_SUFFIX {
        put_low_bytes(out, suffix.len() as u64, 3);
    }
    if value_len >= LONG_VALUE {
        put_low_bytes(out, value_len as u64, 4);
    }
    put_low_bytes(out, delta, delta_len);
    out.extend_from_slice(suffix);
}

/// Appends the lowest bytes of a number: copying a fixed length and cutting is cheaper than `len`.
#[inline]
fn put_low_bytes(out: &mut Vec<u8>, number: u64, len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(&number.to_le_bytes());
    out.truncate(end);
}

/// Bytes that a sequence number over the base takes.
fn delta_len(delta: SeqNo) -> usize {
    (u64::BITS - delta.leading_zeros()).div_ceil(8) as usize
}

/// Appends a block's header and prefix, its checksum left open.
fn put_header(out: &mut Vec<u8>, cells: u32, count: u16, prefix: &[u8], base: u64, shift: u8) {
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&cells.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&(prefix.len() as u16).to_le_bytes());
    out.extend_from_slice(&base.to_le_bytes());
    out.push(shift);
    out.extend_from_slice(prefix);
}

/// Starts a block of one entry that fills `cells` cells: all of it before the value.
pub(super) fn start_single(
    cells: u32,
    key: &[u8],
    kind: Kind,
    older: bool,
    delta: SeqNo,
    value_len: usize,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_LEN + key.len() + 24);
    put_header(&mut out, cells, 1, &[], 0, 0);
    put_entry_head(&mut out, kind, older, delta, key, value_len);
    out
}

/// Most bytes that an entry takes in a block of its own, without header.
pub(super) fn entry_size(key_len: usize, value_len: usize, delta: SeqNo) -> usize {
    let long_suffix = if key_len >= LONG_SUFFIX { 3 } else { 0 };
    let long_value = if value_len >= LONG_VALUE { 4 } else { 0 };
    3 + long_suffix + long_value + delta_len(delta) + key_len + value_len
}

/// An entry of the block under construction.
struct Pending {
    key_end: usize,
    value_end: usize,
    delta: SeqNo,
    hash: u64,
    kind: Kind,
    older: bool,
}

/// The entries of the next block, until it is full.
pub(super) struct BlockBuilder {
    grid: usize,
    keys: Vec<u8>,
    values: Vec<u8>,
    entries: Vec<Pending>,
    shared: usize,
    size: usize,
}

impl BlockBuilder {
    /// An empty one for blocks of `grid` bytes.
    pub(super) fn new(grid: usize) -> BlockBuilder {
        BlockBuilder {
            grid,
            keys: Vec::new(),
            values: Vec::new(),
            entries: Vec::new(),
            shared: 0,
            size: 0,
        }
    }

    /// Makes larger blocks from now on.
    pub(super) fn set_grid(&mut self, grid: usize) {
        self.grid = grid;
    }

    /// Entries in the block.
    pub(super) fn count(&self) -> usize {
        self.entries.len()
    }

    /// True without entries.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that the block takes now, at most.
    pub(super) fn size(&self) -> usize {
        self.total(self.entries.len(), self.size, self.shared)
    }

    fn total(&self, count: usize, size: usize, shared: usize) -> usize {
        // Stored once instead of count times; a lone entry has no shared prefix.
        let repeated = shared * count.saturating_sub(1);
        HEADER_LEN + size + 3 * count.saturating_sub(1) - repeated
    }

    /// The block's first key.
    pub(super) fn first_key(&self) -> &[u8] {
        self.entries.first().map_or(&[], |first| &self.keys[..first.key_end])
    }

    /// Takes an entry, or refuses it when the block has no room for it.
    pub(super) fn push(
        &mut self,
        key: &[u8],
        hash: u64,
        delta: SeqNo,
        kind: Kind,
        older: bool,
        value: &[u8],
    ) -> bool {
        let shared = match self.entries.len() {
            0 => key.len(),
            _ => common_prefix(&self.first_key()[..self.shared], key),
        };
        let size = self.size + entry_size(key.len(), value.len(), delta);
        if self.total(self.entries.len() + 1, size, shared) > self.grid {
            return false;
        }
        (self.shared, self.size) = (shared, size);
        self.keys.extend_from_slice(key);
        self.values.extend_from_slice(value);
        let (key_end, value_end) = (self.keys.len(), self.values.len());
        self.entries.push(Pending { key_end, value_end, delta, hash, kind, older });
        true
    }

    /// Appends the block to `out`, empties itself, and names hash and offset in the block of every
    /// newest version.
    pub(super) fn finish(
        &mut self,
        out: &mut Vec<u8>,
        seed: u64,
        mut newest: impl FnMut(u64, usize),
    ) {
        let start = out.len();
        let count = self.entries.len();
        let shared = if count > 1 { self.shared } else { 0 };
        self.put_hints(out, shared);
        let mut slot = out.len();
        out.resize(slot + 2 * (count - 1), 0);
        let (mut key_start, mut value_start) = (0, 0);
        for (index, entry) in self.entries.iter().enumerate() {
            let offset = out.len() - start;
            if index > 0 {
                out[slot..slot + 2].copy_from_slice(&(offset as u16).to_le_bytes());
                slot += 2;
            }
            if !entry.older {
                newest(entry.hash, offset);
            }
            let suffix = &self.keys[key_start + shared..entry.key_end];
            let value = &self.values[value_start..entry.value_end];
            put_entry_head(out, entry.kind, entry.older, entry.delta, suffix, value.len());
            out.extend_from_slice(value);
            (key_start, value_start) = (entry.key_end, entry.value_end);
        }
        debug_assert!(out.len() - start <= self.grid);
        out.resize(start + self.grid, 0);
        let checksum = block_checksum(&[&out[start..]], self.grid, seed);
        out[start..start + 8].copy_from_slice(&checksum.to_le_bytes());
        self.clear();
    }

    /// Appends header, shared prefix and hints.
    fn put_hints(&self, out: &mut Vec<u8>, shared: usize) {
        let mut start = 0;
        let suffixes = self.entries.iter().map(|entry| {
            let suffix = &self.keys[start + shared..entry.key_end];
            start = entry.key_end;
            prefix8(suffix)
        });
        let words: Vec<u64> = suffixes.collect();
        let base = words.first().copied().unwrap_or(0);
        let range = words.last().copied().unwrap_or(0) - base;
        let shift = (u64::BITS - range.leading_zeros()).saturating_sub(8) as u8;
        put_header(out, 1, self.entries.len() as u16, &self.keys[..shared], base, shift);
        out.extend(words.iter().skip(1).map(|word| spread(word - base, shift)));
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.entries.clear();
        (self.shared, self.size) = (0, 0);
    }
}
