//! Mistakes that a test build makes on purpose (layer L0): each breaks one rule that keeps data
//! safe, and a test must notice. Only with the feature `planted`, of which `make planted` makes one
//! build for all of them, since a build for each would take hours; in every other build there is
//! nothing to switch on.

/// Whether to break this rule: the one that `TOYKV_PLANTED` names.
#[cfg(feature = "planted")]
pub(crate) fn planted(rule: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| std::env::var("TOYKV_PLANTED").ok());
    chosen.as_deref() == Some(rule)
}

/// Whether to break this rule: never.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) fn planted(_rule: &str) -> bool {
    false
}
