//! Black-box tests of the engine: the API, its model, recovery and damage.

mod basic;
mod crash;
mod crash_model;
mod crash_threads;
mod damage;
mod faults;
mod oracle;
