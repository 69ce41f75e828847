//! What may be found after a child's end, by what it said before.

use std::collections::BTreeMap;
use std::path::Path;

use engine::{Db, Durability, ScanOptions, WriteOptions};

use crate::child::{Answer, Story};
use crate::script::{Map, Op, Script};

const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const WOULD_STALL: i32 = 6;
/// Locked, Io, DiskFull, Poisoned and Unsupported: what a failing call may lead to.
const FAILURES: &[i32] = &[-5, -6, -10, -11, -12, -16, -18];
const POISONED: i32 = -16;

/// The states that each thread's part may be in.
pub(crate) struct Oracle {
    parts: Vec<Vec<Map>>,
    /// Calls may fail: answers may be errors.
    lenient: bool,
    /// It was opened once, so there is a database.
    opened: bool,
}

/// What was wrong.
pub(crate) type Outcome = Result<(), String>;

/// One thread's part while its answers are followed.
struct Part<'a> {
    states: &'a mut Vec<Map>,
    /// A write was answered with Poisoned: later ones with the same answer have not happened.
    poisoned: bool,
}

impl Part<'_> {
    fn follow(&mut self, op: &Op, answer: &Answer) -> Outcome {
        match answer.status {
            OK | NOT_FOUND => self.succeeded(op, answer.digest),
            POISONED if op.changes() && !self.poisoned => {
                // It may have met the failure itself, after it was written.
                self.poisoned = true;
                self.may_have_happened(op);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn succeeded(&mut self, op: &Op, digest: u64) -> Outcome {
        if op.changes() && self.poisoned {
            return Err("STICKY: a write after a failure was acknowledged".into());
        }
        let mut kept = Vec::new();
        for state in self.states.iter() {
            let mut next = state.clone();
            if op.apply(&mut next) == digest {
                kept.push(next);
            }
        }
        if kept.is_empty() {
            return Err("BYTES: a read or pop answered what was never there".into());
        }
        self.poisoned &= !matches!(op, Op::Reopen);
        // What is seen while a failed write is in doubt may be lost at the next open.
        if op.changes() || !self.poisoned {
            *self.states = kept;
        }
        Ok(())
    }

    fn may_have_happened(&mut self, op: &Op) {
        let happened = |state: &Map| {
            let mut next = state.clone();
            op.apply(&mut next);
            next
        };
        let more: Vec<Map> = self.states.iter().map(happened).collect();
        self.states.extend(more);
    }
}

impl Oracle {
    /// Of an empty database used by so many threads.
    pub(crate) fn new(threads: usize, lenient: bool) -> Oracle {
        Oracle { parts: vec![vec![Map::new()]; threads], lenient, opened: false }
    }

    /// Follows what a child said.
    pub(crate) fn follow(&mut self, script: &Script, story: &Story) -> Outcome {
        let answers = story.answers.iter().flatten().map(|answer| answer.status);
        for status in story.opens.iter().copied().chain(answers) {
            // A slow machine may hold a write back for as long as the options allow.
            let fine = [OK, NOT_FOUND, WOULD_STALL].contains(&status)
                || self.lenient && FAILURES.contains(&status);
            if !fine {
                return Err(format!("status {status}"));
            }
        }
        if !story.ended && !story.was_killed() {
            return Err(format!("it ended with {}", story.exit));
        }
        self.opened |= story.opens.contains(&OK);
        for (thread, states) in self.parts.iter_mut().enumerate() {
            let mut part = Part { states, poisoned: false };
            let mut answers = story.answers[thread].iter();
            for (number, op) in script.numbered(thread) {
                let Some(answer) = answers.next() else {
                    // Under way when it died.
                    if !story.ended {
                        part.may_have_happened(op);
                    }
                    break;
                };
                assert_eq!(answer.number, number, "the child and this side count differently");
                let followed = part.follow(op, answer);
                followed.map_err(|wrong| format!("thread {thread}, line {number}: {wrong}"))?;
            }
        }
        Ok(())
    }

    /// Opens the database, which must be in one of the states, and goes on from that one.
    pub(crate) fn check(&mut self, path: &Path, script: &Script, read_only: bool) -> Outcome {
        if !path.join("CURRENT").exists() {
            if self.opened {
                return Err("ACK: the database is gone, it has no CURRENT".into());
            }
            if read_only {
                return Ok(());
            }
        }
        let failed = |error: engine::Error| format!("{error} ({:?})", error.kind());
        let options = script.engine_options().read_only(read_only);
        let db = Db::open(path, &options).map_err(failed)?;
        self.opened = true;
        let mut found = vec![Map::new(); self.parts.len()];
        for entry in db.scan(&ScanOptions::new()).map_err(failed)? {
            let (key, value) = entry.map_err(failed)?;
            let key = String::from_utf8(key).map_err(|error| error.to_string())?;
            let thread = key.bytes().next().map_or(0, |digit| usize::from(digit - b'0'));
            found[thread].insert(key, value);
        }
        let count: usize = found.iter().map(BTreeMap::len).sum();
        let len = db.len().map_err(failed)?;
        if len != count as u64 {
            return Err(format!("{len} keys are counted, {count} found"));
        }
        for (key, value) in found.iter().flatten() {
            let got = db.get(key.as_bytes()).map_err(failed)?;
            if got.as_deref() != Some(&value[..]) {
                return Err(format!("BYTES: get and scan differ at {key}"));
            }
        }
        for (thread, (states, found)) in self.parts.iter_mut().zip(found).enumerate() {
            if !states.contains(&found) {
                return Err(explain(thread, states, &found));
            }
            *states = vec![found];
        }
        if !read_only {
            // Service goes on.
            let sync = WriteOptions::new().durability(Durability::Sync);
            db.put_with(b"0 one more", b"", &sync).map_err(failed)?;
            db.delete_with(b"0 one more", &sync).map_err(failed)?;
        }
        db.close().map_err(failed)
    }
}

fn explain(thread: usize, states: &[Map], found: &Map) -> String {
    let newest = states.last().expect("a state");
    let differs = |key: &&String| newest.get(*key) != found.get(*key);
    let keys: Vec<&String> = newest.keys().chain(found.keys()).filter(differs).take(5).collect();
    format!(
        "ATOM, NOHOLE or ACK: thread {thread}: {} keys are none of {} states; other than in the \
         newest: {keys:?}",
        found.len(),
        states.len()
    )
}
