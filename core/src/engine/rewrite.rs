//! Writing live values of segments into another file (layer L5), for flush and collection.
//!
//! The file is durable, name included, before any edit names it.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::obsolete;
use super::state::Env;
use crate::checksum::mix64;
use crate::error::{Error, Result};
use crate::filename::FileName;
use crate::planted::planted;
use crate::types::SegmentId;
use crate::version::{DeadSet, SegmentMeta, SegmentState, Values};
use crate::vlog::{Rewriter, RewrittenIdentity, Segment, Source};

/// A segment with what is recorded of it.
pub(crate) type Input = (Arc<Segment>, SegmentMeta);

/// Segments in a new file that no edit names yet.
pub(crate) struct Moved {
    pub(crate) identity: RewrittenIdentity,
    /// What is to be recorded of them.
    pub(crate) metas: Vec<SegmentMeta>,
    /// For readers, in no order.
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// Copies the live values of `inputs` into one new file. `check` is told of bytes copied.
pub(crate) fn rewrite(
    env: &Env,
    inputs: &[Input],
    check: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Moved> {
    let file = env.new_file_number();
    let salt = mix64(env.hash_seed ^ file, env.database_id);
    let identity = RewrittenIdentity { file, salt, db_id: env.database_id, size_bytes: 0 };
    let moved = write(env, identity, inputs, check);
    if moved.is_err() {
        obsolete::discard_segment(env, file);
    }
    moved
}

fn write(
    env: &Env,
    identity: RewrittenIdentity,
    inputs: &[Input],
    check: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Moved> {
    let path = FileName::Segment(identity.file).path(&env.dir);
    let mut writer = Rewriter::create(&*env.fs, &path, identity, env.access.direct)?;
    for (segment, meta) in inputs {
        let Values { least_len, end, .. } = meta.values;
        let source = Source { segment, least_len, end, dead: meta.dead.units() };
        let copied = writer.copy(&*env.fs, source, check)?;
        if copied != (meta.live_count(), meta.live_bytes()) {
            let what = format!("{copied:?} live values are here, not those recorded");
            return Err(Error::corruption(segment.path(), 0, what));
        }
    }
    let identity = writer.finish()?;
    if !planted("rewritten: name not synced") {
        env.fs.sync_dir(&env.dir)?;
    }
    let segments = Segment::open_rewritten(&*env.fs, &path, identity, &env.access)?;
    let metas = inputs.iter().map(|(_, meta)| moved_meta(meta, &identity)).collect();
    Ok(Moved { identity, metas, segments: segments.into_iter().map(Arc::new).collect() })
}

/// What is recorded of a segment once its live values are in this file and nowhere else.
fn moved_meta(meta: &SegmentMeta, identity: &RewrittenIdentity) -> SegmentMeta {
    let (count, bytes) = (meta.live_count(), meta.live_bytes());
    SegmentMeta {
        id: meta.id,
        file: identity.file,
        salt: identity.salt,
        size_bytes: identity.size_bytes,
        state: SegmentState::Flushed,
        values: Values { least_len: 0, end: 0, count, bytes },
        dead: DeadSet::default(),
    }
}

impl Moved {
    /// Takes out a segment that needs no place any more.
    pub(crate) fn forget(&mut self, id: SegmentId) {
        self.metas.retain(|meta| meta.id != id);
        self.segments.retain(|segment| segment.id() != id);
    }

    /// Deletes the file again, for a job that fails before its edit.
    pub(crate) fn discard(&self, env: &Env) {
        obsolete::discard_segment(env, self.identity.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::filename::FileName;
    use crate::fs::sim::SimDisk;
    use crate::options::Options;
    use crate::version::{self, Manifest};
    use crate::vlog::record_len;
    use std::ops::Bound;
    use std::path::Path;

    const PATH: &str = "/db";

    fn key(number: u32) -> Vec<u8> {
        format!("key{number:03}").into_bytes()
    }

    /// A closed database with a segment of 40 separated values, of which half are dead.
    fn sample() -> SimDisk {
        let disk = SimDisk::new();
        let db = disk.open_db(PATH, &options()).unwrap();
        for (numbers, byte) in [(0..40, 1), (0..20, 2)] {
            for number in numbers {
                db.put(&key(number), &[byte; 2000]).unwrap();
            }
            db.flush().unwrap();
        }
        db.compact(Bound::Unbounded, Bound::Unbounded).unwrap();
        db.close().unwrap();
        disk
    }

    /// Nothing is collected unless it is asked for.
    fn options() -> Options {
        Options::new().space_amplification_percent(900)
    }

    #[test]
    fn a_segment_with_other_live_values_than_recorded_is_not_moved_and_is_named() {
        let changes: [Option<fn(&mut SegmentMeta)>; 4] = [
            None,
            Some(|meta| meta.values.count += 1),
            Some(|meta| meta.values.bytes += 16),
            Some(|meta| meta.values.count -= 1),
        ];
        for change in changes {
            let disk = sample();
            let mut state = version::load(&disk, Path::new(PATH)).unwrap().unwrap().state;
            let worn = |meta: &&mut SegmentMeta| meta.dead.count() == 20;
            let meta = state.segments.values_mut().find(worn).unwrap();
            let (id, file) = (meta.id, meta.file);
            let path = FileName::Segment(file).path(Path::new(PATH));
            if let Some(change) = change {
                change(meta);
                let number = state.next_file;
                state.next_file += 1;
                Manifest::create(&disk, Path::new(PATH), number, &state).unwrap();
            }
            let db = disk.open_db(PATH, &options()).unwrap();
            let collected = db.gc();
            if change.is_some() {
                let error = collected.unwrap_err();
                let found = (error.kind(), error.path(), error.offset());
                assert_eq!(found, (ErrorKind::Corruption, Some(&*path), Some(0)));
                // A key has one byte for its keyspace.
                let copied = (20u64, 20 * record_len(key(0).len() + 1, 2000));
                let what = format!("{copied:?} live values are here, not those recorded");
                assert_eq!(error.message(), what);
            } else {
                collected.unwrap();
            }
            for number in 0..40 {
                let byte = if number < 20 { 2 } else { 1 };
                assert_eq!(db.get(&key(number)).unwrap().as_deref(), Some(&[byte; 2000][..]));
            }
            db.close().unwrap();
            let state = version::load(&disk, Path::new(PATH)).unwrap().unwrap().state;
            assert_eq!(state.segments[&id].file == file, change.is_some(), "whether it has moved");
        }
    }
}
