//! Where work runs that takes long: the thread that begins it goes on with it, and another one
//! serves the other clients meanwhile.

/// Commands of more bytes or more arguments than these are long work, and so is the handling of a
/// longer value.
pub(crate) const LONG_BYTES: usize = 32 << 10;
pub(crate) const LONG_ARGUMENTS: usize = 64;

/// Runs something that may block or take long.
pub(crate) fn blocking<T>(run: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(run)
}

/// The same for work on so many bytes: what is short costs no change of threads.
#[inline]
pub(crate) fn blocking_if_long<T>(bytes: usize, run: impl FnOnce() -> T) -> T {
    if bytes > LONG_BYTES { blocking(run) } else { run() }
}
