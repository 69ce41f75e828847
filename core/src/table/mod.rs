//! Tables (layer L3): immutable sorted files, read in place through a map.
//!
//! A table is a row of blocks, then a locator (a hash index from key to entry), an index over the
//! blocks' first keys, and a footer. A point read goes from the locator straight to the entry; a
//! seek goes through the index.
//!
//! Invariants:
//! - ORDER: entries ascend by key, and descend by sequence number within a key.
//! - DETECT: every byte is under a checksum, looked at before the byte is used for the first time
//!   after open. A valid checksum proves nothing about sense: decoding stays bounds-checked.
//! - WHOLE: the locator knows the newest version of every key, or says "search the blocks".

mod block;
mod block_builder;
mod builder;
mod format;
mod index;
mod iterator;
mod locator;
mod parts;
mod reader;
mod search;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify;

pub(crate) use block::prefetch;
pub(crate) use builder::{TableBuilder, TableParams};
pub(crate) use iterator::{IterMode, TableIter};
pub(crate) use reader::Table;

#[cfg(test)]
pub(crate) use tests::documented;
