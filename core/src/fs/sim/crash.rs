//! What is left after power loss: policies, and the disk that is found when the power is back.
//!
//! Assumptions about devices: bytes that were durable in a sector of 512 bytes are never lost to
//! newer ones, and a sector written by the device is old or new as a whole. What the device fetched
//! while a store was under way is itself a mixture ([`Unit::Word`]). Only a sector that never held
//! anything durable may come back as noise or as somebody else's old bytes. Zeros at the end of
//! something that was written and synced are durable; those that only make room are not.

use std::collections::BTreeMap;

use super::buffer::{PAGE, SharedPage, bytes_of, same, share};
use super::file::{FileNode, Remains, SECTOR, pages_of};
use super::names::{Change, Names, NodeId, ROOT};
use super::random::Random;
use super::state::{Frozen, Node, State};
use crate::checksum::mix64;

/// Which of the unsynced things of one sort survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// None.
    Nothing,
    /// All.
    All,
    /// Each with this chance in a hundred.
    Percent(u8),
    /// All but one.
    AllButOne,
    /// One.
    One,
    /// The oldest few.
    Oldest,
}

impl Keep {
    /// Decides for `count` things.
    fn draw(self, count: usize, random: &mut Random) -> Vec<bool> {
        let one = random.below(count as u64) as usize;
        let oldest = random.below(count as u64 + 1) as usize;
        let mut decide = |index| match self {
            Keep::Nothing => false,
            Keep::All => true,
            Keep::Percent(percent) => random.chance(percent),
            Keep::AllButOne => index != one,
            Keep::One => index == one,
            Keep::Oldest => index < oldest,
        };
        (0..count).map(&mut decide).collect()
    }
}

/// What is lost or kept in one piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// 8 bytes: a page that the device fetched while stores into it were under way.
    Word,
    /// 512 bytes.
    Sector,
    /// 4096 bytes.
    Page,
    /// Everything in one file.
    File,
}

/// The size that an unsynced, grown file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sizes {
    /// The durable one.
    Durable,
    /// The latest.
    Latest,
    /// One of the two or one between, often at a border.
    Torn,
}

/// What is found where bytes were lost and nothing was durable before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Filler {
    /// Zeros.
    Zeros,
    /// Noise.
    Noise,
    /// Bytes of another file from the same offset.
    Foreign,
}

/// How much of what was not synced survives power loss.
///
/// The default loses all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CrashPolicy {
    /// Creations, renames and removals, each a whole.
    pub names: Keep,
    /// Units of files.
    pub data: Keep,
    /// What a unit is.
    pub unit: Unit,
    /// Sizes of files.
    pub sizes: Sizes,
    /// What stands in place of lost units.
    pub filler: Filler,
}

impl Default for CrashPolicy {
    fn default() -> CrashPolicy {
        CrashPolicy::DROP_ALL
    }
}

impl CrashPolicy {
    /// Nothing unsynced survives.
    pub const DROP_ALL: CrashPolicy = CrashPolicy {
        names: Keep::Nothing,
        data: Keep::Nothing,
        unit: Unit::Page,
        sizes: Sizes::Durable,
        filler: Filler::Zeros,
    };

    /// Everything survives: what the death of the process alone leaves.
    pub const KEEP_ALL: CrashPolicy = CrashPolicy {
        names: Keep::All,
        data: Keep::All,
        sizes: Sizes::Latest,
        ..CrashPolicy::DROP_ALL
    };

    /// The policies that every crash point should be tried with, by name.
    pub fn standard() -> Vec<(&'static str, CrashPolicy)> {
        let keep = CrashPolicy::KEEP_ALL;
        let sectors = CrashPolicy { unit: Unit::Sector, ..keep };
        let some = |percent| CrashPolicy {
            names: Keep::Percent(percent),
            data: Keep::Percent(percent),
            sizes: Sizes::Torn,
            ..sectors
        };
        vec![
            ("drop all", CrashPolicy::DROP_ALL),
            ("keep all", keep),
            ("names only", CrashPolicy { names: Keep::All, ..CrashPolicy::DROP_ALL }),
            ("names and sizes", CrashPolicy { data: Keep::Nothing, ..keep }),
            ("names and noise", CrashPolicy { data: Keep::Nothing, filler: Filler::Noise, ..keep }),
            ("data only", CrashPolicy { names: Keep::Nothing, ..keep }),
            ("oldest names", CrashPolicy { names: Keep::Oldest, ..keep }),
            ("all names but one", CrashPolicy { names: Keep::AllButOne, ..keep }),
            ("one name", CrashPolicy { names: Keep::One, ..keep }),
            ("all pages but one", CrashPolicy { data: Keep::AllButOne, ..keep }),
            ("all sectors but one", CrashPolicy { data: Keep::AllButOne, ..sectors }),
            ("one sector", CrashPolicy { data: Keep::One, ..sectors }),
            ("all words but one", CrashPolicy { unit: Unit::Word, data: Keep::AllButOne, ..keep }),
            ("all files but one", CrashPolicy { unit: Unit::File, data: Keep::AllButOne, ..keep }),
            ("one file", CrashPolicy { unit: Unit::File, data: Keep::One, ..keep }),
            ("torn sizes", CrashPolicy { sizes: Sizes::Torn, ..keep }),
            ("tenth", some(10)),
            ("half", some(50)),
            ("half, noise", CrashPolicy { filler: Filler::Noise, ..some(50) }),
            ("half, foreign", CrashPolicy { filler: Filler::Foreign, ..some(50) }),
            ("nine tenths", some(90)),
        ]
    }

    /// Any policy; equal seeds give equal ones.
    pub fn random(seed: u64) -> CrashPolicy {
        let mut random = Random::new(seed);
        let percent = Keep::Percent(*random.pick(&[10, 50, 90]));
        let keeps =
            [Keep::Nothing, Keep::All, percent, percent, percent, Keep::AllButOne, Keep::One];
        let names = *random.pick(&keeps);
        CrashPolicy {
            names: if random.chance(20) { Keep::Oldest } else { names },
            data: *random.pick(&keeps),
            unit: *random.pick(&[Unit::Sector, Unit::Sector, Unit::Page, Unit::File, Unit::Word]),
            sizes: *random.pick(&[Sizes::Durable, Sizes::Latest, Sizes::Torn]),
            filler: *random.pick(&[Filler::Zeros, Filler::Noise, Filler::Foreign]),
        }
    }
}

/// The disk that is found when the power is back.
pub(super) fn image(remains: &Frozen, policy: &CrashPolicy, seed: u64) -> State {
    let mut random = Random::new(seed);
    let names = surviving_names(remains, policy.names, &mut random);
    let mut files = surviving_files(remains, policy, &mut random);
    let mut state = State::new();
    state.capacity = remains.capacity;
    state.seed = mix64(remains.seed, seed);
    let mut dirs = vec![(ROOT, ROOT)];
    while let Some((old_dir, new_dir)) = dirs.pop() {
        for (name, old) in names.list(old_dir) {
            let file = files.remove(&old);
            let is_dir = file.is_none();
            let new = state.add(file.map_or(Node::Directory, Node::File));
            let to = Some((new_dir, name.to_owned()));
            state.names.change(Change { node: new, from: None, to });
            if is_dir {
                dirs.push((old, new));
            }
        }
    }
    state.names.commit_all();
    state
}

fn surviving_names(remains: &Frozen, keep: Keep, random: &mut Random) -> Names {
    let pending = &remains.names.pending;
    let mut names = remains.names.durable.clone();
    for (change, kept) in pending.iter().zip(keep.draw(pending.len(), random)) {
        if kept {
            names.apply(change);
        }
    }
    names
}

/// A piece of a file whose latest bytes are not the durable ones.
struct Dirty {
    /// Numbers the pieces; those with one number share their fate.
    unit: usize,
    file: NodeId,
    page: usize,
    from: usize,
    to: usize,
}

fn dirty_pieces(remains: &Frozen, unit: Unit) -> Vec<Dirty> {
    let step = match unit {
        Unit::Word => 8,
        Unit::Sector => SECTOR,
        Unit::Page | Unit::File => PAGE,
    };
    let mut pieces: Vec<Dirty> = Vec::new();
    for (&file, pages) in remains.files.iter() {
        for page in 0..pages.seen.len() {
            let (latest, durable) = (pages.latest_page(page), pages.durable_page(page));
            if same(latest, durable) {
                continue;
            }
            let (latest, durable) = (bytes_of(latest), bytes_of(durable));
            for from in (0..PAGE).step_by(step) {
                let to = from + step;
                if latest[from..to] != durable[from..to] {
                    let unit = match pieces.last() {
                        Some(last) if unit == Unit::File && last.file == file => last.unit,
                        Some(last) => last.unit + 1,
                        None => 0,
                    };
                    pieces.push(Dirty { unit, file, page, from, to });
                }
            }
        }
    }
    pieces
}

fn surviving_files(
    remains: &Frozen,
    policy: &CrashPolicy,
    random: &mut Random,
) -> BTreeMap<NodeId, FileNode> {
    let mut survivors: BTreeMap<NodeId, Vec<SharedPage>> = BTreeMap::new();
    for (&id, file) in remains.files.iter() {
        let mut pages = file.durable.clone();
        pages.resize(pages.len().max(file.seen.len()), None);
        survivors.insert(id, pages);
    }
    let pieces = dirty_pieces(remains, policy.unit);
    let units = pieces.last().map_or(0, |last| last.unit + 1);
    let kept = policy.data.draw(units, random);
    for page in pieces.chunk_by(|a, b| (a.file, a.page) == (b.file, b.page)) {
        let (id, index) = (page[0].file, page[0].page);
        let Some(pages) = survivors.get_mut(&id) else { continue };
        pages[index] = surviving_page(page, &kept, policy.filler, remains, random);
    }
    let finish = |(id, pages)| {
        let size = surviving_size(&remains.files[&id], policy.sizes, random);
        (id, FileNode::new(cut(pages, size), size))
    };
    survivors.into_iter().map(finish).collect()
}

/// One page of which some pieces were dirty.
fn surviving_page(
    pieces: &[Dirty],
    kept: &[bool],
    filler: Filler,
    remains: &Frozen,
    random: &mut Random,
) -> SharedPage {
    let file = &remains.files[&pieces[0].file];
    let latest = file.latest_page(pieces[0].page);
    if pieces.iter().all(|piece| kept[piece.unit]) {
        return latest.clone();
    }
    let mut bytes = *bytes_of(file.durable_page(pieces[0].page));
    for piece in pieces {
        let range = piece.from..piece.to;
        if kept[piece.unit] {
            bytes[range.clone()].copy_from_slice(&bytes_of(latest)[range]);
        } else if file.was_empty(piece.page, piece.from..piece.to) {
            fill(&mut bytes, piece, filler, remains, random);
        }
    }
    share(&bytes)
}

/// Puts something where bytes were lost and nothing was before.
fn fill(
    bytes: &mut [u8; PAGE],
    piece: &Dirty,
    filler: Filler,
    remains: &Frozen,
    random: &mut Random,
) {
    let bytes = &mut bytes[piece.from..piece.to];
    match filler {
        Filler::Zeros => {}
        Filler::Noise => random.fill(bytes),
        Filler::Foreign => {
            let index = random.below(remains.files.len() as u64) as usize;
            let other = remains.files.iter().nth(index).filter(|(id, _)| **id != piece.file);
            if let Some(page) = other.and_then(|(_, file)| file.durable.get(piece.page)) {
                bytes.copy_from_slice(&bytes_of(page)[piece.from..piece.to]);
            }
        }
    }
}

fn surviving_size(file: &Remains, sizes: Sizes, random: &mut Random) -> u64 {
    let (durable, latest) = (file.durable_size, file.size);
    match sizes {
        Sizes::Durable => durable,
        Sizes::Latest => latest,
        Sizes::Torn => {
            let between = durable + random.below(latest.saturating_sub(durable) + 1);
            let choices = [
                durable,
                latest,
                durable + 1,
                durable + 8,
                latest.saturating_sub(1),
                between,
                between / SECTOR as u64 * SECTOR as u64,
                between / PAGE as u64 * PAGE as u64,
            ];
            (*random.pick(&choices)).clamp(durable, latest.max(durable))
        }
    }
}

/// The pages of a file of `size` bytes, with zeros behind its end.
fn cut(mut pages: Vec<SharedPage>, size: u64) -> Vec<SharedPage> {
    pages.resize(pages_of(size), None);
    let used = (size % PAGE as u64) as usize;
    if used > 0
        && let Some(last) = pages.last_mut()
    {
        let mut bytes = *bytes_of(last);
        bytes[used..].fill(0);
        *last = share(&bytes);
    }
    pages
}
