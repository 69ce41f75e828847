//! Words that must not be in the repository.

use crate::Source;

/// Marks of unfinished work, in two parts so that this file has none of them.
const UNFINISHED: &[(&str, &str)] =
    &[("TO", "DO"), ("FIX", "ME"), ("unimpl", "emented!"), ("to", "do!(")];

/// Paths of one machine and names of tools that no source depends on: length and hash of the
/// lower-case word, so that this file has none of them either.
const PRIVATE: &[(usize, u64)] = &[
    (11, 0xb5c1_aca6_a4cb_6952),
    (10, 0xb145_ff9e_4369_46b2),
    (9, 0x3bb5_64bd_a052_6bab),
    (6, 0x1a52_7ceb_9f34_2ee4),
    (6, 0x2391_9480_3edf_98f7),
    (8, 0x04dc_2554_6038_2976),
];

/// Every place where one of the words stands.
pub(crate) fn check(files: &[Source]) -> Vec<String> {
    let unfinished: Vec<String> = UNFINISHED.iter().map(|(a, b)| format!("{a}{b}")).collect();
    let mut complaints = Vec::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            let found = unfinished.iter().find(|word| line.contains(*word)).map(String::as_str);
            if let Some(word) = found.or_else(|| private_word(line, PRIVATE)) {
                complaints.push(format!("{}:{}: {word}", file.path, index + 1));
            }
        }
    }
    complaints
}

/// The first stretch of a line that has the length and hash of one of the words.
fn private_word<'a>(line: &'a str, words: &[(usize, u64)]) -> Option<&'a str> {
    let bytes = line.as_bytes();
    words.iter().find_map(|&(len, hash)| {
        let at = bytes.windows(len).position(|window| hash_lower(window) == hash)?;
        line.get(at..at + len)
    })
}

/// FNV-1a of the bytes, letters in lower case.
fn hash_lower(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_work_is_found_in_code_and_prose() {
        for (first, second) in UNFINISHED {
            let text = format!("fine\nnot {first}{second} fine\n");
            let found = check(&[Source::new("a.md", &text)]);
            assert_eq!(found, [format!("a.md:2: {first}{second}")]);
        }
        assert_eq!(check(&[Source::new("a.md", "a to-do list, fixed by me; todos")]), [""; 0]);
    }

    #[test]
    fn a_private_word_is_found_by_its_hash_alone() {
        let list = [(6, hash_lower(b"secret"))];
        assert_eq!(hash_lower(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash_lower(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(private_word("topSecretly", &list), Some("Secret"));
        assert_eq!(private_word("secre t, é", &list), None);
        assert_eq!(private_word("", &list), None);
    }
}
