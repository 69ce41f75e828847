//! Failing calls: every kind of operation fails in several ways at many places of a program that
//! goes on working; then the power goes off.
//!
//! Checks STICKY (after a failed append or sync nothing is acknowledged, and reads go on), SPACE
//! (when the disk has room again writes go on), ACK and NOHOLE.

mod calls;

use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use toykv::sim::{CrashPolicy, Effect, Fault, OpKind, Operation, SimDisk, Times};
use toykv::{Durability, Error, ErrorKind, Options};

use crate::oracle::{Commit, History, PATH, Run, check_db, check_disk, key_of, read_all, value_of};

const KINDS: [OpKind; 17] = [
    OpKind::Inspect,
    OpKind::CreateDir,
    OpKind::ListDir,
    OpKind::Create,
    OpKind::Open,
    OpKind::Rename,
    OpKind::RemoveFile,
    OpKind::RemoveDir,
    OpKind::SyncDir,
    OpKind::Lock,
    OpKind::Size,
    OpKind::Read,
    OpKind::Write,
    OpKind::Allocate,
    OpKind::Sync,
    OpKind::Map,
    OpKind::MapWindow,
];

const NUMBERS: [i32; 6] =
    [libc::EIO, libc::ENOSPC, libc::EDQUOT, libc::EINTR, libc::EMFILE, libc::EROFS];

/// One way to fail.
#[derive(Clone, Copy, Debug)]
struct Case {
    kind: OpKind,
    /// Which operation of the kind.
    nth: u64,
    errno: i32,
    times: Times,
    effect: Effect,
}

impl Case {
    fn fault(&self) -> Fault {
        let (mut seen, nth) = (0, self.nth);
        let fits = move |_: &Operation<'_>| {
            seen += 1;
            seen > nth
        };
        let fault = Fault::when(fits).on(self.kind).errno(self.errno);
        fault.times(self.times).effect(self.effect)
    }
}

fn options() -> Options {
    Options::new()
        .durability(Durability::Process)
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(512 << 10)
}

/// A program that goes on after errors, and what it has learnt.
struct Work {
    run: Run,
    /// What a failing operation answers.
    errno: i32,
    poisoned: bool,
    /// A failed sync may lose pages that processes see: only what is durable is sure to stay.
    loses_pages: bool,
    /// A failed sync puts older bytes back, and who reads them hears of it until the next open.
    reverts_pages: bool,
}

/// Why a program is not as it should be.
type Verdict = Result<(), String>;

fn require(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// An error must be of the kind that the failure asks for, and say which file it is about.
fn check_error(errno: i32, error: &Error) -> Verdict {
    let kind = match errno {
        libc::ENOSPC | libc::EDQUOT => ErrorKind::DiskFull,
        libc::EROFS => ErrorKind::ReadOnly,
        _ => ErrorKind::Io,
    };
    let fits = [kind, ErrorKind::Poisoned].contains(&error.kind());
    require(fits, || format!("{:?} instead of {kind:?}: {error}", error.kind()))?;
    let text = error.to_string();
    let named = error.path().is_some() || text.contains(PATH) || text.contains(calls::TARGET);
    require(named, || format!("names no file: {error}"))
}

impl Work {
    fn new(disk: SimDisk, errno: i32) -> Work {
        Work {
            run: Run::new(disk, options()),
            errno,
            poisoned: false,
            loses_pages: false,
            reverts_pages: false,
        }
    }

    fn expect(&self, error: &Error) -> Verdict {
        check_error(self.errno, error)
    }

    fn write(&mut self, commit: Commit, durability: Durability) -> Verdict {
        match self.run.write(commit, durability) {
            Ok(()) => require(!self.poisoned, || "acknowledged after a failure".into()),
            Err(error) => {
                let expected = self.expect(&error);
                let poison = error.kind() == ErrorKind::Poisoned;
                if self.poisoned || !poison {
                    self.run.history.withdraw();
                }
                require(poison || !self.poisoned, || format!("after Poisoned: {error}"))?;
                self.poisoned |= poison;
                expected
            }
        }
    }

    fn put(&mut self, tag: u64, len: usize, durability: Durability) -> Verdict {
        let deleted = tag % 7 == 5;
        let value = (!deleted).then(|| value_of(tag, len));
        self.write(vec![(key_of(tag * 5 % 37), value)], durability)
    }

    /// A call that is not a write.
    fn call(&mut self, result: toykv::Result<()>) -> Verdict {
        let Err(error) = result else { return Ok(()) };
        self.poisoned |= error.kind() == ErrorKind::Poisoned;
        self.expect(&error)
    }

    fn sync(&mut self) -> Verdict {
        let result = self.run.db().sync();
        if result.is_ok() {
            self.run.history.durable = self.run.history.kept;
        }
        self.call(result)
    }

    /// Opens; when that fails the fault goes away and it has to succeed.
    fn open(&mut self) -> Verdict {
        if let Err(error) = self.run.open() {
            self.expect(&error)?;
            self.run.disk.clear_faults();
            self.run.disk.set_capacity(None);
            self.run.open().map_err(|error| format!("without a fault: {error}"))?;
        }
        self.poisoned = false;
        let history = &self.run.history;
        let least = if self.reverts_pages { history.durable } else { history.kept };
        check_db(self.run.db(), history, least).map_err(|what| format!("after opening: {what}"))?;
        let found = read_all(self.run.db())?;
        self.run.history = History::starting_with(found, self.run.db().stats().seqno);
        Ok(())
    }

    fn reopen(&mut self) -> Verdict {
        let result = self.run.db().close();
        self.call(result)?;
        self.run.drop_db();
        self.open()
    }

    /// The program: everything that touches files.
    fn work(&mut self) -> Verdict {
        self.open()?;
        for round in 0..3 {
            for tag in round * 40..round * 40 + 40 {
                let len = if tag % 8 == 3 { 3000 } else { 250 };
                let sync = tag % 10 == 9;
                self.put(tag, len, if sync { Durability::Sync } else { Durability::Process })?;
            }
            let result = self.run.db().flush();
            self.call(result)?;
            self.put(round, 500, Durability::Process)?;
            self.sync()?;
            let result = self.run.compact();
            self.call(result)?;
            if round == 1 {
                let entry = |i| (key_of(i), Some(value_of(round * 100 + i, 4000)));
                self.write((0..20).map(entry).collect(), Durability::Process)?;
                self.reopen()?;
            }
        }
        Ok(())
    }

    /// Everything is there, or, where pages are gone, what can be read is right.
    fn read(&self) -> Verdict {
        let history = &self.run.history;
        if !(self.reverts_pages && self.poisoned) {
            return check_db(self.run.db(), history, history.kept).map(drop);
        }
        // The write that failed may be seen.
        let (newest, before) = (history.newest(), history.state(history.kept));
        for key in newest.keys().chain(before.keys()) {
            match self.run.db().get(key) {
                Ok(found) => {
                    let states = [newest.get(key), before.get(key)];
                    let right = states.map(|value| value.map(Vec::as_slice));
                    let right = right.contains(&found.as_deref());
                    require(right, || format!("{key:?} has a value that was never current"))?;
                }
                Err(error) if error.kind() == ErrorKind::Corruption => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// What must hold when the fault has gone.
    fn afterwards(&mut self) -> Verdict {
        self.read().map_err(|what| format!("read after the fault: {what}"))?;
        self.run.disk.clear_faults();
        self.run.disk.set_capacity(None);
        let acknowledged = self.run.history.len();
        let poisoned = self.poisoned;
        self.put(1, 100, Durability::Sync)?;
        let background = self.run.db().health().poisoned.is_some();
        require(poisoned || !self.poisoned || background, || "poisoned without a word".into())?;
        if !self.poisoned {
            require(self.run.history.len() > acknowledged, || "a write is still refused".into())?;
            self.run.db().flush().map_err(|error| format!("flush afterwards: {error}"))?;
            self.run.compact().map_err(|error| format!("compact afterwards: {error}"))?;
        }
        self.read()
    }

    /// Cuts the power and checks what is left.
    fn cut(&mut self) -> Verdict {
        self.run.disk.power_off();
        self.run.drop_db();
        let history = &self.run.history;
        let policies = [
            (CrashPolicy::DROP_ALL, history.durable),
            (CrashPolicy::KEEP_ALL, if self.loses_pages { history.durable } else { history.kept }),
            (CrashPolicy::random(history.len() as u64), history.durable),
        ];
        for (policy, least) in policies {
            let image = self.run.disk.crash_image(&policy, 7);
            check_disk(&image, &self.run.options, history, least)
                .map_err(|what| format!("{policy:?}: {what}"))?;
        }
        Ok(())
    }
}

/// Runs a program with a fault; answers whether it struck.
fn run_case(case: Case) -> Result<bool, String> {
    let mut work = Work::new(SimDisk::new(), case.errno);
    work.loses_pages = case.kind == OpKind::Sync;
    work.reverts_pages = case.effect == Effect::Reverted;
    work.run.disk.fail(case.fault());
    work.work()?;
    let struck = work.run.disk.faults_struck() > 0;
    work.afterwards()?;
    work.cut()?;
    Ok(struck)
}

/// Runs `body` in a thread; a minute without an answer is a hang.
fn watched<T: Send + 'static>(
    what: String,
    body: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(body()));
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => panic!("{what}: {error}"),
        Err(error) => panic!("{what}: hangs or has panicked: {error}"),
    }
}

/// What may have happened in spite of the error: of a write nothing, a half or all; of a sync also
/// that older bytes are back.
fn effects(kind: OpKind) -> &'static [Effect] {
    match kind {
        OpKind::Sync => &[Effect::Nothing, Effect::Reverted, Effect::Done, Effect::Half],
        _ => &[Effect::Nothing, Effect::Half, Effect::Done],
    }
}

/// Places of the kinds, in every way: all of them, or `most` that lie ever further apart.
fn every_place(kinds: &[OpKind], most: Option<u64>, errors: &mut Vec<String>) {
    let (mut struck, mut tried) = (0, 0u64);
    for &kind in kinds {
        let (effects, before) = (effects(kind), struck);
        for way in 0..NUMBERS.len() * 2 {
            let errno = NUMBERS[way / 2];
            let times = if way % 2 == 0 { Times::Once } else { Times::Forever };
            let mut nth = 0;
            for step in 0..most.unwrap_or(u64::MAX) {
                let mut any = false;
                // All effects at each place, or one after the other.
                let turns = if most.is_some() { 1 } else { effects.len() };
                for turn in 0..turns {
                    let effect = effects[(step as usize + way + turn) % effects.len()];
                    let case = Case { kind, nth, errno, times, effect };
                    tried += 1;
                    match watched(format!("{case:?}"), move || Ok(run_case(case))) {
                        Ok(hit) => any |= hit,
                        Err(what) => {
                            any = true;
                            errors.push(format!("{case:?}: {what}"));
                        }
                    }
                }
                if !any {
                    break;
                }
                struck += 1;
                // Enough has been said where a program is wrong without a fault, too.
                if errors.len() > 100 {
                    break;
                }
                nth += if most.is_some() { 1 + step / 4 } else { 1 };
            }
        }
        // Only a destroy removes a directory: see `calls`.
        assert!(struck > before || kind == OpKind::RemoveDir, "no {kind:?} was struck");
    }
    println!("{tried} cases, faults at {struck} places");
}

fn most() -> Option<u64> {
    std::env::var_os("TOYKV_CRASH_FULL").is_none().then_some(16)
}

fn check_places(kinds: &[OpKind]) {
    let mut errors = Vec::new();
    every_place(kinds, most(), &mut errors);
    for error in &errors {
        println!("{error}");
    }
    assert!(errors.is_empty(), "{} of the cases above, the first: {}", errors.len(), errors[0]);
}

#[test]
fn calls_about_bytes_fail() {
    check_places(&[OpKind::Write, OpKind::Sync, OpKind::Allocate]);
}

#[test]
fn calls_about_names_fail() {
    check_places(&KINDS[..9]);
}

#[test]
fn calls_about_maps_and_reads_fail() {
    check_places(&[OpKind::Lock, OpKind::Size, OpKind::Read, OpKind::Map, OpKind::MapWindow]);
}

#[test]
fn a_full_disk_is_an_error_that_goes_away() {
    // More than a memtable takes.
    const PUTS: u64 = 240;
    let mut refused = 0;
    for step in 0..120u64 {
        let capacity = step * 8192;
        refused += watched(format!("capacity {capacity}"), move || {
            let mut work = Work::new(SimDisk::new(), libc::ENOSPC);
            let mut refused = false;
            work.run.disk.set_capacity(Some(capacity));
            if let Err(error) = work.run.open() {
                work.expect(&error)?;
                let again = work.run.open().map(drop);
                require(again.is_err_and(|e| e.kind() == ErrorKind::DiskFull), || {
                    "the disk is still full".into()
                })?;
                work.run.disk.set_capacity(None);
            } else {
                for tag in 0..PUTS {
                    work.put(1000 + tag, 1000, Durability::Process)?;
                }
                refused = work.run.history.len() < PUTS as usize;
                work.read().map_err(|what| format!("on a full disk: {what}"))?;
            }
            work.run.drop_db();
            work.work()?;
            let poisoned = work.poisoned;
            work.afterwards()?;
            require(!poisoned, || "a full disk has poisoned the database".into())?;
            work.cut()?;
            Ok(u64::from(refused))
        });
    }
    assert!(refused > 10, "the disk was never full");
}

#[test]
fn a_lie_instead_of_an_error_is_noticed() {
    let case =
        |kind, nth, effect| Case { kind, nth, errno: libc::EIO, times: Times::Forever, effect };
    let found = run_case(case(OpKind::Sync, 4, Effect::Lie)).unwrap_err();
    println!("{found}");
    let found = run_case(case(OpKind::Write, 12, Effect::Lie)).unwrap_err();
    println!("{found}");
    assert_eq!(run_case(case(OpKind::Sync, u64::MAX, Effect::Lie)), Ok(false));
    let disk = SimDisk::new();
    assert!(disk.open_db(PATH, &options().create_if_missing(false)).is_err());
}

/// A segment that was made but could not be used must not lie empty before those that are.
#[test]
fn a_rotation_that_fails_leaves_no_hole() {
    let options = Options::new().durability(Durability::Sync).memtable_size_bytes(4 << 20);
    let mut run = Run::new(SimDisk::new(), options);
    run.open().unwrap();
    let big = |tag| (0..20).map(|i| (key_of(i), Some(value_of(tag + i, 100_000)))).collect();
    run.disk.fail(Fault::when(|_| true).on(OpKind::MapWindow).errno(libc::ENOSPC).forever());
    let error = run.write(big(100), Durability::Sync).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    run.history.withdraw();
    run.disk.clear_faults();
    run.put(1, value_of(1, 10), Durability::Sync).unwrap();
    run.write(big(200), Durability::Sync).unwrap();
    run.put(2, value_of(2, 10), Durability::Sync).unwrap();
    run.disk.power_off();
    run.drop_db();
    let image = run.disk.crash_image(&CrashPolicy::DROP_ALL, 1);
    check_disk(&image, &run.options, &run.history, 3).unwrap();
}

/// The same for a prepared segment that was too small, when a larger one cannot be had.
#[test]
fn a_prepared_segment_that_is_too_small_leaves_no_hole() {
    let options = Options::new().durability(Durability::Process).memtable_size_bytes(4 << 20);
    let mut run = Run::new(SimDisk::new(), options);
    run.open().unwrap();
    let full = |operation: &Operation<'_>| operation.offset == 4 << 20;
    run.disk.fail(Fault::when(full).on(OpKind::Allocate).errno(libc::ENOSPC).forever());
    for tag in 0..7 {
        run.put(tag, value_of(tag, 100_000), Durability::Process).unwrap();
    }
    let big = |tag| (0..30).map(|i| (key_of(i), Some(value_of(tag + i, 100_000)))).collect();
    let error = run.write(big(100), Durability::Process).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DiskFull);
    run.history.withdraw();
    run.disk.clear_faults();
    for tag in 10..40 {
        run.put(tag, value_of(tag, 100_000), Durability::Sync).unwrap();
    }
    run.disk.power_off();
    run.drop_db();
    let image = run.disk.crash_image(&CrashPolicy::DROP_ALL, 1);
    check_disk(&image, &run.options, &run.history, run.history.durable).unwrap();
}

/// Some systems forget the pages that a failed sync could not write: then a read is refused or
/// right, and nothing that was durable is lost.
#[test]
fn pages_that_a_failed_sync_reverts_are_not_served() {
    let mut run = Run::new(SimDisk::new(), options());
    run.open().unwrap();
    run.put(0, value_of(0, 700), Durability::Sync).unwrap();
    for tag in 1..30 {
        run.put(tag, value_of(tag, 700), Durability::Process).unwrap();
    }
    let log = |operation: &Operation<'_>| operation.path.extension().is_some_and(|e| e == "vlog");
    run.disk.fail(Fault::when(log).on(OpKind::Sync).effect(Effect::Reverted));
    let error = run.put(30, value_of(30, 700), Durability::Sync).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned);
    let mut refused = 0;
    for tag in 0..=30 {
        match run.db().get(&key_of(tag)) {
            Ok(found) => assert_eq!(found.as_deref(), Some(&value_of(tag, 700)[..]), "{tag}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "the pages are still there");
    run.disk.power_off();
    run.drop_db();
    let image = run.disk.crash_image(&CrashPolicy::KEEP_ALL, 1);
    check_disk(&image, &run.options, &run.history, 1).unwrap();
}

/// The sync of the log by a flush is a sync of the log: its failure refuses later writes at once.
#[test]
fn a_failed_sync_within_a_flush_refuses_writes() {
    let mut run = Run::new(SimDisk::new(), options());
    run.open().unwrap();
    // Enough of them that the segment stays: otherwise they are copied, and need no sync of it.
    for tag in 0..25 {
        run.put(tag, value_of(tag, 2000), Durability::Process).unwrap();
    }
    let log = |operation: &Operation<'_>| operation.path.ends_with("000002.vlog");
    let first = run.disk.files().into_iter().any(|(path, _)| path.ends_with("000002.vlog"));
    assert!(first, "the first segment has another name");
    run.disk.fail(Fault::when(log).on(OpKind::Sync));
    run.db().flush().unwrap_err();
    assert_eq!(run.disk.faults_struck(), 1);
    let error = run.put(11, value_of(11, 10), Durability::Process).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    assert!(run.db().health().poisoned.is_some());
    for tag in 0..25 {
        let found = run.db().get(&key_of(tag)).unwrap();
        assert_eq!(found.as_deref(), Some(&value_of(tag, 2000)[..]));
    }
}

/// A flush that finds no room to rewrite its few large values leaves them where they are.
#[test]
fn a_flush_without_room_for_its_values_keeps_the_segment() {
    let mut run = Run::new(SimDisk::new(), options());
    run.open().unwrap();
    for tag in 0..10 {
        run.put(tag, value_of(tag, 2000), Durability::Process).unwrap();
    }
    let mut created = 0;
    // The first is the next segment of the log.
    let second = move |operation: &Operation<'_>| {
        let name = operation.path.to_string_lossy();
        let own = operation.kind == OpKind::Create && name.ends_with(".vlog");
        created += u64::from(own);
        own && created == 2
    };
    run.disk.fail(Fault::when(second).errno(libc::ENOSPC));
    run.db().flush().unwrap();
    assert_eq!(run.disk.faults_struck(), 1);
    run.db().audit().unwrap();
    run.gc().unwrap();
    run.db().audit().unwrap();
    for tag in 0..10 {
        let found = run.db().get(&key_of(tag)).unwrap();
        assert_eq!(found.as_deref(), Some(&value_of(tag, 2000)[..]));
    }
}

/// MONO: what a crash left that cannot be deleted keeps its name and its bytes.
#[test]
fn a_file_that_cannot_be_deleted_is_not_in_the_way() {
    let mut run = Run::new(SimDisk::new(), options());
    run.open().unwrap();
    run.put(0, value_of(0, 3000), Durability::Process).unwrap();
    run.close().unwrap();
    let names = |number: u64| {
        let names = [format!("{number:06}.vlog"), format!("{number:06}.table")];
        let all = names.into_iter().chain([format!("MANIFEST-{number:06}")]);
        all.map(|name| Path::new(PATH).join(name)).collect::<Vec<_>>()
    };
    let there = |path: &PathBuf| run.disk.files().iter().any(|(other, _)| other == path);
    let last = (1..100).filter(|number| names(*number).iter().any(there)).max().unwrap();
    let left: Vec<PathBuf> = (last + 1..last + 20).flat_map(names).collect();
    for path in &left {
        run.disk.write_file(path, b"left").unwrap();
    }
    run.disk.fail(Fault::when(|_| true).on(OpKind::RemoveFile).forever());
    run.open().unwrap();
    for tag in 1..60 {
        run.put(tag, value_of(tag, 3000), Durability::Process).unwrap();
    }
    run.db().flush().unwrap();
    run.compact().unwrap();
    check_db(run.db(), &run.history, run.history.kept).unwrap();
    for path in &left {
        assert_eq!(run.disk.read_file(path).unwrap(), b"left", "{}", path.display());
    }
}

/// ACK: close syncs what was acknowledged also when there is no room to flush it.
#[test]
fn close_on_a_full_disk_still_makes_everything_durable() {
    let disk = SimDisk::new();
    let options = Options::new().sync_interval_ms(3_600_000);
    let db = disk.open_db("/db", &options).unwrap();
    let mut count = 0u64;
    while db.stats().memtables < 2 && count < 3000 {
        db.put(&count.to_be_bytes(), &[1; 900]).unwrap();
        count += 1;
    }
    for ending in ["table", "vlog"] {
        let full = move |operation: &Operation<'_>| {
            operation.kind == OpKind::Create && operation.path.to_string_lossy().ends_with(ending)
        };
        disk.fail(Fault::when(full).errno(libc::ENOSPC).forever());
    }
    db.close().unwrap();
    let after = disk.crash_image(&CrashPolicy::DROP_ALL, 1);
    assert_eq!(after.open_db("/db", &options).unwrap().len().unwrap(), count);
}
