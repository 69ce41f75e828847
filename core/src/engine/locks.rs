//! What threads meet at (layer L5): locks, conditions, atomics, the pointer to the view, and the
//! threads themselves. Those of the standard library, or with the feature `shuttle` those of a
//! scheduler that tries interleavings one by one, for tests.

#[cfg(not(feature = "shuttle"))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread;

    pub(crate) use arc_swap::ArcSwap;
}

#[cfg(feature = "shuttle")]
mod tried {
    use std::sync::{Arc, PoisonError};

    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread;

    /// As the crate's of this name: a pointer that is replaced while others load it.
    pub(crate) struct ArcSwap<T>(Mutex<Arc<T>>);

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(value: T) -> ArcSwap<T> {
            ArcSwap(Mutex::new(Arc::new(value)))
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.load_full()
        }

        pub(crate) fn load_full(&self) -> Arc<T> {
            Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
        }

        pub(crate) fn store(&self, value: Arc<T>) {
            // What was there is dropped outside of the lock.
            let _old = std::mem::replace(
                &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner),
                value,
            );
        }
    }
}

#[cfg(not(feature = "shuttle"))]
pub(crate) use real::{ArcSwap, AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, thread};
#[cfg(feature = "shuttle")]
pub(crate) use tried::{ArcSwap, AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, thread};
