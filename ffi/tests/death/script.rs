//! What a child does: operations of its threads, as `tests/c/death.c` reads them, and what they do
//! to a model.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::random::{Random, value_of};

/// The keys of one thread, each of which begins with the thread's digit.
pub(crate) type Map = BTreeMap<String, Vec<u8>>;

impl Random {
    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// FNV-1a over lengths and bytes, as the child reports what it has read.
pub(crate) fn digest(mut state: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x100_0000_01b3;
    state = (state ^ bytes.len() as u64).wrapping_mul(PRIME);
    bytes.iter().fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(PRIME))
}

const NOTHING: u64 = 0xcbf2_9ce4_8422_2325;

/// A put of the bytes made from a mark and a length, or a delete.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) value: Option<(u64, usize)>,
}

#[derive(Clone)]
pub(crate) enum Op {
    /// With its durability; of one change a put or delete, else a batch.
    Write(&'static str, Vec<Change>),
    Get(String),
    /// All keys that begin so.
    Scan(String),
    PopFirst,
    PopLast,
    Sync,
    Flush,
    Compact,
    Gc,
    Reopen,
}

impl Op {
    /// What it does to a state; answers the digest that the child reports when it succeeds.
    pub(crate) fn apply(&self, state: &mut Map) -> u64 {
        let pair =
            |(key, value): (String, Vec<u8>)| digest(digest(NOTHING, key.as_bytes()), &value);
        match self {
            Op::Write(_, changes) => {
                for change in changes {
                    match change.value {
                        Some((mark, len)) => {
                            state.insert(change.key.clone(), value_of(mark, len));
                        }
                        None => drop(state.remove(&change.key)),
                    }
                }
                NOTHING
            }
            Op::Get(key) => state.get(key).map_or(NOTHING, |value| digest(NOTHING, value)),
            Op::Scan(prefix) => {
                let fitting = state.iter().filter(|(key, _)| key.starts_with(prefix));
                fitting
                    .fold(NOTHING, |sum, (key, value)| digest(digest(sum, key.as_bytes()), value))
            }
            Op::PopFirst => state.pop_first().map_or(NOTHING, pair),
            Op::PopLast => state.pop_last().map_or(NOTHING, pair),
            Op::Sync | Op::Flush | Op::Compact | Op::Gc | Op::Reopen => NOTHING,
        }
    }

    /// Whether it may change what is stored.
    pub(crate) fn changes(&self) -> bool {
        matches!(self, Op::Write(..) | Op::PopFirst | Op::PopLast)
    }

    /// Lines of the script; the child counts each as an operation.
    fn lines(&self) -> usize {
        match self {
            Op::Write(_, changes) if changes.len() != 1 => 1 + changes.len(),
            _ => 1,
        }
    }

    fn write(&self, thread: usize, text: &mut String) {
        let change = |text: &mut String, durability: &str, change: &Change| match change.value {
            Some((mark, len)) => {
                writeln!(text, "{thread} put {durability} {} {mark} {len}", change.key)
            }
            None => writeln!(text, "{thread} delete {durability} {}", change.key),
        };
        let written = match self {
            Op::Write(durability, changes) if changes.len() == 1 => {
                change(text, durability, &changes[0])
            }
            Op::Write(durability, changes) => {
                writeln!(text, "{thread} batch {durability} {}", changes.len()).unwrap();
                changes.iter().try_for_each(|own| change(text, durability, own))
            }
            Op::Get(key) => writeln!(text, "{thread} get {key}"),
            Op::Scan(key) => writeln!(text, "{thread} scan {key}"),
            Op::PopFirst => writeln!(text, "{thread} pop_first"),
            Op::PopLast => writeln!(text, "{thread} pop_last"),
            Op::Sync => writeln!(text, "{thread} sync"),
            Op::Flush => writeln!(text, "{thread} flush"),
            Op::Compact => writeln!(text, "{thread} compact"),
            Op::Gc => writeln!(text, "{thread} gc"),
            Op::Reopen => writeln!(text, "{thread} reopen"),
        };
        written.expect("text");
    }
}

/// Everything that one child does.
#[derive(Clone, Default)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    /// Options of the database by name.
    pub(crate) options: Vec<(&'static str, &'static str)>,
    /// Reads and writes of files move half of what is asked for.
    pub(crate) short: bool,
    /// The child ends without closing the database.
    pub(crate) leave: bool,
    /// The operations of each thread.
    pub(crate) threads: Vec<Vec<Op>>,
}

impl Script {
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.options {
            writeln!(text, "option {name} {value}").expect("text");
        }
        text += if self.short { "short\n" } else { "" };
        text += if self.leave { "leave\n" } else { "" };
        for (thread, ops) in self.threads.iter().enumerate() {
            ops.iter().for_each(|op| op.write(thread, &mut text));
        }
        text
    }

    /// By the number that the child gives to it.
    pub(crate) fn numbered(&self, thread: usize) -> impl Iterator<Item = (usize, &Op)> {
        let mut next = 0;
        self.threads[thread].iter().map(move |op| {
            let number = next;
            next += op.lines();
            (number, op)
        })
    }

    /// The options for opening the same database here.
    pub(crate) fn engine_options(&self) -> engine::Options {
        let mut options = engine::Options::new();
        for (name, value) in &self.options {
            options.set(name, value).expect("an option");
        }
        options
    }
}
