//! Writes the first inputs of every target, cut out of real files: `cargo run --bin seeds -- DIR`.

use std::fs;
use std::path::Path;

use toykv::sim::SimDisk;
use toykv::{Compression, Db, Durability, WriteBatch, WriteOptions};
use toykv_fuzz::{PATH, options, pack};

fn main() {
    let root = std::env::args().nth(1).expect("the directory of the corpora");
    let root = Path::new(&root);
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let name = format!("{compression:?}").to_lowercase();
        let disk = SimDisk::new();
        let db = disk.open_db(PATH, &options().compression(compression)).unwrap();
        fill(&db);
        db.close().unwrap();
        write(root, "directory", &name, &pack(&disk));
        for (path, _) in disk.files() {
            cut(root, &name, &path, &disk.read_file(&path).unwrap());
        }
    }
    let mut batch = WriteBatch::new();
    batch.put(b"a", b"1").unwrap();
    batch.delete(b"").unwrap();
    batch.put(&[b'k'; 300], &[7; 200]).unwrap();
    write(root, "batch", "three", &batch.to_bytes());
    // One operation after the other, and some of each with a reopening between them.
    write(root, "model", "all", &(0..=255).collect::<Vec<u8>>());
    let mix: Vec<u8> = (0..600u32).map(|i| (i * 7 + i * i / 5) as u8).collect();
    write(root, "model", "mix", &mix);
}

/// Everything that a small database can have in it.
fn fill(db: &Db) {
    let key = |tag: u32| format!("key{tag:04}").into_bytes();
    let text = |tag: u32, len: usize| -> Vec<u8> {
        (0..len).map(|i| b"abcdefgh "[(i * (1 + i / 40) + tag as usize) % 9]).collect()
    };
    for tag in 0..40 {
        db.put(&key(tag), &text(tag, if tag % 7 == 1 { 1500 } else { 50 })).unwrap();
    }
    db.flush().unwrap();
    let snapshot = db.snapshot().unwrap();
    for tag in 10..30 {
        db.put(&key(tag), &text(tag + 5, if tag % 5 == 1 { 1300 } else { 20 })).unwrap();
        db.delete(&key(tag - 10)).unwrap();
    }
    db.flush().unwrap();
    db.gc().unwrap();
    drop(snapshot);
    let mut batch = WriteBatch::new();
    for tag in 50..55 {
        batch.put(&key(tag), &text(tag, 100)).unwrap();
    }
    db.write(&batch).unwrap();
    db.put(&key(60), &text(60, 9000)).unwrap();
    db.flush().unwrap();
    for tag in 60..66 {
        let sync = WriteOptions::new().durability(Durability::Sync);
        db.put_with(&key(tag), &text(tag, 30), &sync).unwrap();
        db.put(&key(tag + 10), &text(tag, 1200)).unwrap();
        db.delete(&key(tag - 20)).unwrap();
    }
}

/// The parts of one file.
fn cut(root: &Path, name: &str, path: &Path, bytes: &[u8]) {
    let file = path.file_name().unwrap().to_str().unwrap();
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let seed = format!("{name}-{file}");
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if file.starts_with("MANIFEST") {
        write(root, "manifest", &seed, &bytes[..used]);
        let len = u32::from_le_bytes(bytes[72..76].try_into().unwrap()) as usize;
        write(root, "edit", &seed, &bytes[80..80 + len]);
    } else if file.ends_with(".vlog") && bytes.starts_with(b"toykvval") {
        write(root, "rewritten", &seed, &bytes[..used]);
    } else if file.ends_with(".vlog") {
        write(root, "frames", &seed, &bytes[4096.min(used)..used]);
    } else if file.ends_with(".table") {
        let footer = bytes.len() - 160;
        let (lines, data_len) = (number(footer + 40), number(footer + 112));
        write(root, "block", &seed, &bytes[..data_len.min(8192)]);
        write(root, "locator", &seed, &bytes[data_len..data_len + (lines + 7) * 64]);
        let mut end = (bytes.len() as u64).to_le_bytes().to_vec();
        end.extend_from_slice(&bytes[footer..]);
        write(root, "footer", &seed, &end);
    }
}

fn write(root: &Path, target: &str, name: &str, bytes: &[u8]) {
    let dir = root.join(target);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name), bytes).unwrap();
}
