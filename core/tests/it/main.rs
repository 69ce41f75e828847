//! Black-box tests of the engine: the API, its model, recovery and damage.

mod basic;
mod crash;
mod crash_model;
mod damage;
mod faults;
mod oracle;
