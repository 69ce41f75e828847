//! What a version records of one table and of one segment (layer L4), and how it is stored.

use super::dead::DeadSet;
use crate::coding::{Decoder, put_bytes, put_varint};
use crate::key;
use crate::types::{FileNumber, SegmentId, SeqNo};

/// The number of a run. A newer run has a larger number; the result of merging adjacent runs takes
/// the largest number among them.
pub(crate) type RunId = u64;

/// One live table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableMeta {
    /// The number in its file's name.
    pub(crate) number: FileNumber,
    /// Size of the file.
    pub(crate) size_bytes: u64,
    /// The first encoded key.
    pub(crate) smallest: Vec<u8>,
    /// The last encoded key.
    pub(crate) largest: Vec<u8>,
    /// The smallest sequence number of an entry.
    pub(crate) min_seqno: SeqNo,
    /// The largest sequence number of an entry.
    pub(crate) max_seqno: SeqNo,
    /// What the sequence numbers in the file are relative to; at most `min_seqno`.
    pub(crate) seqno_base: SeqNo,
    /// Number of entries, tombstones and old versions included.
    pub(crate) entries: u64,
    /// Number of entries that are tombstones.
    pub(crate) tombstones: u64,
    /// Sum of the lengths of the values that its entries point to in the value log.
    pub(crate) value_bytes: u64,
    /// Of entries that are not the newest of their key here: keys and values, separated ones too.
    pub(crate) old_bytes: u64,
}

impl TableMeta {
    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.number);
        put_varint(out, self.size_bytes);
        put_bytes(out, &self.smallest);
        put_bytes(out, &self.largest);
        put_varint(out, self.min_seqno);
        put_varint(out, self.max_seqno);
        put_varint(out, self.seqno_base);
        put_varint(out, self.entries);
        put_varint(out, self.tombstones);
        put_varint(out, self.value_bytes);
        put_varint(out, self.old_bytes);
    }

    /// Reads the stored form.
    pub(super) fn decode(from: &mut Decoder<'_>) -> Option<TableMeta> {
        Some(TableMeta {
            number: from.varint()?,
            size_bytes: from.varint()?,
            smallest: encoded_key(from)?,
            largest: encoded_key(from)?,
            min_seqno: from.varint()?,
            max_seqno: from.varint()?,
            seqno_base: from.varint()?,
            entries: from.varint()?,
            tombstones: from.varint()?,
            value_bytes: from.varint()?,
            old_bytes: from.varint()?,
        })
    }
}

/// A key with a valid keyspace and a length within the limit.
fn encoded_key(from: &mut Decoder<'_>) -> Option<Vec<u8>> {
    let encoded = from.bytes()?;
    let (_, user_key) = key::split(encoded)?;
    key::check_key_len(user_key).ok()?;
    Some(encoded.to_vec())
}

/// What a segment is still needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SegmentState {
    /// The log: its frames are replayed when the database is opened.
    Registered = 1,
    /// Its entries are in tables; only its large values are needed.
    Flushed = 2,
}

/// One live segment of the value log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentMeta {
    /// Its number when it was first written, which addresses use; it never changes.
    pub(crate) id: SegmentId,
    /// The number in its file's name: `id` until garbage collection rewrites it.
    pub(crate) file: FileNumber,
    /// The random word in the header of its file.
    pub(crate) salt: u64,
    /// Size of the file.
    pub(crate) size_bytes: u64,
    /// What it is needed for.
    pub(crate) state: SegmentState,
    /// Its separated values; none before the flush.
    pub(crate) values: Values,
    /// Those of them that no table points to any more.
    pub(crate) dead: DeadSet,
}

/// Which records of a segment are separated values, live and dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    /// As first written: the puts of values of at least this length. A rewritten segment lists them
    /// itself, and has 0 here.
    pub(crate) least_len: u64,
    /// As first written: the end of its last frame that has a record. 0 in a rewritten segment.
    pub(crate) end: u64,
    /// How many there are.
    pub(crate) count: u64,
    /// What their records take.
    pub(crate) bytes: u64,
}

impl SegmentMeta {
    /// A new segment of the log.
    pub(crate) fn registered(id: SegmentId, salt: u64, size_bytes: u64) -> SegmentMeta {
        let state = SegmentState::Registered;
        let (values, dead) = (Values::default(), DeadSet::default());
        SegmentMeta { id, file: id, salt, size_bytes, state, values, dead }
    }

    /// The number of values that tables point to.
    pub(crate) fn live_count(&self) -> u64 {
        self.values.count.saturating_sub(self.dead.count())
    }

    /// What the values take that tables point to.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.values.bytes.saturating_sub(self.dead.bytes())
    }

    /// Appends the stored form, which leaves out what is dead.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        put_varint(out, self.file);
        out.extend_from_slice(&self.salt.to_le_bytes());
        put_varint(out, self.size_bytes);
        out.push(self.state as u8);
        self.values.encode(out);
    }

    /// Reads the stored form.
    pub(super) fn decode(from: &mut Decoder<'_>) -> Option<SegmentMeta> {
        Some(SegmentMeta {
            id: from.varint()?,
            file: from.varint()?,
            salt: from.u64()?,
            size_bytes: from.varint()?,
            state: match from.u8()? {
                1 => SegmentState::Registered,
                2 => SegmentState::Flushed,
                _ => return None,
            },
            values: Values::decode(from)?,
            dead: DeadSet::default(),
        })
    }
}

impl Values {
    /// Appends the stored form.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.least_len);
        put_varint(out, self.end);
        put_varint(out, self.count);
        put_varint(out, self.bytes);
    }

    /// Reads the stored form.
    pub(super) fn decode(from: &mut Decoder<'_>) -> Option<Values> {
        let (least_len, end) = (from.varint()?, from.varint()?);
        Some(Values { least_len, end, count: from.varint()?, bytes: from.varint()? })
    }
}
