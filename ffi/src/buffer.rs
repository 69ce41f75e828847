//! Bytes across the border (mechanism): the caller's pointers with lengths, checked, and memory of
//! ours that callers hold until they free it.
//!
//! Invariants: a length above its limit, and NULL with a length, are refused before any memory is
//! touched; bytes behind a `toykv_buf` do not move until it is freed.

use crate::handle::{Exclusive, Kind, Reserved};
use crate::panic::guard_value;
use engine::{Error, ErrorKind, MAX_KEY_LEN, MAX_VALUE_LEN, Result, Value};
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// Most bytes of a key.
pub const TOYKV_MAX_KEY_LEN: usize = 65_535;
/// Most bytes of a value.
pub const TOYKV_MAX_VALUE_LEN: u64 = 4_294_967_295;
/// Most keys of a toykv_multi_get and most rows of a toykv_iter_next_batch.
pub const TOYKV_MAX_LIST_LEN: usize = 1_048_576;

const _: () = assert!(TOYKV_MAX_KEY_LEN == MAX_KEY_LEN && TOYKV_MAX_VALUE_LEN == MAX_VALUE_LEN);

/// Longest path and longest text of an option, the closing NUL among them.
const MAX_TEXT_LEN: usize = 4096;

/// Bytes that belong to somebody else: to the caller as an argument, to the handle that they were
/// read from as a result. NULL with a length of 0 is the empty slice.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvSlice {
    /// The first byte.
    pub data: *const u8,
    /// How many there are.
    pub len: usize,
}

impl ToykvSlice {
    /// Points to `bytes`; the empty slice is not NULL.
    pub(crate) fn of(bytes: &[u8]) -> ToykvSlice {
        ToykvSlice { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// No bytes.
    pub(crate) const EMPTY: ToykvSlice = ToykvSlice { data: ptr::null(), len: 0 };
}

/// Bytes that stay as they are until toykv_buf_free, also after the database was closed. Calls
/// that fill one in overwrite it whatever it held: free it first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ToykvBuf {
    /// The first byte; NULL when there is nothing to free.
    pub data: *const u8,
    /// How many there are.
    pub len: usize,
    /// What keeps them; for toykv_buf_free.
    pub owner: *mut c_void,
}

impl ToykvBuf {
    /// Nothing.
    pub(crate) const NONE: ToykvBuf =
        ToykvBuf { data: ptr::null(), len: 0, owner: ptr::null_mut() };
}

/// What keeps the bytes of a `toykv_buf`.
pub(crate) enum Owner {
    /// One value, pinned or small.
    Value(Value),
    /// Values of one multi-get.
    Values(Vec<Option<Value>>),
    /// Bytes of our own.
    Bytes(Vec<u8>),
}

impl Owner {
    /// The bytes, where they are one piece.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Owner::Value(value) => value,
            Owner::Values(_) => &[],
            Owner::Bytes(bytes) => bytes,
        }
    }
}

/// What keeps buffers that callers hold.
static OWNERS: Exclusive<Owner> = Exclusive::new(Kind::Buf);

/// A `toykv_buf` that can be had for certain: taken before a call that changes the database.
pub(crate) struct ReservedBuf(Reserved<'static, Owner>);

impl ReservedBuf {
    /// Takes the place; NoMemory when callers hold as many buffers as there are handles.
    pub(crate) fn new() -> Result<ReservedBuf> {
        OWNERS.reserve().map(ReservedBuf)
    }

    /// A buffer over all of `owner`'s bytes.
    pub(crate) fn fill(self, owner: Owner) -> ToykvBuf {
        self.fill_with(owner, |_| ())
    }

    /// A buffer over text and the NUL behind it, which its length leaves out.
    pub(crate) fn fill_text(self, text: String) -> ToykvBuf {
        let len = text.len();
        let mut bytes = text.into_bytes();
        bytes.push(0);
        ToykvBuf { len, ..self.fill(Owner::Bytes(bytes)) }
    }

    /// A buffer, after `look` saw the owner where it will stay.
    pub(crate) fn fill_with(self, owner: Owner, look: impl FnOnce(&Owner)) -> ToykvBuf {
        let look = |owner: &Owner| {
            look(owner);
            ToykvSlice::of(owner.bytes())
        };
        let (handle, slice) = self.0.fill(owner, look);
        ToykvBuf { data: slice.data, len: slice.len, owner: ptr::without_provenance_mut(handle) }
    }
}

/// Where a call writes a result: checked once, then written to at will.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// InvalidArgument for NULL and for pointers that are not aligned.
    ///
    /// # Safety
    /// `pointer`, if not NULL, points to memory for a `T` that this thread may write until the call
    /// returns.
    pub(crate) unsafe fn new(pointer: *mut T, name: &str) -> Result<Out<T>> {
        if pointer.is_null() {
            return Err(invalid(format!("{name} is NULL")));
        }
        // SAFETY: the caller's promise.
        unsafe { Self::optional(pointer, name) }
    }

    /// As [`Out::new`], but what is written to NULL is forgotten.
    ///
    /// # Safety
    /// As [`Out::new`].
    pub(crate) unsafe fn optional(pointer: *mut T, name: &str) -> Result<Out<T>> {
        if !pointer.is_aligned() {
            return Err(invalid(format!("{name} points between the places of its type")));
        }
        Ok(Out(pointer))
    }

    /// True when the caller passed a place.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.0.is_null()
    }

    /// Writes a result.
    pub(crate) fn set(&self, value: T) {
        if self.is_wanted() {
            // SAFETY: aligned and not NULL, and valid by the promise made to `new`.
            unsafe { self.0.write(value) }
        }
    }
}

/// An argument error.
#[cold]
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

#[cold]
fn too_large(what: &str, len: usize, limit: u64) -> Error {
    let message = format!("{what} of {len} bytes exceeds the limit of {limit}");
    Error::new(ErrorKind::TooLarge, message)
}

/// A caller's bytes.
///
/// # Safety
/// `data` is NULL or points to `len` bytes that nobody changes for `'a`.
#[inline]
unsafe fn bytes<'a>(what: &str, data: *const c_void, len: usize, limit: u64) -> Result<&'a [u8]> {
    if data.is_null() {
        let null = || invalid(format!("{what} is NULL with a length of {len}"));
        return if len == 0 { Ok(&[]) } else { Err(null()) };
    }
    if len as u64 > limit {
        return Err(too_large(what, len, limit));
    }
    // SAFETY: the caller's promise; every limit is below isize::MAX.
    Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) })
}

/// A caller's key: TooLarge above the limit, InvalidArgument for NULL with a length.
///
/// # Safety
/// `data` is NULL or points to `len` bytes that nobody changes for `'a`.
#[inline]
pub(crate) unsafe fn key<'a>(data: *const c_void, len: usize) -> Result<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe { bytes("key", data, len, MAX_KEY_LEN as u64) }
}

/// A caller's value: TooLarge above the limit, InvalidArgument for NULL with a length.
///
/// # Safety
/// As [`key`].
#[inline]
pub(crate) unsafe fn value<'a>(data: *const c_void, len: usize) -> Result<&'a [u8]> {
    // SAFETY: the caller's promise.
    unsafe { bytes("value", data, len, MAX_VALUE_LEN) }
}

/// A caller's bound or prefix; `None` for the NULL slice.
///
/// # Safety
/// `slice.data` is NULL or points to `slice.len` bytes that nobody changes for `'a`.
pub(crate) unsafe fn bound<'a>(name: &str, slice: ToykvSlice) -> Result<Option<&'a [u8]>> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(name, slice.data.cast(), slice.len, MAX_KEY_LEN as u64) }?;
    Ok(if slice.data.is_null() { None } else { Some(bytes) })
}

/// A caller's array of `count` things, of which nothing was read yet.
///
/// # Safety
/// `data` is NULL or points to `count` values of `T` that nobody changes for `'a`.
pub(crate) unsafe fn list<'a, T>(name: &str, data: *const T, count: usize) -> Result<&'a [T]> {
    check_list(name, data, count)?;
    // SAFETY: not NULL, aligned, of a size below the limit, and the caller's promise.
    Ok(if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(data, count) } })
}

/// Refuses arrays that no call can have: NULL with a count, crooked pointers, counts above the
/// limit.
pub(crate) fn check_list<T>(name: &str, data: *const T, count: usize) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    if data.is_null() {
        return Err(invalid(format!("{name} is NULL with a count of {count}")));
    }
    if !data.is_aligned() {
        return Err(invalid(format!("{name} points between the places of its type")));
    }
    if count > TOYKV_MAX_LIST_LEN {
        let message = format!("{name} counts {count}; the limit is {TOYKV_MAX_LIST_LEN}");
        return Err(Error::new(ErrorKind::TooLarge, message));
    }
    Ok(())
}

/// A caller's option struct, copied; `None` for NULL. `size` is the first field.
///
/// # Safety
/// `pointer` is NULL or points to a struct that begins with the `uint32_t` of its own size.
pub(crate) unsafe fn sized_struct<T: Copy>(name: &str, pointer: *const T) -> Result<Option<T>> {
    if pointer.is_null() {
        return Ok(None);
    }
    if !pointer.is_aligned() {
        return Err(invalid(format!("{name} points between the places of its type")));
    }
    let known = size_of::<T>();
    // SAFETY: not NULL, aligned, and the caller's promise.
    let size = unsafe { pointer.cast::<u32>().read() } as usize;
    if size != known {
        return Err(invalid(format!("{name}: struct_size is {size}; this library knows {known}")));
    }
    // SAFETY: the struct says itself that it has the size of a T, all of whose bit patterns are
    // values.
    Ok(Some(unsafe { pointer.read() }))
}

/// A caller's NUL-terminated bytes.
///
/// # Safety
/// `text` is NULL or NUL-terminated within its memory, and nobody changes it for `'a`.
unsafe fn c_bytes<'a>(name: &str, text: *const c_char) -> Result<&'a [u8]> {
    if text.is_null() {
        return Err(invalid(format!("{name} is NULL")));
    }
    // SAFETY: the caller's promise; strnlen stops at the NUL.
    if unsafe { libc::strnlen(text, MAX_TEXT_LEN) } == MAX_TEXT_LEN {
        return Err(invalid(format!("{name} is longer than {} bytes", MAX_TEXT_LEN - 1)));
    }
    // SAFETY: the NUL was found.
    Ok(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// A caller's text: InvalidArgument unless it is UTF-8 below the length limit.
///
/// # Safety
/// `text` is NULL or NUL-terminated within its memory, and nobody changes it for `'a`.
pub(crate) unsafe fn text<'a>(name: &str, text: *const c_char) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { c_bytes(name, text) }?;
    std::str::from_utf8(bytes).map_err(|_| invalid(format!("{name} is not UTF-8")))
}

/// A caller's path: any bytes but the empty path.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn path<'a>(path: *const c_char) -> Result<&'a Path> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { c_bytes("path", path) }?;
    if bytes.is_empty() {
        return Err(invalid("path is empty"));
    }
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// Frees what a buffer holds and makes it empty; nothing for NULL, an empty buffer and one that a
/// copy of the struct freed before.
/// Ownership: the struct stays the caller's; its bytes may not be read afterwards.
/// Threads: any; one thread at a time per buffer.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_buf_free(buf: *mut ToykvBuf) {
    guard_value((), || {
        if buf.is_null() || !buf.is_aligned() {
            return Ok(());
        }
        // SAFETY: not NULL, aligned, and by the header a toykv_buf.
        let old = unsafe { buf.replace(ToykvBuf::NONE) };
        OWNERS.remove(old.owner.addr())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T>(result: Result<T>) -> ErrorKind {
        result.err().expect("refused").kind()
    }

    #[test]
    fn lengths_are_checked_before_memory() {
        let dangling: *const c_void = ptr::without_provenance(16);
        // SAFETY: refused before it is followed.
        unsafe {
            assert_eq!(kind(key(dangling, MAX_KEY_LEN + 1)), ErrorKind::TooLarge);
            assert_eq!(kind(key(dangling, usize::MAX)), ErrorKind::TooLarge);
            assert_eq!(kind(value(dangling, usize::MAX)), ErrorKind::TooLarge);
            assert_eq!(kind(key(ptr::null(), 1)), ErrorKind::InvalidArgument);
            assert_eq!(key(ptr::null(), 0).unwrap(), b"");
            assert_eq!(key(dangling, 0).unwrap(), b"");
            let slices: *const ToykvSlice = dangling.cast();
            assert_eq!(kind(list("keys", slices, TOYKV_MAX_LIST_LEN + 1)), ErrorKind::TooLarge);
            assert_eq!(kind(list::<u64>("keys", ptr::null(), 1)), ErrorKind::InvalidArgument);
            let crooked: *const u64 = ptr::without_provenance(17);
            assert_eq!(kind(list("keys", crooked, 1)), ErrorKind::InvalidArgument);
            assert_eq!(kind(Out::new(crooked.cast_mut(), "n")), ErrorKind::InvalidArgument);
            assert_eq!(kind(Out::<u8>::new(ptr::null_mut(), "n")), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn the_null_slice_is_no_bound_and_the_empty_one_is() {
        let empty = ToykvSlice::of(b"");
        // SAFETY: slices of ours.
        unsafe {
            assert_eq!(bound("lower", ToykvSlice::EMPTY).unwrap(), None);
            assert_eq!(bound("lower", empty).unwrap(), Some(&b""[..]));
            let null = ToykvSlice { data: ptr::null(), len: 1 };
            let error = bound("lower", null).unwrap_err();
            assert_eq!(error.message(), "lower is NULL with a length of 1");
        }
    }

    #[test]
    fn texts_and_paths() {
        let long = [b'x'; 5000].map(|byte| byte as c_char);
        // SAFETY: all are NUL-terminated or longer than the limit.
        unsafe {
            assert_eq!(text("name", c"durability".as_ptr()).unwrap(), "durability");
            assert_eq!(kind(text("name", c"\xFF".as_ptr())), ErrorKind::InvalidArgument);
            assert_eq!(path(c"\xFF".as_ptr()).unwrap().as_os_str().as_bytes(), b"\xFF");
            assert_eq!(path(c"".as_ptr()).unwrap_err().message(), "path is empty");
            assert_eq!(path(ptr::null()).unwrap_err().message(), "path is NULL");
            assert_eq!(kind(path(long.as_ptr())), ErrorKind::InvalidArgument);
        }
    }

    #[test]
    fn structs_of_another_size_are_refused() {
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq)]
        struct Two(u32, u32);
        // SAFETY: structs of ours.
        unsafe {
            assert_eq!(sized_struct("wo", &Two(8, 5)).unwrap(), Some(Two(8, 5)));
            assert_eq!(sized_struct::<Two>("wo", ptr::null()).unwrap(), None);
            let error = sized_struct("wo", &Two(12, 5)).unwrap_err();
            assert_eq!(error.message(), "wo: struct_size is 12; this library knows 8");
        }
    }

    #[test]
    fn a_buffer_is_freed_once_whatever_copies_there_are() {
        let place = ReservedBuf::new().unwrap();
        let mut buf = place.fill(Owner::Bytes(b"seven".to_vec()));
        let (mut copy, handle) = (buf, buf.owner.addr());
        // SAFETY: the buffer is alive until it is freed.
        unsafe {
            assert_eq!(std::slice::from_raw_parts(buf.data, buf.len), b"seven");
            assert!(matches!(*OWNERS.get(handle).unwrap(), Owner::Bytes(_)));
            toykv_buf_free(&raw mut buf);
            assert!(buf.data.is_null() && buf.len == 0 && buf.owner.is_null());
            assert_eq!(OWNERS.get(handle).err().unwrap().kind(), ErrorKind::Misuse);
            toykv_buf_free(&raw mut copy);
            toykv_buf_free(&raw mut buf);
            toykv_buf_free(ptr::null_mut());
        }
    }
}
