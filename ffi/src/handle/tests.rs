//! Tests of handles: what is refused, and that objects are dropped once, never under a user.

use super::*;
use std::sync::Arc;

type Counter = Arc<AtomicU32>;

/// Counts its drops and notices use afterwards.
struct Object {
    alive: AtomicBool,
    drops: Counter,
}

impl Object {
    fn new(drops: &Counter) -> Object {
        Object { alive: AtomicBool::new(true), drops: drops.clone() }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        assert!(self.alive.swap(false, Ordering::Relaxed), "dropped twice");
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

fn misuse<T>(result: Result<T>) -> String {
    let error = result.err().expect("the handle was accepted");
    assert_eq!(error.kind(), ErrorKind::Misuse);
    error.message().to_string()
}

#[test]
fn a_handle_finds_its_object_and_no_other_number_does() {
    let table = Shared::new(Kind::Db);
    let handle = table.insert(41).unwrap();
    assert_eq!(*table.get(handle).unwrap(), 41);
    assert_eq!(misuse(table.get(0)), "NULL in place of a toykv");
    assert_eq!(misuse(table.get(handle & !1)), "a pointer that is no handle in place of a toykv");
    for bit in 1..64 {
        misuse(table.get(handle ^ 1 << bit));
    }
    let batches = Exclusive::<u8>::new(Kind::Batch);
    assert_eq!(misuse(batches.get(handle)), "a toykv in place of a toykv_batch");
}

#[test]
fn a_freed_handle_stays_refused_when_its_slot_is_used_again() {
    let drops = Counter::default();
    let table = Exclusive::new(Kind::Iter);
    let mut old = Vec::new();
    for _ in 0..100 {
        let handle = table.insert(Object::new(&drops)).unwrap();
        assert!(table.get(handle).is_ok());
        table.remove(handle).unwrap();
        assert!(misuse(table.remove(handle)).contains("was freed or never existed"));
        old.push(handle);
        old.iter().for_each(|old| drop(misuse(table.get(*old))));
    }
    assert_eq!(drops.load(Ordering::Relaxed), 100);
    let slots: std::collections::HashSet<_> = old.iter().map(|old| old >> 4 & 0xFF_FFFF).collect();
    assert_eq!(slots.len(), 1, "the slot is used again");
    assert_eq!(old.into_iter().collect::<std::collections::HashSet<_>>().len(), 100);
}

#[test]
fn a_second_user_of_an_exclusive_object_is_told_so() {
    let drops = Counter::default();
    let table = Exclusive::new(Kind::Batch);
    let handle = table.insert(Object::new(&drops)).unwrap();
    let user = table.get(handle).unwrap();
    assert!(misuse(table.get(handle)).contains("another thread"));
    table.remove(handle).unwrap();
    assert!(user.alive.load(Ordering::Relaxed), "dropped under its user");
    misuse(table.remove(handle));
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(user);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
    misuse(table.get(handle));
}

#[test]
fn a_shared_object_outlives_its_handle_until_the_last_user_leaves() {
    let drops = Counter::default();
    let table = Shared::new(Kind::Snapshot);
    let handle = table.insert(Object::new(&drops)).unwrap();
    let (first, second) = (table.get(handle).unwrap(), table.get(handle).unwrap());
    table.remove(handle).unwrap();
    misuse(table.get(handle));
    drop(first);
    assert!(second.alive.load(Ordering::Relaxed));
    assert_eq!(drops.load(Ordering::Relaxed), 0);
    drop(second);
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

#[test]
fn a_place_that_was_reserved_and_not_filled_is_given_back() {
    let table = Exclusive::<u64>::new(Kind::Buf);
    let index = table.reserve().unwrap().index;
    let (handle, address) = table.reserve().unwrap().fill(7, std::ptr::from_ref);
    assert_eq!((handle >> SLOT_SHIFT) as u32 & (MAX_SLOTS - 1), index);
    assert_eq!(std::ptr::from_ref(&*table.get(handle).unwrap()), address);
}

#[test]
fn the_last_generation_of_a_slot_retires_it() {
    let table = Exclusive::new(Kind::Buf);
    let handle = table.insert(1u8).unwrap();
    let last = first_generation().wrapping_sub(1) & GENERATION_MASK;
    let slot = table.slots.get(0).unwrap();
    slot.head.state.store(last << STATE_SHIFT | LIVE, Ordering::Relaxed);
    misuse(table.get(handle));
    let low = handle & ((1 << GENERATION_SHIFT) - 1);
    table.remove((last as usize) << GENERATION_SHIFT | low).unwrap();
    let next = table.insert(2u8).unwrap();
    assert_eq!((next >> SLOT_SHIFT) as u32 & (MAX_SLOTS - 1), 1, "slot 0 has no generation left");
}

/// Threads that use, remove and make handles all at once: whatever one finds is alive.
#[test]
fn no_thread_finds_a_dropped_object() {
    let drops = Counter::default();
    let table = Shared::new(Kind::Db);
    let current = AtomicU64::new(table.insert(Object::new(&drops)).unwrap() as u64);
    let made = AtomicU32::new(1);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (table, current, made, drops) = (&table, &current, &made, &drops);
            scope.spawn(move || {
                for round in 0..20_000 {
                    let handle = current.load(Ordering::Relaxed) as usize;
                    if let Ok(object) = table.get(handle) {
                        assert!(object.alive.load(Ordering::Relaxed));
                    }
                    if round % 7 == thread && table.remove(handle).is_ok() {
                        let new = table.insert(Object::new(drops)).unwrap();
                        made.fetch_add(1, Ordering::Relaxed);
                        current.store(new as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(drops.load(Ordering::Relaxed) + 1, made.load(Ordering::Relaxed));
    table.remove(current.into_inner() as usize).unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), made.load(Ordering::Relaxed));
}

/// The same for exclusive objects, where a value that two threads change at once would show.
#[test]
fn no_two_threads_are_in_an_exclusive_object() {
    let drops = Counter::default();
    let table = Exclusive::new(Kind::Iter);
    let current = AtomicU64::new(table.insert((0u64, 0u64, Object::new(&drops))).unwrap() as u64);
    let made = AtomicU32::new(1);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (table, current, made, drops) = (&table, &current, &made, &drops);
            scope.spawn(move || {
                for round in 0..20_000 {
                    let handle = current.load(Ordering::Relaxed) as usize;
                    if let Ok(mut object) = table.get(handle) {
                        assert!(object.2.alive.load(Ordering::Relaxed));
                        assert_eq!(object.0, object.1);
                        object.0 += 1;
                        object.1 += 1;
                    }
                    if round % 7 == thread && table.remove(handle).is_ok() {
                        let new = table.insert((0, 0, Object::new(drops))).unwrap();
                        made.fetch_add(1, Ordering::Relaxed);
                        current.store(new as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    table.remove(current.into_inner() as usize).unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), made.load(Ordering::Relaxed));
}
