//! Black-box tests of the engine: the API, its model, recovery and damage.

mod background;
mod bad_input;
mod basic;
mod compression;
mod concurrent;
mod corpora;
mod crash;
mod crash_model;
mod crash_threads;
mod damage;
mod damage_rig;
mod faults;
mod full_disk;
mod golden;
mod kill;
mod linear;
mod memory;
mod model;
mod oracle;
mod pinned;
mod races;
mod ranges;
mod repair;
mod space;
mod stalls;
mod support;
