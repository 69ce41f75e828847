//! Key locks: whoever writes a key holds its stripe, so that commands that read and then write are
//! atomic among all clients.
//!
//! Held only while memory is read and written: no device flush and no stall is waited for inside.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One bit of a [`Stripes`] each.
const STRIPES: usize = 64;

/// A set of stripes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stripes(u64);

impl Stripes {
    /// Adds those of `other`.
    pub(crate) fn add(&mut self, other: Stripes) {
        self.0 |= other.0;
    }
}

/// The locks of all keys.
pub(crate) struct KeyLocks {
    locks: [Mutex<()>; STRIPES],
    hasher: RandomState,
}

/// Held stripes; dropping it releases them.
pub(crate) struct Held<'a> {
    _guards: Guards<'a>,
}

/// One lock is by far the most frequent case and takes no memory.
enum Guards<'a> {
    One { _guard: MutexGuard<'a, ()> },
    Many { _guards: Vec<MutexGuard<'a, ()>> },
}

impl KeyLocks {
    /// Nothing held. Which keys share a stripe is random, so that no client can choose it.
    pub(crate) fn new() -> KeyLocks {
        KeyLocks { locks: std::array::from_fn(|_| Mutex::new(())), hasher: RandomState::new() }
    }

    /// The stripe of a key.
    #[inline]
    pub(crate) fn stripe(&self, key: &[u8]) -> Stripes {
        Stripes(1 << (self.hasher.hash_one(key) % STRIPES as u64))
    }

    /// The stripes of some keys.
    pub(crate) fn stripes<'k>(&self, keys: impl Iterator<Item = &'k [u8]>) -> Stripes {
        keys.fold(Stripes::default(), |mut all, key| {
            all.add(self.stripe(key));
            all
        })
    }

    /// Takes stripes, always in the same order, so that nobody waits in a circle.
    #[inline]
    pub(crate) fn hold(&self, stripes: Stripes) -> Held<'_> {
        let first = stripes.0.trailing_zeros() as usize;
        if stripes.0.is_power_of_two() {
            return Held { _guards: Guards::One { _guard: self.take(first) } };
        }
        let mut guards = Vec::with_capacity(stripes.0.count_ones() as usize);
        let mut left = stripes.0;
        while left != 0 {
            guards.push(self.take(left.trailing_zeros() as usize));
            left &= left - 1;
        }
        Held { _guards: Guards::Many { _guards: guards } }
    }

    /// A panic while a stripe was held leaves nothing half done that others could see.
    #[inline]
    fn take(&self, stripe: usize) -> MutexGuard<'_, ()> {
        self.locks[stripe].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_exclude_each_other_and_are_released() {
        let locks = KeyLocks::new();
        let keys: Vec<Vec<u8>> = (0..200u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let all = locks.stripes(keys.iter().map(Vec::as_slice));
        let held = locks.hold(all);
        let free = locks.locks.iter().filter(|lock| lock.try_lock().is_ok()).count();
        assert_eq!(free as u32, 64 - all.0.count_ones());
        drop(held);
        assert!(locks.locks.iter().all(|lock| lock.try_lock().is_ok()));
        let one = locks.stripe(b"a");
        let _held = locks.hold(one);
        let free = locks.locks.iter().filter(|lock| lock.try_lock().is_ok()).count();
        assert_eq!(free, 63);
    }
}
