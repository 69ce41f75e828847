//! Objects that one thread at a time may use (mechanism): iterators, batches, buffers.
//!
//! Invariant: from LIVE a slot becomes BUSY or DYING by one exchange, and whoever made it touches
//! the object alone; who leaves a slot that was ended meanwhile drops the object.

use super::{BUSY, DYING, Head, Headed, Kind, LIVE, arm, exhausted, find, in_use, stale};
use crate::slots::{Slot, Slots};
use engine::Result;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};

/// Objects that one thread at a time may use.
pub(crate) struct Exclusive<T> {
    kind: Kind,
    pub(super) slots: Slots<ExclusiveSlot<T>>,
}

pub(super) struct ExclusiveSlot<T> {
    pub(super) head: Head,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: `value` is only touched by the one thread that moved `head.state` from vacant or from
// LIVE to a state that keeps all others out; the value itself goes from thread to thread.
unsafe impl<T: Send> Sync for ExclusiveSlot<T> {}

impl<T: Send> Slot for ExclusiveSlot<T> {
    fn vacant() -> Self {
        ExclusiveSlot { head: Head::vacant(), value: UnsafeCell::new(MaybeUninit::uninit()) }
    }
    fn next_vacant(&self) -> &AtomicU32 {
        &self.head.next_vacant
    }
}

impl<T: Send> Headed for ExclusiveSlot<T> {
    fn head(&self) -> &Head {
        &self.head
    }
}

impl<T: Send> Exclusive<T> {
    /// A table without objects.
    pub(crate) const fn new(kind: Kind) -> Exclusive<T> {
        Exclusive { kind, slots: Slots::new() }
    }

    /// A place for an object, so that making its handle cannot fail afterwards.
    pub(crate) fn reserve(&self) -> Result<Reserved<'_, T>> {
        arm();
        let index = self.slots.take().ok_or_else(|| exhausted(self.kind))?;
        Ok(Reserved { table: self, index })
    }

    /// A handle for `value`.
    pub(crate) fn insert(&self, value: T) -> Result<usize> {
        Ok(self.reserve()?.fill(value, |_| ()).0)
    }

    /// The object of a handle, for this thread alone until the guard drops.
    #[inline]
    pub(crate) fn get(&self, handle: usize) -> Result<ExclusiveGuard<'_, T>> {
        let (slot, parts) = find(&self.slots, self.kind, handle)?;
        let (live, busy) = (parts.live, parts.live | BUSY);
        let state = &slot.head.state;
        match state.compare_exchange(live, busy, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(ExclusiveGuard { table: self, slot, index: parts.index }),
            Err(seen) if seen == busy => Err(in_use(self.kind)),
            Err(_) => Err(stale(self.kind, handle)),
        }
    }

    /// Ends a handle; its object is dropped now or by the thread that is using it. Nothing happens
    /// to handles that [`Exclusive::get`] would refuse.
    pub(crate) fn remove(&self, handle: usize) -> Result<()> {
        let (slot, parts) = find(&self.slots, self.kind, handle)?;
        let state = &slot.head.state;
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            if seen | BUSY != parts.live | BUSY {
                return Err(stale(self.kind, handle));
            }
            let dying = seen & !LIVE | DYING;
            match state.compare_exchange_weak(seen, dying, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if seen & BUSY == 0 => return self.finish(slot, parts.index),
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Drops the object of a slot that is DYING and has no user.
    fn finish(&self, slot: &ExclusiveSlot<T>, index: u32) -> Result<()> {
        // SAFETY: the slot was LIVE, so it holds a value; its state keeps everybody else out, and
        // the caller is the one thread that ended it.
        let value = unsafe { (*slot.value.get()).assume_init_read() };
        if slot.head.retire() {
            self.slots.give_back(index);
        }
        drop(value);
        Ok(())
    }
}

/// A place in a table that is not yet filled; given back when dropped.
pub(crate) struct Reserved<'a, T: Send> {
    table: &'a Exclusive<T>,
    pub(super) index: u32,
}

impl<T: Send> Reserved<'_, T> {
    /// Puts `value` where it stays until its handle is removed; answers the handle and what `look`
    /// found in the value at its place.
    pub(crate) fn fill<R>(self, value: T, look: impl FnOnce(&T) -> R) -> (usize, R) {
        let table = self.table;
        let slot = table.slots.get(self.index).expect("a slot that was taken exists");
        // SAFETY: the slot is vacant and taken: nobody else touches its value until `publish`.
        let seen = look(unsafe { (*slot.value.get()).write(value) });
        let handle = slot.head.publish(table.kind, self.index);
        std::mem::forget(self);
        (handle, seen)
    }
}

impl<T: Send> Drop for Reserved<'_, T> {
    fn drop(&mut self) {
        self.table.slots.give_back(self.index);
    }
}

/// An object of an [`Exclusive`] table while it is used.
pub(crate) struct ExclusiveGuard<'a, T: Send> {
    table: &'a Exclusive<T>,
    slot: &'a ExclusiveSlot<T>,
    pub(super) index: u32,
}

impl<T: Send> Deref for ExclusiveGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot was LIVE and is BUSY with this guard: it holds a value, which nobody
        // else touches until the guard drops.
        unsafe { (*self.slot.value.get()).assume_init_ref() }
    }
}

impl<T: Send> DerefMut for ExclusiveGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { (*self.slot.value.get()).assume_init_mut() }
    }
}

impl<T: Send> Drop for ExclusiveGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let seen = self.slot.head.state.fetch_and(!BUSY, Ordering::AcqRel);
        if seen & DYING != 0 {
            let _ = self.table.finish(self.slot, self.index);
        }
    }
}
