//! One run at one sequence number as a source of ordered reads (layer L5): its tables one after the
//! other, each key once, and its separated values asked for ahead.

use std::sync::Arc;

use super::view::View;
use crate::error::Result;
use crate::table::{IterMode, Place, TableIter};
use crate::types::{Kind, SeqNo, ValuePointer};
use crate::vlog::MANY_PAGES;

/// Separated values ahead whose first lines are asked for: with more, those of a thousand bytes
/// come no sooner.
const LINES_AHEAD: usize = 2;

/// Long separated values ahead whose pages are asked for, and never more than were read since the
/// last seek: who wants a few entries reads at most as many in vain.
const PAGES_AHEAD: usize = 16;

/// A run at one sequence number: its tables one after the other.
pub(super) struct RunCursor {
    view: Arc<View>,
    run: usize,
    table: usize,
    iter: Option<TableIter>,
    seqno: SeqNo,
    key: Vec<u8>,
    /// Going back, on an older version: where the newest one of its key is.
    newest: Place,
    /// The farthest entries whose separated values were asked for: their lines, their pages.
    lines: Place,
    pages: Place,
    /// Separated values read since the last seek.
    followed: usize,
}

impl RunCursor {
    pub(super) fn new(view: Arc<View>, run: usize, seqno: SeqNo) -> RunCursor {
        RunCursor {
            view,
            run,
            table: 0,
            iter: None,
            seqno,
            key: Vec::new(),
            newest: Place::START,
            lines: Place::NOWHERE,
            pages: Place::NOWHERE,
            followed: 0,
        }
    }

    /// Asks for the separated values that come next in a direction. Only on an entry with one.
    pub(super) fn ask_ahead(&mut self, forward: bool) {
        let Some(iter) = &self.iter else { return };
        let (view, followed) = (&self.view, self.followed);
        iter.pointers_ahead(forward, LINES_AHEAD, &mut self.lines, |pointer| {
            view.ask_lines(pointer)
        });
        if ValuePointer::decode(iter.value()).is_some_and(|pointer| pointer.len >= MANY_PAGES) {
            let count = followed.min(PAGES_AHEAD);
            iter.pointers_ahead(forward, count, &mut self.pages, |pointer| view.ask_pages(pointer));
        }
        self.followed += 1;
    }

    #[inline]
    pub(super) fn valid(&self) -> bool {
        self.iter.as_ref().is_some_and(TableIter::valid)
    }

    /// The iterator of a run that is valid.
    #[inline]
    pub(super) fn iter(&self) -> &TableIter {
        self.iter.as_ref().expect("a valid run has a table open")
    }

    #[inline]
    pub(super) fn kind(&self) -> Kind {
        self.iter().kind()
    }

    /// Opens the table at `index`; none when there is no such table.
    fn open(&mut self, index: usize) -> Result<Option<&mut TableIter>> {
        if self.table != index || self.iter.is_none() {
            let tables = &self.view.version.runs[self.run].tables;
            let Some((_, table)) = tables.get(index) else {
                self.iter = None;
                return Ok(None);
            };
            self.iter = Some(TableIter::new(Arc::clone(table), IterMode::Mapped)?);
            self.table = index;
        }
        Ok(self.iter.as_mut())
    }

    pub(super) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.followed = 0;
        let index = self.view.version.runs[self.run].position(key);
        if let Some(iter) = self.open(index)? {
            iter.seek(key)?;
        }
        self.settle_forward()
    }

    pub(super) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.followed = 0;
        let tables = &self.view.version.runs[self.run].tables;
        let after = tables.partition_point(|(meta, _)| meta.smallest.as_slice() < key);
        let Some(index) = after.checked_sub(1) else {
            self.iter = None;
            return Ok(());
        };
        if let Some(iter) = self.open(index)? {
            iter.seek_before(key)?;
        }
        self.settle_backward()
    }

    #[inline(always)]
    pub(super) fn next(&mut self) -> Result<()> {
        let Some(iter) = &mut self.iter else { return Ok(()) };
        iter.next()?;
        if is_lone(iter, self.seqno) {
            return Ok(());
        }
        while iter.valid() && iter.is_older_version() {
            iter.next()?;
        }
        self.settle_forward()
    }

    #[inline]
    pub(super) fn prev(&mut self) -> Result<()> {
        let Some(iter) = &mut self.iter else { return Ok(()) };
        if iter.is_older_version() {
            self.key.clear();
            self.key.extend_from_slice(iter.key());
            iter.seek_back(&self.key, self.newest)?;
        } else {
            iter.prev()?;
            if is_lone(iter, self.seqno) {
                return Ok(());
            }
            to_newest(iter, &mut self.key)?;
        }
        self.settle_backward()
    }

    /// From an entry whose newer versions are out of the way to one that the reader sees.
    fn settle_forward(&mut self) -> Result<()> {
        while let Some(iter) = &mut self.iter {
            while iter.valid() {
                if iter.seqno() <= self.seqno {
                    return Ok(());
                }
                iter.next()?;
            }
            let next = self.table + 1;
            if let Some(iter) = self.open(next)? {
                iter.seek_to_first()?;
            }
        }
        Ok(())
    }

    /// From the newest version of a key to one that the reader sees, of this or a lower key.
    fn settle_backward(&mut self) -> Result<()> {
        while let Some(iter) = &mut self.iter {
            while iter.valid() {
                if iter.seqno() <= self.seqno {
                    return Ok(());
                }
                self.key.clear();
                self.key.extend_from_slice(iter.key());
                self.newest = iter.place();
                iter.next()?;
                while iter.valid() && iter.is_older_version() {
                    if iter.seqno() <= self.seqno {
                        return Ok(());
                    }
                    iter.next()?;
                }
                iter.seek_back(&self.key, self.newest)?;
            }
            let Some(previous) = self.table.checked_sub(1) else {
                self.iter = None;
                return Ok(());
            };
            self.iter = None;
            if let Some(iter) = self.open(previous)? {
                iter.seek_to_last()?;
            }
            if let Some(iter) = &mut self.iter {
                to_newest(iter, &mut self.key)?;
            }
        }
        Ok(())
    }
}

/// Whether an iterator is on the newest version of a key and a reader at `seqno` sees it.
#[inline]
fn is_lone(iter: &TableIter, seqno: SeqNo) -> bool {
    iter.valid() && !iter.is_older_version() && iter.seqno() <= seqno
}

/// From the oldest version of a key to its newest.
fn to_newest(iter: &mut TableIter, scratch: &mut Vec<u8>) -> Result<()> {
    if iter.valid() && iter.is_older_version() {
        scratch.clear();
        scratch.extend_from_slice(iter.key());
        iter.seek_newest(scratch)?;
    }
    Ok(())
}
