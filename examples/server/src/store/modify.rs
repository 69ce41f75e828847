//! Commands that read and then write, each under the stripes of its keys.

use toykv::{Error, ErrorKind, Result, Value, WriteBatch};

use super::{Patience, Store, invalid};
use crate::budget::Share;
use crate::threads::blocking_if_long;

/// When a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetCondition {
    /// Always.
    Always,
    /// Only where no value is.
    Absent,
    /// Only where a value is.
    Present,
}

/// What a conditional set did.
pub(crate) struct SetOutcome {
    /// Whether the value was stored.
    pub(crate) stored: bool,
    /// The value before; only when it was asked for.
    pub(crate) before: Option<Value>,
}

impl Store {
    /// Stores a value on a condition and answers the value before when `want_before`.
    pub(crate) fn set(
        &self,
        key: &[u8],
        value: &[u8],
        condition: SetCondition,
        want_before: bool,
        patience: Patience,
    ) -> Result<SetOutcome> {
        let _held = self.locks.hold(self.locks.stripe(key));
        let (before, present) = if want_before {
            let before = self.db.get(key)?;
            let present = before.is_some();
            (before, present)
        } else {
            (None, condition != SetCondition::Always && self.db.contains(key)?)
        };
        let stored = match condition {
            SetCondition::Always => true,
            SetCondition::Absent => !present,
            SetCondition::Present => present,
        };
        if stored {
            self.db.put_with(key, value, &self.unsettled(patience))?;
        }
        Ok(SetOutcome { stored, before })
    }

    /// Removes a key and answers its value.
    pub(crate) fn take(&self, key: &[u8], patience: Patience) -> Result<Option<Value>> {
        let _held = self.locks.hold(self.locks.stripe(key));
        let before = self.db.get(key)?;
        if before.is_some() {
            self.db.delete_with(key, &self.unsettled(patience))?;
        }
        Ok(before)
    }

    /// Removes keys in one step and answers how many were there; a key named twice counts once.
    pub(crate) fn remove(&self, keys: &[&[u8]], patience: Patience) -> Result<u64> {
        let _held = self.locks.hold(self.locks.stripes(keys.iter().copied()));
        if let [key] = keys {
            let present = self.db.contains(key)?;
            if present {
                self.db.delete_with(key, &self.unsettled(patience))?;
            }
            return Ok(u64::from(present));
        }
        let mut distinct = keys.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut batch = WriteBatch::new();
        for key in distinct {
            if self.db.contains(key)? {
                batch.delete(key)?;
            }
        }
        self.db.write_with(&batch, &self.unsettled(patience))?;
        Ok(batch.len() as u64)
    }

    /// Stores pairs of key and value in one step, unless `if_absent` and one of the keys is there.
    pub(crate) fn multi_set(
        &self,
        pairs: &[(&[u8], &[u8])],
        if_absent: bool,
        patience: Patience,
    ) -> Result<bool> {
        let mut batch = WriteBatch::new();
        for (key, value) in pairs {
            batch.put(key, value)?;
        }
        let _held = self.locks.hold(self.locks.stripes(pairs.iter().map(|pair| pair.0)));
        if if_absent {
            for (key, _) in pairs {
                if self.db.contains(key)? {
                    return Ok(false);
                }
            }
        }
        self.db.write_with(&batch, &self.unsettled(patience))?;
        Ok(true)
    }

    /// Appends to a value and answers its new length, which may be `limit` at most. The two are
    /// put together in memory of `share`.
    pub(crate) fn append(
        &self,
        key: &[u8],
        tail: &[u8],
        limit: usize,
        share: &mut Share,
        patience: Patience,
    ) -> Result<u64> {
        let _held = self.locks.hold(self.locks.stripe(key));
        let before = self.db.get(key)?;
        let head: &[u8] = before.as_deref().unwrap_or_default();
        if head.len() + tail.len() > limit {
            return Err(too_long(limit));
        }
        if !share.resize(head.len() + tail.len()) {
            return Err(Error::new(ErrorKind::NoMemory, "too much is appended at the same time"));
        }
        blocking_if_long(head.len() + tail.len(), || {
            let value = [head, tail].concat();
            self.db.put_with(key, &value, &self.unsettled(patience))?;
            Ok(value.len() as u64)
        })
    }

    /// Adds to a value that is a decimal number of 64 bits; an absent one is 0.
    pub(crate) fn add(&self, key: &[u8], amount: i64, patience: Patience) -> Result<i64> {
        let _held = self.locks.hold(self.locks.stripe(key));
        let before = match self.db.get(key)? {
            None => 0,
            Some(value) => parse_integer(&value)
                .ok_or_else(|| invalid("value is not an integer or out of range"))?,
        };
        let sum = before
            .checked_add(amount)
            .ok_or_else(|| invalid("increment or decrement would overflow"))?;
        self.db.put_with(key, sum.to_string().as_bytes(), &self.unsettled(patience))?;
        Ok(sum)
    }
}

fn too_long(limit: usize) -> Error {
    let message = format!("string exceeds maximum allowed size ({limit} bytes)");
    Error::new(ErrorKind::TooLarge, message)
}

/// A decimal number exactly as it would be printed: no blanks, no plus, no leading zeros.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = digits == b"0" && text.len() == 1 || digits.first()? != &b'0';
    (canonical && digits.first()?.is_ascii_digit()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_they_are_printed() {
        for number in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
        }
        for bad in ["", "-", "+1", " 1", "1 ", "01", "-0", "1.0", "9223372036854775808", "-01"] {
            assert_eq!(parse_integer(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
