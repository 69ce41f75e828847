//! Sizes and form: files, functions, documents, lines, and what a file begins with.

use crate::Source;
use crate::source::{is_word, words};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_FUNCTION_LINES_P95: usize = 40;
const MAX_COLUMNS: usize = 100;
const DOCUMENTS: &[(&str, usize)] =
    &[("core/FORMAT.md", 400), ("core/ARCHITECTURE.md", 250), ("README.md", 150)];

/// Files with too many lines that are not tests.
pub(crate) fn file_sizes(files: &[Source]) -> Vec<String> {
    let complain = |file: &Source| {
        let lines = file.production(&file.text).lines().count();
        (lines > MAX_FILE_LINES).then(|| format!("{}: {lines} lines", file.path))
    };
    files.iter().filter_map(complain).collect()
}

/// Functions that are too long, and too many long ones.
pub(crate) fn function_sizes(files: &[Source]) -> Vec<String> {
    let (mut complaints, mut sizes) = (Vec::new(), Vec::new());
    for file in files {
        let code = file.code();
        let production = file.production(&code).len();
        for (at, lines) in functions(&code) {
            if lines > MAX_FUNCTION_LINES {
                let line = Source::line(&code, at);
                complaints.push(format!("{}:{line}: a function of {lines} lines", file.path));
            }
            if at < production {
                sizes.push(lines);
            }
        }
    }
    sizes.sort_unstable();
    let p95 = sizes.get((sizes.len() * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
    if p95 > MAX_FUNCTION_LINES_P95 {
        complaints.push(format!("the 95th percentile of functions is {p95} lines"));
    }
    complaints
}

/// Where each function with a body begins, and its lines from its head to its last brace.
fn functions(code: &str) -> Vec<(usize, usize)> {
    let named = |at: &usize| {
        let name = code[at + 2..].trim_start();
        name.bytes().next().is_some_and(is_word)
    };
    let body = |at: usize| {
        let (mut round, mut curly) = (0usize, 0usize);
        for (len, byte) in code[at..].bytes().enumerate() {
            match byte {
                b'(' | b'[' => round += 1,
                b')' | b']' => round = round.saturating_sub(1),
                b'{' => curly += 1,
                b';' if round == 0 && curly == 0 => return None,
                b'}' if curly == 1 => {
                    return Some((at, code[at..at + len].matches('\n').count() + 1));
                }
                b'}' => curly = curly.saturating_sub(1),
                _ => {}
            }
        }
        None
    };
    words(code, "fn").filter(named).filter_map(body).collect()
}

/// Documents that are too long to be read.
pub(crate) fn document_sizes(files: &[Source]) -> Vec<String> {
    let complain = |file: &Source| {
        let &(_, limit) = DOCUMENTS.iter().find(|(path, _)| *path == file.path)?;
        let lines = file.text.lines().count();
        (lines > limit).then(|| format!("{}: {lines} lines, at most {limit}", file.path))
    };
    files.iter().filter_map(complain).collect()
}

/// Lines that are too wide.
pub(crate) fn line_widths(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > MAX_COLUMNS {
                complaints.push(format!("{}:{}: {columns} columns", file.path, index + 1));
            }
        }
    }
    complaints
}

/// Files that do not begin by saying what they are.
pub(crate) fn file_headers(files: &[Source]) -> Vec<String> {
    let says = |file: &&Source| {
        let first = file.text.lines().next().unwrap_or_default();
        first.strip_prefix("//! ").is_some_and(|text| !text.trim().is_empty())
    };
    files.iter().filter(|file| !says(file)).map(|file| file.path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> [Source; 1] {
        [Source::new(path, text)]
    }

    #[test]
    fn a_file_of_500_lines_is_small_and_its_tests_do_not_count() {
        let lines = |count| "x\n".repeat(count);
        assert_eq!(file_sizes(&file("core/src/a.rs", &lines(500))), [""; 0]);
        let complaint = ["core/src/a.rs: 501 lines"];
        assert_eq!(file_sizes(&file("core/src/a.rs", &lines(501))), complaint);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(499), lines(99));
        assert_eq!(file_sizes(&file("core/src/a.rs", &tested)), [""; 0]);
        assert_eq!(file_sizes(&file("core/src/a/tests.rs", &lines(501))), [""; 0]);
    }

    /// A function of so many lines in all.
    fn function(lines: usize) -> String {
        let body = "    call(\"{\");\n".repeat(lines - 2);
        format!("fn f(a: [u8; 4]) -> impl Fn(u8) {{\n{body}}}\n")
    }

    #[test]
    fn long_functions_are_found_and_many_rather_long_ones() {
        let sizes = |text: &str| function_sizes(&file("core/src/a.rs", text));
        let short = function(3).repeat(20);
        assert_eq!(sizes(&format!("{short}{}", function(70))), [""; 0]);
        let complaint = ["core/src/a.rs:61: a function of 71 lines"];
        assert_eq!(sizes(&format!("{short}{}", function(71))), complaint);
        let complaint = ["the 95th percentile of functions is 41 lines"];
        assert_eq!(sizes(&format!("{short}{}", function(41).repeat(2))), complaint);
        assert_eq!(sizes("trait A {\n    fn f(a: [u8; 2]);\n    fn g();\n}\n"), [""; 0]);
        assert_eq!(sizes(&format!("type A = fn(u8);\n{}", "{\n}\n".repeat(90))), [""; 0]);
    }

    #[test]
    fn functions_within_functions_count_for_themselves() {
        let code = "impl A {\n    fn f() {\n        fn g() { x }\n    }\n}\n";
        assert_eq!(functions(code), [(13, 3), (30, 1)]);
    }

    #[test]
    fn long_documents_are_found() {
        let lines = |count| "x\n".repeat(count);
        assert_eq!(document_sizes(&file("README.md", &lines(150))), [""; 0]);
        let complaint = ["README.md: 151 lines, at most 150"];
        assert_eq!(document_sizes(&file("README.md", &lines(151))), complaint);
        let complaint = ["core/FORMAT.md: 401 lines, at most 400"];
        assert_eq!(document_sizes(&file("core/FORMAT.md", &lines(401))), complaint);
        assert_eq!(document_sizes(&file("core/ARCHITECTURE.md", &lines(251))).len(), 1);
        assert_eq!(document_sizes(&file("python/README.md", &lines(999))), [""; 0]);
    }

    #[test]
    fn wide_lines_are_counted_in_characters() {
        assert_eq!(line_widths(&file("a.rs", &"é".repeat(100))), [""; 0]);
        let complaint = ["a.rs:2: 101 columns"];
        assert_eq!(line_widths(&file("a.rs", &format!("\n{}", "x".repeat(101)))), complaint);
    }

    #[test]
    fn a_file_begins_with_what_it_is() {
        assert_eq!(file_headers(&file("a.rs", "//! A thing.\n")), [""; 0]);
        for text in ["", "// A thing.", "use a;\n//! A thing.\n", "//!\n//! A thing.", "/// A"] {
            assert_eq!(file_headers(&file("a.rs", text)), ["a.rs"], "{text}");
        }
    }
}
