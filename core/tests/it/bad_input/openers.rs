//! Paths that cannot be opened, and openers that are not alone.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use toykv::sim::{Fault, OpKind, SimDisk};
use toykv::{Db, ErrorKind, Options};

use super::{check_sample, contents, fill, refused, remove_file, sample, says, small, write_file};
use crate::support::again;

#[test]
fn paths_that_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    says(&refused(Path::new(""), &small()), ErrorKind::InvalidArgument, "empty");
    says(&Db::destroy("").unwrap_err(), ErrorKind::InvalidArgument, "empty");
    let missing = at("missing");
    for options in [small().create_if_missing(false), small().read_only(true)] {
        says(&refused(&missing, &options), ErrorKind::NotFound, "missing");
    }
    says(&Db::destroy(&missing).unwrap_err(), ErrorKind::NotFound, "missing");
    let error = refused(&at("no parent/db"), &small());
    says(&error, ErrorKind::Io, "no parent/db");
    assert!(!at("no parent").exists());
    write_file(at("file"), b"mine");
    says(&refused(&at("file"), &small()), ErrorKind::InvalidArgument, "file");
    says(&refused(&at("file"), &small().read_only(true)), ErrorKind::InvalidArgument, "file");
    let error = Db::open(at("file/db"), &small()).unwrap_err();
    assert!(error.to_string().contains("file/db"), "{error}");
    assert_eq!(super::read_file(at("file")), b"mine");
    std::fs::create_dir(at("hollow")).unwrap();
    for options in [small().create_if_missing(false), small().read_only(true)] {
        says(&refused(&at("hollow"), &options), ErrorKind::NotFound, "hollow");
        assert!(!at("hollow/LOCK").exists(), "a failed open made a file");
    }
    // A link to a directory is as good as the directory.
    std::os::unix::fs::symlink(at("hollow"), at("link")).unwrap();
    sample(&at("link"));
    check_sample(&Db::open(at("hollow"), &small()).unwrap());
}

#[test]
fn a_database_that_was_not_to_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let new = small().error_if_exists(true);
    let db = Db::open(&path, &new).unwrap();
    fill(&db);
    // While it is open, too.
    says(&Db::open(&path, &new).unwrap_err(), ErrorKind::Exists, "db");
    db.close().unwrap();
    says(&refused(&path, &new), ErrorKind::Exists, "error_if_exists");
    check_sample(&Db::open(&path, &small()).unwrap());
}

#[test]
fn strangers_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    std::fs::create_dir(&path).unwrap();
    write_file(path.join("thesis.txt"), b"all of it");
    says(&refused(&path, &small()), ErrorKind::InvalidArgument, "thesis.txt");
    assert!(!path.join("LOCK").exists(), "a failed open made a file");
    let elsewhere = dir.path().join("thesis.txt");
    std::fs::hard_link(path.join("thesis.txt"), &elsewhere).unwrap();
    remove_file(&path.join("thesis.txt"));
    sample(&path);
    // Some of them look almost like files of a database.
    let names = [
        "thesis.txt",
        "7.table",
        "000007.sst",
        "CURRENT.bak",
        "MANIFEST-1",
        "lock",
        "36028797018963968.table",
        "18446744073709551600.vlog",
    ];
    for name in names {
        write_file(path.join(name), name.as_bytes());
    }
    let folders = ["000099.table", "backup", "000001.vlog.d"];
    for name in folders {
        std::fs::create_dir(path.join(name)).unwrap();
        write_file(path.join(name).join("inside"), b"mine");
    }
    for _ in 0..2 {
        let db = Db::open(&path, &small()).unwrap();
        check_sample(&db);
        db.put(b"k", b"").unwrap();
        db.flush().unwrap();
        db.delete(b"k").unwrap();
        db.compact(std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
        db.close().unwrap();
    }
    Db::destroy(&path).unwrap();
    let left: Vec<_> = contents(&path).into_iter().collect();
    assert_eq!(left.len(), names.len() + 2 * folders.len(), "{left:?}");
    for name in names {
        assert_eq!(super::read_file(path.join(name)), name.as_bytes());
    }
}

#[test]
fn two_openers_in_one_process() {
    let dir = tempfile::tempdir().unwrap();
    let pid = std::process::id().to_string();
    let db = Db::open(dir.path(), &small()).unwrap();
    for options in [small(), small().read_only(true), small().create_if_missing(false)] {
        says(&Db::open(dir.path(), &options).unwrap_err(), ErrorKind::Locked, &pid);
    }
    says(&Db::destroy(dir.path()).unwrap_err(), ErrorKind::Locked, &pid);
    fill(&db);
    drop(db);
    // Readers share it, and keep writers away.
    let readers = [(); 2].map(|()| Db::open(dir.path(), &small().read_only(true)).unwrap());
    says(&refused(dir.path(), &small()), ErrorKind::Locked, "LOCK");
    readers.iter().for_each(check_sample);
    drop(readers);
    // What keeps the handle alive keeps the lock.
    let snapshot = Db::open(dir.path(), &small()).unwrap().snapshot().unwrap();
    says(&Db::open(dir.path(), &small()).unwrap_err(), ErrorKind::Locked, &pid);
    drop(snapshot);
    check_sample(&Db::open(dir.path(), &small()).unwrap());
}

/// Path that the other process holds.
const HELD: &str = "TOYKV_HOLD";

#[test]
fn other_process() {
    let Ok(path) = std::env::var(HELD) else { return };
    let _db = Db::open(path, &small()).unwrap();
    println!("\nheld");
    // Until it is killed.
    std::io::stdin().lines().for_each(drop);
}

#[test]
fn two_openers_in_two_processes() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let path = dir.path().to_str().unwrap();
    let mut other = again("bad_input::openers::other_process", HELD, path);
    let mut other = other.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "held"));
    let pid = format!("process {} ", other.id());
    for options in [small(), small().read_only(true)] {
        // The other may collect or merge meanwhile, so what files there are is its own affair.
        says(&Db::open(dir.path(), &options).unwrap_err(), ErrorKind::Locked, &pid);
    }
    says(&Db::destroy(dir.path()).unwrap_err(), ErrorKind::Locked, &pid);
    other.kill().unwrap();
    other.wait().unwrap();
    check_sample(&Db::open(dir.path(), &small()).unwrap());
}

#[test]
fn a_process_that_is_being_started_does_not_keep_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Between fork and exec they have copies of all descriptors.
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                Command::new("true").status().unwrap();
            }
        });
        let mut results = (0..300).map(|_| Db::open(dir.path(), &small())?.close());
        let failure = results.find(Result::is_err);
        done.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(failure.is_none(), "{failure:?}");
    });
}

#[test]
fn many_who_create_at_once() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = dir.path().join(round.to_string());
        let barrier = std::sync::Barrier::new(4);
        let open = || {
            barrier.wait();
            Db::open(&path, &small())
        };
        let results = std::thread::scope(|scope| {
            let openers = [(); 4].map(|()| scope.spawn(open));
            openers.map(|opener| opener.join().unwrap())
        });
        assert!(results.iter().any(|result| result.is_ok()), "{results:?}");
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            says(error, ErrorKind::Locked, "LOCK");
        }
    }
}

/// Directory without permission to write in it.
const UNWRITABLE: &str = "TOYKV_UNWRITABLE";

#[test]
fn somebody_else() {
    let Ok(path) = std::env::var(UNWRITABLE) else { return };
    refuse_unwritable(Path::new(&path));
}

fn refuse_unwritable(dir: &Path) {
    let before = contents(dir);
    for name in ["empty", "db", "db/new", "new"] {
        let error = Db::open(dir.join(name), &Options::new()).unwrap_err();
        says(&error, ErrorKind::ReadOnly, name);
    }
    // Reading needs no more than reading.
    check_sample(&Db::open(dir.join("db"), &Options::new().read_only(true)).unwrap());
    assert!(contents(dir) == before);
}

#[test]
fn directories_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    sample(&dir.path().join("db"));
    let program = dir.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for path in contents(dir.path()).keys().filter(|path| **path != program) {
        allow(path, if path.is_dir() { 0o555 } else { 0o444 });
    }
    allow(&dir.path().join("db/LOCK"), 0o444);
    allow(dir.path(), 0o555);
    if std::fs::metadata(dir.path()).unwrap().uid() == 0 {
        // Root may write anywhere; somebody else does it.
        let mut command = Command::new(&program);
        command.args(["--exact", "bad_input::openers::somebody_else", "--nocapture"]);
        command.env(UNWRITABLE, dir.path()).current_dir("/").uid(65_534);
        // A child that another test has just forked may hold the copy open for writing.
        let output = loop {
            match command.output() {
                Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                output => break output.unwrap(),
            }
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    } else {
        refuse_unwritable(dir.path());
    }
    for path in [dir.path().to_path_buf(), dir.path().join("db"), dir.path().join("empty")] {
        allow(&path, 0o755);
    }
}

#[test]
fn a_disk_that_allows_nothing_new() {
    for kind in [OpKind::Create, OpKind::Lock, OpKind::CreateDir] {
        let disk = SimDisk::new();
        let path = Path::new("/db");
        if kind != OpKind::CreateDir {
            let db = disk.open_db(path, &small()).unwrap();
            fill(&db);
            db.close().unwrap();
        }
        let files = || {
            let files = disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK"));
            files.map(|(path, _)| (disk.read_file(&path).unwrap(), path)).collect::<Vec<_>>()
        };
        let before = files();
        disk.fail(Fault::when(|_| true).on(kind).errno(libc_eacces()).forever());
        let error = disk.open_db(path, &small()).unwrap_err();
        says(&error, ErrorKind::ReadOnly, "/db");
        assert!(files() == before, "{kind:?}");
        disk.clear_faults();
        if kind != OpKind::CreateDir {
            check_sample(&disk.open_db(path, &small()).unwrap());
        }
    }
}

/// EACCES on every Linux machine.
fn libc_eacces() -> i32 {
    13
}
