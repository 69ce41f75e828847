//! `/metrics`: the counters in Prometheus' text form.

use std::fmt::Write;

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::metrics::read;
use crate::server::Shared;

const ORIGIN: Metadata<'_> = Metadata::new("toykv", Level::INFO, None);

/// The values of this moment. Counts the keys, so it may take long after many writes.
pub(super) fn text(shared: &Shared) -> toykv::Result<String> {
    let recorder = PrometheusBuilder::new().build_recorder();
    let keys = shared.store.len()?;
    for (name, help, value) in counters(shared) {
        recorder.describe_counter(KeyName::from_const_str(name), None, help.into());
        recorder.register_counter(&Key::from_static_name(name), &ORIGIN).absolute(value);
    }
    for (name, help, value) in gauges(shared, keys) {
        recorder.describe_gauge(KeyName::from_const_str(name), None, help.into());
        recorder.register_gauge(&Key::from_static_name(name), &ORIGIN).set(value);
    }
    let name = "toykv_commands_total";
    let help = "Commands of the TCP port by name.";
    recorder.describe_counter(KeyName::from_const_str(name), None, help.into());
    for (command, count) in shared.metrics.commands().filter(|(_, count)| *count > 0) {
        let label = Label::from_static_parts("command", command);
        recorder.register_counter(&Key::from_parts(name, vec![label]), &ORIGIN).absolute(count);
    }
    let mut text = recorder.handle().render();
    write_latency(shared, &mut text);
    Ok(text)
}

/// The exporter's histogram keeps every sample until it is read; the server has only the buckets.
fn write_latency(shared: &Shared, text: &mut String) {
    let name = "toykv_command_duration_seconds";
    let _ = writeln!(text, "# HELP {name} Time of commands of the TCP port in the server.");
    let _ = writeln!(text, "# TYPE {name} histogram");
    let latency = &shared.metrics.latency;
    let mut below = 0;
    for (bound, count) in latency.buckets() {
        below += count;
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {below}");
    let _ = writeln!(text, "{name}_sum {}", latency.total_seconds());
    let _ = writeln!(text, "{name}_count {below}");
}

type Row<T> = (&'static str, &'static str, T);

fn counters(shared: &Shared) -> Vec<Row<u64>> {
    let (metrics, stats) = (&shared.metrics, shared.store.stats());
    vec![
        ("toykv_connections_accepted_total", "Clients taken.", read(&metrics.accepted)),
        ("toykv_connections_rejected_total", "Clients refused.", read(&metrics.rejected)),
        ("toykv_bytes_received_total", "Bytes from clients.", read(&metrics.bytes_in)),
        ("toykv_bytes_sent_total", "Bytes to clients.", read(&metrics.bytes_out)),
        ("toykv_errors_total", "Commands that failed.", read(&metrics.errors)),
        ("toykv_slow_commands_total", "Commands in the slow log.", read(&metrics.slow)),
        ("toykv_grpc_calls_total", "gRPC calls.", read(&metrics.grpc_calls)),
        ("toykv_flushes_total", "Memtables flushed.", stats.flushes),
        ("toykv_compactions_total", "Compactions done.", stats.compactions),
        (
            "toykv_compaction_read_bytes_total",
            "Bytes that compactions read.",
            stats.compaction_bytes_read,
        ),
        (
            "toykv_compaction_written_bytes_total",
            "Bytes that compactions wrote.",
            stats.compaction_bytes_written,
        ),
        ("toykv_collections_total", "Collections of segments.", stats.collections),
        (
            "toykv_collection_written_bytes_total",
            "Bytes that collections wrote.",
            stats.collection_bytes_written,
        ),
        ("toykv_flush_written_bytes_total", "Bytes that flushes wrote.", stats.flush_bytes_written),
        ("toykv_log_written_bytes_total", "Bytes appended to the log.", stats.log_bytes_written),
        ("toykv_syncs_total", "Device flushes of the log.", stats.syncs),
        ("toykv_stalled_microseconds_total", "Time that writers waited.", stats.stalled_us),
    ]
}

fn gauges(shared: &Shared, keys: u64) -> Vec<Row<f64>> {
    let (stats, health) = (shared.store.stats(), shared.store.health());
    vec![
        ("toykv_keys", "Keys, exactly.", keys as f64),
        ("toykv_clients", "Clients of the TCP port.", shared.clients.count() as f64),
        ("toykv_client_buffer_bytes", "Long commands and replies.", shared.budget.used() as f64),
        ("toykv_memtables", "Memtables.", stats.memtables as f64),
        ("toykv_memtable_bytes", "Heap of memtables.", stats.memtable_bytes as f64),
        ("toykv_runs", "Sorted runs.", stats.runs as f64),
        ("toykv_tables", "Tables.", stats.tables as f64),
        ("toykv_table_bytes", "Bytes of tables.", stats.table_bytes as f64),
        ("toykv_segments", "Segments of the value log.", stats.segments as f64),
        ("toykv_segment_bytes", "Bytes of segments.", stats.segment_bytes as f64),
        ("toykv_snapshots", "Registered snapshots.", stats.snapshots as f64),
        (
            "toykv_poisoned",
            "1 while writes are refused.",
            f64::from(u8::from(health.poisoned.is_some())),
        ),
        (
            "toykv_background_failing",
            "1 while background work fails.",
            f64::from(u8::from(health.background_error.is_some())),
        ),
        ("toykv_uptime_seconds", "Since the start.", shared.clients.now_ms() as f64 / 1000.0),
    ]
}
