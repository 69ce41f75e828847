//! SKELETON.
/// SKELETON.
#[derive(Debug)]
pub(crate) struct OsFileSystem;
