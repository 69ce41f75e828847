//! The file format, as `core/FORMAT.md` specifies it. Documentation only.
//!
#![doc = include_str!("../FORMAT.md")]

#[cfg(test)]
mod tests;
