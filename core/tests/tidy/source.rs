//! The files of the repository, and Rust text without its comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

/// One text file.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Path from the repository's root, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// A made-up file.
    #[cfg(test)]
    pub(crate) fn new(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    /// The text with comments, strings and characters blanked out; lines stay where they are.
    pub(crate) fn code(&self) -> String {
        blank(&self.text)
    }

    /// What of some text of this file, line by line, is not a test.
    pub(crate) fn production<'a>(&self, text: &'a str) -> &'a str {
        if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") {
            return "";
        }
        let tests = text.match_indices("#[cfg(test)]").map(|(at, _)| at);
        let opens_tests = |&at: &usize| {
            let next = text[at..].lines().nth(1).unwrap_or_default();
            (at == 0 || text[..at].ends_with('\n')) && next.starts_with("mod tests")
        };
        &text[..tests.into_iter().find(opens_tests).unwrap_or(text.len())]
    }

    /// The line number of a byte.
    pub(crate) fn line(text: &str, at: usize) -> usize {
        text[..at].matches('\n').count() + 1
    }
}

/// Every Rust file of the crates and examples.
pub(crate) fn rust_files() -> Vec<Source> {
    let roots = ["core/", "ffi/", "python/", "examples/"];
    let ours = |path: &str| path.ends_with(".rs") && roots.iter().any(|r| path.starts_with(r));
    all_files().into_iter().filter(|file| ours(&file.path)).collect()
}

/// Every text file of the repository that people write.
pub(crate) fn all_files() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder)).expect("a folder of the repository") {
            let entry = entry.expect("an entry of a folder");
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = folder.join(&name);
            let kind = entry.file_type().expect("the type of an entry");
            if kind.is_dir() && !is_made(&name) {
                folders.push(path);
            } else if kind.is_file() && !is_made(&name) {
                // What is not text is of no interest.
                if let Ok(text) = fs::read_to_string(root.join(&path)) {
                    let path = path.to_string_lossy().replace('\\', "/");
                    files.push(Source { path, text });
                }
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// True for folders and files that tools fill.
fn is_made(name: &str) -> bool {
    let folders = ["target", "node_modules", "__pycache__", "build", "dist", "corpus", "artifacts"];
    let files = ["Cargo.lock", "package-lock.json"];
    let hidden = name.starts_with('.') && name != ".ci" && name != ".gitignore";
    hidden || folders.contains(&name) || files.contains(&name)
}

/// Blanks out comments, strings and characters.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = token_end(bytes, at);
        match end {
            Some(end) => {
                for byte in &mut out[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8(out).expect("only whole tokens are blanked out")
}

/// The end of the comment, string or character that begins at `at`, if one does.
fn token_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let word_before = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return Some(at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(b"/*") {
        return Some(at + comment_len(rest));
    }
    if rest[0] == b'"' {
        return Some(at + quoted_len(rest, b'"'));
    }
    if rest[0] == b'r' && (!word_before || matches!(bytes[at - 1], b'b' | b'c')) {
        let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
            let body = &rest[2 + hashes..];
            let len = body.windows(close.len()).position(|window| window == close);
            return Some(at + len.map_or(rest.len(), |len| 2 + hashes + len + close.len()));
        }
    }
    // A character, and not a lifetime or a label: closed after one character or an escape.
    let text = std::str::from_utf8(rest).ok().filter(|_| rest[0] == b'\'')?;
    let mut chars = text.char_indices().skip(1);
    match chars.next()? {
        (_, '\\') => Some(at + quoted_len(rest, b'\'')),
        _ => chars.next().filter(|&(_, c)| c == '\'').map(|(len, _)| at + len + 1),
    }
}

/// Length of a comment that may hold others.
fn comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        let pair = rest.get(at..at + 2).unwrap_or(b"");
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Length of a literal with escapes, its quotes included.
fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// True for what a word is made of.
pub(crate) fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric()
}

/// Where `word` stands as a whole word.
pub(crate) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).is_some_and(|before| is_word(bytes[before]));
        let after = bytes.get(at + word.len()).is_some_and(|&byte| is_word(byte));
        !before && !after
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_out_and_nothing_else() {
        let cases = [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"{ \\\" }\") {", "f(        ) {"),
            ("r\"\\\" r#\"a\" b\"# x", "               x"),
            ("br#\"{\"# b'{' '\\'' 'é' x", "b       b              x"),
            ("fn f<'a>(x: &'a str) -> &'static u8", "fn f<'a>(x: &'a str) -> &'static u8"),
            ("r#type 'a: loop { '{' }", "r#type 'a: loop {     }"),
        ];
        for (text, expected) in cases {
            let blanked = blank(text);
            assert_eq!(blanked.trim_end(), expected.trim_end(), "{text}");
            assert_eq!(blanked.len(), text.len());
        }
    }

    #[test]
    fn tests_are_told_from_production() {
        let text = "fn a() {}\n#[cfg(test)]\nuse b;\n#[cfg(test)]\nmod tests {\n}\n";
        let production = |path| Source::new(path, text).production(text).lines().count();
        assert_eq!(production("core/src/a.rs"), 3);
        assert_eq!(production("core/src/a/tests.rs"), 0);
        assert_eq!(production("core/tests/it/a.rs"), 0);
        let indented = text.replace("#[cfg", "  #[cfg");
        let file = Source::new("core/src/a.rs", &indented);
        assert_eq!(file.production(&indented), indented);
    }

    #[test]
    fn words_are_whole_words() {
        let at: Vec<usize> = words("fs a_fs fs_b (fs)", "fs").collect();
        assert_eq!(at, [0, 14]);
    }
}
