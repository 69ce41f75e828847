//! Snapshots.
use crate::{Result, Scan, ScanOptions, SeqNo, Value};
/// SKELETON: a frozen state of the database. Send + Sync. Dropping releases it. Reads after close answer Closed.
#[derive(Debug)]
pub struct Snapshot {
    _p: (),
}
impl Snapshot {
    /// The newest write that this snapshot sees.
    pub fn seqno(&self) -> SeqNo {
        todo!()
    }
    /// As Db::get.
    pub fn get(&self, _key: &[u8]) -> Result<Option<Value>> {
        todo!()
    }
    /// As Db::get_into.
    pub fn get_into(&self, _key: &[u8], _buf: &mut [u8]) -> Result<Option<usize>> {
        todo!()
    }
    /// As Db::contains.
    pub fn contains(&self, _key: &[u8]) -> Result<bool> {
        todo!()
    }
    /// As Db::multi_get.
    pub fn multi_get<K: AsRef<[u8]>>(&self, _keys: &[K]) -> Result<Vec<Option<Value>>> {
        todo!()
    }
    /// As Db::scan.
    pub fn scan(&self, _options: &ScanOptions) -> Result<Scan> {
        todo!()
    }
}
