//! Handles (mechanism): what callers hold is not a pointer but a number in a pointer's clothes.
//!
//! | bits | field |
//! |---|---|
//! | 0 | 1: no pointer to anything aligned looks like a handle |
//! | 1..4 | [`Kind`] |
//! | 4..28 | slot |
//! | 28..64 | generation of the slot when the handle was made |
//!
//! Invariants: a handle's bits are never followed as a pointer; an object is dropped once, after
//! its handle was removed and after the last call that had found it returned, by whichever of the
//! two threads comes last, without waiting; a generation is never used twice (a slot whose
//! generations are used up stays vacant); an object is never touched in a forked child of the
//! process that made it (`fork` is noticed; a child made by a bare `clone` system call is not).
//!
//! A [`Shared`] object (database, snapshot, options) is found by any number of threads at once:
//! each counts itself in on one of several cache lines of the slot, *then* looks whether the handle
//! is still alive; who removes a handle marks it, *then* looks at the counts. An [`Exclusive`]
//! object (iterator, batch, buffer) is found by one thread at a time; a second one is told so.
//!
//! Cost, from `cargo bench -p toykv-ffi --bench handle`: finding an object and leaving it takes
//! 11 ns against 1 ns through a raw pointer, two atomic additions on a cache line that is mostly
//! this thread's own (a mutex around an `Arc` takes 21 ns); 18 ns beside a second thread in the
//! same object (42 ns). Making and freeing a handle takes 19 ns together.

mod exclusive;
mod shared;

pub(crate) use exclusive::{Exclusive, ExclusiveGuard, Reserved};
pub(crate) use shared::{Shared, SharedGuard};

use crate::slots::{MAX_SLOTS, Slot, Slots};
use engine::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

const _: () = assert!(usize::BITS == 64, "handles need pointers of 64 bits");

/// What a handle stands for. The number is in the handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `toykv_options`
    Options = 1,
    /// `toykv`
    Db = 2,
    /// `toykv_snapshot`
    Snapshot = 3,
    /// `toykv_iter`
    Iter = 4,
    /// `toykv_batch`
    Batch = 5,
    /// The owner of a `toykv_buf`
    Buf = 6,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Options, Kind::Db, Kind::Snapshot, Kind::Iter, Kind::Batch, Kind::Buf];

    /// The name of the type in the header.
    pub(crate) fn c_name(self) -> &'static str {
        match self {
            Kind::Options => "toykv_options",
            Kind::Db => "toykv",
            Kind::Snapshot => "toykv_snapshot",
            Kind::Iter => "toykv_iter",
            Kind::Batch => "toykv_batch",
            Kind::Buf => "owner of a toykv_buf",
        }
    }
}

const KIND_SHIFT: u32 = 1;
const KIND_MASK: usize = 7;
const SLOT_SHIFT: u32 = 4;
const GENERATION_SHIFT: u32 = 28;
const GENERATION_MASK: u64 = (1 << 36) - 1;
const _: () = assert!(MAX_SLOTS as usize == 1 << (GENERATION_SHIFT - SLOT_SHIFT));

/// Low bits of a slot's state; the generation is above them.
const LIVE: u64 = 1;
const BUSY: u64 = 2;
const DYING: u64 = 4;
const STATE_SHIFT: u32 = 3;

/// Number of forks between the first process that used this library and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// True once the fork handler is registered.
static ARMED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Sees to it that forks are noticed from now on, and that no panic writes to stderr.
fn arm() {
    if ARMED.load(Ordering::Acquire) {
        return;
    }
    // SAFETY: the handler only adds to an atomic, which is safe at any point of any thread. Two
    // threads may both register it: then one fork counts as two, which does no harm.
    unsafe { libc::pthread_atfork(None, None, Some(on_fork_in_child)) };
    crate::panic::silence();
    ARMED.store(true, Ordering::Release);
}

/// The first generation of every slot: another one in each copy of the library and, where the
/// system randomises addresses, in each process, so that a handle of another is not found here.
fn first_generation() -> u64 {
    let here = (&raw const FORKS).addr() as u64;
    here.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 28
}

/// The part of every slot that says who may use it.
struct Head {
    state: AtomicU64,
    forks: AtomicU32,
    next_vacant: AtomicU32,
}

impl Head {
    fn vacant() -> Head {
        let state = first_generation() << STATE_SHIFT;
        Head { state: AtomicU64::new(state), forks: AtomicU32::new(0), next_vacant: 0.into() }
    }

    /// Makes a slot that holds a value findable and answers its handle.
    fn publish(&self, kind: Kind, index: u32) -> usize {
        let vacant = self.state.load(Ordering::Relaxed);
        self.forks.store(FORKS.load(Ordering::Relaxed), Ordering::Relaxed);
        self.state.store(vacant | LIVE, Ordering::Release);
        let generation = (vacant >> STATE_SHIFT) as usize;
        generation << GENERATION_SHIFT
            | (index as usize) << SLOT_SHIFT
            | (kind as usize) << KIND_SHIFT
            | 1
    }

    /// Ends a generation; false when it was the slot's last.
    fn retire(&self) -> bool {
        let generation = self.state.load(Ordering::Relaxed) >> STATE_SHIFT;
        let next = (generation + 1) & GENERATION_MASK;
        self.state.store(next << STATE_SHIFT, Ordering::Release);
        next != first_generation()
    }
}

/// The parts of a handle that is of the right kind.
struct Parts {
    index: u32,
    /// State of the slot while the handle is alive and nobody is inside.
    live: u64,
}

#[inline]
fn decode(kind: Kind, handle: usize) -> Result<Parts> {
    let wanted = (kind as usize) << KIND_SHIFT | 1;
    if handle & (KIND_MASK << KIND_SHIFT | 1) != wanted {
        return Err(not_of_kind(kind, handle));
    }
    let index = (handle >> SLOT_SHIFT) as u32 & (MAX_SLOTS - 1);
    let generation = (handle >> GENERATION_SHIFT) as u64;
    Ok(Parts { index, live: generation << STATE_SHIFT | LIVE })
}

#[cold]
fn not_of_kind(kind: Kind, handle: usize) -> Error {
    let wanted = kind.c_name();
    if handle == 0 {
        return Error::new(ErrorKind::Misuse, format!("NULL in place of a {wanted}"));
    }
    let number = handle >> KIND_SHIFT & KIND_MASK;
    let found = Kind::ALL.into_iter().find(|other| *other as usize == number && handle & 1 == 1);
    let found = found.map_or("pointer that is no handle", Kind::c_name);
    Error::new(ErrorKind::Misuse, format!("a {found} in place of a {wanted}"))
}

#[cold]
fn stale(kind: Kind, handle: usize) -> Error {
    let name = kind.c_name();
    Error::new(ErrorKind::Misuse, format!("{name} {handle:#x} was freed or never existed"))
}

#[cold]
fn in_use(kind: Kind) -> Error {
    let name = kind.c_name();
    Error::new(ErrorKind::Misuse, format!("{name}: another thread is using it at this moment"))
}

#[cold]
fn forked(kind: Kind) -> Error {
    let name = kind.c_name();
    let message = format!("{name} was made before a fork: open the database in this process");
    Error::new(ErrorKind::Forked, message)
}

#[cold]
fn exhausted(kind: Kind) -> Error {
    let name = kind.c_name();
    Error::new(ErrorKind::NoMemory, format!("{MAX_SLOTS} handles of {name} are in use"))
}

/// A slot with a head.
trait Headed: Slot {
    fn head(&self) -> &Head;
}

/// The slot of a handle that looks alive in this process; the caller has yet to enter it.
#[inline]
fn find<S: Headed>(slots: &Slots<S>, kind: Kind, handle: usize) -> Result<(&S, Parts)> {
    let parts = decode(kind, handle)?;
    let slot = slots.get(parts.index).ok_or_else(|| stale(kind, handle))?;
    let head = slot.head();
    if head.forks.load(Ordering::Relaxed) != FORKS.load(Ordering::Relaxed) {
        let same = head.state.load(Ordering::Relaxed) >> STATE_SHIFT == parts.live >> STATE_SHIFT;
        return Err(if same { forked(kind) } else { stale(kind, handle) });
    }
    Ok((slot, parts))
}

#[cfg(test)]
mod tests;
