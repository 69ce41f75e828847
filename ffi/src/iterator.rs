//! `toykv_iter` (C noun): ordered reads of one frozen state, a row or many rows a call.

use crate::buffer::{Out, ToykvSlice, bound, check_list, invalid, key, sized_struct};
use crate::db::{Toykv, ToykvKeyspace, View};
use crate::handle::{Exclusive, ExclusiveGuard, Kind};
use crate::options::{TOYKV_RF_KEYS_ONLY, TOYKV_RF_LOWER_EXCLUSIVE, TOYKV_RF_REVERSE};
use crate::options::{TOYKV_RF_UPPER_INCLUSIVE, ToykvIterOpts};
use crate::panic::{guard, guard_value};
use crate::status::{TOYKV_DONE, TOYKV_OK, ToykvError};
use engine::{Entry, Result, Scan, ScanOptions};
use std::ffi::c_void;
use std::ops::Bound;
use std::ptr;

/// A position between the entries of a frozen state. One thread at a time may use it.
pub struct ToykvIter(());

/// Bytes of keys and values after which a batch of rows ends when the caller names no number.
const DEFAULT_BATCH_BYTES: usize = 1 << 20;

/// An iterator and the rows of its last batch.
struct Iter {
    scan: Scan,
    /// Keys and values one after the other.
    arena: Vec<u8>,
    /// Ends of key and value of each row in `arena`.
    ends: Vec<(usize, usize)>,
}

/// All iterators.
static ITERS: Exclusive<Iter> = Exclusive::new(Kind::Iter);

fn iter_of(iter: *const ToykvIter) -> Result<ExclusiveGuard<'static, Iter>> {
    ITERS.get(iter.addr())
}

impl Iter {
    /// Copies the next rows: at least one if there is one, then up to both limits.
    fn fill(&mut self, max_rows: usize, max_bytes: usize) -> Result<()> {
        self.arena.clear();
        self.ends.clear();
        while self.ends.len() < max_rows {
            match self.scan.next_entry() {
                Ok(Some(entry)) => {
                    self.arena.extend_from_slice(entry.key);
                    let key_end = self.arena.len();
                    self.arena.extend_from_slice(entry.value);
                    self.ends.push((key_end, self.arena.len()));
                }
                Ok(None) => break,
                Err(error) if self.ends.is_empty() => return Err(error),
                // The rows before it are good, and errors stick: the next call answers it.
                Err(_) => break,
            }
            if self.arena.len() >= max_bytes {
                break;
            }
        }
        Ok(())
    }

    /// The rows of the last batch.
    fn rows(&self) -> impl Iterator<Item = (ToykvSlice, ToykvSlice)> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (key_end, end))| {
            let piece = |from: usize, to: usize| {
                ToykvSlice::of(self.arena.get(from..to).unwrap_or_default())
            };
            (piece(start, *key_end), piece(*key_end, *end))
        })
    }
}

const KNOWN_FLAGS: u32 =
    TOYKV_RF_REVERSE | TOYKV_RF_KEYS_ONLY | TOYKV_RF_LOWER_EXCLUSIVE | TOYKV_RF_UPPER_INCLUSIVE;

/// What a scan covers.
///
/// # Safety
/// The slices of `opts` are NULL or point to as many bytes as they say.
unsafe fn scan_options(opts: &ToykvIterOpts) -> Result<ScanOptions> {
    if opts.flags & !KNOWN_FLAGS != 0 {
        return Err(invalid(format!("iterator options: unknown flags {:#x}", opts.flags)));
    }
    let is_set = |flag| opts.flags & flag != 0;
    // SAFETY: the caller's promise.
    let (lower, upper, prefix) = unsafe {
        (bound("lower", opts.lower)?, bound("upper", opts.upper)?, bound("prefix", opts.prefix)?)
    };
    let lower = match lower {
        None => Bound::Unbounded,
        Some(key) if is_set(TOYKV_RF_LOWER_EXCLUSIVE) => Bound::Excluded(key),
        Some(key) => Bound::Included(key),
    };
    let upper = match upper {
        None => Bound::Unbounded,
        Some(key) if is_set(TOYKV_RF_UPPER_INCLUSIVE) => Bound::Included(key),
        Some(key) => Bound::Excluded(key),
    };
    let mut scan = ScanOptions::new()
        .lower(lower)
        .upper(upper)
        .reverse(is_set(TOYKV_RF_REVERSE))
        .keys_only(is_set(TOYKV_RF_KEYS_ONLY));
    if let Some(prefix) = prefix {
        scan = scan.prefix(prefix);
    }
    if opts.limit != 0 {
        scan = scan.limit(opts.limit);
    }
    Ok(scan)
}

/// A new iterator before the first entry; it reads the state of this moment, or of opts->snapshot,
/// whatever is written later.
/// Ownership: the caller frees *out with toykv_iter_free; bounds and prefix are copied.
/// Threads: any for the database; the iterator then one at a time, and it may move between threads.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_iter_new(
    db: *mut Toykv,
    keyspace: *mut ToykvKeyspace,
    opts: *const ToykvIterOpts,
    out: *mut *mut ToykvIter,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let out = Out::new(out, "out")?;
            out.set(ptr::null_mut());
            let opts = sized_struct("iterator options", opts)?;
            let snapshot = opts.as_ref().map_or(ptr::null(), |opts| opts.snapshot);
            let view = View::new(db, keyspace, snapshot)?;
            let options = match &opts {
                Some(opts) => scan_options(opts)?,
                None => ScanOptions::new(),
            };
            let scan = view.scan(&options)?;
            let handle = ITERS.insert(Iter { scan, arena: Vec::new(), ends: Vec::new() })?;
            out.set(ptr::without_provenance_mut(handle));
            Ok(TOYKV_OK)
        })
    }
}

/// Frees an iterator; nothing for NULL, for a freed one and in a forked child.
/// Ownership: the handle is gone, and with it the keys and values that it answered.
/// Threads: any.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn toykv_iter_free(iter: *mut ToykvIter) {
    guard_value((), || ITERS.remove(iter.addr()));
}

/// Moves before the first entry whose key is at or after `key` in the direction of the iterator.
/// Ownership: the key is copied; keys and values answered before are gone.
/// Threads: one at a time.
/// Errors: INVALID, TOO_LARGE, MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_iter_seek(
    iter: *mut ToykvIter,
    key: *const c_void,
    key_len: usize,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and lengths say, by contract.
    unsafe {
        guard(err, || {
            let mut iter = iter_of(iter)?;
            iter.scan.seek(self::key(key, key_len)?)?;
            Ok(TOYKV_OK)
        })
    }
}

/// Moves before the first entry in the direction of the iterator.
/// Ownership: keys and values answered before are gone.
/// Threads: one at a time.
/// Errors: MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_iter_seek_to_start(
    iter: *mut ToykvIter,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            iter_of(iter)?.scan.seek_to_start()?;
            Ok(TOYKV_OK)
        })
    }
}

/// Moves behind the last entry in the direction of the iterator, for toykv_iter_prev.
/// Ownership: keys and values answered before are gone.
/// Threads: one at a time.
/// Errors: MISUSE, CLOSED, CORRUPTION, IO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_iter_seek_to_end(iter: *mut ToykvIter, err: *mut ToykvError) -> i32 {
    // SAFETY: `err` is NULL or a toykv_error, by contract.
    unsafe {
        guard(err, || {
            iter_of(iter)?.scan.seek_to_end()?;
            Ok(TOYKV_OK)
        })
    }
}

/// Steps over the next entry and answers it; DONE and empty slices at the end.
/// Ownership: key and value stay until the next call with this iterator. NULL: not wanted.
/// Threads: one at a time.
/// Errors: MISUSE, CLOSED, CORRUPTION, IO; an error is answered again by every later call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_iter_next(
    iter: *mut ToykvIter,
    key: *mut ToykvSlice,
    value: *mut ToykvSlice,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            let (key, value) = (Out::optional(key, "key")?, Out::optional(value, "value")?);
            answer(&key, &value, None);
            let mut iter = iter_of(iter)?;
            Ok(answer(&key, &value, iter.scan.next_entry()?))
        })
    }
}

/// Steps back over the entry before the position and answers it; DONE, empty slices at the start.
/// Ownership: key and value stay until the next call with this iterator. NULL: not wanted.
/// Threads: one at a time.
/// Errors: MISUSE, CLOSED, CORRUPTION, IO; an error is answered again by every later call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_iter_prev(
    iter: *mut ToykvIter,
    key: *mut ToykvSlice,
    value: *mut ToykvSlice,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names say, by contract.
    unsafe {
        guard(err, || {
            let (key, value) = (Out::optional(key, "key")?, Out::optional(value, "value")?);
            answer(&key, &value, None);
            let mut iter = iter_of(iter)?;
            Ok(answer(&key, &value, iter.scan.prev_entry()?))
        })
    }
}

#[inline]
fn answer(key: &Out<ToykvSlice>, value: &Out<ToykvSlice>, entry: Option<Entry<'_>>) -> i32 {
    let Some(entry) = entry else {
        key.set(ToykvSlice::EMPTY);
        value.set(ToykvSlice::EMPTY);
        return TOYKV_DONE;
    };
    key.set(ToykvSlice::of(entry.key));
    value.set(ToykvSlice::of(entry.value));
    TOYKV_OK
}

/// Steps over the next rows and answers them: at least one, unless DONE; at most `max_rows`; and
/// none after their bytes reach `max_bytes` (0 for 1 MiB). *rows becomes their number.
/// Ownership: arrays of `max_rows` are the caller's (values NULL: not wanted); the bytes that they
/// point to stay until the next call with this iterator.
/// Threads: one at a time.
/// Errors: INVALID, TOO_LARGE (TOYKV_MAX_LIST_LEN), MISUSE, CLOSED, CORRUPTION, IO; see next.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn toykv_iter_next_batch(
    iter: *mut ToykvIter,
    max_rows: usize,
    max_bytes: usize,
    keys: *mut ToykvSlice,
    values: *mut ToykvSlice,
    rows: *mut usize,
    err: *mut ToykvError,
) -> i32 {
    // SAFETY: pointers are NULL or point to what their names and counts say, by contract.
    unsafe {
        guard(err, || {
            let rows = Out::new(rows, "rows")?;
            rows.set(0);
            let mut iter = iter_of(iter)?;
            if max_rows == 0 {
                return Err(invalid("max_rows is 0"));
            }
            check_list("keys", keys, max_rows)?;
            if !values.is_null() {
                check_list("values", values, max_rows)?;
            }
            iter.fill(max_rows, if max_bytes == 0 { DEFAULT_BATCH_BYTES } else { max_bytes })?;
            for (index, (key, value)) in iter.rows().enumerate() {
                keys.add(index).write(key);
                if !values.is_null() {
                    values.add(index).write(value);
                }
            }
            rows.set(iter.ends.len());
            Ok(if iter.ends.is_empty() { TOYKV_DONE } else { TOYKV_OK })
        })
    }
}
