//! Values of options as text, both ways (layer L0): what is read is what is written, and more.

use crate::types::{Compression, Durability, IoMode};

pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

pub(super) fn parse_durability(text: &str) -> Option<Durability> {
    match text {
        "process" => Some(Durability::Process),
        "interval" => Some(Durability::Interval),
        "sync" => Some(Durability::Sync),
        _ => None,
    }
}

pub(super) fn parse_compression(text: &str) -> Option<Compression> {
    let all = [Compression::None, Compression::Lz4, Compression::Zstd];
    all.into_iter().find(|compression| compression_text(*compression) == text)
}

pub(super) fn compression_text(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

pub(super) fn parse_io(text: &str) -> Option<IoMode> {
    [IoMode::Mapped, IoMode::Direct].into_iter().find(|io| io_text(*io) == text)
}

pub(super) fn io_text(io: IoMode) -> &'static str {
    match io {
        IoMode::Mapped => "mapped",
        IoMode::Direct => "direct",
    }
}

/// Digits and a unit: nothing or B, then KiB, MiB, GiB, TiB (powers of 1024).
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Bytes in the largest unit that divides them.
pub(super) fn bytes_text(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fitting = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    fitting.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Bytes, or `Some(None)` for the engine's choice.
pub(super) fn parse_auto(text: &str) -> Option<Option<u64>> {
    if text == "auto" { Some(None) } else { parse_bytes(text).map(Some) }
}

pub(super) fn auto_text(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "auto".into(), bytes_text)
}

pub(super) fn durability_text(durability: Durability) -> &'static str {
    match durability {
        Durability::Process => "process",
        Durability::Interval => "interval",
        Durability::Sync => "sync",
    }
}

/// Digits, and a point with one or two digits behind it: hundredths.
pub(super) fn parse_percent(text: &str) -> Option<u64> {
    let (whole, part) = text.trim().split_once('.').unwrap_or((text.trim(), "00"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 2 {
        return None;
    }
    let hundredths: u64 = format!("{part:0<2}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(hundredths)
}

pub(super) fn percent_text(percent: u64) -> String {
    match percent % 100 {
        0 => format!("{}.0", percent / 100),
        part if part.is_multiple_of(10) => format!("{}.{}", percent / 100, part / 10),
        part => format!("{}.{part:02}", percent / 100),
    }
}
