//! The stream that `dump` writes and `load` reads; its bytes are specified in README.md.
//!
//! Invariants. CHAIN: the checksum of each chunk is seeded with that of the chunk before, so that
//! chunks cannot be lost, doubled, swapped or taken from another dump unnoticed. SAME: equal
//! contents make equal dumps.

mod read;
mod write;

use std::hash::Hasher;

use xxhash_rust::xxh3::Xxh3;

pub(crate) use read::DumpReader;
pub(crate) use write::DumpWriter;

/// What every dump begins with: the name of the format, its version, and zeros.
const MAGIC: [u8; 8] = *b"toykvdmp";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;

/// A chunk's head: the length of its payload, the number of its entries, a check of both.
const HEAD_BYTES: usize = 16;

/// Where a chunk ends: as soon as its payload has this many bytes.
const CHUNK_BYTES: usize = 256 << 10;

/// Lengths in front of an entry's key and value.
const ENTRY_HEAD_BYTES: usize = 6;

/// Payload of the chunk that ends the stream: entries, bytes of keys and values, chunks.
const END_BYTES: usize = 24;

/// The check of a head's first bytes.
fn head_check(head: &[u8], seed: u64) -> u32 {
    xxhash_rust::xxh3::xxh3_64_with_seed(head, seed) as u32
}

/// The checksum of a chunk.
fn chunk_checksum(head: &[u8], payload: &[u8], seed: u64) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    hasher.write(head);
    hasher.write(payload);
    hasher.finish()
}

/// Running totals; the end of the stream has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    /// Bytes of keys and values.
    pub(crate) bytes: u64,
    pub(crate) chunks: u64,
}

#[cfg(test)]
mod tests;
