//! The wall around every export (mechanism): no panic unwinds into the caller, and every error
//! leaves as a status and, where the caller wants it, as a `toykv_error`.
//!
//! Invariant: a panic is reported once, as TOYKV_ERR_PANIC with its message, and nowhere else: it
//! writes nothing to stderr, which belongs to the program around us.

use crate::status::{self, ToykvError};
use engine::Result;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of an export and turns whatever comes out of it into a status.
///
/// # Safety
/// `err` is NULL or points to a `toykv_error`'s worth of memory that this thread may write.
#[inline]
pub(crate) unsafe fn guard(err: *mut ToykvError, body: impl FnOnce() -> Result<i32>) -> i32 {
    // Unwind safe: objects that a panic interrupted stay sound memory, and engine calls leave them
    // usable or poisoned.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            // SAFETY: the caller's promise.
            unsafe { status::report(err, &error) }
        }
        Err(payload) => {
            // SAFETY: the caller's promise.
            unsafe { status::report_panic(err, &message(payload)) }
        }
    }
}

/// As [`guard`] for exports that answer a value and cannot report: `otherwise` on any failure.
#[inline]
pub(crate) fn guard_value<T>(otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => otherwise,
        Err(payload) => {
            message(payload);
            otherwise
        }
    }
}

#[cold]
fn message(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "no message".to_string(),
    };
    // A payload may panic when dropped: that would leave through the wall.
    std::mem::forget(payload);
    text
}

/// Takes the panic messages of this copy of the standard library off stderr.
pub(crate) fn silence() {
    if !cfg!(test) {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{TOYKV_ERR_PANIC, TOYKV_OK};
    use engine::{Error, ErrorKind};
    use std::ptr;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload itself");
        }
    }

    fn run(body: impl FnOnce() -> Result<i32>) -> (i32, String) {
        let mut error = ToykvError::blank();
        // SAFETY: `error` is ours.
        let status = unsafe { guard(&raw mut error, body) };
        (status, error.text())
    }

    #[test]
    fn a_panic_becomes_a_status_with_its_message() {
        let (status, text) = run(|| panic!("tried {}", 7));
        assert_eq!((status, text.as_str()), (TOYKV_ERR_PANIC, "panic: tried 7"));
        let (status, text) = run(|| panic!("plain"));
        assert_eq!((status, text.as_str()), (TOYKV_ERR_PANIC, "panic: plain"));
        let (status, text) = run(|| std::panic::panic_any(Bomb));
        assert_eq!((status, text.as_str()), (TOYKV_ERR_PANIC, "panic: no message"));
        // SAFETY: NULL is allowed.
        assert_eq!(unsafe { guard(ptr::null_mut(), || panic!("unheard")) }, TOYKV_ERR_PANIC);
        assert_eq!(guard_value(3, || panic!("unheard")), 3);
    }

    #[test]
    fn results_pass() {
        assert_eq!(run(|| Ok(TOYKV_OK)), (TOYKV_OK, String::new()));
        let (status, text) = run(|| Err(Error::new(ErrorKind::Locked, "by 7")));
        assert_eq!((status, text.as_str()), (crate::status::TOYKV_ERR_LOCKED, "by 7"));
        assert_eq!(guard_value(3, || Err(Error::new(ErrorKind::Io, ""))), 3);
        assert_eq!(guard_value(3, || Ok(4)), 4);
    }
}
