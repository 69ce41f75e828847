//! Patterns of KEYS, SCAN and CONFIG GET: `*`, `?`, `[a-z]`, `[^a]`, and `\` before any of them.

/// A pattern over bytes, read where it is: it takes no memory. Matching takes at most pattern
/// length times text length steps.
pub(crate) struct Glob<'a> {
    pattern: &'a [u8],
}

enum Part<'a> {
    /// Exactly this byte.
    Byte(u8),
    /// Any one byte.
    Any,
    /// Any number of bytes.
    Star,
    /// One byte that stands between the brackets, or none of them.
    Class { negated: bool, members: &'a [u8] },
}

impl<'a> Glob<'a> {
    /// Any bytes are a pattern. An unfinished class ends with the pattern, as in Redis.
    pub(crate) fn new(pattern: &'a [u8]) -> Glob<'a> {
        Glob { pattern }
    }

    /// The part at a position, and the position behind it.
    fn part(&self, at: usize) -> Option<(Part<'a>, usize)> {
        Some(match (*self.pattern.get(at)?, self.pattern.get(at + 1)) {
            (b'*', _) => (Part::Star, at + 1),
            (b'?', _) => (Part::Any, at + 1),
            (b'[', next) => {
                let negated = next == Some(&b'^');
                let start = at + 1 + usize::from(negated);
                let members = &self.pattern[start..];
                let end = class_end(members);
                let behind = (start + end + 1).min(self.pattern.len());
                (Part::Class { negated, members: &members[..end] }, behind)
            }
            (b'\\', Some(escaped)) => (Part::Byte(*escaped), at + 2),
            (byte, _) => (Part::Byte(byte), at + 1),
        })
    }

    /// What every text that matches begins with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        self.plain().0
    }

    /// How many bytes of the pattern stand for that.
    pub(crate) fn plain_len(&self) -> usize {
        self.plain().1
    }

    fn plain(&self) -> (Vec<u8>, usize) {
        let (mut prefix, mut at) = (Vec::new(), 0);
        while let Some((Part::Byte(byte), behind)) = self.part(at) {
            prefix.push(byte);
            at = behind;
        }
        (prefix, at)
    }

    /// Whether the whole text matches. After a mismatch only the last star can help.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.part(part) {
                Some((Part::Star, behind)) => {
                    retry = Some((behind, at));
                    part = behind;
                }
                Some((one, behind)) if one.takes(text[at]) => {
                    part = behind;
                    at += 1;
                }
                _ => {
                    let Some((behind, from)) = retry else { return false };
                    retry = Some((behind, from + 1));
                    (part, at) = (behind, from + 1);
                }
            }
        }
        self.pattern[part..].iter().all(|byte| *byte == b'*')
    }
}

impl Part<'_> {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Part::Byte(own) => *own == byte,
            Part::Any => true,
            Part::Star => false,
            Part::Class { negated, members } => is_member(members, byte) != *negated,
        }
    }
}

/// What stands for one member at the front of a class: its bounds and its length.
fn member(class: &[u8]) -> Option<(u8, u8, usize)> {
    Some(match class {
        [] => return None,
        [b'\\', escaped, ..] => (*escaped, *escaped, 2),
        [low, b'-', high, ..] => (*low.min(high), *low.max(high), 3),
        [byte, ..] => (*byte, *byte, 1),
    })
}

/// Where the bracket is that closes a class, or the end of the pattern.
fn class_end(mut rest: &[u8]) -> usize {
    let all = rest.len();
    while let Some((_, _, len)) = member(rest).filter(|_| rest[0] != b']') {
        rest = &rest[len..];
    }
    all - rest.len()
}

fn is_member(mut rest: &[u8], byte: u8) -> bool {
    while let Some((low, high, len)) = member(rest) {
        if (low..=high).contains(&byte) {
            return true;
        }
        rest = &rest[len..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::new(pattern.as_bytes()).matches(text.as_bytes())
    }

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "a"),
            ("h?llo", "hello"),
            ("h*llo", "heeeello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-c]llo", "hbllo"),
            ("h[c-a]llo", "hbllo"),
            ("a\\*b", "a*b"),
            ("a[\\]]b", "a]b"),
            ("*a*b*", "xxayybzz"),
            ("user:*:name", "user:1:x:name"),
            ("a[b", "ab"),
            ("\\", "\\"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", ""),
            ("?", ""),
            ("h[^e]llo", "hello"),
            ("h[a-c]llo", "hdllo"),
            ("a\\*b", "axb"),
            ("*a*b", "xxayybzz"),
            ("[]", "]"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn the_prefix_ends_at_the_first_special() {
        let prefix = |pattern: &str| Glob::new(pattern.as_bytes()).prefix();
        assert_eq!(prefix("user:*"), b"user:");
        assert_eq!(prefix("a\\*b?c"), b"a*b");
        assert_eq!(prefix("*"), b"");
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        assert!(!matches(&"a*".repeat(2000), &format!("{}b", "a".repeat(1999))));
    }
}
