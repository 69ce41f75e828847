//! What is made ready ahead of the log's writer (layer L3): pages of the segment, and the window
//! after the one in use.
//!
//! Invariants: nothing is written at or behind `prefilled` by anybody but this, so a zero never
//! replaces a record; windows start on a grid of [`WINDOW_LEN`].

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::fs::{File, Window};

/// Length of the writer's window, longer only for a frame that is longer. Windows start at its
/// multiples, because the kernel maps a run of pages at once only where file and memory are aligned
/// alike: windows from any page on cost up to 5 us a page, these 1 us (`cargo bench --bench vlog`).
pub(super) const WINDOW_LEN: u64 = 2 << 20;

/// Pages are first touched by writes of zeros of this length, because the length decides how many
/// pages the kernel keeps as one: left to itself it takes up to 2 MiB, which a sync after a mapped
/// store of one record then writes. One page at a time costs four times as much as this.
const PREFILL_LEN: usize = 32 << 10;

static ZEROS: [u8; PREFILL_LEN] = [0; PREFILL_LEN];

/// A window and where it is.
pub(super) struct PlacedWindow {
    pub(super) start: u64,
    pub(super) window: Window,
}

/// The part of a segment that is still to be written.
pub(super) struct Ahead {
    file: Arc<dyn File>,
    size: u64,
    prefilled: u64,
    /// End of the last window that was handed out.
    taken: u64,
    next: Option<PlacedWindow>,
}

impl Ahead {
    /// Starts behind the header of a new segment, which has been written.
    pub(super) fn new(file: Arc<dyn File>, size: u64, header_len: u64) -> Ahead {
        Ahead { file, size, prefilled: header_len, taken: 0, next: None }
    }

    /// The file.
    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Touches all pages up to `end`.
    pub(super) fn prefill(&mut self, end: u64) -> Result<()> {
        while self.prefilled < end.min(self.size) {
            let next = (self.prefilled + 1).next_multiple_of(PREFILL_LEN as u64).min(self.size);
            let zeros = ZEROS.get(..(next - self.prefilled) as usize).unwrap_or(&ZEROS);
            self.file.write_at(zeros, self.prefilled)?;
            self.prefilled = next;
        }
        Ok(())
    }

    /// Touches all pages of the windows up to `end`; answers how far pages are touched.
    pub(super) fn prefill_windows(&mut self, end: u64) -> Result<u64> {
        self.prefill(end.next_multiple_of(WINDOW_LEN))?;
        Ok(self.prefilled)
    }

    /// Maps the window after the one in use, unless that has been done or there is none.
    pub(super) fn prepare(&mut self) -> Result<()> {
        if self.next.is_none() && self.taken < self.size {
            let (start, end) = (self.taken, self.taken + 1);
            self.next = Some(self.map(start, end)?);
        }
        Ok(())
    }

    /// The window from `start`, a multiple of [`WINDOW_LEN`], that reaches at least to `end`.
    pub(super) fn take(&mut self, start: u64, end: u64) -> Result<PlacedWindow> {
        let fits = |next: &PlacedWindow| next.start == start && end <= next.end();
        let placed = match self.next.take().filter(fits) {
            Some(next) => next,
            None => self.map(start, end)?,
        };
        self.taken = placed.end();
        Ok(placed)
    }

    fn map(&mut self, start: u64, end: u64) -> Result<PlacedWindow> {
        let end = end.next_multiple_of(WINDOW_LEN).min(self.size);
        self.prefill(end)?;
        let window = self.file.map_window(start, (end - start) as usize)?;
        Ok(PlacedWindow { start, window })
    }
}

impl PlacedWindow {
    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.start + self.window.len() as u64
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ahead({} of {} bytes prefilled)", self.prefilled, self.size)
    }
}
