//! Lines of words, for people: blanks between words, quotes around those that have blanks or bytes
//! that cannot be typed. Of the lines dialect and of inline commands; the command line's shell
//! reads the same, and remembers what stood in quotes.

/// What is quoted at once, about.
const QUOTED_PIECE: usize = 4096;

/// Splits a line (without its end) into words. In double quotes `\n \r \t \b \a \0 \\ \" \xHH`
/// stand for bytes, in single quotes only `\'`. The error says what is wrong with the line.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let Some(&first) = rest.first() {
        let (word, behind) = match first {
            b'"' => double_quoted(&rest[1..])?,
            b'\'' => single_quoted(&rest[1..])?,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                (rest[..end].to_vec(), &rest[end..])
            }
        };
        if behind.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err("a closing quote must be followed by a blank".into());
        }
        words.push(word);
        rest = behind.trim_ascii_start();
    }
    Ok(words)
}

/// Writes bytes as one word that [`split`] reads back: as they are where that is readable,
/// otherwise in double quotes.
pub fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    quote_to(bytes, &mut |piece| {
        out.extend_from_slice(piece);
        true
    });
}

/// The same piece by piece, until `push` answers false; so that nothing long is held.
pub(crate) fn quote_to(bytes: &[u8], push: &mut dyn FnMut(&[u8]) -> bool) {
    let plain = |byte: &u8| byte.is_ascii_graphic() && *byte != b'"' && *byte != b'\'';
    let text = std::str::from_utf8(bytes).is_ok();
    if !bytes.is_empty() && text && bytes.iter().all(|byte| plain(byte) || *byte >= 0x80) {
        push(bytes);
        return;
    }
    let mut piece = vec![b'"'];
    for &byte in bytes {
        match byte {
            b'\n' => piece.extend_from_slice(b"\\n"),
            b'\r' => piece.extend_from_slice(b"\\r"),
            b'\t' => piece.extend_from_slice(b"\\t"),
            b'"' | b'\\' => piece.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => piece.push(byte),
            0x80.. if text => piece.push(byte),
            _ => piece.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
        if piece.len() >= QUOTED_PIECE {
            if !push(&piece) {
                return;
            }
            piece.clear();
        }
    }
    piece.push(b'"');
    push(&piece);
}

type Word<'a> = (Vec<u8>, &'a [u8]);

fn double_quoted(mut rest: &[u8]) -> Result<Word<'_>, String> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Err("a quote is not closed".into()),
            [b'"', behind @ ..] => return Ok((word, behind)),
            [b'\\', b'x', high, low, behind @ ..]
                if hex(*high).is_some() && hex(*low).is_some() =>
            {
                word.push(hex(*high).unwrap_or(0) << 4 | hex(*low).unwrap_or(0));
                rest = behind;
            }
            [b'\\', b'x', ..] => return Err("\\x needs two hexadecimal digits".into()),
            [b'\\', escaped, behind @ ..] => {
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

fn single_quoted(mut rest: &[u8]) -> Result<Word<'_>, String> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Err("a quote is not closed".into()),
            [b'\'', behind @ ..] => return Ok((word, behind)),
            [b'\\', b'\'', behind @ ..] => {
                word.push(b'\'');
                rest = behind;
            }
            [byte, behind @ ..] => {
                word.push(*byte);
                rest = behind;
            }
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Vec<u8>> {
        split(line.as_bytes()).unwrap()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("  SET a\tb \r"), [&b"SET"[..], b"a", b"b"]);
        assert_eq!(words(r#"SET "a b" "\x00\xfF\n\\\"" "#), [&b"SET"[..], b"a b", b"\0\xff\n\\\""]);
        assert_eq!(words(r"'a \x00' 'it\'s'"), [&br"a \x00"[..], b"it's"]);
        assert_eq!(words(r#"a"b "" "#), [&b"a\"b"[..], b""]);
        assert_eq!(words(""), [[]; 0] as [[u8; 0]; 0]);
        for bad in ["\"a", "'a", "\"a\"b", r#""\x1""#, r#""\xg0""#] {
            assert!(split(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn any_bytes_survive_quoting() {
        let every: Vec<u8> = (0..=255).collect();
        let long = every.repeat(100);
        for bytes in [&b""[..], b"plain", b"a b", b"\"", "\u{e9}t\u{e9}".as_bytes(), &every, &long]
        {
            let mut line = Vec::new();
            quote(bytes, &mut line);
            assert_eq!(split(&line).unwrap(), [bytes], "{bytes:?}");
            assert!(!line.contains(&b'\n'));
        }
        let mut line = Vec::new();
        quote(b"plain:key/1", &mut line);
        assert_eq!(line, b"plain:key/1");
    }
}
