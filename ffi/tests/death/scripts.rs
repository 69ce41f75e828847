//! The scripts: what flows there are, each in few system calls.

use crate::random::Random;
use crate::script::{Change, Op, Script};

const PROCESS: &str = "process";
const INTERVAL: &str = "interval";
const SYNC: &str = "sync";
const MIXED: &[&str] = &[PROCESS, PROCESS, PROCESS, INTERVAL, SYNC];

/// Keys of each thread.
const KEYS: u64 = 60;

/// A small memtable, and a write that waits for a failing background gives up soon.
const SMALL: Settings = &[
    ("memtable_size_bytes", "64KiB"),
    ("backlog_limit_bytes", "256KiB"),
    ("value_threshold_bytes", "512B"),
    ("sync_interval_ms", "1"),
    ("stall_limit_ms", "300"),
];

/// Makes the operations of one thread.
struct Maker {
    thread: usize,
    random: Random,
    ops: Vec<Op>,
}

impl Maker {
    fn new(thread: usize, seed: u64) -> Maker {
        Maker { thread, random: Random::new(seed ^ (thread as u64) << 32), ops: Vec::new() }
    }

    fn key(&mut self) -> String {
        format!("{}-{:02}", self.thread, self.random.below(KEYS))
    }

    fn put_of(&mut self, len: u64) -> Change {
        let (key, mark) = (self.key(), self.random.next());
        Change { key, value: Some((mark, len as usize)) }
    }

    /// A put, mostly of a small value, or a delete.
    fn change(&mut self) -> Change {
        let len = match self.random.below(10) {
            0 => return Change { key: self.key(), value: None },
            1 => 3000,
            2 => 511 + self.random.below(3),
            _ => self.random.below(300),
        };
        self.put_of(len)
    }

    fn puts(&mut self, count: u64, len: u64, durabilities: &[&'static str]) {
        for _ in 0..count {
            let change = self.put_of(len);
            self.ops.push(Op::Write(self.random.one_of(durabilities), vec![change]));
        }
    }

    fn batch(&mut self, changes: u64, durability: &'static str) {
        let changes = (0..changes).map(|_| self.change()).collect();
        self.ops.push(Op::Write(durability, changes));
    }

    fn changes(&mut self, count: u64, durabilities: &[&'static str]) {
        for _ in 0..count {
            let durability = self.random.one_of(durabilities);
            self.batch(1, durability);
        }
    }

    fn read(&mut self) {
        let key = self.key();
        self.ops.extend([Op::Get(key), Op::Scan(self.thread.to_string())]);
    }

    /// Any operation that leaves other threads' keys alone.
    fn anything(&mut self, alone: bool) {
        let durability = self.random.one_of(MIXED);
        match self.random.below(100) {
            0..60 => self.batch(1, durability),
            60..80 => {
                let count = 2 + self.random.below(12);
                self.batch(count, durability);
            }
            80..82 => self.batch(230, durability),
            82..88 => self.read(),
            88..90 => self.ops.push(Op::Flush),
            90 => self.ops.push(Op::Compact),
            91 => self.ops.push(Op::Gc),
            92 => self.ops.push(Op::Sync),
            93..95 if alone => self.ops.push(Op::PopFirst),
            95..97 if alone => self.ops.push(Op::PopLast),
            97 if alone => self.ops.push(Op::Reopen),
            _ => self.batch(1, durability),
        }
    }
}

fn script(name: &'static str, options: Settings, maker: Maker) -> Script {
    let options = [SMALL, options].concat();
    Script { name, options, threads: vec![maker.ops], ..Script::default() }
}

/// What each of the scripts does, on its own thread.
type Fill = fn(&mut Maker);

/// Names of options and their values.
type Settings = &'static [(&'static str, &'static str)];

const FLOWS: &[(&str, Settings, Fill)] = &[
    ("rotation", &[], |maker| maker.puts(90, 1000, &[PROCESS])),
    ("sync", &[("durability", "sync")], |maker| maker.puts(25, 200, &[SYNC])),
    ("interval", &[], |maker| maker.changes(40, &[INTERVAL])),
    ("mixed durability", &[], |maker| maker.changes(60, MIXED)),
    ("batches", &[], |maker| (0..12).for_each(|i| maker.batch(2 + i * 3, MIXED[i as usize % 5]))),
    ("large batch", &[], |maker| {
        maker.puts(3, 100, &[PROCESS]);
        maker.batch(300, SYNC);
        maker.changes(3, &[SYNC]);
        maker.batch(300, PROCESS);
        maker.read();
    }),
    ("pops", &[], |maker| {
        maker.changes(30, &[PROCESS]);
        for _ in 0..5 {
            maker.ops.extend([Op::PopFirst, Op::PopLast, Op::Flush]);
            maker.changes(3, &[SYNC]);
        }
    }),
    ("collection", &[("space_amplification", "1.1")], |maker| {
        for _ in 0..3 {
            maker.puts(30, 2000, &[PROCESS]);
            maker.ops.extend([Op::Flush, Op::Compact, Op::Gc]);
        }
        maker.read();
    }),
    ("direct and compressed", &[("io", "direct"), ("compression", "lz4")], |maker| {
        for _ in 0..4 {
            maker.changes(20, &[PROCESS]);
            maker.ops.push(Op::Flush);
        }
        maker.ops.push(Op::Compact);
        maker.read();
        maker.read();
    }),
    ("reopened", &[], |maker| {
        for _ in 0..5 {
            maker.changes(12, MIXED);
            maker.ops.push(Op::Reopen);
            maker.read();
        }
    }),
];

/// One script for each flow, and one of three threads.
pub(crate) fn all() -> Vec<Script> {
    let mut scripts: Vec<Script> = FLOWS
        .iter()
        .zip(1..)
        .map(|((name, options, fill), seed)| {
            let mut maker = Maker::new(0, seed);
            fill(&mut maker);
            script(name, options, maker)
        })
        .collect();
    let mut threads = anything(77, 3, 40);
    threads.name = "three threads";
    scripts.push(threads);
    scripts
}

/// Any operations, of one or several threads.
pub(crate) fn anything(seed: u64, threads: usize, count: u64) -> Script {
    let mut random = Random::new(seed);
    let ops = (0..threads).map(|thread| {
        let mut maker = Maker::new(thread, seed);
        (0..count).for_each(|_| maker.anything(threads == 1));
        maker.ops
    });
    let more: Settings = random.one_of(&[
        &[][..],
        &[("compression", "zstd")],
        &[("io", "direct"), ("cache_size_bytes", "64KiB")],
        &[("durability", "process")],
    ]);
    Script {
        name: "anything",
        options: [SMALL, more].concat(),
        short: random.below(4) == 0,
        leave: random.below(2) == 0,
        threads: ops.collect(),
    }
}
