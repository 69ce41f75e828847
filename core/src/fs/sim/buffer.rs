//! The memory of one simulated file: what the page cache is to a real one.
//!
//! Invariant: the memory never moves while an `Arc` of it lives, for maps point into it. Mapped
//! stores reach it without the disk's lock, so the disk reads it word by word with atomic loads:
//! what a store under way leaves in a page is old or new in each word, as on a real device.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a page: the unit of the page cache.
pub(super) const PAGE: usize = 4096;

/// The bytes of one page.
pub(super) type Page = [u8; PAGE];

/// A page at rest, shared between disks; `None` is a page of zeros.
pub(super) type SharedPage = Option<Arc<Page>>;

/// A page of zeros.
pub(super) static ZEROS: Page = [0; PAGE];

/// The bytes of a page at rest.
pub(super) fn bytes_of(page: &SharedPage) -> &Page {
    page.as_deref().unwrap_or(&ZEROS)
}

/// A page at rest with these bytes.
pub(super) fn share(bytes: &Page) -> SharedPage {
    (*bytes != ZEROS).then(|| Arc::new(*bytes))
}

/// Whether two pages at rest have the same bytes.
pub(super) fn same(a: &SharedPage, b: &SharedPage) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b) || a == b,
        (Some(page), None) | (None, Some(page)) => **page == ZEROS,
    }
}

/// Whole pages of memory at one address.
pub(super) struct Buffer {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the memory belongs to the buffer alone and is reached through its methods and maps.
unsafe impl Send for Buffer {}
// SAFETY: the disk's lock orders all its own accesses; mapped stores are only ever seen in words
// that are loaded atomically or that their writer has published.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// Zeros for at least `capacity` bytes.
    pub(super) fn zeroed(capacity: usize) -> Buffer {
        let size = capacity.max(1).next_multiple_of(PAGE);
        let layout = Layout::from_size_align(size, PAGE).expect("sizes are checked before");
        // SAFETY: the layout has at least one page.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Buffer { start, layout },
            None => handle_alloc_error(layout),
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.layout.size()
    }

    /// The address of the byte at `offset`.
    pub(super) fn address(&self, offset: usize) -> *mut u8 {
        assert!(offset <= self.capacity());
        self.start.as_ptr().wrapping_add(offset)
    }

    /// Copies out from `offset`.
    pub(super) fn read(&self, offset: usize, out: &mut [u8]) {
        assert!(offset <= self.capacity() && out.len() <= self.capacity() - offset);
        // SAFETY: the range was checked; `out` is memory of its own, for nobody outside has a
        // writable slice of a buffer.
        unsafe {
            std::ptr::copy_nonoverlapping(self.address(offset), out.as_mut_ptr(), out.len());
        }
    }

    /// Copies in at `offset`.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.capacity() && bytes.len() <= self.capacity() - offset);
        // SAFETY: the range was checked. `bytes` may come from a map of this very buffer, so the
        // copy allows for overlap. The caller holds the disk's lock.
        unsafe { std::ptr::copy(bytes.as_ptr(), self.address(offset), bytes.len()) };
    }

    /// The words of one page as they are now.
    fn words(&self, page: usize) -> &[AtomicU64; PAGE / 8] {
        assert!(page < self.capacity() / PAGE);
        // SAFETY: the page lies in the buffer, which starts at a page's alignment, and lives as
        // long as `self`; an atomic may change while it is borrowed.
        unsafe { &*self.address(page * PAGE).cast() }
    }

    /// Whether a page has these bytes.
    pub(super) fn page_is(&self, page: usize, expected: &Page) -> bool {
        let (expected, _) = expected.as_chunks::<8>();
        let words = self.words(page).iter().zip(expected);
        words.fold(0, |differ, (word, bytes)| {
            differ | (u64::from_le(word.load(Ordering::Relaxed)) ^ u64::from_le_bytes(*bytes))
        }) == 0
    }

    /// A copy of a page.
    pub(super) fn page(&self, page: usize) -> SharedPage {
        if self.page_is(page, &ZEROS) {
            return None;
        }
        let mut copy = ZEROS;
        let (out, _) = copy.as_chunks_mut::<8>();
        for (bytes, word) in out.iter_mut().zip(self.words(page)) {
            *bytes = u64::from_le(word.load(Ordering::Relaxed)).to_le_bytes();
        }
        share(&copy)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; no map lives, for each holds an `Arc` of the buffer.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}
