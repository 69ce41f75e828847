//! Memory for handles (mechanism): numbered slots that are never unmapped, taken and given back
//! without a lock.
//!
//! Invariants: a slot, once it exists, stays at its address for the life of the process, so that
//! looking at the slot of a handle that was freed long ago is always sound; no operation waits for
//! another thread, so that a fork in the middle of one leaves the child able to go on.

use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Most slots of a table: 24 bits of a handle.
pub(crate) const MAX_SLOTS: u32 = 1 << 24;

/// Places that threads spread over, so that they do not meet on one cache line.
pub(crate) const STRIPES: usize = 8;

/// Slots of the first chunk; every further chunk has twice as many.
const FIRST_CHUNK: u32 = 32;

const CHUNKS: usize = (MAX_SLOTS / FIRST_CHUNK).ilog2() as usize + 1;

/// A value alone on its cache lines (two: processors fetch them in pairs).
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// What a slot needs to have to live here.
pub(crate) trait Slot: Sync {
    /// A slot that nobody uses.
    fn vacant() -> Self;
    /// A word that belongs to the list of vacant slots while the slot is vacant.
    fn next_vacant(&self) -> &AtomicU32;
}

/// An append-only array of slots with lists of the vacant ones.
pub(crate) struct Slots<S> {
    chunks: [AtomicPtr<S>; CHUNKS],
    used: AtomicU32,
    /// Heads: a tag that changes with every operation, above the first slot's index plus one.
    vacant: [Padded<AtomicU64>; STRIPES],
    owns: PhantomData<S>,
}

/// A number below [`STRIPES`] that is mostly the same for one thread and different for two.
///
/// Threads have stacks of their own; nothing but speed depends on the answer. This takes a
/// nanosecond where a thread-local of a shared library takes a call.
#[inline]
pub(crate) fn stripe() -> usize {
    let here = 0u8;
    let page = (&raw const here).addr() as u64 >> 16;
    (page.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - STRIPES.ilog2())) as usize
}

impl<S: Slot> Slots<S> {
    /// No slots, no memory.
    pub(crate) const fn new() -> Slots<S> {
        Slots {
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            used: AtomicU32::new(0),
            vacant: [const { Padded(AtomicU64::new(0)) }; STRIPES],
            owns: PhantomData,
        }
    }

    /// The slot with this number, vacant or not; `None` when there never was one.
    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&S> {
        let (chunk, offset) = place(index);
        let slots = self.chunks.get(chunk)?.load(Ordering::Acquire);
        if slots.is_null() {
            return None;
        }
        // SAFETY: a chunk that is not null has `FIRST_CHUNK << chunk` slots, which `offset` is
        // below, and is never freed while `self` lives.
        Some(unsafe { &*slots.add(offset) })
    }

    /// A vacant slot, now the caller's; `None` when all [`MAX_SLOTS`] are taken.
    pub(crate) fn take(&self) -> Option<u32> {
        let home = stripe();
        let mut lists = (0..STRIPES).map(|step| (home + step) % STRIPES);
        lists.find_map(|list| self.pop(list)).or_else(|| self.grow())
    }

    /// Makes a slot vacant that [`Slots::take`] answered.
    pub(crate) fn give_back(&self, index: u32) {
        let Some(slot) = self.get(index) else { return };
        let head = &self.vacant[stripe()].0;
        let mut seen = head.load(Ordering::Relaxed);
        loop {
            slot.next_vacant().store(seen as u32, Ordering::Relaxed);
            let new = retag(seen, index + 1);
            match head.compare_exchange_weak(seen, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    fn pop(&self, list: usize) -> Option<u32> {
        let head = &self.vacant[list].0;
        let mut seen = head.load(Ordering::Acquire);
        loop {
            let index = (seen as u32).checked_sub(1)?;
            // The slot may be somebody's by now; its memory is there, and the tag tells.
            let next = self.get(index)?.next_vacant().load(Ordering::Relaxed);
            let new = retag(seen, next);
            match head.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(index),
                Err(now) => seen = now,
            }
        }
    }

    #[cold]
    fn grow(&self) -> Option<u32> {
        let more = |used| (used < MAX_SLOTS).then_some(used + 1);
        let index = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let (chunk, _) = place(index);
        let cell = self.chunks.get(chunk)?;
        if cell.load(Ordering::Acquire).is_null() {
            let new: Box<[S]> = (0..FIRST_CHUNK << chunk).map(|_| S::vacant()).collect();
            let new = Box::into_raw(new);
            let (null, first) = (ptr::null_mut(), new.cast::<S>());
            if cell.compare_exchange(null, first, Ordering::AcqRel, Ordering::Acquire).is_err() {
                // SAFETY: another thread's chunk is in place; nobody has seen this one.
                drop(unsafe { Box::from_raw(new) });
            }
        }
        Some(index)
    }
}

/// Chunk of a slot and place in it.
#[inline]
fn place(index: u32) -> (usize, usize) {
    let number = index + FIRST_CHUNK;
    let chunk = number.ilog2() - FIRST_CHUNK.ilog2();
    (chunk as usize, (number - (FIRST_CHUNK << chunk)) as usize)
}

/// The head after `seen` with another first entry.
fn retag(seen: u64, entry: u32) -> u64 {
    ((seen >> 32).wrapping_add(1) << 32) | u64::from(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    struct Cell {
        next: AtomicU32,
        owner: AtomicU32,
    }

    impl Slot for Cell {
        fn vacant() -> Cell {
            Cell { next: AtomicU32::new(0), owner: AtomicU32::new(0) }
        }
        fn next_vacant(&self) -> &AtomicU32 {
            &self.next
        }
    }

    #[test]
    fn places_are_dense_and_below_the_limit() {
        assert_eq!(place(0), (0, 0));
        assert_eq!(place(31), (0, 31));
        assert_eq!(place(32), (1, 0));
        assert_eq!(place(95), (1, 63));
        assert_eq!(place(96), (2, 0));
        let (chunk, offset) = place(MAX_SLOTS - 1);
        assert!(chunk < CHUNKS && offset < (FIRST_CHUNK as usize) << chunk);
        assert!(Slots::<Cell>::new().get(u32::MAX >> 8).is_none());
    }

    #[test]
    fn a_slot_that_was_given_back_is_taken_again_before_the_array_grows() {
        let slots = Slots::<Cell>::new();
        let taken: HashSet<u32> = (0..100).map(|_| slots.take().unwrap()).collect();
        assert_eq!(taken, (0..100).collect());
        for index in [7, 50, 99] {
            slots.give_back(index);
        }
        let again: HashSet<u32> = (0..3).map(|_| slots.take().unwrap()).collect();
        assert_eq!(again, HashSet::from([7, 50, 99]));
        assert_eq!(slots.take(), Some(100));
    }

    #[test]
    fn no_slot_has_two_owners() {
        let slots = Slots::<Cell>::new();
        std::thread::scope(|scope| {
            for thread in 1..=4 {
                let slots = &slots;
                scope.spawn(move || {
                    for round in 0..20_000u32 {
                        let mine: Vec<u32> =
                            (0..round % 5).map(|_| slots.take().unwrap()).collect();
                        for &index in &mine {
                            let owner = &slots.get(index).unwrap().owner;
                            assert_eq!(owner.swap(thread, Ordering::Relaxed), 0);
                        }
                        for index in mine {
                            let owner = &slots.get(index).unwrap().owner;
                            assert_eq!(owner.swap(0, Ordering::Relaxed), thread);
                            slots.give_back(index);
                        }
                    }
                });
            }
        });
        // 16 at a time; a thread may pass a list just before a slot comes back to it.
        assert!(slots.used.load(Ordering::Relaxed) <= 64, "slots are not taken again");
    }
}
