//! Internal iterators (layer L2): the cursor that every sorted source offers, and the merge of
//! several of them. Knows keys and order, nothing of files.

mod merge;

pub(crate) use merge::{Merge, head_of, wide_head_of};

use crate::error::Result;

/// A position in a sorted source of encoded keys.
///
/// A cursor starts invalid and becomes valid by a seek; moving past either end makes it invalid,
/// and only a seek makes it valid again. `key` may be asked only of a valid cursor. A source may
/// hold several entries of one key; they follow each other, newest first.
pub(crate) trait Cursor {
    /// Asks for the memory that a seek to `key`, or before it, reads first. The source may note
    /// what it has found out: that seek comes next, or none before another prepare. What is wrong
    /// with the source the seek itself tells.
    #[inline]
    fn prepare(&mut self, _key: &[u8], _forward: bool) {}
    /// To the first entry whose key is at least `key`.
    fn seek(&mut self, key: &[u8]) -> Result<()>;
    /// To an entry of the last key below `key`.
    fn seek_before(&mut self, key: &[u8]) -> Result<()>;
    /// One entry forward.
    fn next(&mut self) -> Result<()>;
    /// One entry back.
    fn prev(&mut self) -> Result<()>;
    /// Whether the cursor is on an entry.
    fn valid(&self) -> bool;
    /// The key of the entry.
    fn key(&self) -> &[u8];
}
