//! Positions of SCAN. Redis' cursors are numbers, a position here is a key: the server keeps the
//! newest positions by number, up to a fixed memory.
//!
//! Invariant FAIR: who keeps the most loses the oldest of its own, so that no client can make the
//! server forget another's. Positions outlive their clients: a pool may go on elsewhere.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that all positions may take, each counted with [`OVERHEAD`].
const MAX_BYTES: usize = 16 << 20;

/// Memory of a position beside its key.
const OVERHEAD: usize = 256;

/// The last keys that scans have answered, by cursor.
pub(crate) struct Cursors {
    inner: Mutex<Inner>,
}

struct Inner {
    positions: HashMap<u64, Box<[u8]>>,
    owners: HashMap<u64, Owner>,
    /// Bytes and number of each owner; of those with the same bytes the newest is the largest.
    by_bytes: BTreeSet<(usize, u64)>,
    next: u64,
    bytes: usize,
}

/// What one client keeps.
#[derive(Default)]
struct Owner {
    order: VecDeque<u64>,
    bytes: usize,
}

impl Cursors {
    /// None. Numbers begin at 1: 0 means the start and the end.
    pub(crate) fn new() -> Cursors {
        Cursors {
            inner: Mutex::new(Inner {
                positions: HashMap::new(),
                owners: HashMap::new(),
                by_bytes: BTreeSet::new(),
                next: 1,
                bytes: 0,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a position of a client.
    pub(crate) fn keep(&self, client: u64, last_key: &[u8]) -> u64 {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        inner.positions.insert(number, last_key.into());
        inner.owners.entry(client).or_default().order.push_back(number);
        inner.resize(client, 0, last_key.len() + OVERHEAD);
        while inner.bytes > MAX_BYTES {
            let Some(&(_, largest)) = inner.by_bytes.last() else { break };
            inner.forget_oldest(largest);
        }
        number
    }

    /// The key behind which a scan goes on; `None` when the number was never given or is forgotten.
    pub(crate) fn find(&self, number: u64) -> Option<Vec<u8>> {
        self.lock().positions.get(&number).map(|key| key.to_vec())
    }
}

impl Inner {
    fn forget_oldest(&mut self, client: u64) {
        let oldest = self.owners.get_mut(&client).and_then(|owner| owner.order.pop_front());
        if let Some(key) = oldest.and_then(|oldest| self.positions.remove(&oldest)) {
            self.resize(client, key.len() + OVERHEAD, 0);
        }
    }

    /// Counts what a client gives back and takes.
    fn resize(&mut self, client: u64, less: usize, more: usize) {
        let Some(owner) = self.owners.get_mut(&client) else { return };
        self.by_bytes.remove(&(owner.bytes, client));
        owner.bytes = owner.bytes + more - less;
        self.bytes = self.bytes + more - less;
        if owner.order.is_empty() {
            self.owners.remove(&client);
        } else {
            self.by_bytes.insert((owner.bytes, client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cursors: &Cursors) {
        let inner = cursors.lock();
        let kept: usize = inner.owners.values().map(|owner| owner.order.len()).sum();
        let bytes: usize = inner.positions.values().map(|key| key.len() + OVERHEAD).sum();
        assert_eq!((kept, bytes), (inner.positions.len(), inner.bytes));
        assert!(bytes <= MAX_BYTES);
        assert_eq!(inner.by_bytes.len(), inner.owners.len());
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let cursors = Cursors::new();
        let key = vec![7; 60_000];
        let first = cursors.keep(1, &key);
        assert_eq!(cursors.find(first), Some(key.clone()));
        let last = (0..400).map(|_| cursors.keep(1, &key)).last().unwrap();
        assert_eq!(cursors.find(first), None);
        assert_eq!(cursors.find(last), Some(key));
        check(&cursors);
    }

    #[test]
    fn nobody_makes_the_server_forget_the_position_of_another() {
        let cursors = Cursors::new();
        let own = cursors.keep(1, b"a");
        let key = vec![7; 60_000];
        for _ in 0..1000 {
            cursors.keep(2, &key);
        }
        assert_eq!(cursors.find(own).as_deref(), Some(&b"a"[..]));
        // Not by coming again and again either.
        for client in 3..1000 {
            cursors.keep(client, &key);
        }
        assert_eq!(cursors.find(own).as_deref(), Some(&b"a"[..]));
        check(&cursors);
    }
}
