//! Values that were read (layer L6): pinned memory, or a small copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::buffer::{Buffer, Bytes};
use crate::engine::{Found, Owner};
use crate::table::Table;
use crate::vlog::Segment;

/// Values up to this length are copied: cheaper than pinning, and no file is kept for them.
const INLINE_LEN: usize = 119;

/// The bytes of a value. Long ones are not copied: they point into the mapped file that holds
/// them, which stays mapped, whatever happens to the database, until the last clone is dropped. One
/// that was compressed or read directly points into the buffer that it was read into, which counts
/// as `pinned_bytes` of the [`Stats`](crate::Stats) until then.
///
/// Any thread may use it; it stays valid after the database was closed.
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    Inline { len: u8, bytes: [u8; INLINE_LEN] },
    Pinned { ptr: *const u8, len: usize, _pin: Pin },
}

/// What keeps the bytes where they are.
#[derive(Clone)]
enum Pin {
    Segment { _file: Arc<Segment> },
    Table { _file: Arc<Table> },
    Buffer { _bytes: Buffer },
}

// SAFETY: the bytes are immutable and stay where they are while `_pin` lives, which is Send and
// Sync.
unsafe impl Send for Value {}
// SAFETY: as for Send; shared reading of immutable bytes.
unsafe impl Sync for Value {}

impl Value {
    /// Copies a short value, pins a long one.
    #[inline]
    pub(crate) fn new(found: &Found<'_>) -> Value {
        let value: &[u8] = &found.value;
        if value.len() <= INLINE_LEN {
            let mut bytes = [0; INLINE_LEN];
            bytes[..value.len()].copy_from_slice(value);
            return Value(Repr::Inline { len: value.len() as u8, bytes });
        }
        let _pin = match (&found.value, found.owner) {
            (Bytes::Shared(bytes), _) => Pin::Buffer { _bytes: bytes.buffer().clone() },
            (_, Owner::Segment(segment)) => Pin::Segment { _file: Arc::clone(segment) },
            (_, Owner::Table(table)) => Pin::Table { _file: Arc::clone(table) },
        };
        Value(Repr::Pinned { ptr: value.as_ptr(), len: value.len(), _pin })
    }

    /// What it holds of the heap beside itself, in bytes: 0 for a short value and for one in a
    /// mapped file; a buffer may be shared with other values.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Pinned { _pin: Pin::Buffer { _bytes }, .. } => _bytes.len(),
            _ => 0,
        }
    }
}

impl Deref for Value {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { len, bytes } => &bytes[..usize::from(*len)],
            // SAFETY: `ptr` points to `len` bytes of a file's map or of a buffer that `_pin` keeps;
            // the bytes of tables, of published records and of shared buffers never change.
            Repr::Pinned { ptr, len, .. } => unsafe { std::slice::from_raw_parts(*ptr, *len) },
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        **self == **other
    }
}

impl Eq for Value {}

impl PartialEq<[u8]> for Value {
    fn eq(&self, other: &[u8]) -> bool {
        **self == *other
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.len())
    }
}
