//! The C programs of `tests/c`, compiled without a warning and run against the library: what they
//! check they say themselves; here they are given a directory, and have to end well in silence.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use support::{Signature, c_compiler, crate_dir, include_dir, library_dir, run};
use tempfile::TempDir;

/// A compiled program and a directory for its databases.
struct Program {
    dir: TempDir,
}

impl Program {
    /// Compiles `tests/c/<name>.c` and links it with the shared library.
    fn new(name: &str) -> Program {
        Program::blank().linked(name)
    }

    /// As [`Program::new`], in a directory that may hold files for it to include.
    fn linked(self, name: &str) -> Program {
        // The loader looks for the soname; the library lies under its link name.
        let soname = self.dir.path().join("libtoykv.so.0");
        std::os::unix::fs::symlink(support::library(), soname).expect("a symbolic link");
        let rpath = format!("-Wl,-rpath,{}", self.dir.path().display());
        let search = format!("-L{}", library_dir().display());
        let link = [sanitizers(), &[&search, "-l:libtoykv.so", &rpath, "-lpthread"]].concat();
        let source = crate_dir().join(format!("tests/c/{name}.c"));
        self.compile(&source, &link);
        self
    }

    fn blank() -> Program {
        let dir = tempfile::tempdir().expect("a directory");
        // Some programs go on as another user.
        let everybody = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.path(), everybody).expect("permissions");
        std::fs::create_dir(dir.path().join("data")).expect("a directory");
        Program { dir }
    }

    fn compile(&self, source: &Path, link: &[&str]) {
        let flags = ["-std=c99", "-O1", "-g", "-Wall", "-Wextra", "-pedantic", "-Werror"];
        let mut compiler = c_compiler();
        compiler.args(flags).arg("-I").arg(include_dir()).arg("-I").arg(self.dir.path());
        run(compiler.arg(source).args(link).arg("-o").arg(self.executable()), true);
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

/// Flags for memory errors and leaks to end a program, where compiler and system can do that.
fn sanitizers() -> &'static [&'static str] {
    static FLAGS: OnceLock<&[&str]> = OnceLock::new();
    FLAGS.get_or_init(|| {
        let flags = &["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
        let dir = tempfile::tempdir().expect("a directory");
        let (source, program) = (dir.path().join("probe.c"), dir.path().join("probe"));
        std::fs::write(&source, "int main(void) { return 0; }\n").expect("a source");
        let built = c_compiler().args(*flags).arg(source).arg("-o").arg(&program).output();
        let works = built.is_ok_and(|built| built.status.success())
            && Command::new(program).output().is_ok_and(|ran| ran.status.success());
        if works { flags } else { &[] }
    })
}

#[test]
fn points() {
    Program::new("points").run(&[]);
}

#[test]
fn repair() {
    Program::new("repair").run(&[]);
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
    let program = Program::new("forks");
    let mut command = Command::new(program.executable());
    // What the parent's other threads held is out of reach in a forked child, and now and then
    // taken for a leak; memory errors still end the program.
    run(command.env("ASAN_OPTIONS", "detect_leaks=0").arg(program.data()), true);
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

/// The name of the array of arguments for a parameter in `tests/c/abuse.c`.
fn array_of(kind: &str, name: &str) -> String {
    if kind == "const char **" {
        return "args_text_out".to_string();
    }
    let words: Vec<&str> = kind.split([' ', '*']).filter(|word| !word.is_empty()).collect();
    format!("args_{}_{name}", words.join("_"))
}

/// A C function that calls a function of the header with every combination of arguments.
fn calls_of(signature: &Signature) -> String {
    let (mut loops, mut arguments, mut worst) = (Vec::new(), Vec::new(), "GOOD".to_string());
    let mut parameters = signature.parameters.iter().peekable();
    while let Some((kind, name)) = parameters.next() {
        let is_list = ["key", "value", "buf", "keys"].contains(&name.as_str());
        let length = parameters
            .next_if(|(kind, next)| is_list && kind == "size_t" && !next.starts_with("max"));
        let index = format!("i{}", loops.len());
        let array = if length.is_some() { format!("pairs_{name}") } else { array_of(kind, name) };
        let is_number = !kind.contains('*');
        let member = if is_number { "n" } else { "p" };
        let cast = if is_number { format!("({kind})") } else { String::new() };
        arguments.push(format!("{cast}{array}[{index}].{member}"));
        arguments.extend(length.map(|_| format!("{array}[{index}].n")));
        worst = format!("worse({worst}, {array}[{index}].worth)");
        loops.push(format!("    for (size_t {index} = 0; {index} < COUNT({array}); {index}++)\n"));
    }
    let call = format!("{}({})", signature.name, arguments.join(", "));
    let name = &signature.name;
    let body = match signature.answer.as_str() {
        "int32_t" => format!("judge(\"{name}\", {call}, {worst});"),
        "toykv_batch *" => format!("toykv_batch_free({call}), clean();"),
        "toykv_options *" => format!("toykv_options_free({call}), clean();"),
        _ => format!("(void){call}, clean();"),
    };
    format!("static void call_{name}(void)\n{{\n{}        {body}\n}}\n\n", loops.concat())
}

/// Everything that the header declares, whatever is added to it.
#[test]
fn abuse() {
    let header = support::header();
    let signatures = support::signatures(&header);
    let mut calls: String = signatures.iter().map(calls_of).collect();
    let each = signatures.iter().map(|signature| format!("    call_{}();\n", signature.name));
    calls += &format!("static void call_everything(void)\n{{\n{}}}\n", each.collect::<String>());
    let program = Program::blank();
    std::fs::write(program.dir.path().join("abuse_calls.inc"), calls).expect("a file to include");
    program.linked("abuse").run(&[]);
}

/// The static library serves as well, with the system libraries that Rust's own needs.
#[test]
fn linked_statically() {
    let program = Program::blank();
    let library = library_dir().join("libtoykv.a").display().to_string();
    let source = crate_dir().join("tests/c/points.c");
    program.compile(&source, &[&library, "-lgcc_s", "-lpthread", "-lm", "-ldl", "-lc"]);
    program.run(&[]);
}
