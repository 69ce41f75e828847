//! The one secret: password of the TCP port, token of gRPC and of the status port.

use std::fmt;

use subtle::ConstantTimeEq;

/// A secret, or none. Never printed.
#[derive(Clone, Default)]
pub struct Secret(Option<String>);

impl Secret {
    /// A secret that is not empty; an empty one is none.
    pub fn new(text: &str) -> Secret {
        Secret((!text.is_empty()).then(|| text.to_string()))
    }

    /// Whether one has to be given.
    pub fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is this one. Takes the same time for every wrong one of the same length.
    pub fn admits(&self, given: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|secret| secret.as_bytes().ct_eq(given).into())
    }

    /// Whether an `authorization` header bears it, or none is needed.
    pub fn admits_header(&self, header: Option<&[u8]>) -> bool {
        let token = header.and_then(|header| header.strip_prefix(b"Bearer "));
        !self.is_set() || token.is_some_and(|token| self.admits(token))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "Secret(set)" } else { "Secret(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_is_admitted_and_it_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert!(secret.admits(b"hunter2") && secret.admits_header(Some(b"Bearer hunter2")));
        for wrong in [&b""[..], b"hunter", b"hunter22", b"Hunter2"] {
            assert!(!secret.admits(wrong));
        }
        assert!(!secret.admits_header(None) && !secret.admits_header(Some(b"hunter2")));
        assert!(!format!("{secret:?}").contains("hunter"));
        let none = Secret::new("");
        assert!(!none.admits(b"") && none.admits_header(None));
    }
}
