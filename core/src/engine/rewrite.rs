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
