#!/bin/sh
# Fuzzes each target for so many seconds, one after the other, and says what ran:
#   core/fuzz/run.sh 60 [TARGET ...]
# Starts from the inputs in core/fuzz/corpus, which the program `seeds` writes first ones to; new
# ones go to target/fuzz/corpus, what fails to target/fuzz/artifacts. Needs nightly Rust and
# cargo-fuzz; without them it says so and ends.
set -eu
cd "$(dirname "$0")/.."
seconds=$1
shift
if ! cargo +nightly --version >/dev/null 2>&1 || ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: left out: needs rustup toolchain install nightly and cargo install cargo-fuzz"
    exit 0
fi
[ $# -gt 0 ] || set -- frames rewritten block locator footer edit manifest batch directory model
out=$(cd .. && pwd)/target/fuzz
failed=0
printf '%-10s %10s %14s\n' target seconds executions
for target in "$@"; do
    mkdir -p "fuzz/corpus/$target" "$out/corpus/$target" "$out/artifacts/$target"
    log=$out/$target.log
    cargo +nightly fuzz run --target-dir "$out" "$target" "$out/corpus/$target" \
        "fuzz/corpus/$target" -- -max_total_time="$seconds" -max_len=262144 -timeout=60 \
        -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$out/artifacts/$target/" >"$log" 2>&1 || failed=1
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%-10s %10s %14s\n' "$target" "$seconds" "${count:-failed}"
    [ -n "$count" ] || tail -20 "$log"
done
exit $failed
