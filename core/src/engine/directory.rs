//! The directory of a database (layer L5): finding, creating and refusing it. Nothing here knows
//! what is in the files.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::filename::FileName;
use crate::fs::{DirEntry, FileSystem, PathKind};
use crate::options::Options;
use crate::planted::planted;
use crate::version;

/// Whether there is a database; refuses paths that cannot hold one. Changes nothing.
pub(crate) fn find(fs: &dyn FileSystem, dir: &Path, options: &Options) -> Result<bool> {
    if dir.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::InvalidArgument, "the path of the database is empty"));
    }
    match fs.kind(dir)? {
        PathKind::Directory => {}
        PathKind::Absent if options.create_if_missing && !options.read_only => return Ok(false),
        PathKind::Absent => return Err(not_found(dir)),
        PathKind::File | PathKind::Other => {
            let message = format!("{} is not a directory", dir.display());
            return Err(Error::new(ErrorKind::InvalidArgument, message));
        }
    }
    if fs.kind(&FileName::Current.path(dir))? == PathKind::Absent {
        let listing = fs.list_dir(dir)?;
        if options.read_only || !options.create_if_missing {
            // Says so if files of a database are there without CURRENT.
            version::load(fs, dir)?;
            return Err(not_found(dir));
        }
        refuse_foreign(dir, &listing)?;
    } else if options.error_if_exists {
        return Err(exists_error(dir));
    }
    Ok(true)
}

/// Creates it and makes its name durable.
pub(crate) fn create_dir(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    if let Err(error) = fs.create_dir(dir) {
        // Somebody else may have been faster; the lock decides who goes on.
        if fs.kind(dir)? != PathKind::Directory {
            return Err(error);
        }
    }
    sync_parent(fs, dir)
}

fn sync_parent(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    if planted("open: parent not synced") {
        return Ok(());
    }
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs.sync_dir(parent),
        _ => fs.sync_dir(Path::new(".")),
    }
}

/// Makes durable the name of a directory that an earlier attempt may have created in vain. Whoever
/// may not even read the parent did not create it.
pub(crate) fn sync_existing(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    match sync_parent(fs, dir) {
        Err(error) if error.kind() == ErrorKind::ReadOnly => Ok(()),
        result => result,
    }
}

/// A new database is made only in a directory that holds nothing else.
pub(crate) fn refuse_foreign(dir: &Path, listing: &[DirEntry]) -> Result<()> {
    match listing.iter().find(|entry| FileName::parse(&entry.name).is_none()) {
        None => Ok(()),
        Some(entry) => {
            let message = format!(
                "{} holds no database but {:?}, which is none of its files",
                dir.display(),
                entry.name
            );
            Err(Error::new(ErrorKind::InvalidArgument, message))
        }
    }
}

/// What who wanted a new database hears.
pub(crate) fn exists_error(dir: &Path) -> Error {
    let message = format!("{} already holds a database and error_if_exists is set", dir.display());
    Error::new(ErrorKind::Exists, message)
}

/// What who wanted an old one hears.
pub(crate) fn not_found(dir: &Path) -> Error {
    Error::new(ErrorKind::NotFound, format!("{} holds no database", dir.display()))
}

/// Refuses a directory that holds any file of a database, for who makes a new one.
pub(crate) fn refuse_files(fs: &dyn FileSystem, dir: &Path) -> Result<()> {
    if !holds_files(fs, dir)? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Exists, format!("{} already holds a database", dir.display())))
}

/// Whether there is a database in `dir`, or what is left of one that is being destroyed.
pub(crate) fn holds_files(fs: &dyn FileSystem, dir: &Path) -> Result<bool> {
    match fs.kind(dir)? {
        PathKind::Directory => {}
        PathKind::Absent | PathKind::File | PathKind::Other => return Ok(false),
    }
    let own =
        |entry: &DirEntry| !matches!(FileName::parse(&entry.name), None | Some(FileName::Lock));
    Ok(fs.list_dir(dir)?.iter().any(own))
}
