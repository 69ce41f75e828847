//! Runs the program.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder with a database `db` in it, as long as this lives.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    /// A folder with no database yet.
    pub(crate) fn new() -> Place {
        Place { folder: TempDir::new().unwrap() }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program on the database.
    pub(crate) fn toykv<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = program();
        command.arg("--dir").arg(self.path("db")).args(args).current_dir(self.folder.path());
        command
    }

    /// Runs a verb that must succeed and say nothing on the side; answers what it prints.
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: &[A]) -> Vec<u8> {
        succeed(&mut self.toykv(args), b"")
    }

    /// As [`Place::ok`], for answers that are text.
    pub(crate) fn text<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        String::from_utf8(self.ok(args)).unwrap()
    }

    /// Runs a verb that must fail; answers its exit code and what it complains about.
    pub(crate) fn fails<A: AsRef<OsStr>>(&self, args: &[A]) -> (i32, String) {
        fail(&mut self.toykv(args), b"")
    }

    /// Writes a file of the folder.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Reads a file of the folder.
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).unwrap()
    }
}

/// Names of the files in a folder, sorted.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<_> = entries.map(|e| name(e).into_string().unwrap()).collect();
    names.sort();
    names
}

/// Writes a file anywhere.
pub(crate) fn overwrite(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// Reads a file anywhere.
pub(crate) fn bytes_of(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// The program without arguments, and without what the environment says.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_toykv"));
    for name in ["TOYKV_DIR", "TOYKV_SERVER", "TOYKV_PASSWORD", "TOYKV_HISTORY", "PAGER"] {
        command.env_remove(name);
    }
    command
}

/// Runs a command with an input to its end.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program that fails early does not read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// Runs a command that must succeed and say nothing on the side.
pub(crate) fn succeed(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let output = run(command, input);
    let side = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {side}", output.status);
    assert_eq!(side, "", "{command:?}");
    output.stdout
}

/// Runs a command that must fail with one line of complaint.
pub(crate) fn fail(command: &mut Command, input: &[u8]) -> (i32, String) {
    let output = run(command, input);
    let side = String::from_utf8(output.stderr).unwrap();
    let code = output.status.code().unwrap_or_else(|| panic!("{command:?} died: {side}"));
    assert_ne!(code, 0, "{command:?} succeeded");
    assert!(!side.contains("panicked"), "{command:?}: {side}");
    (code, side)
}
