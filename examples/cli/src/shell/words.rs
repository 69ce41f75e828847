//! Splits the shell's lines into words: the dialect of the server's lines.
//!
//! Invariant LITERAL: what stood in quotes is never an option, a file or the standard input.

use crate::failure::{Failure, Result};
use crate::text::escape;

/// One word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// The bytes that it means.
    pub(super) bytes: Vec<u8>,
    pub(super) quoted: bool,
}

impl Word {
    /// The word as an argument with escapes.
    pub(super) fn argument(&self) -> String {
        let text = escape(&self.bytes);
        let special = self.quoted && text.starts_with(['-', '@']);
        if special { format!("\\{text}") } else { text }
    }
}

/// Blanks part words; in double quotes `\n \r \t \b \a \0 \\ \" \xHH` stand for bytes, in single
/// quotes only `\'`; elsewhere every byte is itself.
pub(super) fn split(line: &[u8]) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let Some(&first) = rest.first() {
        let quoted = matches!(first, b'"' | b'\'');
        let (bytes, behind) = if quoted {
            quoted_word(&rest[1..], first)?
        } else {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            (rest[..end].to_vec(), &rest[end..])
        };
        if behind.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err(Failure::usage("a closing quote must be followed by a blank"));
        }
        words.push(Word { bytes, quoted });
        rest = behind.trim_ascii_start();
    }
    Ok(words)
}

fn quoted_word(mut rest: &[u8], quote: u8) -> Result<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Err(Failure::usage("a quote is not closed")),
            [byte, behind @ ..] if *byte == quote => return Ok((word, behind)),
            [b'\\', b'x', behind @ ..] if quote == b'"' => {
                let (byte, behind) = hex_byte(behind)
                    .ok_or_else(|| Failure::usage("\\x needs two hexadecimal digits"))?;
                word.push(byte);
                rest = behind;
            }
            [b'\\', escaped, behind @ ..] if quote == b'"' || *escaped == quote => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    b'0' => 0,
                    other => *other,
                });
                rest = behind;
            }
            [byte, behind @ ..] => {
                word.push(*byte);
                rest = behind;
            }
        }
    }
}

fn hex_byte(rest: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, behind) = rest.split_at_checked(2)?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    Some(((digit(digits[0])? << 4 | digit(digits[1])?) as u8, behind))
}

/// Bytes as one word that [`split`] reads back: as they are where that is readable.
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
    use super::*;
    use crate::text::Encoding;

    fn words(line: &str) -> Vec<Vec<u8>> {
        split(line.as_bytes()).unwrap().into_iter().map(|word| word.bytes).collect()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("  SET a\tb \r"), [&b"SET"[..], b"a", b"b"]);
        assert_eq!(words(r#"SET "a b" "\x00\xfF\n\\\"" "#), [&b"SET"[..], b"a b", b"\0\xff\n\\\""]);
        assert_eq!(words(r"'a \x00' 'it\'s' \x"), [&br"a \x00"[..], b"it's", br"\x"]);
        assert_eq!(words(r#"a"b "" "#), [&b"a\"b"[..], b""]);
        assert_eq!(words(""), [[]; 0] as [[u8; 0]; 0]);
        for bad in ["\"a", "'a", "\"a\"b", r#""\x1""#, r#""\xg0""#, r#""\"#] {
            assert_eq!(split(bad.as_bytes()).unwrap_err().exit as u8, 2, "{bad}");
        }
    }

    #[test]
    fn any_bytes_survive_quoting_and_become_the_same_argument() {
        let every: Vec<u8> = (0..=255).collect();
        let cases = [&b""[..], b"plain:1", b"a b", b"\"'\\", b"-n", b"@f", b"-", "é".as_bytes()];
        for bytes in cases.into_iter().chain([&every[..]]) {
            let line = quote(bytes);
            let word = split(line.as_bytes()).unwrap().remove(0);
            assert_eq!(word.bytes, bytes, "{line}");
            let argument = word.argument();
            assert!(!argument.starts_with(['-', '@']), "{argument}");
            assert_eq!(Encoding::Escaped.decode(argument.as_bytes()).unwrap(), bytes, "{line}");
        }
        assert_eq!(quote(b"plain:key/1"), "plain:key/1");
    }
}
