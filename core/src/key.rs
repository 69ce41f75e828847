//! Encoded keys (layer L0): the keyspace's number, order-preserving, then the user key.
//!
//! A keyspace is a key range of the one tree. Numbers below 240 take one byte; larger ones take
//! 0xF0 and four big-endian bytes. Encoded keys order by keyspace, then bytewise by user key.

use crate::error::{Error, ErrorKind, Result};
use crate::types::{KeyspaceId, MAX_KEY_LEN};

/// Longest encoded key in bytes.
pub(crate) const MAX_ENCODED_KEY_LEN: usize = MAX_KEY_LEN + 5;

/// Encoded keys up to this length need no heap.
const INLINE_LEN: usize = 128;

/// An encoded key for one call: on the stack when short.
pub(crate) struct LookupKey {
    inline: [u8; INLINE_LEN],
    len: usize,
    heap: Vec<u8>,
}

impl LookupKey {
    /// Encodes `user_key` of `keyspace`; TooLarge above [`MAX_KEY_LEN`].
    #[inline]
    pub(crate) fn new(keyspace: KeyspaceId, user_key: &[u8]) -> Result<LookupKey> {
        let len = user_key.len() + 1;
        if keyspace < 240 && len <= INLINE_LEN {
            let mut key = LookupKey { inline: [0; INLINE_LEN], len, heap: Vec::new() };
            key.inline[0] = keyspace as u8;
            key.inline[1..len].copy_from_slice(user_key);
            return Ok(key);
        }
        Self::on_heap(keyspace, user_key)
    }

    #[cold]
    fn on_heap(keyspace: KeyspaceId, user_key: &[u8]) -> Result<LookupKey> {
        check_key_len(user_key)?;
        Ok(Self::long(keyspace, user_key))
    }

    #[cold]
    fn long(keyspace: KeyspaceId, user_key: &[u8]) -> LookupKey {
        let mut heap = Vec::with_capacity(user_key.len() + 5);
        put_prefix(&mut heap, keyspace);
        heap.extend_from_slice(user_key);
        LookupKey { inline: [0; INLINE_LEN], len: 0, heap }
    }

    /// Encodes a bound of a scan, which may be longer than any key.
    #[inline]
    pub(crate) fn bound(keyspace: KeyspaceId, user_key: &[u8]) -> LookupKey {
        match LookupKey::new(keyspace, user_key) {
            Ok(key) => key,
            Err(_) => Self::long(keyspace, user_key),
        }
    }

    /// The bound above every key of the keyspace before this one: its prefix.
    #[inline]
    pub(crate) fn start_of(keyspace: KeyspaceId) -> LookupKey {
        Self::bound(keyspace, b"")
    }

    /// A key or bound that is encoded already.
    pub(crate) fn encoded(encoded: &[u8]) -> LookupKey {
        let mut key = LookupKey { inline: [0; INLINE_LEN], len: 0, heap: Vec::new() };
        match key.inline.get_mut(..encoded.len()) {
            Some(inline) => {
                inline.copy_from_slice(encoded);
                key.len = encoded.len();
            }
            None => key.heap = encoded.to_vec(),
        }
        key
    }

    /// The encoded key.
    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        if self.len != 0 { &self.inline[..self.len] } else { &self.heap }
    }
}

/// Refuses a user key above the limit.
#[inline]
pub(crate) fn check_key_len(user_key: &[u8]) -> Result<()> {
    if user_key.len() > MAX_KEY_LEN {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("key of {} bytes exceeds the limit of {MAX_KEY_LEN}", user_key.len()),
        ));
    }
    Ok(())
}

/// Appends the prefix of a keyspace.
pub(crate) fn put_prefix(out: &mut Vec<u8>, keyspace: KeyspaceId) {
    if keyspace < 240 {
        out.push(keyspace as u8);
    } else {
        out.push(0xF0);
        out.extend_from_slice(&keyspace.to_be_bytes());
    }
}

/// Splits an encoded key; `None` when it has no valid prefix.
#[inline]
pub(crate) fn split(encoded: &[u8]) -> Option<(KeyspaceId, &[u8])> {
    let (&first, rest) = encoded.split_first()?;
    if first < 240 {
        return Some((KeyspaceId::from(first), rest));
    }
    let (number, rest) = rest.split_first_chunk::<4>()?;
    let number = KeyspaceId::from_be_bytes(*number);
    (first == 0xF0 && number >= 240).then_some((number, rest))
}

/// The user key of an encoded key of the default keyspace. A forged table can hold one that has no
/// prefix and no bytes at all: it is empty.
#[inline]
pub(crate) fn user_key(encoded: &[u8]) -> &[u8] {
    encoded.get(1..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_key_is_what_follows_the_prefix_if_there_is_one() {
        assert_eq!([user_key(b"\0ab"), user_key(b"\0"), user_key(b"")], [&b"ab"[..], b"", b""]);
    }

    #[test]
    fn encoded_keys_come_apart_again_and_keep_the_order() {
        let keyspaces = [0, 1, 239, 240, 65_536, u32::MAX];
        let long = vec![7u8; MAX_KEY_LEN];
        let mut before: Option<Vec<u8>> = None;
        for keyspace in keyspaces {
            for user_key in [&b""[..], b"\0", b"a", b"a\0", &[7; 127], &[7; 128], &long] {
                let key = LookupKey::new(keyspace, user_key).unwrap();
                assert_eq!(split(key.as_bytes()), Some((keyspace, user_key)));
                assert!(key.as_bytes().len() <= MAX_ENCODED_KEY_LEN);
                if let Some(before) = before.filter(|_| user_key.len() < 3) {
                    assert!(before.as_slice() < key.as_bytes());
                }
                before = (user_key.len() < 3).then(|| key.as_bytes().to_vec());
            }
        }
    }

    #[test]
    fn a_key_over_the_limit_is_refused_by_name() {
        let error = LookupKey::new(0, &vec![0; MAX_KEY_LEN + 1]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(error.message().contains("65536"));
    }
}
