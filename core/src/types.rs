//! Small plain values that every layer shares (layer L0).

use std::num::NonZero;

/// A sequence number: the place of a write in the total order of all writes of a database.
///
/// The first write has number 1; 0 means "before everything". Numbers never repeat.
pub type SeqNo = u64;

/// The largest sequence number: 56 bits, so that a kind fits beside it in one word.
pub(crate) const MAX_SEQNO: SeqNo = (1 << 56) - 1;

/// The number in a file's name. Manifests, segments and tables share one sequence.
pub type FileNumber = u64;

/// No file and no run has a number from here on.
pub(crate) const MAX_FILE_NUMBER: FileNumber = 1 << 56;

/// The largest segment of the log: the memtable over it has room for all that it can hold.
pub(crate) const MAX_LOG_SEGMENT_SIZE: u64 = 1 << 30;

/// The number of a segment when it was first written; it never changes.
pub type SegmentId = u64;

/// Number of a keyspace; see [`crate::key`].
pub(crate) type KeyspaceId = u32;

/// The keyspace that the API uses today.
pub(crate) const DEFAULT_KEYSPACE: KeyspaceId = 0;

/// Longest user key in bytes.
pub const MAX_KEY_LEN: usize = 65_535;

/// Longest value in bytes.
pub const MAX_VALUE_LEN: u64 = u32::MAX as u64;

/// What an entry of the log or of a table says about its key. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The value follows.
    Put = 1,
    /// A tombstone: the key is absent from here on.
    Delete = 2,
    /// The value lies in the value log; a [`ValuePointer`] follows. Only in tables.
    Pointer = 3,
    // 4 is kept for a value with an expiry time, 5 for a range tombstone.
    /// A put whose value is stored compressed. Only in records of the value log.
    Packed = 6,
}

impl Kind {
    /// The kind with this number, or `None` for a number that this version does not know.
    #[inline]
    pub(crate) fn from_u8(number: u8) -> Option<Kind> {
        match number {
            1 => Some(Kind::Put),
            2 => Some(Kind::Delete),
            3 => Some(Kind::Pointer),
            6 => Some(Kind::Packed),
            _ => None,
        }
    }
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// The death of the process at any moment. Costs a copy.
    Process,
    /// That, and power loss after at most the interval (`sync_interval_ms`); what is there
    /// afterwards is always a prefix of the commit order.
    #[default]
    Interval,
    /// Power loss, before the call returns. Concurrent writers share one device flush.
    Sync,
}

/// How tables and flushed segments are read and written. The log itself is mapped in both modes: a
/// put is a store into it, which survives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum IoMode {
    /// Through maps and the page cache, without copies. A device that cannot read a mapped page
    /// ends the process with SIGBUS.
    #[default]
    Mapped,
    /// Past the page cache (`O_DIRECT`), through the cache of `cache_size_bytes`; indexes of tables
    /// are kept in memory, and locators (7 bytes a key) as far as `memory_budget` has room. A
    /// separated value is one read of the device, and so is a block of a table. What a device
    /// cannot read is an Io error. Opening is Unsupported where the file system cannot.
    Direct,
}

/// How blocks of new tables and separated values are compressed. The numbers are part of the
/// format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all; then they are read in place, without a copy.
    #[default]
    None = 0,
    /// LZ4: fast, to about half for text.
    Lz4 = 1,
    /// Zstandard: slower, and smaller.
    Zstd = 2,
}

impl Compression {
    /// The scheme with this number, or `None` for a number that this version does not know.
    #[inline]
    pub(crate) fn from_u8(number: u8) -> Option<Compression> {
        match number {
            0 => Some(Compression::None),
            1 => Some(Compression::Lz4),
            2 => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// The place of a separated value: the record of its first write, and the value's length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ValuePointer {
    /// The logical segment.
    pub(crate) segment: SegmentId,
    /// Byte offset of the *record* (not of the value) in the segment; a multiple of 8.
    pub(crate) offset: u64,
    /// Length of the value in bytes.
    pub(crate) len: u32,
}

impl ValuePointer {
    /// Encoded size in bytes: segment u64, offset in 8-byte units u32, length u32.
    pub(crate) const ENCODED_LEN: usize = 16;

    /// The stored form.
    pub(crate) fn encode(&self) -> [u8; Self::ENCODED_LEN] {
        debug_assert!(self.offset.is_multiple_of(8) && self.offset / 8 <= u64::from(u32::MAX));
        let mut out = [0; Self::ENCODED_LEN];
        out[..8].copy_from_slice(&self.segment.to_le_bytes());
        out[8..12].copy_from_slice(&((self.offset / 8) as u32).to_le_bytes());
        out[12..].copy_from_slice(&self.len.to_le_bytes());
        out
    }

    /// Reads the stored form; `None` unless `bytes` has exactly [`Self::ENCODED_LEN`] bytes. No
    /// record lies at offset 0, where a segment has its header.
    #[inline]
    pub(crate) fn decode(bytes: &[u8]) -> Option<ValuePointer> {
        let bytes: &[u8; Self::ENCODED_LEN] = bytes.try_into().ok()?;
        let (segment, rest) = bytes.split_first_chunk::<8>()?;
        let (offset, len) = rest.split_first_chunk::<4>()?;
        let unit = NonZero::new(u32::from_le_bytes(*offset))?;
        Some(ValuePointer {
            segment: u64::from_le_bytes(*segment),
            offset: u64::from(unit.get()) * 8,
            len: u32::from_le_bytes(len.try_into().ok()?),
        })
    }
}
