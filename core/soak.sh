#!/usr/bin/env bash
# Every long run of the reliability rig, one after another, and a table of what each has done.
#   core/soak.sh             all of them: some hours
#   core/soak.sh NAME ...    these
# Each writes all it says to $SOAK_DIR/NAME.log (target/soak). FUZZ_SECONDS is the time of fuzzing.
set -uo pipefail
cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
SOAK_DIR=${SOAK_DIR:-${CARGO_TARGET_DIR:-target}/soak}
mkdir -p "$SOAK_DIR"

it() { "$CARGO" test --release --package toykv --features sim --test it "$@"; }

# Name, and what of the log's lines says how much was done; the command stands in `run`.
NAMES="crash faults damage model kill death histories interleavings planted fuzz tsan"
run() {
    case $1 in
    crash) TOYKV_CRASH_FULL=1 it crash -- --nocapture ;;
    faults) TOYKV_CRASH_FULL=1 it fault -- --nocapture && TOYKV_FULL_DISK_SIZES=100 it full_disk -- --nocapture ;;
    damage) TOYKV_DAMAGE_CASES=all it damage -- --nocapture ;;
    model) TOYKV_MODEL_CASES=20000 it model -- --nocapture ;;
    kill) TOYKV_KILL_ROUNDS=10000 it kill -- --nocapture ;;
    death) make --no-print-directory test-death-long ;;
    histories) TOYKV_HISTORIES=100000 it linear -- --nocapture ;;
    interleavings) TOYKV_INTERLEAVINGS=5000 make --no-print-directory interleavings ;;
    planted) make --no-print-directory planted ;;
    fuzz) make --no-print-directory fuzz FUZZ_SECONDS="${FUZZ_SECONDS:-3600}" ;;
    tsan) make --no-print-directory tsan ;;
    *) echo "soak: no run is called $1; there are: $NAMES" >&2; return 2 ;;
    esac
}
FIGURES='^ok\.|^damage:|^model:|faults at|^power loss|^[0-9]+ rounds:|crashes|kills|deaths at|failing calls|histories|interleavings|planted [0-9]|left out|no tmpfs|^[a-z]+ +[0-9]+ +([0-9]+|failed)$|test result: .* [1-9][0-9]* passed'

failed=0
declare -a rows
for name in ${*:-$NAMES}; do
    log=$SOAK_DIR/$name.log
    echo "soak: $name, see $log"
    start=$SECONDS
    run "$name" >"$log" 2>&1 && result=passed || { result=FAILED; failed=1; }
    rows+=("$(printf '%-14s %-7s %6d s' "$name" "$result" $((SECONDS - start)))")
    while read -r line; do rows+=("    $line"); done < <(grep -E "$FIGURES" "$log" | tail -20)
done
printf '%s\n' "" "${rows[@]}"
exit $failed
