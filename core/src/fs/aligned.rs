//! Memory on a boundary that devices and processors like (layer L1): what goes to and comes from a
//! device past the page cache, and what is read from one and kept.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// The boundary.
pub(crate) const ALIGNMENT: usize = 4096;

/// Bytes, zero at first, whose address is a multiple of [`ALIGNMENT`], or of more if asked for.
pub(crate) struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: it owns its memory, which nothing but it refers to.
unsafe impl Send for AlignedBytes {}
// SAFETY: as for Send; shared references only read.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` zeros; `alignment` is a power of two.
    ///
    /// # Panics
    /// When no memory can be that large.
    pub(crate) fn zeroed(len: usize, alignment: usize) -> AlignedBytes {
        let layout = Layout::from_size_align(len.max(1), alignment.max(ALIGNMENT));
        let layout = layout.expect("a length that memory can have");
        // SAFETY: the layout is of at least one byte.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        AlignedBytes { start, len, layout }
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes from `start` are ours as long as we live.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, once, and not used afterwards.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_zero_and_its_own() {
        for len in [0, 1, 4095, 4096, 100_000] {
            for alignment in [1, 512, 4096, 16_384] {
                let mut bytes = AlignedBytes::zeroed(len, alignment);
                assert_eq!(bytes.len(), len);
                assert!(bytes.as_ptr().addr().is_multiple_of(alignment.max(4096)));
                assert!(bytes.iter().all(|byte| *byte == 0));
                bytes.fill(7);
                assert!(bytes.iter().all(|byte| *byte == 7));
            }
        }
    }
}
