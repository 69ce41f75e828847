//! RESP replies, versions 2 and 3, written into [`Out`].

use toykv::{Error, ErrorKind, Value};

use crate::out::Out;
use crate::store::Stall;

/// Writes replies of one version of the protocol.
pub(crate) struct Reply<'a> {
    pub(crate) out: &'a mut Out,
    /// Version 3: it has maps and a null of its own.
    pub(crate) three: bool,
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The engine's answer.
    Engine(Error),
    /// The client's fault, in Redis' words: a code and a text.
    Client(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Engine(error)
    }
}

impl Stall for Failure {
    fn would_stall(&self) -> bool {
        matches!(self, Failure::Engine(error) if error.would_stall())
    }
}

impl Failure {
    /// A failure in Redis' words; `ERR` is put in front.
    pub(crate) fn new(text: impl std::fmt::Display) -> Failure {
        Failure::Client(format!("ERR {text}"))
    }
}

impl Reply<'_> {
    /// `+OK`.
    #[inline]
    pub(crate) fn ok(&mut self) {
        self.out.push(b"+OK\r\n");
    }

    /// A status; must have no line end in it.
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// What a failed command answers.
    #[cold]
    pub(crate) fn failure(&mut self, failure: &Failure) {
        let text = match failure {
            Failure::Client(text) => text.clone(),
            Failure::Engine(error) => engine_error(error),
        };
        self.line(b'-', text.replace(['\r', '\n'], " ").as_bytes());
    }

    /// A number.
    #[inline]
    pub(crate) fn integer(&mut self, number: i64) {
        self.head(b':', number);
    }

    /// Some bytes.
    #[inline]
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.head(b'$', bytes.len() as i64);
        self.out.push(bytes);
        self.out.push(b"\r\n");
    }

    /// A value, or null.
    #[inline]
    pub(crate) fn value(&mut self, value: Option<&Value>) {
        let Some(value) = value else { return self.null() };
        self.head(b'$', value.len() as i64);
        self.out.push_value(value);
        self.out.push(b"\r\n");
    }

    /// Nothing.
    #[inline]
    pub(crate) fn null(&mut self) {
        self.out.push(if self.three { b"_\r\n" } else { b"$-1\r\n" });
    }

    /// So many replies follow.
    pub(crate) fn array(&mut self, len: usize) {
        self.head(b'*', len as i64);
    }

    /// So many pairs follow; version 2 shows them as an array.
    pub(crate) fn map(&mut self, pairs: usize) {
        if self.three {
            self.head(b'%', pairs as i64);
        } else {
            self.head(b'*', 2 * pairs as i64);
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(&[kind]);
        self.out.push(text);
        self.out.push(b"\r\n");
    }

    /// A type byte and a number.
    #[inline]
    fn head(&mut self, kind: u8, number: i64) {
        let mut line = [0; 24];
        let start = format_head(&mut line, kind, number);
        self.out.push(&line[start..]);
    }
}

/// The line at the end of an array: type, number, line end.
#[inline]
pub(crate) fn format_head(line: &mut [u8; 24], kind: u8, number: i64) -> usize {
    line[22..].copy_from_slice(b"\r\n");
    let mut at = 22;
    let mut left = number.unsigned_abs();
    loop {
        at -= 1;
        line[at] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        line[at] = b'-';
    }
    line[at - 1] = kind;
    at - 1
}

/// An engine's error as Redis' clients know it: the code says what to do.
fn engine_error(error: &Error) -> String {
    match error.kind() {
        ErrorKind::InvalidArgument | ErrorKind::TooLarge => format!("ERR {}", error.message()),
        ErrorKind::ReadOnly => format!("READONLY {error}"),
        ErrorKind::Poisoned | ErrorKind::DiskFull | ErrorKind::Io | ErrorKind::Corruption => {
            format!("MISCONF {:?}: {error}", error.kind())
        }
        kind => format!("ERR {kind:?}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    #[test]
    fn replies_of_both_versions() {
        for (three, expected) in [
            (false, &b":-9223372036854775808\r\n:0\r\n$-1\r\n*4\r\n$1\r\na\r\n-ERR a b\r\n"[..]),
            (true, b":-9223372036854775808\r\n:0\r\n_\r\n%2\r\n$1\r\na\r\n-ERR a b\r\n"),
        ] {
            let mut out = Out::new(&Budget::new(0), 1000);
            let mut reply = Reply { out: &mut out, three };
            reply.integer(i64::MIN);
            reply.integer(0);
            reply.null();
            reply.map(2);
            reply.bulk(b"a");
            reply.failure(&Failure::new("a\nb"));
            assert_eq!(out.pieces().flatten().copied().collect::<Vec<u8>>(), expected);
        }
    }
}
