//! Tables (layer L3): immutable sorted files, read in place through a map, or block by block
//! through a cache where that cannot be.
//!
//! A table is a row of blocks, then a locator (a hash index from key to entry), an index over the
//! blocks' first keys, and a footer. A point read goes from the locator straight to the entry; a
//! seek goes through the index. Positions of entries are addresses in a space of grid cells, in
//! which every block has its whole length; in compressed tables `packed` says where they are.
//!
//! Invariants:
//! - ORDER: entries ascend by key, and descend by sequence number within a key.
//! - DETECT: every byte is under a checksum, looked at before the byte is used for the first time
//!   after open. A valid checksum proves nothing about sense: decoding stays bounds-checked.
//! - WHOLE: the locator knows the newest version of every key, or says "search the blocks".

mod bits;
mod block;
mod block_builder;
mod builder;
mod elsewhere;
mod format;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod hostile;
mod index;
mod iterator;
mod loaded;
mod locator;
mod packed;
mod part;
mod parts;
mod read_ahead;
mod reader;
mod search;
#[cfg(test)]
mod tests;
mod verify;
mod wreck;

pub(crate) use builder::{TableBuilder, TableParams};
pub(crate) use iterator::{IterMode, TableIter};
pub(crate) use reader::Table;
pub(crate) use search::Place;
pub(crate) use verify::Watch;
pub(crate) use wreck::{Wreck, WreckEntry};

#[cfg(test)]
pub(crate) use tests::documented;
