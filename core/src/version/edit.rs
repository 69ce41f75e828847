//! Version edits (layer L4): one atomic change of the set of live files, and its stored form.
//!
//! Stored: a series of fields, each a tag, a length and a body, so that an edit of a later format
//! is recognised by a tag that is not known here. Such an edit is never half understood.

use super::dead::DeadSet;
use super::meta::{RunId, SegmentMeta, TableMeta, Values};
use crate::coding::{Decoder, put_bytes, put_varint};
use crate::types::{FileNumber, KeyspaceId, SegmentId, SeqNo};

const NEXT_FILE: u64 = 1;
const LAST_SEQNO: u64 = 2;
const NEXT_RUN: u64 = 3;
const ADD_SEGMENT: u64 = 4;
const SEGMENT_FLUSHED: u64 = 5;
const REMOVE_SEGMENT: u64 = 6;
const ADD_TABLE: u64 = 7;
const REMOVE_TABLE: u64 = 8;
const COUNT: u64 = 9;
// 10 is kept for a keyspace and its name, 13 for a count that is unknown since some sequence
// number.
const DEAD: u64 = 11;

/// One change of the set of live files, atomic and durable once appended to the manifest.
///
/// Removals come before additions, so an edit may take a table out of one run and put it into
/// another, or replace what is recorded of a segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VersionEdit {
    /// Every file number in use is below this one; it never falls.
    pub(crate) next_file: Option<FileNumber>,
    /// No entry of a table has a larger sequence number; it never falls.
    pub(crate) last_seqno: Option<SeqNo>,
    /// Every run number ever used is below this one; it never falls.
    pub(crate) next_run: Option<RunId>,
    /// Segments that stop being live.
    pub(crate) removed_segments: Vec<SegmentId>,
    /// Segments that become live.
    pub(crate) added_segments: Vec<SegmentMeta>,
    /// Segments whose entries are now in tables, and their separated values.
    pub(crate) flushed_segments: Vec<(SegmentId, Values)>,
    /// Values that no table points to any more, by their segments.
    pub(crate) dead_values: Vec<(SegmentId, DeadSet)>,
    /// Tables that stop being live.
    pub(crate) removed_tables: Vec<FileNumber>,
    /// Tables that become live, and the run that each belongs to.
    pub(crate) added_tables: Vec<(RunId, TableMeta)>,
    /// The number of keys that a keyspace now has in its tables.
    pub(crate) counts: Vec<(KeyspaceId, u64)>,
}

/// Why stored bytes are no edit: what, and at which byte of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EditError {
    /// A field of a later format.
    UnknownTag { tag: u64, offset: usize },
    /// Not the form of its tag.
    Malformed { what: &'static str, offset: usize },
}

impl VersionEdit {
    /// An edit that changes nothing.
    pub(crate) fn new() -> VersionEdit {
        VersionEdit::default()
    }

    /// Adds a table to a run, and raises the counters over its numbers.
    pub(crate) fn add_table(&mut self, run: RunId, table: TableMeta) {
        self.next_file = self.next_file.max(Some(table.number.saturating_add(1)));
        self.last_seqno = self.last_seqno.max(Some(table.max_seqno));
        self.next_run = self.next_run.max(Some(run.saturating_add(1)));
        self.added_tables.push((run, table));
    }

    /// Removes a table from the run that has it.
    pub(crate) fn remove_table(&mut self, number: FileNumber) {
        self.removed_tables.push(number);
    }

    /// Adds a segment, and raises the counter of files over its numbers.
    pub(crate) fn add_segment(&mut self, segment: SegmentMeta) {
        let highest = segment.id.max(segment.file);
        self.next_file = self.next_file.max(Some(highest.saturating_add(1)));
        self.added_segments.push(segment);
    }

    /// Says that a segment's entries are in tables now.
    pub(crate) fn set_segment_flushed(&mut self, id: SegmentId, values: Values) {
        self.flushed_segments.push((id, values));
    }

    /// Says that no table points to these values of a segment any more; nothing for none.
    pub(crate) fn add_dead(&mut self, id: SegmentId, dead: DeadSet) {
        if !dead.is_empty() {
            self.dead_values.push((id, dead));
        }
    }

    /// Removes a segment.
    pub(crate) fn remove_segment(&mut self, id: SegmentId) {
        self.removed_segments.push(id);
    }

    /// Sets the number of keys of a keyspace.
    pub(crate) fn set_count(&mut self, keyspace: KeyspaceId, keys: u64) {
        self.counts.push((keyspace, keys));
    }

    /// The stored form.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let scalars =
            [(NEXT_FILE, self.next_file), (LAST_SEQNO, self.last_seqno), (NEXT_RUN, self.next_run)];
        for (tag, value) in scalars {
            if let Some(value) = value {
                put_field(&mut out, tag, |body| put_varint(body, value));
            }
        }
        for &id in &self.removed_segments {
            put_field(&mut out, REMOVE_SEGMENT, |body| put_varint(body, id));
        }
        for segment in &self.added_segments {
            put_field(&mut out, ADD_SEGMENT, |body| segment.encode(body));
        }
        for (id, values) in &self.flushed_segments {
            put_field(&mut out, SEGMENT_FLUSHED, |body| {
                put_varint(body, *id);
                values.encode(body);
            });
        }
        for (id, dead) in &self.dead_values {
            put_field(&mut out, DEAD, |body| {
                put_varint(body, *id);
                dead.encode(body);
            });
        }
        for &number in &self.removed_tables {
            put_field(&mut out, REMOVE_TABLE, |body| put_varint(body, number));
        }
        for (run, table) in &self.added_tables {
            put_field(&mut out, ADD_TABLE, |body| {
                put_varint(body, *run);
                table.encode(body);
            });
        }
        for &(keyspace, keys) in &self.counts {
            put_pair(&mut out, COUNT, u64::from(keyspace), keys);
        }
        out
    }

    /// Reads the stored form.
    pub(super) fn decode(bytes: &[u8]) -> Result<VersionEdit, EditError> {
        let mut edit = VersionEdit::default();
        let mut decoder = Decoder::new(bytes);
        while !decoder.is_empty() {
            let offset = bytes.len() - decoder.rest().len();
            let malformed = |what| EditError::Malformed { what, offset };
            let tag = decoder.varint().ok_or_else(|| malformed("a tag cut short"))?;
            if !(NEXT_FILE..=COUNT).contains(&tag) && tag != DEAD {
                return Err(EditError::UnknownTag { tag, offset });
            }
            let body = decoder.bytes().ok_or_else(|| malformed("a field cut short"))?;
            let mut body = Decoder::new(body);
            let read = edit.read_field(tag, &mut body).filter(|()| body.is_empty());
            read.ok_or_else(|| malformed(field_name(tag)))?;
        }
        Ok(edit)
    }

    fn read_field(&mut self, tag: u64, body: &mut Decoder<'_>) -> Option<()> {
        match tag {
            NEXT_FILE => set_once(&mut self.next_file, body.varint()?)?,
            LAST_SEQNO => set_once(&mut self.last_seqno, body.varint()?)?,
            NEXT_RUN => set_once(&mut self.next_run, body.varint()?)?,
            ADD_SEGMENT => self.added_segments.push(SegmentMeta::decode(body)?),
            SEGMENT_FLUSHED => {
                self.flushed_segments.push((body.varint()?, Values::decode(body)?));
            }
            REMOVE_SEGMENT => self.removed_segments.push(body.varint()?),
            ADD_TABLE => self.added_tables.push((body.varint()?, TableMeta::decode(body)?)),
            REMOVE_TABLE => self.removed_tables.push(body.varint()?),
            COUNT => {
                let keyspace = KeyspaceId::try_from(body.varint()?).ok()?;
                self.counts.push((keyspace, body.varint()?));
            }
            DEAD => self.dead_values.push((body.varint()?, DeadSet::decode(body)?)),
            _ => return None,
        }
        Some(())
    }
}

fn put_field(out: &mut Vec<u8>, tag: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::new();
    write(&mut body);
    put_varint(out, tag);
    put_bytes(out, &body);
}

fn put_pair(out: &mut Vec<u8>, tag: u64, first: u64, second: u64) {
    put_field(out, tag, |body| {
        put_varint(body, first);
        put_varint(body, second);
    });
}

/// `None` when the field was there before.
fn set_once(field: &mut Option<u64>, value: u64) -> Option<()> {
    field.replace(value).is_none().then_some(())
}

fn field_name(tag: u64) -> &'static str {
    match tag {
        NEXT_FILE => "a bad next file number",
        LAST_SEQNO => "a bad last sequence number",
        NEXT_RUN => "a bad next run number",
        ADD_SEGMENT => "a bad added segment",
        SEGMENT_FLUSHED => "a bad flushed segment",
        REMOVE_SEGMENT => "a bad removed segment",
        ADD_TABLE => "a bad added table",
        REMOVE_TABLE => "a bad removed table",
        DEAD => "bad dead values",
        _ => "a bad count",
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn an_edit_comes_back_and_its_bytes_are_those_of_the_format() {
        let edit = samples::full_edit();
        assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit));
        assert_eq!(VersionEdit::decode(b""), Ok(VersionEdit::new()));
        let mut edit = VersionEdit::new();
        edit.add_segment(SegmentMeta::registered(300, 0x0807_0605_0403_0201, 4096));
        edit.set_segment_flushed(300, Values { least_len: 100, end: 4000, count: 3, bytes: 1000 });
        edit.add_dead(300, DeadSet::new(vec![512, 520], 64));
        edit.add_dead(301, DeadSet::default());
        edit.remove_table(9);
        edit.set_count(2, 1000);
        let expected = [
            &[1, 2, 0xad, 0x02][..],
            &[4, 19, 0xac, 0x02, 0xac, 0x02, 1, 2, 3, 4, 5, 6, 7, 8, 0x80, 0x20, 1, 0, 0, 0, 0],
            &[5, 8, 0xac, 0x02, 100, 0xa0, 0x1f, 3, 0xe8, 0x07],
            &[11, 6, 0xac, 0x02, 64, 0x80, 0x04, 8],
            &[8, 1, 9],
            &[9, 3, 2, 0xe8, 0x07],
        ];
        let bytes = edit.encode();
        // The segment's body: two varints of 2 bytes, 8 of salt, 2 of size, state, no values.
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn every_truncation_is_an_edit_of_fewer_fields_or_refused() {
        let edit = samples::full_edit();
        let bytes = edit.encode();
        let mut whole = 0;
        for len in 0..bytes.len() {
            match VersionEdit::decode(&bytes[..len]) {
                Ok(shorter) => {
                    assert_eq!(shorter.encode(), &bytes[..len]);
                    whole += 1;
                }
                Err(EditError::Malformed { offset, .. }) => assert!(offset < len),
                Err(error) => panic!("{len}: {error:?}"),
            }
        }
        assert_eq!(whole, 12, "one for each place between two of the twelve fields, and nothing");
    }

    #[test]
    fn every_flipped_bit_is_survived() {
        let bytes = samples::full_edit().encode();
        let mut outcomes = [0; 3];
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match VersionEdit::decode(&bytes) {
                Ok(other) => {
                    assert_ne!(other, samples::full_edit());
                    outcomes[0] += 1;
                }
                Err(EditError::UnknownTag { offset, .. }) => {
                    assert!(offset < bytes.len());
                    outcomes[1] += 1;
                }
                Err(EditError::Malformed { offset, .. }) => {
                    assert!(offset < bytes.len());
                    outcomes[2] += 1;
                }
            }
        }
        assert!(outcomes.iter().all(|&count| count > 0), "{outcomes:?}");
    }

    #[test]
    fn fields_of_later_formats_and_fields_given_twice_are_refused() {
        let unknown = [1, 1, 7, 10, 0];
        let error = EditError::UnknownTag { tag: 10, offset: 3 };
        assert_eq!(VersionEdit::decode(&unknown), Err(error));
        let twice = [2, 1, 7, 2, 1, 7];
        let error = EditError::Malformed { what: "a bad last sequence number", offset: 3 };
        assert_eq!(VersionEdit::decode(&twice), Err(error));
        let longer = [8, 2, 7, 7];
        let error = EditError::Malformed { what: "a bad removed table", offset: 0 };
        assert_eq!(VersionEdit::decode(&longer), Err(error));
    }
}
