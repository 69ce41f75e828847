//! The small program of the README in Rust: `cargo run --example hello [DIRECTORY]`.

use toykv::{Db, Options, Result, ScanOptions, WriteBatch};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn main() -> Result<()> {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| "hello.db".into());
    let db = Db::open(path, &Options::new())?;

    db.put(b"apple", b"red")?;
    db.put(b"cherry", b"dark red")?;
    let mut batch = WriteBatch::new();
    batch.put(b"banana", b"yellow")?;
    batch.put(b"blueberry", b"blue")?;
    db.write(&batch)?; // both or neither

    for key in ["apple", "cherry"] {
        if let Some(value) = db.get(key.as_bytes())? {
            println!("{key} = {}", text(&value));
        }
    }

    for entry in db.scan(&ScanOptions::new().prefix(b"b"))? {
        let (key, value) = entry?;
        println!("{} = {}", text(&key), text(&value));
    }

    db.delete(b"apple")?;
    println!("after delete: {} keys", db.len()?);

    db.close()
}
