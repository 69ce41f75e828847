//! LIN: what several clients saw at the same time is what one client after another could have seen.
//!
//! Clients work on a few keys and note when each call began and ended. The checker (Wing and Gong's
//! search, with the states it has been in before left out) looks for an order that respects these
//! times and explains every answer; the state is the whole database, so batches, snapshots, scans,
//! counts and pops are parts of it like single keys.
//!
//! `TOYKV_HISTORIES=100000` checks more than the usual 1000 histories.

use std::collections::HashSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use toykv::sim::SimDisk;
use toykv::{Db, Durability, Options, ScanOptions, WriteBatch, WriteOptions};

use crate::support::{Random, number_from_env, value_of};

const KEYS: usize = 4;
const CLIENTS: u64 = 4;
/// Calls of a client in one history; all of them fit into the bits of a word.
const CALLS: u64 = 14;

/// The number in the value of each key; 0 for none.
type State = [u32; KEYS];

#[derive(Clone, Debug, PartialEq)]
enum Call {
    /// The keys that it changes and their numbers, 0 for a delete.
    Write(Vec<(usize, u32)>),
    Get(usize, u32),
    /// A scan, a list of gets or a snapshot: everything at once.
    All(State),
    Len(usize),
    PopFirst(Option<(usize, u32)>),
    PopLast(Option<(usize, u32)>),
}

impl Call {
    /// The state after the call, when it may answer what it did in `state`.
    fn after(&self, mut state: State) -> Option<State> {
        let is_there = |key: &usize| state[*key] != 0;
        let popped = |key: Option<usize>| key.map(|key| (key, state[key]));
        let fits = match self {
            Call::Write(_) => true,
            Call::Get(key, number) => state[*key] == *number,
            Call::All(numbers) => state == *numbers,
            Call::Len(len) => (0..KEYS).filter(is_there).count() == *len,
            Call::PopFirst(entry) => popped((0..KEYS).find(is_there)) == *entry,
            Call::PopLast(entry) => popped((0..KEYS).rev().find(is_there)) == *entry,
        };
        match self {
            Call::Write(changes) => changes.iter().for_each(|(key, number)| state[*key] = *number),
            Call::PopFirst(Some((key, _))) | Call::PopLast(Some((key, _))) => state[*key] = 0,
            _ => {}
        }
        fits.then_some(state)
    }
}

/// A call with the times of its begin and its end.
#[derive(Clone, Debug)]
struct Event {
    begin: u64,
    end: u64,
    call: Call,
}

/// Whether the events can have happened one after another from `state` on.
fn is_linearizable(state: State, events: &[Event]) -> bool {
    assert!(events.len() < 64);
    search(state, 0, events, &mut HashSet::new())
}

/// Goes on after the events in `done`.
fn search(state: State, done: u64, events: &[Event], seen: &mut HashSet<(u64, State)>) -> bool {
    if !seen.insert((done, state)) {
        return false;
    }
    let left = || (0..events.len()).filter(|index| done & (1 << index) == 0);
    let Some(first_end) = left().map(|index| events[index].end).min() else { return true };
    left().filter(|index| events[*index].begin < first_end).any(|index| {
        let next = events[index].call.after(state);
        next.is_some_and(|next| search(next, done | (1 << index), events, seen))
    })
}

fn key(index: usize) -> [u8; 1] {
    [b'a' + index as u8]
}

fn index(key: &[u8]) -> usize {
    usize::from(key[0] - b'a')
}

/// Some values are large.
fn value(number: u32) -> Vec<u8> {
    let len = if number.is_multiple_of(5) { 700 } else { number % 40 };
    [&number.to_le_bytes()[..], &value_of(number.into(), len as usize)].concat()
}

fn number(found: &[u8]) -> u32 {
    let number = u32::from_le_bytes(found[..4].try_into().unwrap());
    assert!(found == value(number), "BYTES");
    number
}

/// What one client does, each call with its answer.
struct Client<'a> {
    db: &'a Db,
    clock: &'a AtomicU64,
    /// Of the next value.
    numbers: &'a AtomicU64,
    random: Random,
    events: Vec<Event>,
}

impl Client<'_> {
    fn timed(&mut self, call: impl FnOnce(&Db) -> toykv::Result<Call>) {
        let begin = self.clock.fetch_add(1, Ordering::SeqCst);
        let call = call(self.db).unwrap();
        let end = self.clock.fetch_add(1, Ordering::SeqCst);
        self.events.push(Event { begin, end, call });
    }

    fn change(&mut self) -> (usize, u32) {
        let key = self.random.below(KEYS as u64) as usize;
        let delete = self.random.below(4) == 0;
        let number = self.numbers.fetch_add(1, Ordering::SeqCst) as u32;
        (key, if delete { 0 } else { number })
    }

    fn write(&mut self, count: usize) {
        let changes: Vec<_> = (0..count).map(|_| self.change()).collect();
        let durability = match self.random.below(8) {
            0 => Durability::Sync,
            _ => Durability::Process,
        };
        self.timed(|db| {
            let mut batch = WriteBatch::new();
            for (index, number) in &changes {
                match number {
                    0 => batch.delete(&key(*index))?,
                    number => batch.put(&key(*index), &value(*number))?,
                }
            }
            db.write_with(&batch, &WriteOptions::new().durability(durability))?;
            Ok(Call::Write(changes))
        });
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..6 => self.write(1),
            6..9 => self.write(3),
            9..13 => {
                let index = self.random.below(KEYS as u64) as usize;
                self.timed(|db| {
                    let found = db.get(&key(index))?;
                    Ok(Call::Get(index, found.map_or(0, |value| number(&value))))
                });
            }
            13 => self.timed(|db| {
                let found = db.multi_get(&(0..KEYS).map(key).collect::<Vec<_>>())?;
                let numbers = found.iter().map(|value| value.as_ref().map_or(0, |v| number(v)));
                Ok(Call::All(numbers.collect::<Vec<_>>().try_into().unwrap()))
            }),
            14 => self.scan(),
            15 => self.snapshot(),
            16 => self.timed(|db| Ok(Call::Len(db.len()? as usize))),
            17 => self.timed(|db| {
                let entry = db.pop_first()?;
                Ok(Call::PopFirst(entry.map(|(key, value)| (index(&key), number(&value)))))
            }),
            18 => self.timed(|db| {
                let entry = db.pop_last()?;
                Ok(Call::PopLast(entry.map(|(key, value)| (index(&key), number(&value)))))
            }),
            _ => std::thread::yield_now(),
        }
    }

    fn scan(&mut self) {
        let reverse = self.random.below(2) == 0;
        self.timed(|db| {
            let mut state = State::default();
            for entry in db.scan(&ScanOptions::new().reverse(reverse))? {
                let (key, value) = entry?;
                state[index(&key)] = number(&value);
            }
            Ok(Call::All(state))
        });
    }

    /// A snapshot shows what was there when it was made, however late it is read.
    fn snapshot(&mut self) {
        let begin = self.clock.fetch_add(1, Ordering::SeqCst);
        let snapshot = self.db.snapshot().unwrap();
        let end = self.clock.fetch_add(1, Ordering::SeqCst);
        self.write(1);
        let found = |index| snapshot.get(&key(index)).unwrap().map_or(0, |value| number(&value));
        let call = Call::All(std::array::from_fn(found));
        self.events.push(Event { begin, end, call });
    }
}

/// Rotates, flushes, merges and collects until the clients are done, without a live key of its own.
fn disturb(db: &Db, done: &AtomicBool, seed: u64) {
    let mut random = Random::new(seed);
    while !done.load(Ordering::SeqCst) {
        match random.below(4) {
            0 => db.flush().unwrap(),
            1 => db.compact(Bound::Unbounded, Bound::Unbounded).unwrap(),
            2 => db.gc().unwrap(),
            _ => {
                let mut batch = WriteBatch::new();
                (0..400u64)
                    .for_each(|i| batch.delete(&[b"zz", &i.to_be_bytes()[..]].concat()).unwrap());
                db.write(&batch).unwrap();
            }
        }
    }
}

/// All that the clients of one history did, by the numbers of the database.
fn record(db: &Db, numbers: &AtomicU64, seed: u64) -> Vec<Event> {
    let (clock, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (clock, done) = (&clock, &done);
        let clients = (0..CLIENTS).map(|client| {
            scope.spawn(move || {
                let random = Random::new(seed.wrapping_mul(CLIENTS) + client);
                let mut client = Client { db, clock, numbers, random, events: Vec::new() };
                while (client.events.len() as u64) < CALLS {
                    client.step();
                }
                client.events
            })
        });
        let clients: Vec<_> = clients.collect();
        let disturbing = scope.spawn(move || disturb(db, done, seed));
        let events = clients.into_iter().map(|client| client.join());
        let events: Vec<_> = events.collect();
        done.store(true, Ordering::SeqCst);
        disturbing.join().unwrap();
        events.into_iter().flat_map(Result::unwrap).collect()
    })
}

#[test]
fn what_clients_saw_at_once_could_have_been_one_after_another() {
    const HISTORIES: u64 = 50;
    let options = Options::new()
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(1 << 20)
        .value_threshold_bytes(600);
    let rounds = number_from_env("TOYKV_HISTORIES", 1000).div_ceil(HISTORIES);
    for round in 0..rounds {
        let db = SimDisk::new().open_db("/db", &options).unwrap();
        let numbers = AtomicU64::new(1);
        let mut state = State::default();
        for history in 0..HISTORIES {
            let mut events = record(&db, &numbers, round * HISTORIES + history);
            let mut found = State::default();
            for (index, found) in found.iter_mut().enumerate() {
                *found = db.get(&key(index)).unwrap().map_or(0, |value| number(&value));
            }
            // Where the clients have left it; the next history begins there.
            events.push(Event { begin: u64::MAX - 1, end: u64::MAX, call: Call::All(found) });
            assert!(is_linearizable(state, &events), "from {state:?}: {events:#?}");
            state = found;
        }
    }
    println!("{} histories, all linearizable", rounds * HISTORIES);
}

#[test]
fn wrong_histories_are_told_from_right_ones() {
    use Call::*;
    type Timed = (u64, u64, Call);
    let event = |(begin, end, call): &Timed| Event { begin: *begin, end: *end, call: call.clone() };
    let fits = |calls: &[Timed]| {
        is_linearizable(State::default(), &calls.iter().map(event).collect::<Vec<_>>())
    };
    let put = |key, number| Write(vec![(key, number)]);
    // Each right history and what would make it wrong: a call in another's place.
    let cases: &[(&[Timed], usize, Call)] = &[
        // A read after a write sees it, one beside it may.
        (&[(0, 1, put(0, 1)), (2, 3, Get(0, 1))], 1, Get(0, 0)),
        (&[(0, 4, put(0, 1)), (1, 2, Get(0, 0)), (3, 5, Get(0, 1))], 1, Get(0, 2)),
        // Once seen, it stays.
        (&[(0, 9, put(0, 1)), (1, 2, Get(0, 1)), (3, 4, Get(0, 1))], 2, Get(0, 0)),
        // The newer of two writes.
        (&[(0, 1, put(0, 1)), (2, 3, put(0, 2)), (4, 5, Get(0, 2))], 2, Get(0, 1)),
        (&[(0, 5, put(0, 1)), (1, 4, put(0, 2)), (6, 7, Get(0, 1))], 2, Get(0, 0)),
        // A batch as a whole.
        (&[(0, 9, Write(vec![(0, 1), (1, 2)])), (1, 2, All([1, 2, 0, 0]))], 1, All([1, 0, 0, 0])),
        (
            &[(0, 9, Write(vec![(0, 1), (1, 2)])), (1, 2, Get(0, 1)), (3, 4, Get(1, 2))],
            2,
            Get(1, 0),
        ),
        // Two readers agree on the order of two writes.
        (
            &[
                (0, 9, put(0, 1)),
                (0, 9, put(1, 2)),
                (1, 2, All([1, 0, 0, 0])),
                (3, 4, All([1, 2, 0, 0])),
            ],
            3,
            All([0, 2, 0, 0]),
        ),
        // Nothing is popped twice, or past something smaller.
        (
            &[(0, 1, put(2, 1)), (2, 9, PopFirst(Some((2, 1)))), (3, 8, PopLast(None))],
            2,
            PopLast(Some((2, 1))),
        ),
        (
            &[(0, 1, Write(vec![(0, 1), (3, 2)])), (2, 3, PopFirst(Some((0, 1))))],
            1,
            PopFirst(Some((3, 2))),
        ),
        // The count is that of one moment.
        (&[(0, 1, Write(vec![(0, 1), (3, 2)])), (2, 5, put(0, 0)), (3, 4, Len(1))], 2, Len(0)),
    ];
    for (number, (right, place, wrong)) in cases.iter().enumerate() {
        assert!(fits(right), "history {number}");
        let mut calls = right.to_vec();
        calls[*place].2 = wrong.clone();
        assert!(!fits(&calls), "history {number}, made wrong");
    }
}
