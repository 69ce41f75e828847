//! What the tests share: where things are, and the compilers.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The directory of this crate.
pub(crate) fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `include/` of the repository.
pub(crate) fn include_dir() -> PathBuf {
    crate_dir().join("../include")
}

/// The text of the committed header.
pub(crate) fn header() -> String {
    let path = include_dir().join("toykv.h");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The directory with the shared and the static library. Cargo does not build them for tests, as
/// Rust cannot link them: this asks it to, once for each test binary.
pub(crate) fn library_dir() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // <target directory>/<profile>/deps/<this test>
        let binary = std::env::current_exe().expect("the path of this test");
        let profile_dir = binary.ancestors().nth(2).expect("a directory of the profile");
        let target_dir = profile_dir.parent().expect("a target directory");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "toykv-ffi", "--lib", "--target-dir"]);
        cargo.arg(target_dir).current_dir(crate_dir());
        let is_release = profile_dir.ends_with("release");
        run(cargo.args(is_release.then_some("--release")), false);
        target_dir.join(if is_release { "release" } else { "debug" })
    })
}

/// The shared library.
pub(crate) fn library() -> PathBuf {
    library_dir().join("libtoykv.so")
}

/// The C compiler: $CC, or cc.
pub(crate) fn c_compiler() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

/// The C++ compiler: $CXX, or c++.
pub(crate) fn cxx_compiler() -> Command {
    Command::new(std::env::var_os("CXX").unwrap_or_else(|| "c++".into()))
}

/// Runs a command; panics with what it wrote unless it ends well and, where that is asked for, in
/// silence.
pub(crate) fn run(command: &mut Command, silent: bool) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let quiet = out.is_empty() && err.is_empty();
    assert!(
        output.status.success() && (quiet || !silent),
        "{command:?}: {}\n{out}{err}",
        output.status
    );
    output
}

/// The functions that a header declares, in order, with the place of each declaration.
pub(crate) fn declared_functions(header: &str) -> Vec<(&str, usize)> {
    let mut names = Vec::new();
    let (mut in_comment, mut place) = (false, 0);
    for line in header.split_inclusive('\n') {
        in_comment |= line.trim_start().starts_with("/*");
        if !in_comment && !line.starts_with([' ', '#', '}']) {
            let before = line.split_once('(').map(|(before, _)| before);
            let name = before.and_then(|before| before.rsplit([' ', '*']).next());
            names.extend(name.filter(|name| name.starts_with("toykv_")).map(|name| (name, place)));
        }
        in_comment &= !line.contains("*/");
        place += line.len();
    }
    names
}

/// A function as the header declares it.
pub(crate) struct Signature {
    /// What it answers, such as `int32_t`.
    pub(crate) answer: String,
    /// Its name.
    pub(crate) name: String,
    /// Types, such as `const toykv_slice *`, and names of its parameters.
    pub(crate) parameters: Vec<(String, String)>,
}

/// All functions of a header.
pub(crate) fn signatures(header: &str) -> Vec<Signature> {
    // "type *name" into "type *" and "name".
    let split = |text: &str| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (kind, name) = text.split_at(text.rfind([' ', '*']).map_or(0, |at| at + 1));
        (kind.trim().to_string(), name.to_string())
    };
    let declared = declared_functions(header).into_iter();
    let parsed = declared.map(|(_, place)| {
        let (text, _) = header[place..].split_once(");").expect("the end of a declaration");
        let (before, parameters) = text.split_once('(').expect("parameters");
        let (answer, name) = split(before);
        let parameters = parameters.split(',').filter(|text| *text != "void").map(split);
        Signature { answer, name, parameters: parameters.collect() }
    });
    parsed.collect()
}
