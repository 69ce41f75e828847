//! `include/toykv.h` is what cbindgen makes of `ffi/src`, compiles everywhere without a warning,
//! and says of every function what it promises.
//!
//! `UPDATE_HEADER=1 cargo test -p toykv-ffi --test header` writes it anew.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

mod support;

use std::process::Command;
use std::sync::OnceLock;
use support::{c_compiler, crate_dir, cxx_compiler, declared_functions, run};

/// The files in the order of the header.
const SOURCES: [&str; 9] =
    ["status", "buffer", "options", "db", "maintenance", "repair", "batch", "snapshot", "iterator"];

fn generate() -> String {
    let config = cbindgen::Config::from_file(crate_dir().join("cbindgen.toml")).expect("config");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(crate_dir().join(format!("src/{source}.rs")));
    }
    let mut bytes = Vec::new();
    builder.generate().expect("cbindgen reads the sources").write(&mut bytes);
    polish(&String::from_utf8(bytes).expect("a header is text"))
}

/// Short comments on one line, negative numbers in parentheses, types by their short names.
fn polish(header: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in header.lines() {
        let mut line = line.to_string();
        if !line.starts_with("typedef struct") {
            line = line.replace("struct toykv", "toykv");
        }
        if line.starts_with("#define") && line.contains(" -") {
            line = line.replace(" -", " (-") + ")";
        }
        // "/**", " * text", " */" become one line.
        if let [.., start, text] = &lines[..]
            && let ("*/", "/**") = (line.trim(), start.trim())
        {
            let indent = start.trim_end_matches("/**");
            line = format!("{indent}/** {} */", text.trim_start().trim_start_matches("* "));
            lines.truncate(lines.len() - 2);
        }
        lines.push(line);
    }
    lines.join("\n") + "\n"
}

/// The committed header, written anew first where that is asked for.
fn header() -> &'static str {
    static HEADER: OnceLock<String> = OnceLock::new();
    HEADER.get_or_init(|| {
        if std::env::var_os("UPDATE_HEADER").is_some() {
            let path = support::include_dir().join("toykv.h");
            std::fs::write(path, generate()).expect("the header can be written");
        }
        support::header()
    })
}

#[test]
fn the_committed_header_is_generated_from_the_sources() {
    let (generated, committed) = (generate(), header());
    let differs = generated.lines().zip(committed.lines()).find(|(new, old)| new != old);
    assert!(
        generated == committed,
        "include/toykv.h is not what ffi/src says; first difference (new, old): {differs:?}\n\
         run UPDATE_HEADER=1 cargo test -p toykv-ffi --test header"
    );
}

/// Compiles a file that includes the header twice and uses it.
fn compile(command: &mut Command, standard: &str, extension: &str) {
    header();
    let dir = tempfile::tempdir().expect("a directory");
    let source = dir.path().join(format!("twice.{extension}"));
    let text = "#include <toykv.h>\n#include <toykv.h>\n\
                uint32_t version(void);\n\
                uint32_t version(void) { return toykv_abi_version() - TOYKV_ABI_VERSION; }\n";
    std::fs::write(&source, text).expect("a source");
    let flags = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"];
    let include = format!("-I{}", support::include_dir().display());
    run(command.arg(format!("-std={standard}")).args(flags).arg(include).arg(source), true);
}

#[test]
fn the_header_is_clean_c() {
    for standard in ["c99", "c11", "c17"] {
        compile(&mut c_compiler(), standard, "c");
    }
}

#[test]
fn the_header_is_clean_cxx() {
    for standard in ["c++11", "c++17", "c++20"] {
        compile(&mut cxx_compiler(), standard, "cpp");
    }
}

/// The comment above each function: what, then ownership, threads and errors.
#[test]
fn every_function_states_its_contract() {
    let header = header();
    let mut seen = 0;
    for (name, at) in declared_functions(header) {
        let start = header[..at].rfind("/*").expect("a comment");
        let (comment, rest) = header[start..at].split_once("*/").expect("an end of the comment");
        assert_eq!(rest, "\n", "{name} has no comment of its own");
        let place = |label: &str| {
            let text = format!("\n * {label}: ");
            assert_eq!(comment.matches(&text).count(), 1, "{name}: {label}\n{comment}");
            comment.find(&text)
        };
        let places = [place("Ownership"), place("Threads"), place("Errors")];
        assert!(places.is_sorted(), "{name}: the order\n{comment}");
        assert!(places[0] > Some(20), "{name} does not say what it does\n{comment}");
        seen += 1;
    }
    assert!(seen >= 43, "only {seen} functions");
}

/// No bool, enum, long, bit field, variable argument or struct by value crosses the border.
#[test]
fn signatures_use_fixed_types() {
    let header = header();
    for word in ["bool", "enum", "long", "...)", " : "] {
        let code = header.lines().filter(|line| !line.trim_start().starts_with(['*', '/']));
        let found: Vec<&str> = code.filter(|line| line.contains(word)).collect();
        assert!(found.is_empty(), "{word}: {found:?}");
    }
}
