//! The program as people and scripts use it: real processes, their bytes and their exit codes.

mod bulk;
mod codes;
mod harness;
mod keys;
mod ranges;
mod shell;
mod terminal;
mod texts;
