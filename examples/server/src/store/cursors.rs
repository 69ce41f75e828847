//! Positions of SCAN. Redis' cursors are numbers, a position here is a key: the server keeps the
//! newest positions by number, up to a fixed memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// Bytes that all positions may take, each counted with [`OVERHEAD`].
const MAX_BYTES: usize = 16 << 20;

/// Memory of a position beside its key.
const OVERHEAD: usize = 96;

/// The last keys that scans have answered, by cursor.
pub(crate) struct Cursors {
    inner: Mutex<Inner>,
}

struct Inner {
    positions: HashMap<u64, Box<[u8]>>,
    order: VecDeque<u64>,
    next: u64,
    bytes: usize,
}

impl Cursors {
    /// None. Numbers begin at 1: 0 means the start and the end.
    pub(crate) fn new() -> Cursors {
        let inner = Inner { positions: HashMap::new(), order: VecDeque::new(), next: 1, bytes: 0 };
        Cursors { inner: Mutex::new(inner) }
    }

    /// Keeps a position, forgetting the oldest where memory asks for it.
    pub(crate) fn keep(&self, last_key: &[u8]) -> u64 {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let number = inner.next;
        inner.next += 1;
        inner.bytes += last_key.len() + OVERHEAD;
        inner.positions.insert(number, last_key.into());
        inner.order.push_back(number);
        while inner.bytes > MAX_BYTES {
            let Some(oldest) = inner.order.pop_front() else { break };
            if let Some(key) = inner.positions.remove(&oldest) {
                inner.bytes -= key.len() + OVERHEAD;
            }
        }
        number
    }

    /// The key behind which a scan goes on; `None` when the number was never given or is forgotten.
    pub(crate) fn find(&self, number: u64) -> Option<Vec<u8>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.positions.get(&number).map(|key| key.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_first() {
        let cursors = Cursors::new();
        let key = vec![7; 60_000];
        let first = cursors.keep(&key);
        assert_eq!(cursors.find(first), Some(key.clone()));
        let last = (0..400).map(|_| cursors.keep(&key)).last().unwrap();
        assert_eq!(cursors.find(first), None);
        assert_eq!(cursors.find(last), Some(key));
        let inner = cursors.inner.lock().unwrap();
        assert!(inner.bytes <= MAX_BYTES && inner.positions.len() == inner.order.len());
    }
}
