//! Ordered reads (layer L6).

use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crate::engine::TreeCursor;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::key::{LookupKey, MAX_ENCODED_KEY_LEN, put_prefix, user_key};
use crate::types::{DEFAULT_KEYSPACE, SeqNo};

/// What a scan covers: everything, forward, unless told otherwise. The setters copy their keys;
/// keys of any length may be bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanOptions {
    /// User key, inclusive.
    lower: Vec<u8>,
    /// User key, exclusive; `None` for no bound.
    upper: Option<Vec<u8>>,
    reverse: bool,
    keys_only: bool,
    limit: Option<u64>,
}

impl ScanOptions {
    /// Everything, forward.
    pub fn new() -> ScanOptions {
        ScanOptions::default()
    }

    /// Nothing below this key; bounds given several times are intersected.
    pub fn lower(mut self, bound: Bound<&[u8]>) -> ScanOptions {
        match bound {
            Bound::Unbounded => {}
            Bound::Included(key) => self.raise(key.to_vec()),
            Bound::Excluded(key) => self.raise(successor(key)),
        }
        self
    }

    /// Nothing above this key; bounds given several times are intersected.
    pub fn upper(mut self, bound: Bound<&[u8]>) -> ScanOptions {
        match bound {
            Bound::Unbounded => {}
            Bound::Included(key) => self.cut(successor(key)),
            Bound::Excluded(key) => self.cut(key.to_vec()),
        }
        self
    }

    /// Only keys that start with `prefix`.
    pub fn prefix(mut self, prefix: &[u8]) -> ScanOptions {
        self.raise(prefix.to_vec());
        if let Some(last) = prefix.iter().rposition(|byte| *byte != 0xff) {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            self.cut(end);
        }
        self
    }

    /// From large keys to small ones.
    pub fn reverse(mut self, yes: bool) -> ScanOptions {
        self.reverse = yes;
        self
    }

    /// At most so many entries; every seek starts the count anew.
    pub fn limit(mut self, count: u64) -> ScanOptions {
        self.limit = Some(count);
        self
    }

    /// Values come back empty, and large ones are not even read.
    pub fn keys_only(mut self, yes: bool) -> ScanOptions {
        self.keys_only = yes;
        self
    }

    fn raise(&mut self, key: Vec<u8>) {
        if key > self.lower {
            self.lower = key;
        }
    }

    fn cut(&mut self, key: Vec<u8>) {
        if self.upper.as_ref().is_none_or(|upper| key < *upper) {
            self.upper = Some(key);
        }
    }
}

/// The next key after `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}

/// One entry of a scan; valid until the scan moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; empty when only keys were asked for.
    pub value: &'a [u8],
}

/// Where a scan stands: between two entries, one of which the cursor may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Before the first entry in the direction of the scan; the cursor is nowhere.
    Start,
    /// Behind the last; the cursor is nowhere.
    End,
    /// Just before the entry that the cursor is on.
    Before,
    /// Just behind the entry that the cursor is on.
    After,
}

/// An ordered read of one frozen state: it shows what was there when it was made, whatever is
/// written, flushed, compacted or collected meanwhile.
///
/// One thread at a time may use a scan; it may move between threads. It keeps alive the files that
/// it reads. After the database was closed it answers Closed. An error ends it: every later move
/// answers the same error.
pub struct Scan {
    handle: Arc<Handle>,
    cursor: TreeCursor,
    position: Position,
    reverse: bool,
    keys_only: bool,
    limit: u64,
    left: u64,
    /// Encoded key of a seek; scratch.
    target: Vec<u8>,
    error: Option<Error>,
}

impl Scan {
    /// A scan of the newest state, or of the one at `at`.
    pub(crate) fn new(
        handle: &Arc<Handle>,
        options: &ScanOptions,
        at: Option<SeqNo>,
    ) -> Result<Scan> {
        let (view, seqno) = handle.pin(at)?;
        let lower = LookupKey::bound(DEFAULT_KEYSPACE, &options.lower);
        let upper = match &options.upper {
            Some(key) => LookupKey::bound(DEFAULT_KEYSPACE, key),
            None => LookupKey::start_of(DEFAULT_KEYSPACE + 1),
        };
        let limit = options.limit.unwrap_or(u64::MAX);
        Ok(Scan {
            handle: Arc::clone(handle),
            cursor: TreeCursor::new(view, seqno, lower, upper),
            position: Position::Start,
            reverse: options.reverse,
            keys_only: options.keys_only,
            limit,
            left: limit,
            target: Vec::new(),
            error: None,
        })
    }

    /// The next entry in the direction of the scan, stepping over it; `None` at the end or when
    /// the limit has been reached.
    #[inline]
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>> {
        self.check()?;
        if self.left == 0 {
            return Ok(None);
        }
        let moved = match self.position {
            Position::Before => Ok(()),
            Position::After => self.step(!self.reverse),
            Position::Start => self.enter(!self.reverse),
            Position::End => return Ok(None),
        };
        if !self.arrive(moved, Position::After, Position::End)? {
            return Ok(None);
        }
        self.left -= 1;
        self.entry().map(Some)
    }

    /// The entry before the position (what `next_entry` answered last), stepping back over it;
    /// `None` at the start. A limit does not count these.
    #[inline]
    pub fn prev_entry(&mut self) -> Result<Option<Entry<'_>>> {
        self.check()?;
        let moved = match self.position {
            Position::After => Ok(()),
            Position::Before => self.step(self.reverse),
            Position::End => self.enter(self.reverse),
            Position::Start => return Ok(None),
        };
        if !self.arrive(moved, Position::Before, Position::Start)? {
            return Ok(None);
        }
        self.entry().map(Some)
    }

    /// Moves so that `next_entry` answers the first entry at or after `key` in the direction of
    /// the scan (at or below `key` in a reverse scan). The bounds still hold.
    pub fn seek(&mut self, key: &[u8]) -> Result<()> {
        self.check()?;
        self.left = self.limit;
        self.target.clear();
        put_prefix(&mut self.target, DEFAULT_KEYSPACE);
        self.target.extend_from_slice(&key[..key.len().min(MAX_ENCODED_KEY_LEN)]);
        let moved = if self.reverse {
            self.target.push(0);
            self.cursor.seek_before(&self.target)
        } else {
            self.cursor.seek(&self.target)
        };
        self.arrive(moved, Position::Before, Position::End)?;
        Ok(())
    }

    /// Back to the start of the scan.
    pub fn seek_to_start(&mut self) -> Result<()> {
        self.check()?;
        self.left = self.limit;
        self.position = Position::Start;
        Ok(())
    }

    /// Behind the last entry of the scan, for `prev_entry`.
    pub fn seek_to_end(&mut self) -> Result<()> {
        self.check()?;
        self.left = self.limit;
        self.position = Position::End;
        Ok(())
    }

    #[inline]
    fn check(&self) -> Result<()> {
        match &self.error {
            Some(error) => Err(error.clone()),
            None => self.handle.engine().check_open(),
        }
    }

    /// From nowhere to the first entry going up or the last going down.
    fn enter(&mut self, up: bool) -> Result<()> {
        if up { self.cursor.seek_to_first() } else { self.cursor.seek_to_last() }
    }

    #[inline]
    fn step(&mut self, up: bool) -> Result<()> {
        if up { self.cursor.next() } else { self.cursor.prev() }
    }

    /// Notes where a move has led; true on an entry.
    #[inline]
    fn arrive(&mut self, moved: Result<()>, on: Position, off: Position) -> Result<bool> {
        if let Err(error) = moved {
            self.error = Some(error.clone());
            return Err(error);
        }
        let valid = self.cursor.valid();
        self.position = if valid { on } else { off };
        Ok(valid)
    }

    #[inline]
    fn entry(&mut self) -> Result<Entry<'_>> {
        if self.keys_only {
            return Ok(Entry { key: user_key(self.cursor.key()), value: b"" });
        }
        match self.cursor.entry() {
            Ok((key, value)) => Ok(Entry { key: user_key(key), value }),
            Err(error) => {
                self.error = Some(error.clone());
                Err(error)
            }
        }
    }
}

impl Iterator for Scan {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    /// The next entry with bytes of its own. After an error it ends.
    fn next(&mut self) -> Option<Self::Item> {
        if self.error.is_some() {
            return None;
        }
        match self.next_entry() {
            Ok(None) => None,
            Ok(Some(entry)) => Some(Ok((entry.key.to_vec(), entry.value.to_vec()))),
            Err(error) => {
                self.error = Some(error.clone());
                Some(Err(error))
            }
        }
    }
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scan(reverse: {}, {:?})", self.reverse, self.position)
    }
}
