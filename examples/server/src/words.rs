//! Lines of words, for people: blanks between words, quotes around those that have blanks or bytes
//! that cannot be typed. Of the lines dialect and of inline commands; the command line's shell is
//! built with this file too.

/// The bytes of a word, and whether it stood in quotes.
pub(crate) type Word = (Vec<u8>, bool);

/// Splits a line (without its end) into words. In double quotes `\n \r \t \b \a \0 \\ \" \xHH`
/// stand for bytes, in single quotes only `\'`; elsewhere every byte is itself. The error says what
/// is wrong with the line.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Word>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let Some(&first) = rest.first() {
        let quoted = matches!(first, b'"' | b'\'');
        let (word, behind) = if quoted {
            quoted_word(&rest[1..], first)?
        } else {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
            (rest[..end].to_vec(), &rest[end..])
        };
        if behind.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return Err("a closing quote must be followed by a blank");
        }
        words.push((word, quoted));
        rest = behind.trim_ascii_start();
    }
    Ok(words)
}

fn quoted_word(mut rest: &[u8], quote: u8) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Err("a quote is not closed"),
            [byte, behind @ ..] if *byte == quote => return Ok((word, behind)),
            [b'\\', b'x', behind @ ..] if quote == b'"' => {
                let (byte, behind) = hex_byte(behind).ok_or("\\x needs two hexadecimal digits")?;
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

#[cfg(test)]
mod tests {
    use super::split;

    fn words(line: &str) -> Vec<Vec<u8>> {
        split(line.as_bytes()).unwrap().into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn words_and_quotes() {
        assert_eq!(words("  SET a\tb \r"), [&b"SET"[..], b"a", b"b"]);
        assert_eq!(words(r#"SET "a b" "\x00\xfF\n\\\"" "#), [&b"SET"[..], b"a b", b"\0\xff\n\\\""]);
        assert_eq!(words(r"'a \x00' 'it\'s' \x"), [&br"a \x00"[..], b"it's", br"\x"]);
        assert_eq!(words(r#"a"b "" "#), [&b"a\"b"[..], b""]);
        assert_eq!(words(""), [[]; 0] as [[u8; 0]; 0]);
        let quoted = split(br#"a "b" 'c' d"e"#).unwrap().into_iter().map(|(_, quoted)| quoted);
        assert_eq!(quoted.collect::<Vec<_>>(), [false, true, true, false]);
        for bad in ["\"a", "'a", "\"a\"b", r#""\x1""#, r#""\xg0""#, r#""\x"#, r#""\"#] {
            assert!(split(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
