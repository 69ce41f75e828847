//! Words of the shell's lines as arguments, and back.
//!
//! Invariant LITERAL: what stood in quotes is never an option, a file or the standard input.

use super::line::Word;
use crate::text::escape;

/// A word as an argument with escapes.
pub(super) fn argument((bytes, quoted): &Word) -> String {
    let text = escape(bytes);
    let special = *quoted && text.starts_with(['-', '@']);
    if special { format!("\\{text}") } else { text }
}

/// Bytes as one word that [`super::line::split`] reads back: as they are where that is readable.
pub(super) fn quote(bytes: &[u8]) -> String {
    let text = escape(bytes);
    let bare = |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | '\\');
    let option = text.starts_with(['-', '@', '#']);
    if !text.is_empty() && !option && text.chars().all(bare) {
        return text;
    }
    format!("\"{}\"", text.replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::super::line::split;
    use super::*;
    use crate::text::Encoding;

    #[test]
    fn any_bytes_survive_quoting_and_become_the_same_argument() {
        let every: Vec<u8> = (0..=255).collect();
        let cases = [&b""[..], b"plain:1", b"a b", b"\"'\\", b"-n", b"@f", b"-", "é".as_bytes()];
        for bytes in cases.into_iter().chain([&every[..]]) {
            let line = quote(bytes);
            let word = split(line.as_bytes()).unwrap().remove(0);
            assert_eq!(word.0, bytes, "{line}");
            let argument = argument(&word);
            assert!(!argument.starts_with(['-', '@']), "{argument}");
            assert_eq!(Encoding::Escaped.decode(argument.as_bytes()).unwrap(), bytes, "{line}");
        }
        assert_eq!(quote(b"plain:key/1"), "plain:key/1");
    }
}
