//! One block (layer L3): header with the prefix that its keys share, entries, and at the end of
//! its first cell a hint and a slot for every entry but the first.
//!
//! A block with several entries fills one cell of the grid; a block of one entry fills as many as
//! the entry needs. So every entry starts in the first cell of its block, and an entry's position
//! rounded down to the grid is its block's header.
//!
//! A hint is one byte that grows with the key, spread over the block's range: it leaves one or two
//! entries to compare in a search.

use std::cmp::Ordering;

use crate::checksum::checksum64;
use crate::coding::Decoder;
use crate::types::{Kind, SeqNo, ValuePointer};

/// Bytes of a block before its shared prefix.
pub(super) const HEADER_LEN: usize = 25;
/// Suffix lengths from here on are stored after the entry's head.
const LONG_SUFFIX: usize = 63;
/// Value lengths from here on are stored after the entry's head.
const LONG_VALUE: usize = 2047;

/// A block, its header taken apart.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    bytes: &'a [u8],
    prefix: &'a [u8],
    count: usize,
    grid: usize,
}

/// One entry as stored.
#[derive(Clone, Copy)]
pub(super) struct RawEntry<'a> {
    /// The key without the block's shared prefix.
    pub(super) suffix: &'a [u8],
    /// Value bytes or an encoded pointer.
    pub(super) value: &'a [u8],
    /// Sequence number over the table's base.
    pub(super) delta: SeqNo,
    /// What it says about its key.
    pub(super) kind: Kind,
    /// The entry before it is a newer version of the same key.
    pub(super) older: bool,
    /// Offset in the block of the byte after it.
    pub(super) end: usize,
}

/// Eight bytes of a key as a number that orders as they do; short keys are filled with zeros.
#[inline]
pub(super) fn prefix8(bytes: &[u8]) -> u64 {
    if let Some(head) = bytes.first_chunk::<8>() {
        return u64::from_be_bytes(*head);
    }
    let mut head = [0; 8];
    for (to, from) in head.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_be_bytes(head)
}

/// Length of the longest common prefix.
#[inline]
pub(super) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    while let (Some(x), Some(y)) =
        (a.get(len..).and_then(<[u8]>::first_chunk), b.get(len..).and_then(<[u8]>::first_chunk))
    {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(x, y)| x == y).count()
}

/// The checksum of a block that comes in parts of whole cells: the checksum of every cell seeds that
/// of the next. The first eight bytes, where it is stored, are left out.
pub(super) fn block_checksum(parts: &[&[u8]], grid: usize, seed: u64) -> u64 {
    let mut cells = parts.iter().flat_map(|part| part.chunks(grid));
    let first = cells.next().and_then(|cell| cell.get(8..)).unwrap_or(&[]);
    cells.fold(checksum64(first, seed), |checksum, cell| checksum64(cell, checksum))
}

impl<'a> Block<'a> {
    /// The block at the start of `bytes`, which may go on beyond it; `None` when it cannot be one.
    #[inline(always)]
    pub(super) fn parse(bytes: &'a [u8], grid_shift: u32) -> Option<Block<'a>> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let [_, _, _, _, _, _, _, _, c0, c1, c2, c3, n0, n1, p0, p1, ..] = *header;
        let cells = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        let count = usize::from(u16::from_le_bytes([n0, n1]));
        let prefix_len = usize::from(u16::from_le_bytes([p0, p1]));
        if cells != 1 && (cells == 0 || count != 1) || count == 0 {
            return None;
        }
        let bytes = bytes.get(..cells << grid_shift)?;
        let prefix = bytes.get(HEADER_LEN..HEADER_LEN + prefix_len)?;
        Some(Block { bytes, prefix, count, grid: 1 << grid_shift })
    }

    /// True when the stored checksum is that of the block's bytes.
    pub(super) fn verify(&self, seed: u64) -> bool {
        let stored = self.bytes.first_chunk::<8>().map(|stored| u64::from_le_bytes(*stored));
        stored == Some(block_checksum(&[self.bytes], self.grid, seed))
    }

    /// The prefix that all keys of the block share.
    #[inline]
    pub(super) fn prefix(&self) -> &'a [u8] {
        self.prefix
    }

    /// Entries; at least one.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Length in bytes, of all its cells.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The entry at an offset of the block.
    #[inline(always)]
    pub(super) fn entry_at(&self, offset: usize) -> Option<RawEntry<'a>> {
        RawEntry::decode(self.bytes, offset)
    }

    /// The entry with this index.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> Option<RawEntry<'a>> {
        RawEntry::decode(self.bytes, self.entry_offset(index)?)
    }

    /// Where the entry with this index starts.
    #[inline]
    pub(super) fn entry_offset(&self, index: usize) -> Option<usize> {
        if index == 0 {
            return Some(HEADER_LEN + self.prefix.len());
        }
        let slot = self.grid.checked_sub(2 * self.count.checked_sub(index)?)?;
        let slot = self.bytes.get(slot..)?.first_chunk::<2>()?;
        Some(usize::from(u16::from_le_bytes(*slot)))
    }

    /// The hints of all entries but the first.
    fn hints(&self) -> Option<&'a [u8]> {
        let stored = self.count - 1;
        let start = self.grid.checked_sub(3 * stored)?;
        self.bytes.get(start..start + stored)
    }

    /// Index of the first entry at or after (key, sequence number `delta`), or the count.
    #[inline]
    pub(super) fn lower_bound(&self, key: &[u8], delta: SeqNo) -> Option<usize> {
        let shared = self.prefix.len().min(key.len());
        let (head, rest) = key.split_at(shared);
        match head.cmp(&self.prefix[..shared]) {
            Ordering::Less => return Some(0),
            Ordering::Greater => return Some(self.count),
            Ordering::Equal if shared < self.prefix.len() => return Some(0),
            Ordering::Equal => {}
        }
        let (mut low, mut high) = self.narrow(rest)?;
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            if entry.suffix.cmp(rest).then(delta.cmp(&entry.delta)).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    /// The range of entries that the hints cannot tell from a key suffix: those before it are
    /// smaller, those after it larger.
    #[inline]
    fn narrow(&self, suffix: &[u8]) -> Option<(usize, usize)> {
        let header = self.bytes.first_chunk::<HEADER_LEN>()?;
        let base = u64::from_le_bytes(*header.get(16..)?.first_chunk()?);
        let target = prefix8(suffix);
        if target < base {
            return Some((0, 0));
        }
        let hint = spread(target - base, header[24]);
        let (mut below, mut upto) = (0u32, 0u32);
        for &stored in self.hints()? {
            below += u32::from(stored < hint);
            upto += u32::from(stored <= hint);
        }
        let low = if hint > 0 { below as usize + 1 } else { 0 };
        Some((low, upto as usize + 1))
    }

    /// How the first entry compares with (key, sequence number `delta`).
    pub(super) fn compare_first(&self, key: &[u8], delta: SeqNo) -> Option<Ordering> {
        let entry = self.entry(0)?;
        let stored = self.prefix.iter().chain(entry.suffix);
        Some(stored.cmp(key.iter()).then(delta.cmp(&entry.delta)))
    }
}

/// The hint of a distance from the first key.
#[inline]
fn spread(distance: u64, shift: u8) -> u8 {
    u8::try_from(distance.wrapping_shr(u32::from(shift))).unwrap_or(u8::MAX)
}

impl<'a> RawEntry<'a> {
    /// The entry at `at`; `None` when there cannot be one.
    #[inline(always)]
    fn decode(bytes: &'a [u8], at: usize) -> Option<RawEntry<'a>> {
        let rest = bytes.get(at..)?;
        let Some(head) = rest.first_chunk::<11>() else { return Self::decode_long(bytes, at) };
        let [w0, w1, w2, d0, d1, d2, d3, d4, d5, d6, d7] = *head;
        let word = u32::from_le_bytes([w0, w1, w2, d0]) & 0xff_ffff;
        let suffix_len = (word >> 7 & 0x3f) as usize;
        let value_len = (word >> 13) as usize;
        if suffix_len == LONG_SUFFIX || value_len == LONG_VALUE {
            return Self::decode_long(bytes, at);
        }
        let delta_len = word >> 4 & 7;
        let delta = u64::from_le_bytes([d0, d1, d2, d3, d4, d5, d6, d7]);
        let delta = delta & ((1 << (8 * delta_len)) - 1);
        let start = at + 3 + delta_len as usize;
        Self::finish(bytes, word, delta, start, suffix_len, value_len)
    }

    /// As decode, for entries with long parts and those near the block's end.
    #[cold]
    fn decode_long(bytes: &'a [u8], at: usize) -> Option<RawEntry<'a>> {
        let mut d = Decoder::new(bytes.get(at..)?);
        let word = u24(&mut d)?;
        let mut suffix_len = (word >> 7 & 0x3f) as usize;
        if suffix_len == LONG_SUFFIX {
            suffix_len = u24(&mut d)? as usize;
        }
        let mut value_len = (word >> 13) as usize;
        if value_len == LONG_VALUE {
            value_len = d.u32()? as usize;
        }
        let mut delta = [0; 8];
        let stored = d.take((word >> 4 & 7) as usize)?;
        delta.get_mut(..stored.len())?.copy_from_slice(stored);
        let start = bytes.len() - d.rest().len();
        Self::finish(bytes, word, u64::from_le_bytes(delta), start, suffix_len, value_len)
    }

    #[inline(always)]
    fn finish(
        bytes: &'a [u8],
        word: u32,
        delta: u64,
        start: usize,
        suffix_len: usize,
        value_len: usize,
    ) -> Option<RawEntry<'a>> {
        let kind = Kind::from_u8((word & 7) as u8)?;
        if kind == Kind::Pointer && value_len != ValuePointer::ENCODED_LEN {
            return None;
        }
        let value_start = start + suffix_len;
        let end = value_start.checked_add(value_len)?;
        let suffix = bytes.get(start..value_start)?;
        let value = bytes.get(value_start..end)?;
        Some(RawEntry { suffix, value, delta, kind, older: word & 8 != 0, end })
    }
}

fn u24(d: &mut Decoder<'_>) -> Option<u32> {
    let bytes = d.take(3)?;
    Some(bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte)))
}

/// Appends an entry's bytes before its value.
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
    out.extend_from_slice(&word.to_le_bytes()[..3]);
    if suffix.len() >= LONG_SUFFIX {
        out.extend_from_slice(&(suffix.len() as u32).to_le_bytes()[..3]);
    }
    if value_len >= LONG_VALUE {
        out.extend_from_slice(&(value_len as u32).to_le_bytes());
    }
    out.extend_from_slice(&delta.to_le_bytes()[..delta_len]);
    out.extend_from_slice(suffix);
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
    offsets: Vec<u16>,
    hints: Vec<u64>,
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
            offsets: Vec::new(),
            hints: Vec::new(),
        }
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
        // The first entry has neither hint nor slot; a lone entry has no shared prefix.
        let shared = if count > 1 { shared } else { 0 };
        HEADER_LEN + size + 3 * count.saturating_sub(1) - shared * count.saturating_sub(1)
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
        put_header(out, 1, count as u16, &self.keys[..shared], 0, 0);
        let (mut key_start, mut value_start) = (0, 0);
        for entry in &self.entries {
            let suffix = &self.keys[key_start + shared..entry.key_end];
            let value = &self.values[value_start..entry.value_end];
            let offset = out.len() - start;
            self.offsets.push(offset as u16);
            self.hints.push(prefix8(suffix));
            if !entry.older {
                newest(entry.hash, offset);
            }
            put_entry_head(out, entry.kind, entry.older, entry.delta, suffix, value.len());
            out.extend_from_slice(value);
            (key_start, value_start) = (entry.key_end, entry.value_end);
        }
        out.resize(start + self.grid - 3 * (count - 1), 0);
        self.put_slots(out, start);
        let checksum = block_checksum(&[&out[start..]], self.grid, seed);
        out[start..start + 8].copy_from_slice(&checksum.to_le_bytes());
        self.clear();
    }

    /// Appends hints and slots, and completes the header with the hints' base and scale.
    fn put_slots(&self, out: &mut Vec<u8>, start: usize) {
        let base = self.hints.first().copied().unwrap_or(0);
        let range = self.hints.last().copied().unwrap_or(0) - base;
        let shift = (u64::BITS - range.leading_zeros()).saturating_sub(8) as u8;
        out.extend(self.hints.iter().skip(1).map(|hint| spread(hint - base, shift)));
        for offset in self.offsets.iter().skip(1) {
            out.extend_from_slice(&offset.to_le_bytes());
        }
        out[start + 16..start + 24].copy_from_slice(&base.to_le_bytes());
        out[start + 24] = shift;
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.entries.clear();
        self.offsets.clear();
        self.hints.clear();
        (self.shared, self.size) = (0, 0);
    }
}
