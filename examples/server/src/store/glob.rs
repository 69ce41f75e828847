//! Patterns of KEYS, SCAN and CONFIG GET: `*`, `?`, `[a-z]`, `[^a]`, and `\` before any of them.

/// A pattern over bytes. Matching takes at most pattern length times text length steps.
pub(crate) struct Glob {
    parts: Vec<Part>,
}

enum Part {
    /// Exactly this byte.
    Byte(u8),
    /// Any one byte.
    Any,
    /// Any number of bytes.
    Star,
    /// One byte of these ranges, or of none of them.
    Class { negated: bool, ranges: Vec<(u8, u8)> },
}

impl Glob {
    /// Reads a pattern; any bytes are one. An unfinished class ends with the pattern, as in Redis.
    pub(crate) fn new(pattern: &[u8]) -> Glob {
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(&byte) = pattern.get(at) {
            at += 1;
            parts.push(match byte {
                b'*' => Part::Star,
                b'?' => Part::Any,
                b'[' => class(pattern, &mut at),
                b'\\' if at < pattern.len() => {
                    at += 1;
                    Part::Byte(pattern[at - 1])
                }
                _ => Part::Byte(byte),
            });
        }
        Glob { parts }
    }

    /// What every text that matches begins with.
    pub(crate) fn prefix(&self) -> Vec<u8> {
        let bytes = self.parts.iter().map_while(|part| match part {
            Part::Byte(byte) => Some(*byte),
            _ => None,
        });
        bytes.collect()
    }

    /// Whether the whole text matches. After a mismatch only the last star can help.
    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        let mut retry: Option<(usize, usize)> = None;
        while at < text.len() {
            match self.parts.get(part) {
                Some(Part::Star) => {
                    retry = Some((part + 1, at));
                    part += 1;
                }
                Some(one) if one.takes(text[at]) => {
                    part += 1;
                    at += 1;
                }
                _ => {
                    let Some((behind, from)) = retry else { return false };
                    retry = Some((behind, from + 1));
                    (part, at) = (behind, from + 1);
                }
            }
        }
        self.parts[part..].iter().all(|part| matches!(part, Part::Star))
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Part::Byte(own) => *own == byte,
            Part::Any => true,
            Part::Star => false,
            Part::Class { negated, ranges } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&byte)) != *negated
            }
        }
    }
}

/// The class whose opening bracket was just read.
fn class(pattern: &[u8], at: &mut usize) -> Part {
    let negated = pattern.get(*at) == Some(&b'^');
    *at += usize::from(negated);
    let mut ranges = Vec::new();
    while let Some(&byte) = pattern.get(*at) {
        *at += 1;
        match (byte, &pattern[*at..]) {
            (b']', _) => break,
            (b'\\', [escaped, ..]) => {
                ranges.push((*escaped, *escaped));
                *at += 1;
            }
            (low, [b'-', high, ..]) => {
                ranges.push((low.min(*high), low.max(*high)));
                *at += 2;
            }
            _ => ranges.push((byte, byte)),
        }
    }
    Part::Class { negated, ranges }
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
