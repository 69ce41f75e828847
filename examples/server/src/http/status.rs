//! `/status.json`: what the page shows.

use serde_json::{Map, Value, json};

use crate::metrics::read;
use crate::server::Shared;

/// Totals since the start and sizes of this moment; the page makes rates of them.
pub(super) fn json(shared: &Shared) -> toykv::Result<String> {
    let (metrics, stats, health) = (&shared.metrics, shared.store.stats(), shared.store.health());
    let commands: Map<String, Value> = metrics
        .commands()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_string(), count.into()))
        .collect();
    let latency: Vec<Value> = metrics
        .latency
        .buckets()
        .filter(|(_, count)| *count > 0)
        .map(|(bound, count)| json!([bound, count]))
        .collect();
    let text = |error: Option<toykv::Error>| error.map(|error| error.to_string());
    let explained: Map<String, Value> = shared
        .store
        .explain_space()?
        .numbers()
        .into_iter()
        .map(|(name, bytes)| (name.to_string(), bytes.into()))
        .collect();
    let runs = shared.store.runs();
    let runs: Vec<Value> = runs
        .iter()
        .map(|run| json!({"tables": run.tables, "entries": run.entries, "bytes": run.bytes}))
        .collect();
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_ms": shared.clients.now_ms(),
        "durability": format!("{:?}", shared.store.durability()).to_lowercase(),
        "keys": shared.store.len()?,
        "clients": shared.clients.count(),
        "client_limit": shared.limits.connections,
        "client_buffer_bytes": shared.budget.used(),
        "accepted": read(&metrics.accepted),
        "rejected": read(&metrics.rejected),
        "bytes_in": read(&metrics.bytes_in),
        "bytes_out": read(&metrics.bytes_out),
        "errors": read(&metrics.errors),
        "slow": read(&metrics.slow),
        "grpc_calls": read(&metrics.grpc_calls),
        "commands": commands,
        "latency": latency,
        "space": [
            {"what": "tables", "count": stats.tables, "bytes": stats.table_bytes},
            {"what": "segments of the log", "count": stats.segments, "bytes": stats.segment_bytes},
            {"what": "memtables (memory)", "count": stats.memtables, "bytes": stats.memtable_bytes},
        ],
        "explained": explained,
        "runs": runs,
        "snapshots": stats.snapshots,
        "written": {
            "log": stats.log_bytes_written,
            "flush": stats.flush_bytes_written,
            "compaction": stats.compaction_bytes_written,
            "collection": stats.collection_bytes_written,
        },
        "flushes": stats.flushes,
        "compactions": stats.compactions,
        "collections": stats.collections,
        "syncs": stats.syncs,
        "stalled_us": stats.stalled_us,
        "poisoned": text(health.poisoned),
        "background_error": text(health.background_error),
    });
    Ok(value.to_string())
}
