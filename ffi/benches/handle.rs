//! What a handle costs against a raw pointer, alone and with a second thread in the same object.
//!
//! `cargo bench -p toykv-ffi --bench handle`; the figures are in the documentation of
//! `src/handle.rs`.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "the modules are the library's; a part is used"
)]

#[path = "../src/handle/mod.rs"]
mod handle;
#[path = "../src/panic.rs"]
mod panic;
#[path = "../src/slots.rs"]
mod slots;
#[path = "../src/status.rs"]
mod status;

use handle::{Exclusive, Kind, Shared};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

static SHARED: Shared<u64> = Shared::new(Kind::Db);
static EXCLUSIVE: Exclusive<u64> = Exclusive::new(Kind::Iter);

const CALLS: u32 = 20_000_000;

#[inline(never)]
fn by_pointer(pointer: *const u64) -> u64 {
    // SAFETY: the caller passes a pointer to a live number.
    unsafe { pointer.read_volatile() }
}

#[inline(never)]
fn by_shared(handle: usize) -> u64 {
    SHARED.get(handle).map_or(0, |value| *value)
}

#[inline(never)]
fn by_exclusive(handle: usize) -> u64 {
    EXCLUSIVE.get(handle).map_or(0, |value| *value)
}

#[inline(never)]
fn by_arc(mutex: &std::sync::Mutex<std::sync::Arc<u64>>) -> u64 {
    let arc = mutex.lock().map(|arc| arc.clone());
    arc.map_or(0, |value| *value)
}

fn measure(what: &str, mut call: impl FnMut() -> u64) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..CALLS {
            black_box(call());
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
    }
    println!("{what:<44} {best:6.1} ns");
}

fn main() {
    let number = 7u64;
    let shared = SHARED.insert(7).expect("a handle");
    let exclusive = EXCLUSIVE.insert(7).expect("a handle");
    let mutex = std::sync::Mutex::new(std::sync::Arc::new(7));
    measure("raw pointer", || by_pointer(black_box(&raw const number)));
    measure("shared handle (database, snapshot)", || by_shared(black_box(shared)));
    measure("exclusive handle (iterator, batch)", || by_exclusive(black_box(exclusive)));
    measure("mutex around an Arc, for comparison", || by_arc(black_box(&mutex)));
    measure("exclusive handle made and freed (buffer)", || {
        let handle = EXCLUSIVE.insert(7).expect("a handle");
        EXCLUSIVE.remove(black_box(handle)).map_or(0, |()| 1)
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                black_box(by_shared(black_box(shared)));
            }
        });
        measure("shared handle beside a second thread", || by_shared(black_box(shared)));
        stop.store(true, Ordering::Relaxed);
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                black_box(by_arc(black_box(&mutex)));
            }
        });
        measure("mutex around an Arc beside a second thread", || by_arc(black_box(&mutex)));
        stop.store(true, Ordering::Relaxed);
    });
}
