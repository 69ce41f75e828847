//! What the fuzz targets of whole databases share: a directory in one string of bytes, and a
//! database beside a map.

pub mod model;

use std::path::Path;

use toykv::sim::{SimDisk, mend};
use toykv::{Db, Durability, Options, ScanOptions};

/// Where databases are on the simulated disk.
pub const PATH: &str = "/db";

/// No directory takes more.
const MOST_BYTES: usize = 4 << 20;

/// Small everything, so that few writes make every kind of file.
pub fn options() -> Options {
    Options::new()
        .durability(Durability::Process)
        .memtable_size_bytes(64 << 10)
        .backlog_limit_bytes(512 << 10)
        .cache_size_bytes(1 << 20)
}

/// The files of the directory, one behind the other: length of the name, name, a u32, the bytes
/// that are there, another, the size of the file with the zeros that follow, and the bytes.
pub fn pack(disk: &SimDisk) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, _) in disk.files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let bytes = disk.read_file(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        out.push(name.len() as u8);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&(used as u32).to_le_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&bytes[..used]);
    }
    out
}

/// The disk with these files, as far as there are any; checksums are mended.
fn unpack(mut bytes: &[u8]) -> Option<SimDisk> {
    let disk = SimDisk::new();
    // Makes the directory, too.
    drop(disk.open_db(PATH, &options()).ok()?);
    for (path, _) in disk.files() {
        disk.remove(path).ok()?;
    }
    let mut total = 0;
    while let Some((len, rest)) = bytes.split_first() {
        let (name, rest) = rest.split_at_checked(usize::from(*len))?;
        let (used, rest) = rest.split_first_chunk::<4>()?;
        let (size, rest) = rest.split_first_chunk::<4>()?;
        let used = (u32::from_le_bytes(*used) as usize).min(rest.len());
        let size = (u32::from_le_bytes(*size) as usize).clamp(used, used + (1 << 20));
        let (body, rest) = rest.split_at(used);
        total += size;
        let name = std::str::from_utf8(name).ok().filter(|name| !name.contains('/'))?;
        if total > MOST_BYTES || name.is_empty() || name.starts_with('.') {
            return None;
        }
        let mut file = body.to_vec();
        file.resize(size, 0);
        mend(name, &mut file);
        disk.write_file(Path::new(PATH).join(name), &file).ok()?;
        bytes = rest;
    }
    Some(disk)
}

/// Reads everything of an open database in every way.
fn ask(db: &Db) {
    let mut keys = Vec::new();
    if let Ok(scan) = db.scan(&ScanOptions::new()) {
        for entry in scan.take(3000) {
            let Ok((key, _)) = entry else { break };
            keys.push(key.to_vec());
        }
    }
    if let Ok(scan) = db.scan(&ScanOptions::new().reverse(true)) {
        for entry in scan.take(300) {
            let Ok((key, _)) = entry else { break };
            keys.push(key.to_vec());
        }
    }
    for key in &keys {
        db.get(key).ok();
        db.get(&[key, &b"x"[..]].concat()).ok();
    }
    db.len().ok();
    let _ = db.stats();
}

/// Unpacks a directory, opens it for reading and for writing, and works on it.
pub fn open_directory(bytes: &[u8]) {
    let Some(disk) = unpack(bytes) else { return };
    if let Ok(db) = disk.open_db(PATH, &options().read_only(true)) {
        ask(&db);
    }
    if let Ok(db) = disk.open_db(PATH, &options().create_if_missing(false)) {
        ask(&db);
        db.put(b"fresh", &[7; 3000]).ok();
        db.delete(b"key0004").ok();
        db.flush().ok();
        db.gc().ok();
        ask(&db);
        db.close().ok();
    }
}
