//! Reading one block (layer L3): a header with the prefix that its keys share, a hint and a slot
//! for every entry but the first, and the entries.
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
use crate::prefetch::prefetch;
use crate::types::{Kind, SeqNo, ValuePointer};

/// Bytes of a block before its shared prefix.
pub(super) const HEADER_LEN: usize = 25;
/// Suffix lengths from here on are stored after the entry's head.
pub(super) const LONG_SUFFIX: usize = 63;
/// Value lengths from here on are stored after the entry's head.
pub(super) const LONG_VALUE: usize = 2047;

/// Cache lines that a seek asks for at once; a cursor asks for more as it goes.
const PREFETCHED_LINES: usize = 6;

/// A search among entries whose hints are equal asks for those of so many steps at once.
const STEPS_AHEAD: u32 = 3;

/// A block, its header taken apart.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    bytes: &'a [u8],
    shape: Shape,
}

/// What a block's header says; kept by cursors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shape {
    /// Entries; at least one.
    pub(super) count: usize,
    /// Length of the prefix that all keys of the block share.
    pub(super) prefix_len: usize,
    /// Bytes, of all its cells.
    pub(super) len: usize,
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

/// What an entry says of itself before its key's suffix and its value, which follow it.
#[derive(Clone, Copy)]
pub(super) struct EntryHead {
    word: u32,
    /// Sequence number over the table's base.
    pub(super) delta: SeqNo,
    /// Offset in the block of the suffix.
    pub(super) start: usize,
    pub(super) suffix_len: usize,
    pub(super) value_len: usize,
}

impl EntryHead {
    /// Most bytes before the suffix.
    pub(super) const MOST_LEN: usize = 3 + 3 + 4 + 7;

    /// The head of the entry at `at`; `None` when there cannot be one.
    pub(super) fn decode(bytes: &[u8], at: usize) -> Option<EntryHead> {
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
        Some(EntryHead { word, delta: u64::from_le_bytes(delta), start, suffix_len, value_len })
    }

    /// Whether the entry has a value of its own.
    pub(super) fn is_put(&self) -> bool {
        self.word & 7 == Kind::Put as u32
    }
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

/// The checksum of a block that comes in parts of whole cells: that of every cell seeds that
/// of the next. The first eight bytes, where it is stored, are left out.
pub(super) fn block_checksum(parts: &[&[u8]], grid: usize, seed: u64) -> u64 {
    let mut cells = parts.iter().flat_map(|part| part.chunks(grid));
    let first = cells.next().and_then(|cell| cell.get(8..)).unwrap_or(&[]);
    cells.fold(checksum64(first, seed), |checksum, cell| checksum64(cell, checksum))
}

impl Shape {
    /// What the first bytes of a block say; `None` when it cannot be one.
    #[inline(always)]
    pub(super) fn of_header(bytes: &[u8], grid_shift: u32) -> Option<Shape> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let [_, _, _, _, _, _, _, _, c0, c1, c2, c3, n0, n1, p0, p1, ..] = *header;
        let cells = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        let count = usize::from(u16::from_le_bytes([n0, n1]));
        let prefix_len = usize::from(u16::from_le_bytes([p0, p1]));
        if cells != 1 && (cells == 0 || count != 1) || count == 0 {
            return None;
        }
        let len = cells << grid_shift;
        (HEADER_LEN + prefix_len <= len).then_some(Shape { count, prefix_len, len })
    }

    /// Where the entry with this index starts, for an index below the count.
    #[inline(always)]
    fn entry_offset(&self, bytes: &[u8], index: usize) -> Option<usize> {
        let hints = HEADER_LEN + self.prefix_len;
        let stored = self.count.wrapping_sub(1);
        if index == 0 {
            return Some(hints + 3 * stored);
        }
        let slot = hints + stored + 2 * (index - 1);
        let slot = bytes.get(slot..)?.first_chunk::<2>()?;
        Some(usize::from(u16::from_le_bytes(*slot)))
    }

    /// The entry with this index of a block with this shape.
    #[inline(always)]
    pub(super) fn entry<'a>(&self, bytes: &'a [u8], index: usize) -> Option<RawEntry<'a>> {
        RawEntry::decode(bytes, self.entry_offset(bytes, index)?)
    }
}

impl<'a> Block<'a> {
    /// The block at the start of `bytes`, which may go on beyond it; `None` when it cannot be one.
    #[inline(always)]
    pub(super) fn parse(bytes: &'a [u8], grid_shift: u32) -> Option<Block<'a>> {
        let shape = Shape::of_header(bytes, grid_shift)?;
        Some(Block { bytes: bytes.get(..shape.len)?, shape })
    }

    /// Whether these first bytes of a block say that it is one entry in so many cells; the prefix
    /// of its key.
    pub(super) fn lone_prefix(bytes: &[u8], cells: usize) -> Option<&[u8]> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let [_, _, _, _, _, _, _, _, c0, c1, c2, c3, n0, n1, p0, p1, ..] = *header;
        let here = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
        let prefix_len = usize::from(u16::from_le_bytes([p0, p1]));
        let right = here == cells && u16::from_le_bytes([n0, n1]) == 1;
        bytes.get(HEADER_LEN..HEADER_LEN + prefix_len).filter(|_| right)
    }

    /// A block that was parsed before.
    #[inline(always)]
    pub(super) fn parsed(bytes: &'a [u8], shape: Shape) -> Block<'a> {
        Block { bytes, shape }
    }

    /// Its bytes, of all its cells.
    #[inline(always)]
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// True when the stored checksum is that of the block's bytes.
    pub(super) fn verify(&self, grid_shift: u32, seed: u64) -> bool {
        let stored = self.bytes.first_chunk::<8>().map(|stored| u64::from_le_bytes(*stored));
        stored == Some(block_checksum(&[self.bytes], 1 << grid_shift, seed))
    }

    /// What its header says.
    #[inline]
    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    /// The prefix that all keys of the block share.
    #[inline(always)]
    pub(super) fn prefix(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..HEADER_LEN + self.shape.prefix_len).unwrap_or(&[])
    }

    /// Entries; at least one.
    #[inline]
    pub(super) fn count(&self) -> usize {
        self.shape.count
    }

    /// The entry at an offset of the block.
    #[inline(always)]
    pub(super) fn entry_at(&self, offset: usize) -> Option<RawEntry<'a>> {
        RawEntry::decode(self.bytes, offset)
    }

    /// The entry with this index.
    #[inline]
    pub(super) fn entry(&self, index: usize) -> Option<RawEntry<'a>> {
        self.shape.entry(self.bytes, index)
    }

    /// True when an entry of this block has this key.
    ///
    /// How a key is split into prefix and suffix differs from block to block, so no branch may
    /// depend on it: a wrong guess would cost a wait for memory. Only the key's length decides.
    #[inline(always)]
    pub(super) fn has_key(&self, entry: &RawEntry<'_>, key: &[u8]) -> bool {
        let prefix_len = self.shape.prefix_len;
        if key.len() != prefix_len + entry.suffix.len() {
            return false;
        }
        let value_start = entry.end - entry.value.len();
        let front = self.bytes.get(HEADER_LEN..HEADER_LEN + key.len());
        let back = self.bytes.get(value_start.wrapping_sub(key.len())..value_start);
        match (front, back) {
            (Some(front), Some(back)) if key.len() <= 64 => same(key, front, back, prefix_len),
            _ => key.starts_with(self.prefix()) && key.ends_with(entry.suffix),
        }
    }

    /// Where the last entry starts.
    pub(super) fn last_entry_offset(&self) -> Option<usize> {
        self.shape.entry_offset(self.bytes, self.shape.count - 1)
    }

    /// The hints of all entries but the first.
    fn hints(&self) -> Option<&'a [u8]> {
        let start = HEADER_LEN + self.shape.prefix_len;
        self.bytes.get(start..start + self.shape.count - 1)
    }

    /// Index of the first entry at or after (key, sequence number `delta`), or the count.
    #[inline]
    pub(super) fn lower_bound(&self, key: &[u8], delta: SeqNo) -> Option<usize> {
        let prefix = self.prefix();
        let (head, rest) = key.split_at(prefix.len().min(key.len()));
        match head.cmp(&prefix[..head.len()]) {
            Ordering::Less => return Some(0),
            Ordering::Greater => return Some(self.shape.count),
            Ordering::Equal if head.len() < prefix.len() => return Some(0),
            Ordering::Equal => {}
        }
        let (mut low, mut high) = self.narrow(rest)?;
        let wide = high - low > 2;
        if !wide {
            self.prefetch_entries(low);
        }
        let mut steps = 0u32;
        while low < high {
            if wide && steps.is_multiple_of(STEPS_AHEAD) {
                self.prefetch_middles(low, high, STEPS_AHEAD);
            }
            steps += 1;
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            if entry.suffix.cmp(rest).then(delta.cmp(&entry.delta)).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if wide {
            self.prefetch_entries(low);
        }
        Some(low)
    }

    /// Starts to load every entry that so many steps of a search in a range may compare.
    fn prefetch_middles(&self, low: usize, high: usize, steps: u32) {
        if low < high && steps > 0 {
            let middle = low + (high - low) / 2;
            let offset = self.shape.entry_offset(self.bytes, middle).unwrap_or(0);
            prefetch(self.bytes.as_ptr().wrapping_add(offset));
            self.prefetch_middles(low, middle, steps - 1);
            self.prefetch_middles(middle + 1, high, steps - 1);
        }
    }

    /// Starts to load some entries from this index on, for who reads on after a seek.
    #[inline]
    fn prefetch_entries(&self, index: usize) {
        let offset = self.shape.entry_offset(self.bytes, index).unwrap_or(0);
        for line in 0..PREFETCHED_LINES {
            prefetch(self.bytes.as_ptr().wrapping_add(offset + 64 * line));
        }
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
        let hints = self.hints()?;
        let below = hints.partition_point(|stored| *stored < hint);
        let equal = hints.iter().skip(below).take_while(|stored| **stored == hint).count();
        let low = if hint > 0 { below + 1 } else { 0 };
        Some((low, below + equal + 1))
    }

    /// How the first entry compares with (key, sequence number `delta`).
    pub(super) fn compare_first(&self, key: &[u8], delta: SeqNo) -> Option<Ordering> {
        let entry = self.entry(0)?;
        let stored = self.prefix().iter().chain(entry.suffix);
        Some(stored.cmp(key.iter()).then(delta.cmp(&entry.delta)))
    }
}

/// True when `key` is the first `split` bytes of `front` and then those of `back` from there; all
/// three are equally long.
#[inline(always)]
fn same(key: &[u8], front: &[u8], back: &[u8], split: usize) -> bool {
    let differ = |key: [u8; 8], front: [u8; 8], back: [u8; 8], at: usize| {
        let bits = 8 * split.saturating_sub(at).min(8) as u32;
        let of_back = u64::MAX.checked_shl(bits).unwrap_or(0);
        let (front, back) = (u64::from_le_bytes(front), u64::from_le_bytes(back));
        u64::from_le_bytes(key) ^ (front & !of_back | back & of_back)
    };
    if let (Some(last), Some(front_last), Some(back_last)) =
        (key.last_chunk(), front.last_chunk(), back.last_chunk())
    {
        let mut different = differ(*last, *front_last, *back_last, key.len() - 8);
        let words = key.as_chunks().0.iter().zip(front.as_chunks().0).zip(back.as_chunks().0);
        for (index, ((key, front), back)) in words.enumerate() {
            different |= differ(*key, *front, *back, 8 * index);
        }
        return different == 0;
    }
    let bytes = key.iter().zip(front).zip(back).enumerate();
    let differ = |(at, ((key, front), back)): (usize, ((&u8, &u8), &u8))| {
        key ^ if at < split { front } else { back }
    };
    bytes.map(differ).fold(0, |all, one| all | one) == 0
}

/// The hint of a distance from the first key.
#[inline]
pub(super) fn spread(distance: u64, shift: u8) -> u8 {
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
        let EntryHead { word, delta, start, suffix_len, value_len } = EntryHead::decode(bytes, at)?;
        Self::finish(bytes, word, delta, start, suffix_len, value_len)
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
        let bad = match kind {
            Kind::Pointer => value_len != ValuePointer::ENCODED_LEN,
            Kind::Packed => true,
            Kind::Put | Kind::Delete => false,
        };
        if bad {
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
