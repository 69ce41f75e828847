//! Files that people name on the command line; `-` is the standard input or output.
//!
//! Invariant WHOLE: a file that is written appears under its name when it is complete and durable,
//! or not at all.
#![expect(clippy::disallowed_methods, reason = "files of people, not those of a database")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use crate::failure::{Exit, Failure, Result};

const BUFFER_BYTES: usize = 256 << 10;

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file to read.
pub(crate) struct Input {
    /// Its bytes.
    pub(crate) read: Box<dyn Read>,
    /// Its size, when it is a regular file.
    pub(crate) size: Option<u64>,
}

/// Opens a file to read.
pub(crate) fn open(path: &Path) -> Result<Input> {
    if is_dash(path) {
        return Ok(Input { read: Box::new(io::stdin().lock()), size: None });
    }
    let failed = |error: io::Error| Failure::file(path, &error);
    let file = File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let size = about.is_file().then_some(about.len());
    Ok(Input { read: Box::new(BufReader::with_capacity(BUFFER_BYTES, file)), size })
}

/// All bytes of a file.
pub(crate) fn read_all(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut input = open(path)?;
    input.read.read_to_end(&mut bytes).map_err(|error| Failure::file(path, &error))?;
    Ok(bytes)
}

/// A file to write.
pub(crate) struct Output {
    to: Option<Destination>,
}

enum Destination {
    /// The standard output, a pipe or a device.
    Stream(BufWriter<Box<dyn Write>>),
    /// A regular file under another name, until it is whole.
    File { file: BufWriter<File>, partial: PathBuf, path: PathBuf },
}

impl Output {
    /// Makes a file; one that is there is replaced only with `force`. Bytes for programs go to no
    /// terminal.
    pub(crate) fn create(path: &Path, force: bool, binary: bool) -> Result<Output> {
        let failed = |error: io::Error| Failure::file(path, &error);
        if is_dash(path) {
            if binary && io::stdout().is_terminal() {
                return Err(Failure::usage("a terminal is no place for a dump: name a file"));
            }
            return Ok(Output::stream(Box::new(io::stdout())));
        }
        match fs::metadata(path) {
            Ok(about) if about.is_dir() => return Err(failed(io::ErrorKind::IsADirectory.into())),
            Ok(about) if !about.is_file() => {
                let device = File::options().write(true).open(path).map_err(failed)?;
                return Ok(Output::stream(Box::new(device)));
            }
            Ok(_) if !force => {
                let message = format!("{} is there; --force replaces it", path.display());
                return Err(Failure::new(Exit::Exists, message));
            }
            _ => {}
        }
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(name);
        let file = File::create(&partial).map_err(failed)?;
        let file = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(Output { to: Some(Destination::File { file, partial, path: path.to_path_buf() }) })
    }

    fn stream(out: Box<dyn Write>) -> Output {
        Output { to: Some(Destination::Stream(BufWriter::with_capacity(BUFFER_BYTES, out))) }
    }

    /// Completes the file.
    pub(crate) fn finish(mut self) -> Result<()> {
        match self.to.as_mut() {
            Some(Destination::File { file, partial, path }) => {
                finish_file(file, partial, path).map_err(|error| Failure::file(path, &error))?;
            }
            Some(Destination::Stream(stream)) => stream.flush()?,
            None => {}
        }
        self.to = None;
        Ok(())
    }
}

fn finish_file(file: &mut BufWriter<File>, partial: &Path, path: &Path) -> io::Result<()> {
    file.flush()?;
    file.get_ref().sync_all()?;
    fs::rename(partial, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.to.as_mut() {
            Some(Destination::File { file, .. }) => file.write(bytes),
            Some(Destination::Stream(stream)) => stream.write(bytes),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.to.as_mut() {
            Some(Destination::File { file, .. }) => file.flush(),
            Some(Destination::Stream(stream)) => stream.flush(),
            None => Ok(()),
        }
    }
}

impl Drop for Output {
    /// What was not finished leaves nothing behind.
    fn drop(&mut self) {
        if let Some(Destination::File { partial, .. }) = &self.to {
            drop(fs::remove_file(partial));
        }
    }
}
