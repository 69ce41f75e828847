//! What crash and fault tests compare a database with: the history of its commits, and the checks
//! that a recovered database is exactly one of the states that the history allows.

use std::collections::BTreeMap;
use std::ops::Bound;

use toykv::sim::SimDisk;
use toykv::{
    Db, Durability, ErrorKind, Options, Result, ScanOptions, SeqNo, WriteBatch, WriteOptions,
};

pub(crate) const PATH: &str = "/db";

pub(crate) type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// One commit: keys with their new values, or none for a delete.
pub(crate) type Commit = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// Every commit in order, and how many of them which crash must leave.
#[derive(Clone)]
pub(crate) struct History {
    /// Where the database lies.
    pub(crate) path: &'static str,
    base: Map,
    /// The sequence number that the base has.
    base_seqno: SeqNo,
    commits: Vec<Commit>,
    /// The sequence number after each commit, from the number of its entries.
    seqnos: Vec<SeqNo>,
    /// So many were tried; the others are of a later time than the one that is looked at.
    pub(crate) tried: usize,
    /// So many were acknowledged as surviving power loss.
    pub(crate) durable: usize,
    /// So many were acknowledged while the power was still on: they survive the process.
    pub(crate) kept: usize,
    /// A destroy, which is a commit too, has begun and nothing was created since: the rest of a
    /// database may be left, which is refused.
    pub(crate) may_be_gone: bool,
}

/// What was known at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    tried: usize,
    durable: usize,
    pub(crate) kept: usize,
    may_be_gone: bool,
}

impl Default for History {
    fn default() -> History {
        History {
            path: PATH,
            base: Map::new(),
            base_seqno: 0,
            commits: Vec::new(),
            seqnos: Vec::new(),
            tried: 0,
            durable: 0,
            kept: 0,
            may_be_gone: false,
        }
    }
}

impl History {
    fn mark(&self) -> Mark {
        let History { tried, durable, kept, may_be_gone, .. } = *self;
        Mark { tried, durable, kept, may_be_gone }
    }

    /// Knows what was known at a moment. Commits that were not yet tried then cannot be there.
    pub(crate) fn go_to(&mut self, mark: Mark) {
        let Mark { tried, durable, kept, may_be_gone } = mark;
        (self.tried, self.durable, self.kept) = (tried, durable, kept);
        self.may_be_gone = may_be_gone;
    }

    /// A history that begins with what is there.
    pub(crate) fn starting_with(base: Map, base_seqno: SeqNo) -> History {
        History { base, base_seqno, ..History::default() }
    }

    /// A commit is about to be tried.
    pub(crate) fn begin(&mut self, commit: Commit) {
        self.seqnos.push(self.seqno_after(self.commits.len()) + commit.len() as SeqNo);
        self.commits.push(commit);
        self.tried = self.commits.len();
    }

    /// The newest commit destroys: what is created later begins anew.
    fn begin_anew(&mut self) {
        if let Some(last) = self.seqnos.last_mut() {
            *last = 0;
        }
    }

    /// The newest commit has failed and must not be there.
    pub(crate) fn withdraw(&mut self) {
        self.commits.pop();
        self.seqnos.pop();
        self.tried = self.commits.len();
    }

    pub(crate) fn len(&self) -> usize {
        self.commits.len()
    }

    /// The sequence number after the first `count` commits.
    fn seqno_after(&self, count: usize) -> SeqNo {
        count.checked_sub(1).map_or(self.base_seqno, |index| self.seqnos[index])
    }

    /// The state after every commit.
    pub(crate) fn newest(&self) -> Map {
        self.state(self.commits.len())
    }

    /// The state after the first `count` commits.
    pub(crate) fn state(&self, count: usize) -> Map {
        let mut state = self.base.clone();
        for (key, value) in self.commits.iter().take(count).flatten() {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        state
    }

    /// After which number of commits, at least `least`, the state was `found`; the largest.
    pub(crate) fn matching(&self, found: &Map, least: usize) -> Option<usize> {
        self.all_matching(found, least).last().copied()
    }

    /// All of these numbers, ascending: some commits change nothing.
    fn all_matching(&self, found: &Map, least: usize) -> Vec<usize> {
        let mut state: BTreeMap<&[u8], &[u8]> =
            self.base.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        let differs = |state: &BTreeMap<&[u8], &[u8]>, key: &[u8]| {
            usize::from(state.get(key).copied() != found.get(key).map(|value| &value[..]))
        };
        let other = state.keys().filter(|key| !found.contains_key(**key)).count();
        let mut wrong = other + found.keys().map(|key| differs(&state, key)).sum::<usize>();
        let mut all = Vec::new();
        if wrong == 0 && least == 0 {
            all.push(0);
        }
        for (index, commit) in self.commits.iter().take(self.tried).enumerate() {
            for (key, value) in commit {
                wrong -= differs(&state, key);
                match value {
                    Some(value) => state.insert(key, value),
                    None => state.remove(&key[..]),
                };
                wrong += differs(&state, key);
            }
            if wrong == 0 && index + 1 >= least {
                all.push(index + 1);
            }
        }
        all
    }

    /// Keys that were ever written.
    fn keys(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.commits.iter().flatten().map(|(key, _)| key)
    }
}

/// Everything in a database, read in every way; the ways must agree.
pub(crate) fn read_all(db: &Db) -> Result<Map, String> {
    let text = |error: toykv::Error| error.to_string();
    let forward = db.scan(&ScanOptions::new()).map_err(text)?;
    let forward: Vec<_> = forward.collect::<Result<_>>().map_err(text)?;
    if !forward.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("a scan is not in order".into());
    }
    let backward = db.scan(&ScanOptions::new().reverse(true)).map_err(text)?;
    let backward: Vec<_> = backward.collect::<Result<_>>().map_err(text)?;
    if !forward.iter().eq(backward.iter().rev()) {
        return Err("a reverse scan shows something else than a forward one".into());
    }
    let len = db.len().map_err(text)?;
    if len != forward.len() as u64 {
        return Err(format!("len() says {len}, a scan finds {}", forward.len()));
    }
    for (key, value) in &forward {
        if db.get(key).map_err(text)?.as_deref() != Some(&value[..]) {
            return Err(format!("get and scan differ at {key:?}"));
        }
    }
    Ok(forward.into_iter().collect())
}

/// Checks that an open database shows a state of the history with at least `least` commits, and
/// answers with how many. Its sequence number must be the one after these: it tells commits that
/// change nothing apart.
pub(crate) fn check_db(db: &Db, history: &History, least: usize) -> Result<usize, String> {
    let found = read_all(db)?;
    for key in history.keys().filter(|key| !found.contains_key(*key)) {
        if db.contains(key).map_err(|error| error.to_string())? {
            return Err(format!("{key:?} is there for contains but not for scans"));
        }
    }
    if let Err(error) = db.audit()
        && error.kind() == ErrorKind::Corruption
    {
        return Err(error.to_string());
    }
    let counts = history.all_matching(&found, least);
    let seqno = db.stats().seqno;
    let right = counts.iter().rev().find(|count| history.seqno_after(**count) == seqno);
    if right.is_none() && !counts.is_empty() {
        let expected: Vec<_> = counts.iter().map(|count| history.seqno_after(*count)).collect();
        return Err(format!("numbers go on from {seqno}, not from one of {expected:?}"));
    }
    right.copied().ok_or_else(|| {
        let any = history.matching(&found, 0);
        format!(
            "{} keys are no state after {least} to {} commits (durable {}, kept {}); they are {}",
            found.len(),
            history.tried,
            history.durable,
            history.kept,
            any.map_or("no state at all".into(), |count| format!("the state after {count}")),
        )
    })
}

/// Opens what a crash left and checks it; see [`check_db`]. Ends with a close.
pub(crate) fn check_disk(
    disk: &SimDisk,
    options: &Options,
    history: &History,
    least: usize,
) -> Result<usize, String> {
    let db = open_rest(disk, options, history).map_err(|error| format!("open: {error}"))?;
    let count = check_db(&db, history, least)?;
    db.close().map_err(|error| format!("close: {error}"))?;
    Ok(count)
}

/// Opens what a crash left. The rest of a destroyed database is refused, and can be destroyed.
pub(crate) fn open_rest(disk: &SimDisk, options: &Options, history: &History) -> Result<Db> {
    match disk.open_db(history.path, options) {
        Err(error) if history.may_be_gone && error.kind() == ErrorKind::Corruption => {
            assert!(error.to_string().contains("CURRENT"), "{error}");
            disk.destroy_db(history.path)?;
            disk.open_db(history.path, options)
        }
        result => result,
    }
}

/// A script under way: a database, and the history of what was tried.
pub(crate) struct Run {
    pub(crate) disk: SimDisk,
    pub(crate) options: Options,
    pub(crate) history: History,
    /// What was known at the moments that the disk records, by their marks.
    pub(crate) marks: Vec<Mark>,
    db: Option<Db>,
}

impl Run {
    pub(crate) fn new(disk: SimDisk, options: Options) -> Run {
        let (history, marks) = (History::default(), Vec::new());
        let mut run = Run { disk, options, history, marks, db: None };
        run.mark();
        run
    }

    /// The disk's next moments come with what is known now.
    fn mark(&mut self) {
        self.marks.push(self.history.mark());
        self.disk.set_mark(self.marks.len() as u64 - 1);
    }

    /// A commit is about to be tried: the moments before lack it.
    fn begin(&mut self, commit: Commit) {
        self.disk.note_moment();
        self.history.begin(commit);
        self.mark();
    }

    pub(crate) fn open(&mut self) -> Result<()> {
        self.db = Some(self.disk.open_db(self.history.path, &self.options)?);
        self.history.may_be_gone = false;
        self.mark();
        Ok(())
    }

    /// The database if it is open.
    pub(crate) fn open_db(&self) -> Option<&Db> {
        self.db.as_ref()
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().expect("the script has opened the database")
    }

    /// Tries a commit: a put or delete when it has one entry, otherwise a batch.
    pub(crate) fn write(&mut self, commit: Commit, durability: Durability) -> Result<()> {
        let options = WriteOptions::new().durability(durability);
        self.begin(commit.clone());
        let db = self.db();
        let seqno = match &commit[..] {
            [(key, Some(value))] => db.put_with(key, value, &options)?,
            [(key, None)] => db.delete_with(key, &options)?,
            entries => {
                let mut batch = WriteBatch::new();
                for (key, value) in entries {
                    match value {
                        Some(value) => batch.put(key, value)?,
                        None => batch.delete(key)?,
                    }
                }
                db.write_with(&batch, &options)?
            }
        };
        assert_eq!(seqno, self.history.seqno_after(self.history.len()), "the number of a commit");
        self.acknowledged(durability == Durability::Sync);
        Ok(())
    }

    /// Pops an entry, which is a commit as well, and must be the one at that end.
    pub(crate) fn pop(&mut self, first: bool) -> Result<()> {
        let state = self.history.newest();
        let expected = if first { state.first_key_value() } else { state.last_key_value() };
        let expected = expected.map(|(key, value)| (key.clone(), value.clone()));
        if let Some((key, _)) = &expected {
            self.begin(vec![(key.clone(), None)]);
        }
        let popped = if first { self.db().pop_first()? } else { self.db().pop_last()? };
        assert_eq!(popped.map(|(key, value)| (key, value.to_vec())), expected);
        // Where there is nothing to pop nothing is synced.
        self.acknowledged(expected.is_some() && self.options.get("durability")? == "sync");
        Ok(())
    }

    /// A batch that no memtable takes: durable whatever was asked.
    pub(crate) fn write_oversized(&mut self, commit: Commit) -> Result<()> {
        self.write(commit, Durability::Process)?;
        self.acknowledged(true);
        Ok(())
    }

    fn acknowledged(&mut self, durable: bool) {
        if durable {
            self.history.durable = self.history.len();
        }
        if !self.disk.is_off() {
            self.history.kept = self.history.len();
        }
        self.mark();
    }

    pub(crate) fn put(&mut self, key: u64, value: Vec<u8>, durability: Durability) -> Result<()> {
        self.write(vec![(key_of(key), Some(value))], durability)
    }

    pub(crate) fn delete(&mut self, key: u64, durability: Durability) -> Result<()> {
        self.write(vec![(key_of(key), None)], durability)
    }

    pub(crate) fn sync(&mut self) -> Result<()> {
        self.db().sync()?;
        self.acknowledged(true);
        Ok(())
    }

    pub(crate) fn compact(&self) -> Result<()> {
        self.db().compact(Bound::Unbounded, Bound::Unbounded)
    }

    pub(crate) fn gc(&self) -> Result<()> {
        self.db().gc()
    }

    pub(crate) fn close(&mut self) -> Result<()> {
        self.db().close()?;
        self.db = None;
        self.acknowledged(true);
        Ok(())
    }

    pub(crate) fn reopen(&mut self) -> Result<()> {
        self.close()?;
        self.open()
    }

    pub(crate) fn destroy(&mut self) -> Result<()> {
        let all = self.history.newest().into_keys().map(|key| (key, None));
        self.history.begin(all.collect());
        self.history.begin_anew();
        self.history.may_be_gone = true;
        self.mark();
        self.disk.destroy_db(self.history.path)?;
        self.acknowledged(true);
        Ok(())
    }

    /// The process is gone: nothing is written any more.
    pub(crate) fn drop_db(&mut self) {
        self.db = None;
    }
}

pub(crate) fn key_of(key: u64) -> Vec<u8> {
    format!("key-{key:05}").into_bytes()
}

/// Bytes that tell from which write they are; compression makes those of every third shorter.
pub(crate) fn value_of(tag: u64, len: usize) -> Vec<u8> {
    let mut value = format!("value {tag} of {len} bytes ").into_bytes();
    let mut state = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while value.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let word = if tag.is_multiple_of(3) { tag } else { state };
        value.extend_from_slice(&word.to_be_bytes());
    }
    value.truncate(len);
    value
}

/// Small numbers that differ from seed to seed and not from run to run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5851_f42d_4c95_7f2d)
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.word() % end
    }

    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }
}
