//! One run at one sequence number as a source of ordered reads (layer L5): its tables one after the
//! other, each key once, and its separated values asked for ahead.

use std::cell::Cell;
use std::sync::Arc;

use super::view::View;
use crate::error::Result;
use crate::table::{IterMode, Place, TableIter};
use crate::types::{Kind, SeqNo, ValuePointer};
use crate::vlog::ASKED_FROM;

/// So many entries ahead, within a block, the first lines of separated values are asked for: with
/// more, those of a thousand bytes come no sooner.
const LINES_AHEAD: usize = 2;

/// So many entries ahead the pages of long separated values are asked for. Never more than were
/// read since the last seek, half as many after each gap and in each new block: who wants a few
/// entries, or one here and one there, has few read in vain.
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
    ahead: Cell<Ahead>,
}

/// What was asked for ahead in the current table since the last seek.
#[derive(Clone, Copy)]
struct Ahead {
    /// The last entry whose separated value was read.
    last: Place,
    /// How many were, less what gaps take.
    followed: usize,
    /// The farthest entry whose value's lines were asked for.
    lines: Place,
    /// The farthest entry whose value's pages were asked for.
    pages: Place,
}

impl Ahead {
    const NOTHING: Ahead =
        Ahead { last: Place::NOWHERE, followed: 0, lines: Place::NOWHERE, pages: Place::NOWHERE };
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
            ahead: Cell::new(Ahead::NOTHING),
        }
    }

    /// Asks for the separated value that the cursor is on, if it is long, and for those that come
    /// next in a direction. Only on an entry with one.
    #[inline(never)]
    pub(super) fn ask_ahead(&self, forward: bool) {
        let (view, iter, mut ahead) = (&self.view, self.iter(), self.ahead.get());
        match iter.steps_from(ahead.last) {
            Some(0) => return,
            Some(1) => {}
            // Nothing was followed when there was no last one.
            Some(_) | None => ahead.followed /= 2,
        }
        ahead.last = iter.place();
        let lines = ahead.followed.min(LINES_AHEAD);
        iter.pointers_ahead(forward, lines, &mut ahead.lines, |pointer| view.ask_lines(pointer));
        if ValuePointer::decode(iter.value()).is_some_and(|pointer| pointer.len >= ASKED_FROM) {
            let pages = ahead.followed.min(PAGES_AHEAD);
            iter.pointers_ahead(forward, pages, &mut ahead.pages, |pointer| {
                view.ask_pages(pointer)
            });
        }
        ahead.followed += 1;
        self.ahead.set(ahead);
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
            self.ahead.set(Ahead { followed: self.ahead.get().followed, ..Ahead::NOTHING });
            self.table = index;
        }
        Ok(self.iter.as_mut())
    }

    /// The table that a seek to `key`, or before it, begins with; where there is none, the number
    /// of tables.
    fn table_of(&self, key: &[u8], forward: bool) -> usize {
        let run = &self.view.version.runs[self.run];
        if forward {
            return run.position(key);
        }
        let after = run.tables.partition_point(|(meta, _)| meta.smallest.as_slice() < key);
        after.checked_sub(1).unwrap_or(run.tables.len())
    }

    /// See [`Cursor::prepare`](crate::iter::Cursor::prepare).
    pub(super) fn prepare(&mut self, key: &[u8], forward: bool) {
        if let Ok(Some(iter)) = self.open(self.table_of(key, forward)) {
            iter.prepare(key);
        }
    }

    pub(super) fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.ahead.set(Ahead::NOTHING);
        if let Some(iter) = self.open(self.table_of(key, true))? {
            iter.seek(key)?;
        }
        self.settle_forward()
    }

    pub(super) fn seek_before(&mut self, key: &[u8]) -> Result<()> {
        self.ahead.set(Ahead::NOTHING);
        if let Some(iter) = self.open(self.table_of(key, false))? {
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
