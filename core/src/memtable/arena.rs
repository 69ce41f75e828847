//! Memory that never moves and is freed as a whole (part of layer L3's memtable).
//!
//! [`Records`] is addressed by `u32` offsets in units of four bytes, so that a leaf's slot is small
//! and so that it can be walked from the first record to the last. [`Nodes`] hands out nodes by
//! pointer. Both grow by chunks; what was handed out stays where it is until the arena drops.
//!
//! Invariants:
//! - chunk `j` of [`Records`] covers the offsets `1 << j .. 1 << (j + 1)`; offset 0 is never handed
//!   out and stands for "none";
//! - a record lies in one chunk;
//! - only one thread allocates at a time; any thread may read what was published to it.

use crate::prefetch::prefetch_to_write;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Bytes of one unit of offset.
pub(super) const UNIT: usize = 4;

/// Binary logarithm of the first chunk's size in units: 64 KiB.
const FIRST_CHUNK: u32 = 14;

/// One past the last chunk: offsets stay below 2^31, 8 GiB in all.
const CHUNK_END: u32 = 31;

/// The first offset that is handed out.
pub(super) const FIRST_OFFSET: u32 = 1 << FIRST_CHUNK;

/// How far behind a record memory is asked for: a few records are written until it is used.
const AHEAD: usize = 128;

/// Chunks of records. Reading is shared; allocating needs the writer's [`RecordsEnd`].
pub(super) struct Records {
    chunks: [AtomicPtr<u8>; CHUNK_END as usize],
}

/// The writer's place in [`Records`].
pub(super) struct RecordsEnd {
    /// The next free offset.
    next: u32,
    /// The end of the chunk that `next` is in.
    limit: u32,
}

/// A piece of [`Records`] for one record.
pub(super) struct Piece {
    pub(super) offset: u32,
    pub(super) start: NonNull<u8>,
    /// Units left unused before this piece because it did not fit: where they begin, how many.
    pub(super) gap: Option<(NonNull<u8>, u32)>,
}

impl Records {
    /// An arena with its first chunk.
    pub(super) fn new() -> (Records, RecordsEnd) {
        let records = Records { chunks: [const { AtomicPtr::new(ptr::null_mut()) }; 31] };
        records.open_chunk(FIRST_CHUNK);
        let end = RecordsEnd { next: FIRST_OFFSET, limit: FIRST_OFFSET * 2 };
        (records, end)
    }

    fn chunk_layout(chunk: u32) -> Layout {
        layout(UNIT << chunk)
    }

    fn open_chunk(&self, chunk: u32) {
        let start = allocate(Self::chunk_layout(chunk));
        // Relaxed: an offset into the chunk reaches other threads only by a Release store.
        self.chunks[chunk as usize].store(start.as_ptr(), Ordering::Relaxed);
    }

    /// The address of `offset`.
    ///
    /// # Safety
    /// - `offset` was handed out by [`Records::allocate`] of this arena, and the calling thread
    ///   learnt it from its writer by a Release store and an Acquire load, or is the writer.
    #[inline(always)]
    pub(super) unsafe fn address(&self, offset: u32) -> *mut u8 {
        debug_assert!(offset >= FIRST_OFFSET);
        let chunk = 31 - offset.leading_zeros();
        let within = (offset ^ (1 << chunk)) as usize * UNIT;
        // SAFETY: an offset that was handed out has 14 <= chunk < 31, so the index is in bounds;
        // its chunk is allocated and has `UNIT << chunk` bytes, more than `within`.
        unsafe {
            let start = self.chunks.get_unchecked(chunk as usize).load(Ordering::Relaxed);
            start.add(within)
        }
    }

    /// Hands out `size_bytes` bytes aligned to four, not initialised. Panics when the arena is full
    /// (see [`room_bytes`]) or `size_bytes` exceeds 128 KiB.
    pub(super) fn allocate(&self, end: &mut RecordsEnd, size_bytes: usize) -> Piece {
        let units = size_bytes.div_ceil(UNIT) as u32;
        let gap = if end.limit - end.next < units { self.next_chunk(end, units) } else { None };
        let offset = end.next;
        end.next += units;
        // SAFETY: this is the hand-out of `offset`, by the writer, in the chunk that is open.
        let start = unsafe { NonNull::new_unchecked(self.address(offset)) };
        prefetch_to_write(start.as_ptr().wrapping_add(size_bytes + AHEAD));
        Piece { offset, start, gap }
    }

    #[cold]
    fn next_chunk(&self, end: &mut RecordsEnd, units: u32) -> Option<(NonNull<u8>, u32)> {
        let chunk = end.limit.ilog2();
        assert!(chunk < CHUNK_END, "the memtable is full: `has_room` must be asked first");
        assert!(units <= 1 << chunk, "a record longer than the limit of keys");
        self.open_chunk(chunk);
        let (next, left) = (end.next, end.limit - end.next);
        end.next = end.limit;
        end.limit = end.limit.wrapping_mul(2);
        if left == 0 {
            return None;
        }
        // SAFETY: `next` is an offset inside the chunk before, which the writer had open.
        Some((unsafe { NonNull::new_unchecked(self.address(next)) }, left))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        for chunk in FIRST_CHUNK..CHUNK_END {
            let start = *self.chunks[chunk as usize].get_mut();
            if !start.is_null() {
                // SAFETY: allocated in `open_chunk` with this layout; nobody else has the arena.
                unsafe { free(start, Self::chunk_layout(chunk)) };
            }
        }
    }
}

impl RecordsEnd {
    /// The next free offset.
    #[inline]
    pub(super) fn next(&self) -> u32 {
        self.next
    }

    /// Bytes in use, with what ends of chunks wasted.
    pub(super) fn used_bytes(&self) -> usize {
        (self.next - FIRST_OFFSET) as usize * UNIT
    }
}

/// Bytes that can surely still be handed out, in pieces of at most 128 KiB, when `next` is the next
/// free offset.
#[cfg(test)]
pub(super) fn room_bytes(next: u32) -> usize {
    let left = ((1u32 << CHUNK_END) - next) as usize * UNIT;
    // A piece that does not fit at the end of a chunk leaves less than its size unused.
    left.saturating_sub((CHUNK_END - FIRST_CHUNK) as usize * (UNIT << (FIRST_CHUNK + 1)))
}

/// Alignment of every node, and the size of most: two cache lines that are fetched together.
pub(super) const NODE_SIZE: usize = 128;

/// Size in bytes of the first chunk of nodes; each next one doubles up to the largest.
const FIRST_NODES: usize = 32 << 10;
const LARGEST_NODES: usize = 2 << 20;

/// Chunks of nodes; the writer owns them, readers hold pointers into them.
pub(super) struct Nodes {
    chunks: Vec<(NonNull<u8>, Layout)>,
    next: *mut u8,
    left_bytes: usize,
    used_bytes: usize,
}

impl Nodes {
    /// An arena without chunks.
    pub(super) fn new() -> Nodes {
        Nodes { chunks: Vec::new(), next: ptr::null_mut(), left_bytes: 0, used_bytes: 0 }
    }

    /// Moves `node` into the arena. It is never dropped, only its memory freed.
    #[inline]
    pub(super) fn place<T>(&mut self, node: T) -> NonNull<T> {
        const { assert!(size_of::<T>().is_multiple_of(NODE_SIZE) && align_of::<T>() == NODE_SIZE) };
        const { assert!(size_of::<T>() <= FIRST_NODES && !std::mem::needs_drop::<T>()) };
        if self.left_bytes < size_of::<T>() {
            self.open_chunk();
        }
        let place = self.next.cast::<T>();
        self.left_bytes -= size_of::<T>();
        self.used_bytes += size_of::<T>();
        // SAFETY: `left_bytes` counted the node in, so `place` is inside the chunk and what follows
        // it is inside or at the end, aligned as chunks and sizes are; nobody has it yet.
        unsafe {
            self.next = self.next.add(size_of::<T>());
            place.write(node);
            NonNull::new_unchecked(place)
        }
    }

    #[cold]
    fn open_chunk(&mut self) {
        let size_bytes = match self.chunks.last() {
            Some((_, layout)) => (layout.size() * 2).min(LARGEST_NODES),
            None => FIRST_NODES,
        };
        let layout = layout(size_bytes);
        let start = allocate(layout);
        self.chunks.push((start, layout));
        self.next = start.as_ptr();
        self.left_bytes = size_bytes;
    }

    /// Bytes of the nodes handed out, those that were replaced included.
    pub(super) fn used_bytes(&self) -> usize {
        self.used_bytes
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for &(start, layout) in &self.chunks {
            // SAFETY: allocated in `open_chunk` with this layout, and freed once.
            unsafe { free(start.as_ptr(), layout) };
        }
    }
}

/// Chunks of this size and above begin at a multiple of it, to lie in huge pages.
const HUGE_PAGE: usize = 2 << 20;

fn layout(size_bytes: usize) -> Layout {
    let align = if size_bytes >= HUGE_PAGE { HUGE_PAGE } else { NODE_SIZE };
    Layout::from_size_align(size_bytes, align).expect("a power of two is a valid size")
}

fn allocate(layout: Layout) -> NonNull<u8> {
    let start = match is_mapped(layout) {
        true => map(layout.size()),
        // SAFETY: every layout here has a size above zero.
        false => unsafe { alloc(layout) },
    };
    let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
    if layout.align() == HUGE_PAGE {
        ask_for_huge_pages(start, layout.size());
    }
    start
}

/// # Safety
/// - `start` is from [`allocate`] of this layout and is not used any more.
unsafe fn free(start: *mut u8, layout: Layout) {
    match is_mapped(layout) {
        // SAFETY: whole pages that were mapped by `map`, by the caller's promise.
        true => drop(unsafe { libc::munmap(start.cast(), layout.size()) }),
        // SAFETY: by the caller's promise.
        false => unsafe { dealloc(start, layout) },
    }
}

/// Large chunks are mapped and given back as a whole. The system's allocator, which learns from
/// them to keep ever larger pieces, held on to 88 MiB after a load of 3 M entries; with maps 11.
fn is_mapped(layout: Layout) -> bool {
    layout.align() == HUGE_PAGE && !cfg!(miri)
}

/// Pages of zeros at a multiple of [`HUGE_PAGE`]; NULL when there are none.
fn map(size_bytes: usize) -> *mut u8 {
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let whole = size_bytes + HUGE_PAGE;
    // SAFETY: a new map at an address of the system's choice.
    let start = unsafe { libc::mmap(ptr::null_mut(), whole, access, kind, -1, 0) };
    if start == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    let before = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    let first = start.cast::<u8>().wrapping_add(before);
    let after = HUGE_PAGE - before;
    // SAFETY: what lies before and behind the aligned part of the map, whole pages that nobody has.
    unsafe {
        if before > 0 {
            libc::munmap(start, before);
        }
        if after > 0 {
            libc::munmap(first.add(size_bytes).cast(), after);
        }
    }
    first
}

/// Random reads of tens of megabytes in pages of 4 KiB miss the processor's table of pages most of
/// the time. A hint: without huge pages everything works, slower.
fn ask_for_huge_pages(start: NonNull<u8>, size_bytes: usize) {
    #[cfg(all(target_os = "linux", not(miri)))]
    // SAFETY: whole pages that were just allocated; the call changes how they are backed, not what
    // they hold.
    unsafe {
        libc::madvise(start.as_ptr().cast(), size_bytes, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = (start, size_bytes);
}
