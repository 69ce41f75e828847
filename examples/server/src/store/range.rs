//! Ordered reads, and the removal of everything.

use std::ops::Bound;

use toykv::{Result, Scan, ScanOptions, WriteBatch};

use super::{Glob, Patience, Store};

/// Keys that one step of the removal of everything covers.
const CLEAR_STEP: usize = 1000;

impl Store {
    /// A frozen, ordered read.
    pub(crate) fn scan(&self, options: &ScanOptions) -> Result<Scan> {
        self.db.scan(options)
    }

    /// Looks at up to `count` keys behind `after` and tells `visit` each and whether it matches,
    /// until it answers false. Answers the last key that was looked at, when there may be more.
    pub(crate) fn page(
        &self,
        after: Option<&[u8]>,
        glob: &Glob<'_>,
        count: u64,
        visit: &mut dyn FnMut(&[u8], bool) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let mut options = ScanOptions::new().keys_only(true).limit(count).prefix(&glob.prefix());
        if let Some(after) = after {
            options = options.lower(Bound::Excluded(after));
        }
        let mut scan = self.db.scan(&options)?;
        let mut seen = 0;
        while let Some(entry) = scan.next_entry()? {
            seen += 1;
            let enough = !visit(entry.key, glob.matches(entry.key));
            if enough || seen == count {
                return Ok(Some(entry.key.to_vec()));
            }
        }
        Ok(None)
    }

    /// Removes every key that is there when it begins. Other clients see it in steps.
    pub(crate) fn clear(&self) -> Result<u64> {
        let mut scan = self.db.scan(&ScanOptions::new().keys_only(true))?;
        let mut removed = 0;
        loop {
            let mut batch = WriteBatch::new();
            let mut stripes = super::Stripes::default();
            while batch.len() < CLEAR_STEP
                && let Some(entry) = scan.next_entry()?
            {
                batch.delete(entry.key)?;
                stripes.add(self.stripe(entry.key));
            }
            if batch.is_empty() {
                return Ok(removed);
            }
            self.patiently(|patience: Patience| self.write(&batch, stripes, patience))?;
            removed += batch.len() as u64;
        }
    }
}
