//! The program as people and scripts use it: real processes, their bytes and their exit codes.

mod bulk;
mod codes;
mod fake;
mod harness;
mod keys;
mod places;
mod ranges;
mod remote;
mod served;
mod shell;
mod terminal;
mod texts;
