//! The C programs of `tests/c`, compiled without a warning and run against the library: what they
//! check they say themselves; here they are given a directory, and have to end well in silence.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
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
