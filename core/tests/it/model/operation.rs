//! What is done to a database, and how it is drawn.

use std::ops::Bound;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::value_of;

/// A key, short to print.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// One of a few, so that keys meet again.
    Shape(u8),
    /// Any.
    Bytes(Vec<u8>),
}

/// How many keys [`Key::Shape`] has.
const SHAPES: u8 = 64;

impl Key {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let shape = match self {
            Key::Bytes(bytes) => return bytes.clone(),
            Key::Shape(shape) => *shape,
        };
        match shape {
            0 => Vec::new(),
            1 => vec![0],
            2 => vec![0, 0],
            3 => vec![0xff],
            4 => vec![0xff; 9],
            5 => vec![b'L'; 65_535],
            6 => vec![b'L'; 65_534],
            7 => b"a".to_vec(),
            8 => b"a\0".to_vec(),
            9 => b"a\xff".to_vec(),
            10 => b"a\xff\xff".to_vec(),
            11 => b"12345678".to_vec(),
            12 => b"123456789".to_vec(),
            13 => b"1234567\xff".to_vec(),
            14 => b"1234567".to_vec(),
            15 => vec![0; 20],
            16..24 => [&[b'L'; 300][..], &[shape]].concat(),
            24..32 => vec![0xff; usize::from(shape)],
            _ => format!("shared/prefix/{:02}", usize::from(shape) * 7 % 32).into_bytes(),
        }
    }
}

/// A value: what it is made of, and its length.
#[derive(Clone, Debug)]
pub(super) struct Data(u64, u16);

impl Data {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = value_of(self.0, usize::from(self.1));
        if self.0.is_multiple_of(2) {
            // Something that compression makes shorter.
            let period = 8 + self.0 as usize % 90;
            (period..bytes.len()).for_each(|at| bytes[at] = bytes[at - period]);
        }
        bytes
    }
}

/// A put or, without data, a delete.
pub(super) type Write = (Key, Option<Data>);

#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) lower: Bound<Key>,
    pub(super) upper: Bound<Key>,
    pub(super) prefix: Option<Key>,
    pub(super) reverse: bool,
    pub(super) keys_only: bool,
    pub(super) limit: Option<u64>,
}

#[derive(Clone, Debug)]
pub(super) enum Move {
    Next,
    Prev,
    Seek(Key),
    Start,
    End,
}

#[derive(Clone, Debug)]
pub(super) enum Operation {
    Write(Write),
    Batch(Vec<Write>),
    /// A batch that is larger than a memtable.
    LargeBatch(Vec<Write>, u64),
    /// So many puts that memtables rotate.
    Fill(u64),
    Get(Key),
    MultiGet(Vec<Key>),
    Scan(Range, Vec<Move>),
    TakeSnapshot,
    /// Reads one of the snapshots.
    UseSnapshot(usize, Range, Vec<Key>),
    DropSnapshot(usize),
    /// Makes a scan that is moved later; of a snapshot where there is one.
    HoldScan(Range, Vec<Move>),
    MoveScan(usize, Vec<Move>),
    PopFirst,
    PopLast,
    Len,
    Flush,
    Sync,
    Compact(Bound<Key>, Bound<Key>),
    /// Collects what is dead in the value log.
    Gc,
    Reopen(Settings),
    ReopenToRead(Range),
}

/// Options that may differ from one life to the next.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) memtable_size_bytes: u64,
    pub(super) value_threshold_bytes: u64,
    pub(super) space_amplification_percent: u64,
    pub(super) durability: toykv::Durability,
    pub(super) compression: toykv::Compression,
    pub(super) memory_budget: Option<u64>,
    pub(super) cache_size_bytes: Option<u64>,
    pub(super) io: toykv::IoMode,
}

fn key() -> impl Strategy<Value = Key> {
    let byte = select(vec![0u8, 1, b'L', b'a', b's', 0xfe, 0xff]);
    prop_oneof![
        9 => (0..SHAPES).prop_map(Key::Shape),
        1 => vec(byte, 0..10).prop_map(Key::Bytes),
    ]
}

fn data() -> impl Strategy<Value = Data> {
    let len = prop_oneof![
        4 => 0u16..150,
        2 => select(vec![63u16, 64, 65, 118, 119, 120, 1023, 1024, 1025]),
        1 => 200u16..5000,
    ];
    (any::<u64>(), len).prop_map(|(mark, len)| Data(mark, len))
}

fn write() -> impl Strategy<Value = Write> {
    (key(), prop_oneof![3 => data().prop_map(Some), 1 => Just(None)])
}

fn bound() -> impl Strategy<Value = Bound<Key>> {
    prop_oneof![
        2 => Just(Bound::Unbounded),
        1 => key().prop_map(Bound::Included),
        1 => key().prop_map(Bound::Excluded),
    ]
}

fn range() -> impl Strategy<Value = Range> {
    let prefix = proptest::option::weighted(0.2, key());
    let limit = proptest::option::weighted(0.2, 0u64..20);
    (bound(), bound(), prefix, any::<bool>(), proptest::bool::weighted(0.2), limit).prop_map(
        |(lower, upper, prefix, reverse, keys_only, limit)| Range {
            lower,
            upper,
            prefix,
            reverse,
            keys_only,
            limit,
        },
    )
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => Just(Move::Next),
        4 => Just(Move::Prev),
        3 => key().prop_map(Move::Seek),
        1 => Just(Move::Start),
        1 => Just(Move::End),
    ];
    vec(one, 0..12)
}

fn settings() -> impl Strategy<Value = Settings> {
    use toykv::Durability::{Interval, Process, Sync};
    use toykv::{Compression, IoMode};
    let size = select(vec![64u64 << 10, 100_000, 256 << 10]);
    let threshold = select(vec![64u64, 120, 1024, 1 << 20]);
    let space = select(vec![110u64, 150, 1000]);
    let durability = select(vec![Process, Interval, Interval, Sync]);
    let compression = select(vec![Compression::None, Compression::Lz4, Compression::Zstd]);
    let budget = select(vec![Some(4 << 20), Some(6 << 20), None]);
    let cache = select(vec![Some(0), Some(40_000), Some(1 << 20), None]);
    let io = select(vec![IoMode::Mapped, IoMode::Direct]);
    ((size, threshold, space), durability, compression, (budget, cache), io).prop_map(
        |(
            (memtable_size_bytes, value_threshold_bytes, percent),
            durability,
            compression,
            (memory_budget, cache_size_bytes),
            io,
        )| {
            Settings {
                memtable_size_bytes,
                value_threshold_bytes,
                space_amplification_percent: percent,
                durability,
                compression,
                memory_budget,
                cache_size_bytes,
                io,
            }
        },
    )
}

fn operation() -> impl Strategy<Value = Operation> {
    let index = || any::<usize>();
    prop_oneof![
        12 => write().prop_map(Operation::Write),
        8 => vec(write(), 0..20).prop_map(Operation::Batch),
        2 => (vec(write(), 0..20), any::<u64>()).prop_map(|(w, m)| Operation::LargeBatch(w, m)),
        2 => any::<u64>().prop_map(Operation::Fill),
        4 => key().prop_map(Operation::Get),
        2 => vec(key(), 0..40).prop_map(Operation::MultiGet),
        6 => (range(), moves()).prop_map(|(r, m)| Operation::Scan(r, m)),
        2 => Just(Operation::TakeSnapshot),
        3 => (index(), range(), vec(key(), 0..5))
            .prop_map(|(i, r, k)| Operation::UseSnapshot(i, r, k)),
        1 => index().prop_map(Operation::DropSnapshot),
        2 => (range(), moves()).prop_map(|(r, m)| Operation::HoldScan(r, m)),
        3 => (index(), moves()).prop_map(|(i, m)| Operation::MoveScan(i, m)),
        3 => Just(Operation::PopFirst),
        3 => Just(Operation::PopLast),
        3 => Just(Operation::Len),
        5 => Just(Operation::Flush),
        1 => Just(Operation::Sync),
        3 => (bound(), bound()).prop_map(|(l, u)| Operation::Compact(l, u)),
        2 => Just(Operation::Gc),
        2 => settings().prop_map(Operation::Reopen),
        1 => range().prop_map(Operation::ReopenToRead),
    ]
}

/// The first settings, and a series.
pub(super) fn operations(most: usize) -> impl Strategy<Value = (Settings, Vec<Operation>)> {
    (settings(), vec(operation(), 1..most))
}
