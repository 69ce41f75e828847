//! Ordered reads (layer L5): one cursor over memtables and runs that shows each live key once.
//!
//! Invariant SNAP: the cursor shows the state at one sequence number in one pinned view, whatever
//! happens meanwhile. Children show each user key once, as the newest version that the reader may
//! see; of equal keys the newest child's wins; tombstones are passed over.

use std::sync::Arc;

use super::run_cursor::RunCursor;
use super::view::{MemPart, View};
use crate::buffer::{Bytes, SharedBytes};
use crate::error::Result;
use crate::iter::{Cursor, Merge, wide_head_of};
use crate::key::LookupKey;
use crate::memtable::MemScan;
use crate::types::{Kind, SeqNo};

/// A position over the whole tree between two bounds.
pub(crate) struct TreeCursor {
    view: Arc<View>,
    merge: Merge<Child>,
    /// Encoded, inclusive.
    lower: LookupKey,
    /// Encoded, exclusive.
    upper: LookupKey,
    /// First sixteen bytes of the bounds, which decide for nearly every key.
    lower_head: u128,
    upper_head: u128,
    forward: bool,
    valid: bool,
    /// The key being left behind.
    key: Vec<u8>,
    /// The last value that lies in a buffer.
    held: Option<SharedBytes>,
}

impl TreeCursor {
    /// A cursor over keys in `lower..upper` at `seqno`; invalid until a seek.
    pub(crate) fn new(
        view: Arc<View>,
        seqno: SeqNo,
        lower: LookupKey,
        upper: LookupKey,
    ) -> TreeCursor {
        let (from, to) = (lower.as_bytes(), upper.as_bytes());
        let mut children = Vec::with_capacity(view.parts.len() + view.version.runs.len());
        for part in view.parts.iter().filter(|part| !part.memtable.is_empty()) {
            children.push(Child::Mem(MemChild::new(part, seqno)));
        }
        for (index, run) in view.version.runs.iter().enumerate() {
            let first = run.tables.get(run.position(from));
            if first.is_some_and(|(meta, _)| *meta.smallest < *to) {
                children.push(Child::Run(RunCursor::new(Arc::clone(&view), index, seqno)));
            }
        }
        let merge = Merge::new(children);
        let (lower_head, upper_head) = (wide_head_of(from), wide_head_of(to));
        TreeCursor {
            view,
            merge,
            lower,
            upper,
            lower_head,
            upper_head,
            forward: true,
            valid: false,
            key: Vec::new(),
            held: None,
        }
    }

    /// Whether the cursor is on an entry.
    #[inline]
    pub(crate) fn valid(&self) -> bool {
        self.valid
    }

    /// The encoded key.
    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.merge.key()
    }

    /// The encoded key, and the value; a large one is found in the value log now.
    #[inline]
    pub(crate) fn entry(&mut self) -> Result<(&[u8], &[u8])> {
        let key = self.merge.key();
        let value = match self.merge.current() {
            Child::Mem(child) => child.part.value(key, child.scan.entry())?,
            Child::Run(child) if child.kind() == Kind::Pointer => {
                child.ask_ahead(self.forward);
                let found = self.view.resolve(key, child.iter().value());
                found.map_err(|error| child.iter().blame(error))?
            }
            Child::Run(child) => return Ok((key, child.iter().value())),
        };
        match value {
            Bytes::Mapped(value) => Ok((key, value)),
            Bytes::Shared(value) => Ok((key, self.held.insert(value))),
        }
    }

    /// To the first entry at or above `key` within the bounds.
    pub(crate) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        self.forward = true;
        let from = key.max(self.lower.as_bytes());
        self.merge.seek(from)?;
        self.settle()
    }

    /// To the last entry below `key` within the bounds.
    pub(crate) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.valid = false;
        self.forward = false;
        let from = key.min(self.upper.as_bytes());
        self.merge.seek_before(from)?;
        self.settle()
    }

    /// To the first entry within the bounds.
    pub(crate) fn seek_to_first(&mut self) -> Result<()> {
        self.seek(b"")
    }

    /// To the last entry within the bounds.
    pub(crate) fn seek_to_last(&mut self) -> Result<()> {
        self.valid = false;
        self.forward = false;
        self.merge.seek_before(self.upper.as_bytes())?;
        self.settle()
    }

    /// One entry up. Only on an entry.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<()> {
        if self.forward { self.advance() } else { self.turn() }
    }

    /// One entry down. Only on an entry.
    #[inline]
    pub(crate) fn prev(&mut self) -> Result<()> {
        if self.forward { self.turn() } else { self.advance() }
    }

    /// One entry on in the other direction. Only on an entry.
    #[cold]
    fn turn(&mut self) -> Result<()> {
        let mut key = self.merge.key().to_vec();
        if self.forward {
            return self.seek_before(&key);
        }
        key.push(0);
        self.seek(&key)
    }

    /// One entry on in the direction of the cursor.
    #[inline(always)]
    fn advance(&mut self) -> Result<()> {
        self.valid = false;
        self.leave_key()?;
        if self.merge.valid() && self.merge.current().kind() != Kind::Delete {
            self.valid = self.is_inside();
            return Ok(());
        }
        self.settle()
    }

    /// Moves every child off the current key.
    #[inline(always)]
    fn leave_key(&mut self) -> Result<()> {
        if self.merge.may_repeat() { self.leave_repeated_key() } else { self.merge.advance() }
    }

    /// As leave_key, where several children may hold the key.
    fn leave_repeated_key(&mut self) -> Result<()> {
        self.key.clear();
        self.key.extend_from_slice(self.merge.key());
        self.merge.advance()?;
        while self.merge.valid() && self.merge.key() == self.key.as_slice() {
            self.merge.advance()?;
        }
        Ok(())
    }

    /// Whether the current key is within the bound that the cursor moves towards.
    #[inline]
    fn is_inside(&self) -> bool {
        let head = self.merge.head();
        if self.forward {
            head < self.upper_head
                || (head == self.upper_head && self.merge.key() < self.upper.as_bytes())
        } else {
            head > self.lower_head
                || (head == self.lower_head && self.merge.key() >= self.lower.as_bytes())
        }
    }

    /// Passes over tombstones; ends at the bounds.
    fn settle(&mut self) -> Result<()> {
        while self.merge.valid() {
            if !self.is_inside() {
                return Ok(());
            }
            if self.merge.current().kind() != Kind::Delete {
                self.valid = true;
                return Ok(());
            }
            self.leave_key()?;
        }
        Ok(())
    }
}

/// A source of the merge.
enum Child {
    Mem(MemChild),
    Run(RunCursor),
}

impl Child {
    #[inline]
    fn kind(&self) -> Kind {
        match self {
            Child::Mem(child) => child.scan.kind(),
            Child::Run(child) => child.kind(),
        }
    }
}

impl Cursor for Child {
    #[inline]
    fn prepare(&mut self, key: &[u8], forward: bool) {
        if let Child::Run(child) = self {
            child.prepare(key, forward);
        }
    }
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        match self {
            Child::Mem(child) => {
                child.scan.seek(key);
                Ok(())
            }
            Child::Run(child) => child.seek(key),
        }
    }
    fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        match self {
            Child::Mem(child) => {
                child.scan.seek_before(key);
                Ok(())
            }
            Child::Run(child) => child.seek_before(key),
        }
    }
    #[inline(always)]
    fn next(&mut self) -> Result<()> {
        match self {
            Child::Mem(child) => {
                child.next();
                Ok(())
            }
            Child::Run(child) => child.next(),
        }
    }
    #[inline(always)]
    fn prev(&mut self) -> Result<()> {
        match self {
            Child::Mem(child) => {
                child.prev();
                Ok(())
            }
            Child::Run(child) => child.prev(),
        }
    }
    #[inline]
    fn valid(&self) -> bool {
        match self {
            Child::Mem(child) => child.scan.valid(),
            Child::Run(child) => child.valid(),
        }
    }
    #[inline]
    fn key(&self) -> &[u8] {
        match self {
            Child::Mem(child) => child.scan.key(),
            Child::Run(child) => child.iter().key(),
        }
    }
}

/// A memtable and its log.
struct MemChild {
    part: Arc<MemPart>,
    scan: MemScan,
}

impl MemChild {
    fn new(part: &Arc<MemPart>, seqno: SeqNo) -> MemChild {
        MemChild { part: Arc::clone(part), scan: MemScan::new(&part.memtable, seqno) }
    }

    #[inline(always)]
    fn next(&mut self) {
        self.scan.next(|offset| self.part.segment.prefetch(offset));
    }

    #[inline(always)]
    fn prev(&mut self) {
        self.scan.prev(|offset| self.part.segment.prefetch(offset));
    }
}
