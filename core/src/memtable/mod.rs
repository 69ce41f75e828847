//! The memtable: the ordered index in memory over one log segment (layer L3).
//!
//! Keys in a radix tree over their nibbles whose leaves are small unordered arrays (`node`),
//! versions of a key in a list, newest first (`record`), and a filter that says "not here" for one
//! load (`filter`). Values stay in the log: an entry names its record's offset there.
//!
//! One thread writes, guarded by the caller; any number reads at the same time without a lock.
//! Invariants:
//! - an entry is found by everybody who learnt its sequence number (or a greater one) from its
//!   writer through a Release store and an Acquire load;
//! - sequence numbers of inserted entries ascend;
//! - nothing moves or is freed before the memtable drops.

mod arena;
mod cursor;
mod fence;
mod filter;
mod grow;
mod index;
mod leaf;
mod moves;
mod node;
mod record;
mod scan;
mod tree;

#[cfg(test)]
mod tests;

pub(crate) use index::{Inserted, Memtable};
pub(crate) use record::MemEntry;
pub(crate) use scan::MemScan;
