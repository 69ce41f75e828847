//! RESP requests: arrays of bulk strings, and inline commands, read as their bytes arrive.
//!
//! Invariant GROWN: nothing is allocated for a length that was only announced. A command that has
//! partly come is continued where it stopped, not begun anew.

use memchr::memchr;

use crate::limits::Limits;

/// What the parser refuses beyond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    /// Bytes of an inline command or of a length.
    pub(crate) line: usize,
    /// Bytes of a whole command.
    pub(crate) frame: usize,
    /// Arguments of a command.
    pub(crate) arguments: usize,
}

impl FrameLimits {
    /// Those of the configuration; a client that has not yet given its password gets small ones.
    pub(crate) fn new(limits: &Limits, authenticated: bool) -> FrameLimits {
        let all = FrameLimits {
            line: limits.line_bytes as usize,
            frame: limits.frame_bytes.min(1 << 31) as usize,
            arguments: limits.frame_arguments as usize,
        };
        if authenticated {
            return all;
        }
        FrameLimits {
            line: all.line.min(4096),
            frame: all.frame.min(16_384),
            arguments: all.arguments.min(16),
        }
    }
}

/// The longest length line that is one: a type, 20 digits, the end of the line.
const MAX_LENGTH_LINE: usize = 32;

/// Reads commands out of a buffer that grows at its end.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Bytes of the command that have been understood.
    at: usize,
    /// Bytes that a search for a line's end has passed.
    searched: usize,
    /// Arguments still to come; `None` before the command's first line.
    left: Option<usize>,
    /// Length of the argument whose bytes come next.
    bulk: Option<usize>,
    /// Where the arguments are, relative to the command's start.
    arguments: Vec<(u32, u32)>,
    /// Bytes of an inline command's arguments, unquoted.
    inline: Vec<u8>,
}

/// What a look at the buffer found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A command of this many bytes; [`Parser::arguments`] has it.
    Command(usize),
    /// Nothing but line ends, of this many bytes.
    Nothing(usize),
    /// More bytes are needed.
    Incomplete,
    /// Not the protocol, or beyond a limit.
    Bad(&'static str),
}

/// The arguments of a command, the name first.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a> {
    bytes: &'a [u8],
    ranges: &'a [(u32, u32)],
}

impl<'a> Arguments<'a> {
    /// How many, the name included.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Bytes of the command that they stand in.
    #[inline]
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// One of them; empty behind the last.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        let range = self.ranges.get(index).map(|&(start, end)| start as usize..end as usize);
        range.and_then(|range| self.bytes.get(range)).unwrap_or_default()
    }

    /// Those from `first` on.
    pub(crate) fn from(&self, first: usize) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let this = *self;
        (first..this.len()).map(move |index| this.get(index))
    }
}

impl Parser {
    /// Whether a command has begun.
    pub(crate) fn is_amid(&self) -> bool {
        self.left.is_some() || self.searched > 0
    }

    /// Memory that it keeps.
    pub(crate) fn capacity_bytes(&self) -> usize {
        self.arguments.capacity() * size_of::<(u32, u32)>() + self.inline.capacity()
    }

    /// Gives back the memory of a long command.
    pub(crate) fn shrink(&mut self) {
        self.arguments.shrink_to(1024);
        self.inline.shrink_to(4096);
    }

    /// The command that the last step found at the start of `bytes`.
    #[inline]
    pub(crate) fn arguments<'a>(&'a self, bytes: &'a [u8]) -> Arguments<'a> {
        let bytes = if self.inline.is_empty() { bytes } else { &self.inline };
        Arguments { bytes, ranges: &self.arguments }
    }

    /// Goes on with the command at the start of `bytes`, which are those of the last call, if that
    /// was incomplete, and what has come since.
    #[inline]
    pub(crate) fn step(&mut self, bytes: &[u8], limits: &FrameLimits) -> Step {
        let step = self.advance(bytes, limits);
        if step != Step::Incomplete {
            (self.at, self.searched, self.left, self.bulk) = (0, 0, None, None);
        } else if bytes.len() > limits.frame {
            return Step::Bad("Protocol error: too big command");
        }
        step
    }

    #[inline]
    fn advance(&mut self, bytes: &[u8], limits: &FrameLimits) -> Step {
        let mut left = match self.left {
            Some(left) => left,
            None => {
                self.arguments.clear();
                self.inline.clear();
                match bytes.first() {
                    None => return Step::Incomplete,
                    Some(b'*') => {}
                    Some(_) => return self.inline_command(bytes, limits),
                }
                let count = match self.length_line(bytes, b'*') {
                    Ok(count) => count,
                    Err(step) => return step,
                };
                if count <= 0 {
                    return Step::Nothing(self.at);
                }
                if count as u64 > limits.arguments as u64 {
                    return Step::Bad("Protocol error: invalid multibulk length");
                }
                count as usize
            }
        };
        while left > 0 {
            self.left = Some(left);
            if let Err(step) = self.argument(bytes, limits) {
                return step;
            }
            left -= 1;
        }
        Step::Command(self.at)
    }

    /// One bulk string.
    #[inline]
    fn argument(&mut self, bytes: &[u8], limits: &FrameLimits) -> Result<(), Step> {
        let len = match self.bulk {
            Some(len) => len,
            None => {
                let len = self.length_line(bytes, b'$')?;
                if len < 0 || len as u64 > limits.frame as u64 {
                    return Err(Step::Bad("Protocol error: invalid bulk length"));
                }
                self.bulk = Some(len as usize);
                len as usize
            }
        };
        let end = self.at + len;
        if end + 2 > limits.frame {
            return Err(Step::Bad("Protocol error: too big command"));
        }
        match bytes.get(end..end + 2) {
            None => Err(Step::Incomplete),
            Some(b"\r\n") => {
                self.arguments.push((self.at as u32, end as u32));
                self.at = end + 2;
                self.bulk = None;
                Ok(())
            }
            Some(_) => Err(Step::Bad("Protocol error: expected the end of a bulk string")),
        }
    }

    /// A line of a type byte and a number.
    #[inline]
    fn length_line(&mut self, bytes: &[u8], kind: u8) -> Result<i64, Step> {
        let line = &bytes[self.at.min(bytes.len())..];
        let line = &line[..line.len().min(MAX_LENGTH_LINE)];
        match line.first() {
            None => return Err(Step::Incomplete),
            Some(first) if *first != kind => {
                let text = match kind {
                    b'$' => "Protocol error: expected '$'",
                    _ => "Protocol error: expected '*'",
                };
                return Err(Step::Bad(text));
            }
            Some(_) => {}
        }
        // Most lengths have one or two digits: cheaper than a search.
        if let [_, digit @ b'0'..=b'9', b'\r', b'\n', ..] = line {
            self.at += 4;
            return Ok(i64::from(digit - b'0'));
        }
        let Some(end) = memchr(b'\n', line) else {
            return Err(match line.len() {
                MAX_LENGTH_LINE => Step::Bad("Protocol error: invalid length"),
                _ => Step::Incomplete,
            });
        };
        self.at += end + 1;
        let number = line[1..end].strip_suffix(b"\r").and_then(number);
        number.ok_or(Step::Bad("Protocol error: invalid length"))
    }

    /// A line of words, as people and old clients send them.
    fn inline_command(&mut self, bytes: &[u8], limits: &FrameLimits) -> Step {
        let from = self.searched.min(bytes.len());
        let Some(end) = memchr(b'\n', &bytes[from..]).map(|end| from + end) else {
            self.searched = bytes.len();
            return match bytes.len() > limits.line {
                true => Step::Bad("Protocol error: too big inline request"),
                false => Step::Incomplete,
            };
        };
        if end > limits.line {
            return Step::Bad("Protocol error: too big inline request");
        }
        let words = match crate::words::split(&bytes[..end]) {
            Ok(words) => words,
            Err(_) => return Step::Bad("Protocol error: unbalanced quotes in request"),
        };
        if words.is_empty() {
            return Step::Nothing(end + 1);
        }
        // A byte in front, so that it is never taken for a command in the buffer.
        self.inline.push(b' ');
        for (word, _) in words {
            let start = self.inline.len() as u32;
            self.inline.extend_from_slice(&word);
            self.arguments.push((start, self.inline.len() as u32));
        }
        Step::Command(end + 1)
    }
}

/// A decimal number with nothing around it.
#[inline]
fn number(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { line: 100, frame: 1000, arguments: 10 };

    fn words(arguments: Arguments<'_>) -> Vec<Vec<u8>> {
        arguments.from(0).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn commands_come_out_whole_however_they_arrive() {
        let text = b"*2\r\n$3\r\nGET\r\n$12\r\nkey\r\nwith\r\n!\r\n*1\r\n$4\r\nPING\r\n";
        for piece in 1..text.len() {
            let mut parser = Parser::default();
            let (mut buffer, mut found) = (Vec::new(), Vec::new());
            for chunk in text.chunks(piece) {
                buffer.extend_from_slice(chunk);
                while let Step::Command(len) = parser.step(&buffer, &LIMITS) {
                    found.push(words(parser.arguments(&buffer)));
                    buffer.drain(..len);
                }
            }
            assert_eq!(found, [vec![&b"GET"[..], b"key\r\nwith\r\n!"], vec![b"PING"]]);
            assert!(buffer.is_empty() && !parser.is_amid());
        }
    }

    #[test]
    fn inline_commands_are_split_and_unquoted() {
        let mut parser = Parser::default();
        assert_eq!(parser.step(b"SET a \"b", &LIMITS), Step::Incomplete);
        let text = b"SET a \"b c\\x00\"\r\nPING\r\n";
        assert_eq!(parser.step(text, &LIMITS), Step::Command(17));
        assert_eq!(words(parser.arguments(text)), [&b"SET"[..], b"a", b"b c\0"]);
        assert_eq!(parser.step(b"\r\n", &LIMITS), Step::Nothing(2));
        assert_eq!(parser.step(b"*0\r\n", &LIMITS), Step::Nothing(4));
        assert_eq!(parser.step(b"*-1\r\n", &LIMITS), Step::Nothing(5));
    }

    #[test]
    fn what_is_no_command_is_refused_at_once() {
        for bad in [
            &b"*4294967295\r\n"[..],
            b"*1\r\n$4294967295\r\n",
            b"*1\r\n$-1\r\n",
            b"*1\r\n$99999999999999999999\r\n",
            b"*1\r\n$1001\r\n",
            b"*x\r\n",
            b"*1\n$1\r\na\r\n",
            b"*1\r\n+OK\r\n",
            b"*1\r\n$1\r\nab\r\n",
            b"*000000000000000000000000000000000000",
            b"SET \"a\r\n",
        ] {
            let step = Parser::default().step(bad, &LIMITS);
            assert!(matches!(step, Step::Bad(_)), "{bad:?}: {step:?}");
        }
        let endless = vec![b'a'; 101];
        assert!(matches!(Parser::default().step(&endless, &LIMITS), Step::Bad(_)));
        let many = b"*10\r\n$99\r\n".to_vec();
        assert_eq!(Parser::default().step(&many, &LIMITS), Step::Incomplete);
        let big = [b"*3\r\n$900\r\n", &[b'x'; 900][..], b"\r\n$90\r\n"].concat();
        assert!(matches!(Parser::default().step(&big, &LIMITS), Step::Bad(_)));
    }

    #[test]
    fn an_announced_length_takes_no_memory() {
        let mut parser = Parser::default();
        assert_eq!(parser.step(b"*10\r\n$900\r\nabc", &LIMITS), Step::Incomplete);
        assert!(parser.capacity_bytes() < 200);
    }
}
