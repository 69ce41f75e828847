//! A value that was read: pinned mapped memory or a small copy.
/// SKELETON: bytes of a value; stays valid after close.
#[derive(Clone)]
pub struct Value {
    bytes: Vec<u8>,
}
impl Value {
    /// The bytes as a vector of their own.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}
impl std::ops::Deref for Value {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}
impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
