//! The exact number of keys (layer L5): how many keys a memtable adds to what is older.
//!
//! Invariant COUNT: the version's count is the number of live keys in its runs. A memtable's
//! delta is found entry by entry in the order of writing: an entry changes the count when it
//! differs, as put or delete, from the next older version of its key. Each entry is looked at once;
//! `len` and flush share what has been found.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::state::{Engine, lock};
use super::view::{CountState, MemPart, View};
use crate::checksum::hash_key;
use crate::error::Result;
use crate::types::{Kind, MAX_SEQNO, SeqNo};

/// How one write of `kind` changes the number of keys, given whether its key was there.
#[inline]
pub(crate) fn change(existed: bool, kind: Kind) -> i64 {
    i64::from(kind != Kind::Delete) - i64::from(existed)
}

/// How many keys `part` adds, up to `upto`, to `older`, the view of everything before it.
///
/// Costs one look-up below the memtable per key that is new in it since the last call.
pub(crate) fn delta(part: &MemPart, older: &View, upto: SeqNo, hash_seed: u64) -> Result<i64> {
    // So that who asks later, with nothing written since, finds what has been counted.
    let upto = upto.min(part.memtable.last_seqno());
    let mut state = lock(&part.count);
    if upto <= state.upto {
        // Somebody counted further than this caller's view; walk what it sees from the start.
        if upto == state.upto {
            return Ok(state.delta);
        }
        let mut fresh = CountState::default();
        return walk(part, older, upto, hash_seed, &mut fresh);
    }
    walk(part, older, upto, hash_seed, &mut state)
}

fn walk(
    part: &MemPart,
    older: &View,
    upto: SeqNo,
    hash_seed: u64,
    state: &mut CountState,
) -> Result<i64> {
    let mut delta = state.delta;
    let mut failure = None;
    let cursor = part.memtable.for_each_since(state.cursor, upto, |key, kind, before| {
        if failure.is_some() {
            return;
        }
        let existed = match before {
            Some(before) => Ok(before != Kind::Delete),
            None => older.contains(key, hash_key(key, hash_seed), MAX_SEQNO),
        };
        match existed {
            Ok(existed) => delta += change(existed, kind),
            Err(error) => failure = Some(error),
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    *state = CountState { cursor, upto, delta };
    Ok(delta)
}

impl Engine {
    /// The exact number of keys now.
    pub(crate) fn len(&self) -> Result<u64> {
        self.check_open()?;
        let view = self.view.load_full();
        let visible = self.visible.load(Ordering::Acquire);
        let mut count = view.version.count as i64;
        for (index, part) in view.parts.iter().enumerate().rev() {
            let older = view.parts.get(index + 1..).unwrap_or_default();
            let older = View { parts: older.to_vec(), version: Arc::clone(&view.version) };
            count += delta(part, &older, visible, self.env.hash_seed)?;
        }
        Ok(count.max(0) as u64)
    }
}
