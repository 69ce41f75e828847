//! The C library of toykv: `extern "C"` functions over the public API of the engine.
//!
//! Four mechanisms and one file per C noun. `slots` and `handle` turn handles into objects without
//! ever following a caller's pointer, `panic` is the wall that no unwinding crosses, `status` maps
//! errors to numbers and fills `toykv_error`, `buffer` checks pointers with lengths and owns memory
//! that callers hold. `include/toykv.h` is generated from these files, in this order, by
//! `UPDATE_HEADER=1 cargo test -p toykv-ffi --test header`.
//!
//! Invariants: no export follows a pointer that is not an argument's documented memory; every
//! export returns a status, also for handles that are stale, of another kind or no handles at all;
//! nothing is written to stdout or stderr; in a forked child no export touches its parent's.
#![expect(
    clippy::missing_safety_doc,
    reason = "the header is the contract: pointers point to what their names and lengths say"
)]

mod handle;
mod panic;
mod slots;

pub mod status;

pub mod buffer;

pub mod options;

pub mod db;

pub mod maintenance;

pub mod repair;

pub mod batch;

pub mod snapshot;

pub mod iterator;
