//! An engine that stores nothing and answers at once: what it takes is the harness's own time.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::Result;
use crate::engine::{Config, Durability, Engine, Reader};

/// The longest value that it answers.
const LONGEST: usize = 128 << 10;

/// Answers every read with zeros of the length last written.
pub(crate) struct NullEngine {
    length: AtomicUsize,
    zeros: Vec<u8>,
}

/// Its reader.
pub(crate) struct NullReader<'a>(&'a NullEngine);

impl Engine for NullEngine {
    const NAME: &'static str = "null";
    type Reader<'a> = NullReader<'a>;

    fn gives(_wanted: Durability) -> Durability {
        Durability::None
    }

    fn open(_dir: &Path, _config: &Config) -> Result<NullEngine> {
        Ok(NullEngine { length: AtomicUsize::new(0), zeros: vec![0; LONGEST] })
    }

    fn set_durability(&mut self, _durability: Durability) -> Result<()> {
        Ok(())
    }

    #[inline]
    fn put(&self, _key: &[u8], value: &[u8]) -> Result<()> {
        self.length.store(value.len(), Ordering::Relaxed);
        Ok(())
    }

    fn write<K, V>(&self, changes: impl Iterator<Item = (K, Option<V>)>) -> Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        for (_, value) in changes {
            let length = value.map_or(0, |value| value.as_ref().len());
            self.length.store(length, Ordering::Relaxed);
        }
        Ok(())
    }

    fn pop_ends(&self, _: u64, _: Instant, _: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        Ok(0)
    }

    fn len(&self) -> Result<u64> {
        Ok(0)
    }

    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    fn reader(&self) -> Result<NullReader<'_>> {
        Ok(NullReader(self))
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

impl NullReader<'_> {
    #[inline]
    fn value(&self) -> &[u8] {
        let length = self.0.length.load(Ordering::Relaxed).min(LONGEST);
        std::hint::black_box(&self.0.zeros[..length])
    }
}

impl Reader for NullReader<'_> {
    #[inline]
    fn get(&mut self, _key: &[u8], visit: impl FnOnce(&[u8])) -> Result<bool> {
        visit(self.value());
        Ok(true)
    }

    #[inline]
    fn scan(
        &mut self,
        from: &[u8],
        limit: u64,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<u64> {
        let mut count = 0;
        while count < limit {
            count += 1;
            if !visit(from, self.value()) {
                break;
            }
        }
        Ok(count)
    }

    fn scan_back(&mut self, _visit: impl FnMut(&[u8], &[u8])) -> Result<u64> {
        Ok(0)
    }
}
