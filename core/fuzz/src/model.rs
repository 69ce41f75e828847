//! Operations on a database, read from bytes, beside the same on a map.

use std::collections::BTreeMap;
use std::ops::Bound;

use toykv::sim::SimDisk;
use toykv::{Compression, Db, Options, ScanOptions, Snapshot, WriteBatch};

use super::{PATH, options};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Reads operations off bytes; nothing is left when they are.
struct Tape<'a> {
    rest: std::slice::Iter<'a, u8>,
}

impl Tape<'_> {
    fn byte(&mut self) -> Option<u8> {
        self.rest.next().copied()
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        let tag = self.byte()?;
        // Few keys, some of them prefixes of others, some long.
        let len = [0, 1, 4, 4, 4, 40, 130, 300][usize::from(tag >> 5)];
        Some([&[b'k', tag & 31][..], &vec![b'x'; len]].concat())
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let (shape, fill) = (self.byte()?, self.byte()?);
        let len = [0, 1, 30, 200, 1023, 1024, 5000, 70_000][usize::from(shape & 7)];
        let noise = shape & 8 != 0;
        let byte = |i: usize| if noise { ((i * i) >> 3) as u8 ^ fill } else { fill };
        Some((0..len).map(byte).collect())
    }
}

struct Machine {
    disk: SimDisk,
    db: Option<Db>,
    map: Map,
    snapshot: Option<(Snapshot, Map)>,
}

/// Runs what the bytes say; panics when an answer differs.
pub fn run(bytes: &[u8]) {
    let mut tape = Tape { rest: bytes.iter() };
    let disk = SimDisk::new();
    let mut machine = Machine { disk, db: None, map: Map::new(), snapshot: None };
    machine.open(tape.byte().unwrap_or(0));
    for _ in 0..400 {
        if machine.step(&mut tape).is_none() {
            break;
        }
    }
    machine.compare();
}

fn varied(how: u8) -> Options {
    let compression = match how & 3 {
        0 | 3 => Compression::None,
        1 => Compression::Lz4,
        _ => Compression::Zstd,
    };
    options().compression(compression).value_threshold_bytes(if how & 4 == 0 { 1024 } else { 64 })
}

impl Machine {
    fn open(&mut self, how: u8) {
        self.db = Some(self.disk.open_db(PATH, &varied(how)).unwrap());
    }

    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    fn step(&mut self, tape: &mut Tape<'_>) -> Option<()> {
        match tape.byte()? % 16 {
            0..=4 => {
                let (key, value) = (tape.key()?, tape.value()?);
                self.db().put(&key, &value).unwrap();
                self.map.insert(key, value);
            }
            5 | 6 => {
                let key = tape.key()?;
                self.db().delete(&key).unwrap();
                self.map.remove(&key);
            }
            7 => self.batch(tape)?,
            8 => {
                let key = tape.key()?;
                let found = self.db().get(&key).unwrap();
                assert_eq!(found.as_deref(), self.map.get(&key).map(|value| &value[..]));
            }
            9 => self.scan(tape)?,
            10 => self.db().flush().unwrap(),
            11 => match tape.byte()? % 2 {
                0 => self.db().compact(Bound::Unbounded, Bound::Unbounded),
                _ => self.db().gc(),
            }
            .unwrap(),
            12 => self.reopen(tape.byte()?),
            13 => self.snapshot = Some((self.db().snapshot().unwrap(), self.map.clone())),
            14 => self.compare_snapshot(),
            _ => self.pop(tape.byte()?),
        }
        Some(())
    }

    fn batch(&mut self, tape: &mut Tape<'_>) -> Option<()> {
        let mut batch = WriteBatch::new();
        for _ in 0..tape.byte()? % 9 {
            // The batch is written as far as the bytes go.
            let (Some(key), Some(how)) = (tape.key(), tape.byte()) else { break };
            let value = if how & 3 == 0 { None } else { tape.value() };
            match value {
                None => {
                    batch.delete(&key).unwrap();
                    self.map.remove(&key);
                }
                Some(value) => {
                    batch.put(&key, &value).unwrap();
                    self.map.insert(key, value);
                }
            }
        }
        self.db().write(&batch).unwrap();
        Some(())
    }

    fn scan(&mut self, tape: &mut Tape<'_>) -> Option<()> {
        let (a, b, reverse) = (tape.key()?, tape.key()?, tape.byte()? & 1 == 1);
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let options = ScanOptions::new()
            .lower(Bound::Included(&low))
            .upper(Bound::Excluded(&high))
            .reverse(reverse);
        let found: Vec<_> = self
            .db()
            .scan(&options)
            .unwrap()
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
            .collect();
        let mut expected: Vec<_> =
            self.map.range(low..high).map(|(key, value)| (key.clone(), value.clone())).collect();
        if reverse {
            expected.reverse();
        }
        assert!(found == expected);
        Some(())
    }

    fn pop(&mut self, how: u8) {
        let found = if how & 1 == 0 { self.db().pop_first() } else { self.db().pop_last() };
        let expected = if how & 1 == 0 { self.map.pop_first() } else { self.map.pop_last() };
        let found = found.unwrap().map(|(key, value)| (key, value.to_vec()));
        assert!(found == expected);
    }

    /// Closes, or dies, and opens again.
    fn reopen(&mut self, how: u8) {
        self.snapshot = None;
        if how & 8 == 0 {
            self.db().close().unwrap();
            self.db = None;
        } else {
            // What a process leaves that dies now: everything that was acknowledged.
            let disk = self.disk.process_image();
            self.db = None;
            self.disk = disk;
        }
        self.open(how);
    }

    fn compare_snapshot(&mut self) {
        let Some((snapshot, map)) = &self.snapshot else { return };
        let found: Map = snapshot
            .scan(&ScanOptions::new())
            .unwrap()
            .map(|entry| entry.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap())
            .collect();
        assert!(found == *map);
    }

    fn compare(&mut self) {
        self.compare_snapshot();
        self.snapshot = None;
        let all = self.db().scan(&ScanOptions::new()).unwrap();
        let found: Map =
            all.map(|entry| entry.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
        assert!(found == self.map);
        assert_eq!(self.db().len().unwrap(), self.map.len() as u64);
        self.db().audit().unwrap();
        self.db().close().unwrap();
    }
}
