//! What the files of the database are needed for (layer L5).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::obsolete;
use super::state::{Engine, NextSegment, lock};
use super::view::View;
use crate::error::Result;
use crate::filename::FileName;
use crate::fs::{DirEntry, PathKind};
use crate::report::{HeldFile, SnapshotSpace, Space};
use crate::types::SeqNo;

/// File systems allocate blocks of this size.
const BLOCK: u64 = 4096;

/// What names the files that are neither tables nor flushed segments.
struct Known {
    /// Where the log is written, and how far.
    active: Option<(String, u64)>,
    /// The prepared segment.
    next: Option<String>,
    /// Since when.
    obsolete: BTreeMap<String, Instant>,
    manifest: Option<u64>,
}

impl Engine {
    /// Every block of the directory by what it is needed for. The lines add up to the total.
    pub(crate) fn explain_space(&self) -> Result<Space> {
        let _job = self.begin_job()?;
        obsolete::collect_and_wait(self);
        // The view first: what it names is deleted only after it is let go of.
        let view = self.view.load_full();
        let known = self.known_files()?;
        let listing = self.env.fs.list_dir(&self.env.dir)?;
        let mut space = Space { snapshots: self.snapshot_space(&view), ..Space::default() };
        for entry in listing.iter().filter(|entry| entry.kind == PathKind::File) {
            let bytes = entry.size.next_multiple_of(BLOCK);
            space.total_bytes += bytes;
            let before = space.obsolete_bytes;
            *line_of(&mut space, &view, &known, entry) += bytes;
            if space.obsolete_bytes > before
                && let Some(since) = known.obsolete.get(&entry.name)
            {
                let (name, age_ms) = (entry.name.clone(), since.elapsed().as_millis() as u64);
                space.held_files.push(HeldFile { name, bytes, age_ms });
            }
        }
        space.held_files.sort_by_key(|file| std::cmp::Reverse(file.age_ms));
        for file in view.version.files.values() {
            space.live_value_bytes += file.live_bytes;
            space.dead_value_bytes += file.dead_bytes;
            let values = file.live_bytes + file.dead_bytes;
            space.value_overhead_bytes = space.value_overhead_bytes.saturating_sub(values);
        }
        if let Some((_, written)) = known.active {
            let written = written.min(space.preallocated_bytes);
            space.log_bytes += written;
            space.preallocated_bytes -= written;
        }
        space.hidden_value_bytes = view.version.hidden_bytes.min(space.live_value_bytes);
        // What only this view has kept meanwhile.
        drop(view);
        obsolete::collect(self);
        Ok(space)
    }

    fn known_files(&self) -> Result<Known> {
        let active = self.writer.as_ref().map(|writer| {
            let writer = lock(writer);
            (name_of(writer.part.segment.path()), writer.log.offset())
        });
        let manifest = match self.is_read_only() {
            true => None,
            false => Some(self.files()?.manifest.number()),
        };
        let shared = lock(&self.shared);
        let next = match &shared.next_segment {
            NextSegment::Ready(segment) => Some(name_of(segment.path())),
            _ => None,
        };
        let obsolete = shared.obsolete.iter().map(|file| (name_of(&file.path), file.since));
        let obsolete = obsolete.collect();
        Ok(Known { active, next, obsolete, manifest })
    }

    /// The snapshots; what tables keep of old versions is held by the oldest that may see it.
    fn snapshot_space(&self, view: &View) -> Vec<SnapshotSpace> {
        let shared = lock(&self.shared);
        let mut snapshots: Vec<SnapshotSpace> = Vec::new();
        for (&seqno, own) in &shared.snapshots {
            let age_ms = own.first.elapsed().as_millis() as u64;
            snapshots.push(SnapshotSpace { seqno, count: own.count, age_ms, held_bytes: 0 });
        }
        drop(shared);
        for (meta, _) in view.version.runs.iter().flat_map(|run| &run.tables) {
            let sees = |snapshot: &&mut SnapshotSpace| snapshot.seqno >= meta.min_seqno;
            if let Some(oldest) = snapshots.iter_mut().find(sees) {
                oldest.held_bytes += meta.old_bytes;
            }
        }
        snapshots
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The line that a file belongs to.
fn line_of<'a>(space: &'a mut Space, view: &View, known: &Known, entry: &DirEntry) -> &'a mut u64 {
    let is_part = |name: &String| view.parts.iter().any(|own| name_of(own.segment.path()) == *name);
    let is_active = |name: &String| known.active.as_ref().is_some_and(|(own, _)| own == name);
    let has_table = |number: SeqNo| {
        let mut tables = view.version.runs.iter().flat_map(|run| &run.tables);
        tables.any(|(meta, _)| meta.number == number)
    };
    match FileName::parse(&entry.name) {
        // What the view names counts as it did then, though it may have become obsolete since.
        Some(FileName::Table(number)) if has_table(number) => &mut space.table_bytes,
        // Divided later, into what is live, dead and neither.
        Some(FileName::Segment(number)) if view.version.files.contains_key(&number) => {
            &mut space.value_overhead_bytes
        }
        _ if known.obsolete.contains_key(&entry.name) => &mut space.obsolete_bytes,
        Some(FileName::Segment(_)) if is_active(&entry.name) => &mut space.preallocated_bytes,
        Some(FileName::Segment(_)) if known.next.as_ref() == Some(&entry.name) => {
            &mut space.preallocated_bytes
        }
        Some(FileName::Segment(_)) if is_part(&entry.name) => &mut space.log_bytes,
        Some(FileName::Manifest(number)) if known.manifest.is_none_or(|own| own == number) => {
            &mut space.manifest_bytes
        }
        Some(FileName::Table(_) | FileName::Segment(_) | FileName::Manifest(_)) => {
            &mut space.unfinished_bytes
        }
        _ => &mut space.other_bytes,
    }
}
