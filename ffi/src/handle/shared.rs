//! Objects that any number of threads may use at once (mechanism): databases, snapshots, options.
//!
//! Invariant: who uses an object counted himself in *before* he saw its slot LIVE; who drops it saw
//! every count at zero *after* the slot was marked DYING. Both in the one order of sequentially
//! consistent operations, so no user is missed, and nobody waits.

use super::{DYING, Head, Headed, Kind, LIVE, arm, exhausted, find, stale};
use crate::slots::{Padded, STRIPES, Slot, Slots, stripe};
use engine::Result;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};

/// Objects that any number of threads may use at once.
pub(crate) struct Shared<T> {
    kind: Kind,
    slots: Slots<SharedSlot<T>>,
}

struct SharedSlot<T> {
    head: Head,
    value: UnsafeCell<MaybeUninit<T>>,
    /// How many calls are inside, each counted on the line of its thread's stripe.
    users: [Padded<AtomicU32>; STRIPES],
}

// SAFETY: `value` is written before the slot is LIVE, only shared references to it exist while it
// may be used, and the one thread that moved `head.state` from DYING takes it out.
unsafe impl<T: Send + Sync> Sync for SharedSlot<T> {}

impl<T: Send + Sync> Slot for SharedSlot<T> {
    fn vacant() -> Self {
        SharedSlot {
            head: Head::vacant(),
            value: UnsafeCell::new(MaybeUninit::uninit()),
            users: [const { Padded(AtomicU32::new(0)) }; STRIPES],
        }
    }
    fn next_vacant(&self) -> &AtomicU32 {
        &self.head.next_vacant
    }
}

impl<T: Send + Sync> Headed for SharedSlot<T> {
    fn head(&self) -> &Head {
        &self.head
    }
}

impl<T: Send + Sync> Shared<T> {
    /// A table without objects.
    pub(crate) const fn new(kind: Kind) -> Shared<T> {
        Shared { kind, slots: Slots::new() }
    }

    /// A handle for `value`.
    pub(crate) fn insert(&self, value: T) -> Result<usize> {
        arm();
        let index = self.slots.take().ok_or_else(|| exhausted(self.kind))?;
        let slot = self.slots.get(index).expect("a slot that was taken exists");
        // SAFETY: the slot is vacant and taken: nobody else touches its value until `publish`.
        unsafe { (*slot.value.get()).write(value) };
        Ok(slot.head.publish(self.kind, index))
    }

    /// The object of a handle; it lives at least as long as the guard.
    #[inline]
    pub(crate) fn get(&self, handle: usize) -> Result<SharedGuard<'_, T>> {
        let (slot, parts) = find(&self.slots, self.kind, handle)?;
        let users = &slot.users[stripe()].0;
        // Sequentially consistent, as all of this protocol: of this count with the look at the
        // state below, and `remove` with its look at the counts, at least one sees the other.
        users.fetch_add(1, Ordering::SeqCst);
        let guard = SharedGuard { table: self, slot, users, index: parts.index };
        if slot.head.state.load(Ordering::SeqCst) == parts.live {
            return Ok(guard);
        }
        drop(guard);
        Err(stale(self.kind, handle))
    }

    /// Ends a handle; its object is dropped now or by the last thread that is using it. Nothing
    /// happens to handles that [`Shared::get`] would refuse.
    pub(crate) fn remove(&self, handle: usize) -> Result<()> {
        let (slot, parts) = find(&self.slots, self.kind, handle)?;
        let (state, dying) = (&slot.head.state, parts.live & !LIVE | DYING);
        if state.compare_exchange(parts.live, dying, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return Err(stale(self.kind, handle));
        }
        self.finish(slot, parts.index);
        Ok(())
    }

    /// Drops the object of a slot if it is DYING and nobody uses it. Called by whoever made it so
    /// and by everyone who leaves it afterwards: the last of them finds all counts at zero.
    #[cold]
    fn finish(&self, slot: &SharedSlot<T>, index: u32) {
        let state = &slot.head.state;
        let seen = state.load(Ordering::SeqCst);
        // A count that is zero after the slot was marked stays without effect: who counts himself
        // in later sees the mark and leaves. So the counts need not be read at one instant.
        let mut users = slot.users.iter();
        if seen & DYING == 0 || users.any(|users| users.0.load(Ordering::SeqCst) != 0) {
            return;
        }
        let ended = seen & !DYING;
        if state.compare_exchange(seen, ended, Ordering::SeqCst, Ordering::SeqCst).is_err() {
            return;
        }
        // SAFETY: the slot was LIVE before it was DYING, so it holds a value; nobody is inside, and
        // this thread alone made the exchange.
        let value = unsafe { (*slot.value.get()).assume_init_read() };
        if slot.head.retire() {
            self.slots.give_back(index);
        }
        drop(value);
    }
}

/// An object of a [`Shared`] table while it is used.
pub(crate) struct SharedGuard<'a, T: Send + Sync> {
    table: &'a Shared<T>,
    slot: &'a SharedSlot<T>,
    users: &'a AtomicU32,
    index: u32,
}

impl<T: Send + Sync> Deref for SharedGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the slot was LIVE after this guard had counted itself in, so it holds a value,
        // and `finish` leaves it there until the count is back at zero.
        unsafe { (*self.slot.value.get()).assume_init_ref() }
    }
}

impl<T: Send + Sync> Drop for SharedGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.users.fetch_sub(1, Ordering::SeqCst);
        if self.slot.head.state.load(Ordering::SeqCst) & DYING != 0 {
            self.table.finish(self.slot, self.index);
        }
    }
}
