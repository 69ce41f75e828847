//! Keys and values as text: escapes, hex, base64, or as they are.
//!
//! Invariant BACK: what [`Encoding::encode`] writes, [`Encoding::decode`] reads back to the same
//! bytes; in every encoding but `Plain` it is printable and has no tab and no line end.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};

use crate::failure::{Failure, Result};

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// UTF-8 with `\n`, `\t`, `\\`, `\x00` and the like for everything else.
    #[default]
    Escaped,
    /// The bytes themselves.
    Plain,
    /// Two hexadecimal digits a byte.
    Hex,
    /// Base64 with padding.
    Base64,
}

impl Encoding {
    /// The bytes that `text` means.
    pub(crate) fn decode(self, text: &[u8]) -> Result<Vec<u8>> {
        let shown = || String::from_utf8_lossy(text).into_owned();
        match self {
            Encoding::Escaped => unescape(text),
            Encoding::Plain => Ok(text.to_vec()),
            Encoding::Hex => HEXLOWER_PERMISSIVE
                .decode(text)
                .map_err(|error| Failure::usage(format!("{:?} is not hex: {error}", shown()))),
            Encoding::Base64 => BASE64
                .decode(text)
                .map_err(|error| Failure::usage(format!("{:?} is not base64: {error}", shown()))),
        }
    }

    /// `bytes` as text; only `Plain` may answer what is not UTF-8.
    pub(crate) fn encode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Encoding::Escaped => escape(bytes).into_bytes(),
            Encoding::Plain => bytes.to_vec(),
            Encoding::Hex => HEXLOWER_PERMISSIVE.encode(bytes).into_bytes(),
            Encoding::Base64 => BASE64.encode(bytes).into_bytes(),
        }
    }
}

/// Text that [`unescape`] reads back: printable UTF-8 stays, everything else becomes an escape.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if is_printable(c) => out.push(c),
                c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(&mut out, byte)),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(&mut out, *byte));
    }
    out
}

/// Whether a terminal shows the character as itself, without moving or reordering others.
fn is_printable(c: char) -> bool {
    let reorders = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}');
    !c.is_control() && !reorders
}

fn push_hex(out: &mut String, byte: u8) {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or('?');
    out.push_str("\\x");
    out.push(digit(byte >> 4));
    out.push(digit(byte & 15));
}

/// The bytes of text with escapes: `\xHH`, `\u{HEX}`, `\n`, `\r`, `\t`, `\0`, and a backslash
/// before any character that is neither letter nor digit for that character.
fn unescape(text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        rest = unescape_one(rest, &mut out).ok_or_else(|| {
            let at = text.len() - rest.len() - 1;
            let tail = String::from_utf8_lossy(&text[at..text.len().min(at + 10)]).into_owned();
            Failure::usage(format!(
                "no escape begins with {tail:?}; write \\\\ for a backslash, or use --plain"
            ))
        })?;
    }
    Ok(out)
}

/// Reads one escape behind its backslash and answers what is left.
fn unescape_one<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, tail) = rest.split_first()?;
    match kind {
        b'n' => out.push(b'\n'),
        b'r' => out.push(b'\r'),
        b't' => out.push(b'\t'),
        b'0' => out.push(0),
        b'x' => {
            let (digits, tail) = tail.split_at_checked(2)?;
            out.push(number(digits)?.try_into().ok()?);
            return Some(tail);
        }
        b'u' => {
            let tail = tail.strip_prefix(b"{")?;
            let end = tail.iter().take(7).position(|byte| *byte == b'}')?;
            let c = char::from_u32(number(tail.get(..end)?)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return tail.get(end + 1..);
        }
        other if other.is_ascii_alphanumeric() => return None,
        other => out.push(other),
    }
    Some(tail)
}

/// Hexadecimal digits as a number; at least one.
fn number(digits: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if all { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        let cases: &[(&str, &[u8])] = &[
            ("plain é", "plain é".as_bytes()),
            (r"a\x00\xfFb", b"a\x00\xffb"),
            (r"\n\r\t\0\\", b"\n\r\t\0\\"),
            (r#"\"\'\@\-\ "#, b"\"'@- "),
            (r"\u{e9}\u{1F600}", "é😀".as_bytes()),
        ];
        for (text, bytes) in cases {
            assert_eq!(unescape(text.as_bytes()).unwrap(), *bytes, "{text}");
        }
        for bad in [r"\", r"\x1", r"\xg0", r"\x+1", r"\q", r"\u{}", r"\u{d800}", r"\u{1234567}"] {
            assert_eq!(unescape(bad.as_bytes()).unwrap_err().exit as u8, 2, "{bad}");
        }
    }

    #[test]
    fn everything_is_read_back_and_nothing_breaks_a_line() {
        let mut all: Vec<u8> = (0..=255).collect();
        all.extend("é😀\u{202e}\u{2028}\u{85}".bytes());
        for encoding in [Encoding::Escaped, Encoding::Hex, Encoding::Base64] {
            let text = String::from_utf8(encoding.encode(&all)).unwrap();
            assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{text}");
            assert_eq!(encoding.decode(text.as_bytes()).unwrap(), all);
        }
        assert_eq!(escape(b"a\\\n\x1b\xff\xc3\xa9"), r"a\\\n\x1b\xffé");
        assert_eq!(Encoding::Plain.decode(&Encoding::Plain.encode(&all)).unwrap(), all);
    }

    #[test]
    fn wrong_digits_are_named() {
        for (encoding, text) in [(Encoding::Hex, "abc"), (Encoding::Base64, "a$==")] {
            let failure = encoding.decode(text.as_bytes()).unwrap_err();
            assert!(failure.message.contains(text), "{failure}");
        }
    }
}
