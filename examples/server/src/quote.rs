//! Bytes as a word that people read and can type.

/// What is quoted at once, about.
const QUOTED_PIECE: usize = 4096;

/// Writes bytes as one word of a line: as they are where that is readable, otherwise in double
/// quotes. Piece by piece, until `push` answers false; so that nothing long is held.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::split;

    #[test]
    fn any_bytes_survive_quoting() {
        let every: Vec<u8> = (0..=255).collect();
        let long = every.repeat(100);
        for bytes in [&b""[..], b"plain", b"a b", b"\"", "\u{e9}t\u{e9}".as_bytes(), &every, &long]
        {
            let mut line = Vec::new();
            let whole = |piece: &[u8]| {
                line.extend_from_slice(piece);
                true
            };
            quote_to(bytes, &mut { whole });
            let plain = line == bytes;
            assert_eq!(split(&line).unwrap(), [(bytes.to_vec(), !plain)], "{bytes:?}");
            assert!(!line.contains(&b'\n'));
        }
    }
}
