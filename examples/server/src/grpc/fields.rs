//! How many fields a request has, found while its bytes come: each may become a value in memory
//! that is much larger than the two bytes that name it.

/// Bytes in front of a message: whether it is compressed, and its length.
const HEAD_BYTES: u64 = 5;

/// Counts the fields of gRPC's messages, not those of the messages in them. What is malformed is
/// counted as far as it can be read; the decoder refuses it there.
#[derive(Debug)]
pub(super) struct Fields {
    count: usize,
    state: State,
    /// The number that is being read, as far as it has come.
    number: u64,
    shift: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes mean nothing here.
    Skip(u64),
    /// The name of a field, a length, or a number that means nothing comes next.
    Name,
    Len,
    Number,
    /// This is no message.
    Lost,
}

impl Fields {
    /// Before the head of a message. A request of this service is one message.
    pub(super) fn new() -> Fields {
        Fields { count: 0, state: State::Skip(HEAD_BYTES), number: 0, shift: 0 }
    }

    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The next bytes.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.state {
                State::Lost => return,
                State::Skip(0) => self.state = State::Name,
                State::Skip(left) => {
                    let now = left.min(bytes.len() as u64);
                    bytes = &bytes[now as usize..];
                    self.state = State::Skip(left - now);
                }
                State::Name | State::Len | State::Number => {
                    bytes = rest;
                    self.digit(byte);
                }
            }
        }
    }

    /// One more byte of a number of variable length.
    fn digit(&mut self, byte: u8) {
        self.number |= u64::from(byte & 0x7f).checked_shl(self.shift).unwrap_or(0);
        self.shift += 7;
        if byte & 0x80 != 0 {
            if self.shift >= 70 {
                self.state = State::Lost;
            }
            return;
        }
        let number = std::mem::take(&mut self.number);
        self.shift = 0;
        self.state = match self.state {
            State::Len => State::Skip(number),
            State::Name => {
                self.count += 1;
                match number & 7 {
                    0 => State::Number,
                    1 => State::Skip(8),
                    2 => State::Len,
                    // Groups, which nobody uses any more: what is in them counts too.
                    3 | 4 => State::Name,
                    5 => State::Skip(4),
                    _ => State::Lost,
                }
            }
            _ => State::Name,
        };
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::proto::write::Operation;
    use crate::proto::{BatchWriteRequest, Put, PutRequest, Write};

    fn count(message: &[u8], piece: usize) -> usize {
        let bytes = [&[0, 0, 0, 0, 9][..], message].concat();
        let mut fields = Fields::new();
        bytes.chunks(piece).for_each(|piece| fields.read(piece));
        fields.count()
    }

    #[test]
    fn fields_are_counted_however_they_come() {
        let put = |n: usize| Put { key: vec![b'k'; n].into(), value: vec![b'v'; n * 100].into() };
        let mut writes: Vec<Write> =
            (0..50).map(|n| Write { operation: Some(Operation::Put(put(n))) }).collect();
        writes.extend((0..50).map(|_| Write { operation: None }));
        let batch = BatchWriteRequest { writes, durability: 3 }.encode_to_vec();
        let one = PutRequest { key: "k".into(), value: vec![0; 300].into(), durability: 1 };
        let one = one.encode_to_vec();
        let wide =
            [0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x0d, 1, 2, 3, 4, 0x08, 0xff, 0xff, 1, 0x0b, 0x0c];
        for piece in [1, 2, 3, 7, 1000, 1 << 20] {
            assert_eq!(count(&batch, piece), 101, "{piece}");
            assert_eq!(count(&one, piece), 3, "{piece}");
            assert_eq!(count(&wide, piece), 5, "{piece}");
            assert_eq!(count(b"", piece), 0, "{piece}");
            assert_eq!(count(&[0x0a, 0].repeat(1000), piece), 1000, "{piece}");
        }
    }

    #[test]
    fn what_is_no_message_is_counted_as_far_as_it_can_be_read() {
        for (bytes, expected) in [
            (&[0x0f, 0x0a, 0x00][..], 1),
            (&[0xff; 40], 0),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0x0a, 0], 1),
        ] {
            assert_eq!(count(bytes, 1), expected, "{bytes:?}");
            assert_eq!(count(bytes, 100), expected, "{bytes:?}");
        }
    }
}
