//! Hints to the processor (layer L0): what will be read or written soon.

/// Asks the processor to fetch the line at `address`.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads nothing and cannot fault at any address.
    unsafe {
        std::arch::x86_64::_mm_prefetch(address.cast(), std::arch::x86_64::_MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Lines of a value that are asked for; from there on the processor has guessed the rest.
const VALUE_LINES: usize = 16;

/// Asks for the lines of bytes that will be read from their start, but for the first `known`
/// bytes, whose lines were asked for before.
#[inline(always)]
pub(crate) fn prefetch_bytes(bytes: &[u8], known: usize) {
    let mut at = known;
    while at < bytes.len().min(VALUE_LINES * 64) {
        prefetch(bytes.as_ptr().wrapping_add(at));
        at += 64;
    }
}

/// Asks the processor to fetch the line at `address` and to make it this core's own.
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch is a hint: it changes nothing and cannot fault at any address. Processors
    // that do not know this one pass over it.
    unsafe {
        std::arch::asm!(
            "prefetchw [{}]",
            in(reg) address,
            options(nostack, preserves_flags, readonly)
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}
