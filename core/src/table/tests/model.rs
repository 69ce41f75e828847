//! Tables of random entries against an ordered map.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// How tables are built, and how they are read.
fn making() -> impl Strategy<Value = (Codec, u64, usize)> {
    let codec = prop::sample::select(&[PLAIN, LZ4, ZSTD]);
    (codec, prop::sample::select(&[0, 20_000, 1 << 20]), 0usize..3)
}

fn build_as((codec, cache, reading): (Codec, u64, usize), items: Vec<Item>) -> Built {
    let access = match reading {
        0 => FileAccess::new(cache, false),
        1 => FileAccess::new(cache, true),
        _ => paged(cache),
    };
    Built { access, ..build_with(items, codec) }
}

/// Keys that share prefixes, repeat, and are prefixes of each other.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(0u8..3, 0..6),
        3 => (0u16..500).prop_map(|n| format!("user{n:05}").into_bytes()),
        2 => (0u8..4, 0usize..30).prop_map(|(b, n)| [vec![7; n + 50], vec![b]].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

fn values() -> impl Strategy<Value = (Kind, Vec<u8>)> {
    prop_oneof![
        6 => prop::collection::vec(any::<u8>(), 0..40).prop_map(|v| (Kind::Put, v)),
        2 => Just((Kind::Delete, vec![])),
        2 => prop::collection::vec(any::<u8>(), 16).prop_map(|v| (Kind::Pointer, v)),
        2 => (any::<u8>(), 1000usize..3000).prop_map(|(b, n)| (Kind::Put, vec![b; n])),
        1 => (any::<u8>(), 8100usize..20_000).prop_map(|(b, n)| (Kind::Put, vec![b; n])),
    ]
}

fn entries() -> impl Strategy<Value = Vec<Item>> {
    let seqno = prop_oneof![4 => BASE..BASE + 40, 1 => BASE..BASE + (1 << 50)];
    prop::collection::vec((keys(), seqno, values()), 0..300).prop_map(|entries| {
        let map: BTreeMap<_, _> =
            entries.into_iter().map(|(key, s, value)| ((key, Reverse(s)), value)).collect();
        map.into_iter()
            .map(|((key, Reverse(seqno)), (kind, value))| Item { key, seqno, kind, value })
            .collect()
    })
}

/// A step of a cursor.
#[derive(Clone, Debug)]
enum Step {
    First,
    Last,
    Next,
    Prev,
    Seek(Vec<u8>),
    SeekBefore(Vec<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            1 => Just(Step::First),
            1 => Just(Step::Last),
            8 => Just(Step::Next),
            8 => Just(Step::Prev),
            3 => keys().prop_map(Step::Seek),
            3 => keys().prop_map(Step::SeekBefore),
        ],
        1..200,
    )
}

/// Moves the model's cursor; `None` is "not valid".
fn step(items: &[Item], at: Option<usize>, step: &Step) -> Option<usize> {
    let first = |key: &[u8]| items.partition_point(|item| *item.key < *key);
    let moved = match step {
        Step::First => Some(0),
        Step::Last => items.len().checked_sub(1),
        Step::Next => at.map(|at| at + 1),
        Step::Prev => at.and_then(|at| at.checked_sub(1)),
        Step::Seek(key) => Some(first(key)),
        Step::SeekBefore(key) => first(key).checked_sub(1).map(|last| first(&items[last].key)),
    };
    moved.filter(|at| *at < items.len())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn gets_see_what_the_map_has_at_every_seqno(
        items in entries(),
        absent in keys(),
        making in making(),
    ) {
        let built = build_as(making, items);
        let table = built.open().unwrap();
        let keys = built.items.iter().map(|item| &item.key).chain([&absent]);
        for key in keys {
            let seqnos = (BASE - 1..BASE + 41).chain(built.items.iter().map(|item| item.seqno));
            for seqno in seqnos.chain([0, SeqNo::MAX]).step_by(1 + built.items.len() / 50) {
                let expected = built.expected(key, seqno).map(as_entry);
                prop_assert_eq!(get(&table, key, seqno).unwrap(), expected);
            }
        }
        prop_assert_eq!(built.summary.entries, built.items.len() as u64);
        prop_assert_eq!(built.summary.size_bytes, built.bytes().len() as u64);
    }

    #[test]
    fn cursors_move_as_the_map_does(
        items in entries(),
        steps in steps(),
        buffered: bool,
        making in making(),
    ) {
        let built = build_as(making, items);
        let mut iter = built.iter(if buffered { IterMode::Buffered } else { IterMode::Mapped });
        let mut at = None;
        for next in &steps {
            match next {
                Step::First => iter.seek_to_first(),
                Step::Last => iter.seek_to_last(),
                Step::Next => iter.next(),
                Step::Prev => iter.prev(),
                Step::Seek(key) => iter.seek(key),
                Step::SeekBefore(key) => iter.seek_before(key),
            }
            .unwrap();
            at = step(&built.items, at, next);
            let expected = at.map(|at| built.items[at].clone());
            prop_assert_eq!(current(&iter), expected, "{:?}", next);
        }
    }
}
