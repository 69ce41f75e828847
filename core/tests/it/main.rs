//! Black-box tests of the engine: the API, its model, recovery and damage.

mod bad_input;
mod basic;
mod concurrent;
mod kill;
mod model;
mod races;
mod support;
