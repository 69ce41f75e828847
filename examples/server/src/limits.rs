//! Limits on what clients may ask for: one table of names, defaults and reasons, which the
//! configuration, `--limit` and the README share.

/// Declares the struct and its table in one place.
macro_rules! limits {
    ($($name:ident = $default:literal, $least:literal, $doc:literal;)*) => {
        /// What clients may ask for. Every limit is at least 1.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
        pub struct Limits {
            $(#[doc = $doc] pub $name: u64,)*
        }

        impl Default for Limits {
            fn default() -> Limits {
                Limits { $($name: $default,)* }
            }
        }

        impl Limits {
            /// Name, default, least and meaning of each.
            pub const TABLE: &[LimitInfo] = &[
                $(LimitInfo { name: stringify!($name), default: $default, least: $least,
                    doc: $doc },)*
            ];

            /// Sets a limit by name. The error names the limit and what it accepts.
            pub fn set(&mut self, name: &str, value: u64) -> Result<(), String> {
                let info = Limits::TABLE.iter().find(|info| info.name == name);
                let info = info.ok_or_else(|| format!("no limit is called {name:?}"))?;
                if value < info.least || value > 1 << 40 {
                    return Err(format!("limit {name}: {value} is not at least {}", info.least));
                }
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => {}
                }
                Ok(())
            }
        }
    };
}

/// One limit as the README shows it.
#[derive(Clone, Copy, Debug)]
pub struct LimitInfo {
    /// The name for `--limit NAME=NUMBER` and the `[limits]` of a file.
    pub name: &'static str,
    /// The default.
    pub default: u64,
    /// The smallest that is accepted.
    pub least: u64,
    /// What it limits, and what happens beyond.
    pub doc: &'static str,
}

limits! {
    connections = 256, 1, "clients on the TCP port; the next one is told so and closed";
    line_bytes = 65_536, 64,
        "one line, of the lines dialect or in RESP; the client is told so and closed";
    frame_bytes = 67_108_864, 1_024, "one RESP command; the client is told so and closed";
    frame_arguments = 1_048_576, 8, "arguments of one RESP command; likewise";
    reply_bytes = 67_108_864, 1_024,
        "copied bytes of one reply (KEYS, MGET); an error instead, long values are not copied";
    output_bytes = 8_388_608, 1_024,
        "replies waiting for a client; nothing more of it is executed or read until it takes them";
    buffer_bytes = 536_870_912, 65_536,
        "all that clients' commands and replies take beyond 64 KiB each, over all of them, with \
         what commands of many arguments need while they are executed, but without values that are \
         mapped; and twice what gRPC requests take, with what their fields become, and once what \
         gRPC answers take; a command beyond is refused, and its client closed if it has not come \
         completely, a call beyond is RESOURCE_EXHAUSTED";
    header_seconds = 10, 1,
        "from connecting to the first byte (TLS included), and from a command's first byte to its \
         last, longer by as much for every MiB that has come; closed";
    idle_seconds = 300, 1,
        "without a command; on the gRPC port without a piece of any call or answer, on the status \
         port without a byte; closed";
    send_seconds = 60, 1, "a client takes none of its reply; closed";
    grpc_connections = 64, 1, "connections on the gRPC port; the next one is closed";
    grpc_streams = 64, 1, "calls at a time on one connection; more wait";
    grpc_age_seconds = 3_600, 1,
        "a connection; GOAWAY, so that the client connects anew, and calls under way go on";
    grpc_message_bytes = 4_194_304, 1_024, "one message, either way; OUT_OF_RANGE";
    grpc_resets = 20, 1,
        "streams opened and reset before they were looked at (a reset flood); GOAWAY";
    http_connections = 16, 1, "connections on the status port; the next one is closed";
}

/// Memory that one connection may take without asking: what it sends and what it is sent.
pub(crate) const FREE_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name_and_checked() {
        let mut limits = Limits::default();
        limits.set("connections", 3).unwrap();
        assert_eq!(limits.connections, 3);
        assert!(limits.set("connections", 0).unwrap_err().contains("connections"));
        assert!(limits.set("nonsense", 1).unwrap_err().contains("nonsense"));
    }

    #[test]
    fn the_readme_has_every_limit_with_its_default() {
        let readme = include_str!("../README.md");
        for info in Limits::TABLE {
            let row = format!("| `{}` | {} | {} |", info.name, info.default, info.doc);
            assert!(readme.contains(&row), "missing in README.md:\n{row}");
        }
    }
}
