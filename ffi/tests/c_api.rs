//! The C programs of `tests/c`, compiled without a warning and run against the library: what they
//! check they say themselves; here they are given a directory, and have to end well in silence.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use support::{c_compiler, crate_dir, include_dir, library_dir, run};
use tempfile::TempDir;

/// A compiled program and a directory for its databases.
struct Program {
    dir: TempDir,
}

impl Program {
    /// Compiles `tests/c/<name>.c` and links it with the shared library.
    fn new(name: &str) -> Program {
        let program = Program::blank();
        // The loader looks for the soname; the library lies under its link name.
        let soname = program.dir.path().join("libtoykv.so.0");
        std::os::unix::fs::symlink(support::library(), soname).expect("a symbolic link");
        let rpath = format!("-Wl,-rpath,{}", program.dir.path().display());
        let search = format!("-L{}", library_dir().display());
        program.compile(name, &[&search, "-l:libtoykv.so", &rpath, "-lpthread"]);
        program
    }

    fn blank() -> Program {
        let dir = tempfile::tempdir().expect("a directory");
        // Some programs go on as another user.
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), everybody).expect("permissions");
        std::fs::create_dir(dir.path().join("data")).expect("a directory");
        Program { dir }
    }

    fn compile(&self, name: &str, link: &[&str]) {
        let flags = ["-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror"];
        let mut compiler = c_compiler();
        compiler.args(flags).arg("-I").arg(include_dir()).arg("-I").arg(self.dir.path());
        compiler.arg(crate_dir().join(format!("tests/c/{name}.c"))).args(link);
        run(compiler.arg("-o").arg(self.executable()), true);
    }

    fn executable(&self) -> PathBuf {
        self.dir.path().join("program")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Runs it with a mode, if any, and the data directory.
    fn run(&self, mode: &[&str]) {
        run(Command::new(self.executable()).args(mode).arg(self.data()), true);
    }
}

#[test]
fn points() {
    Program::new("points").run(&[]);
}

#[test]
fn scans() {
    Program::new("scans").run(&[]);
}

#[test]
fn handles() {
    Program::new("handles").run(&[]);
}

#[test]
fn forks() {
    Program::new("forks").run(&[]);
}

#[test]
fn threads() {
    Program::new("threads").run(&[]);
}

/// The manifest's header, as FORMAT.md has it: magic, version u32 at 8, 32 bytes more, and at 48 a
/// checksum with this seed over all before it.
const MANIFEST_SEED: u64 = u64::from_be_bytes(*b"manifest");

#[test]
fn opening() {
    let program = Program::new("opening");
    program.run(&["make"]);
    let future = program.data().join("future");
    let names = std::fs::read_dir(&future).expect("the database").map(|entry| entry.unwrap());
    let mut manifests = names.filter(|name| name.file_name().as_encoded_bytes().starts_with(b"M"));
    let manifest = manifests.next().expect("a manifest").path();
    let mut bytes = std::fs::read(&manifest).expect("the manifest");
    let (header, checksum) = bytes[..56].split_at_mut(48);
    let expected = xxhash_rust::xxh3::xxh3_64_with_seed(header, MANIFEST_SEED);
    assert_eq!(checksum, expected.to_le_bytes(), "the header is not where it was");
    assert_eq!(header[8..12], [1, 0, 0, 0]);
    header[8] = 2;
    let new = xxhash_rust::xxh3::xxh3_64_with_seed(header, MANIFEST_SEED);
    checksum.copy_from_slice(&new.to_le_bytes());
    std::fs::write(&manifest, bytes).expect("the manifest");
    program.run(&["check"]);
}
