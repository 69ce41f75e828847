#!/bin/sh
# Breaks one rule of the engine after the other and shows which test notices. All rules are in one
# build, with the feature `planted`: a build for each would take hours. Ends with
# "planted N, caught N", and fails when a rule can be broken unnoticed.
#
#   core/planted.sh             all rules
#   core/planted.sh 'sync:'     those whose names begin so
set -eu
cd "$(dirname "$0")/.."

# rule | test binary | tests | scripts of the power loss test
table() {
    grep -v '^$' <<'END'
sync: none|it|crash::power_loss|puts_at_sync
sync: the newest segment only|it|crash::power_loss|rotation_with_one_sync
sync: a failure is forgotten|it|faults::calls_about_bytes|
sync: claimed before it is done|it|crash_threads::|
sync: tried again|it|faults::|
sync tells nobody|it|stalls::who_waits_for_the_sync|
number after sync|it|races::a_sync_answers|
poison: ignored|it|faults::calls_about_bytes|
write: acknowledged before the sync|it|crash::power_loss|puts_at_sync
write: a full disk is acknowledged|it|faults::a_full_disk|
interval: never synced|it|crash::an_interval|
close: syncs nothing|it|crash::power_loss|reopens
segment: not synced when new|it|crash::power_loss|rotation
segment: name not synced|it|crash::power_loss|rotation
rotation: an empty segment stays empty|lib|vlog::|
value: checksum unchecked|lib|vlog::|
replay: any chain|lib|vlog::|
replay: record unchecked|lib|vlog::|
replay: fold unchecked|lib|vlog::|
replay: holes are torn ends|lib|vlog::|
replay beyond a hole|it|races::nothing_is_replayed|
frame: any salt|lib|vlog::|
frame: header unchecked|lib|vlog::|
rewritten: not synced|it|crash::power_loss|collections
rewritten: name not synced|it|crash::power_loss|collections
manifest: live before it is there|it|crash::power_loss|manifests_by_flushes
manifest: name not synced before CURRENT|it|crash::power_loss|manifests_by_flushes
manifest: not synced when new|it|crash::power_loss|manifests_by_flushes
manifest: grown without a sync|lib|version::|
manifest: edit not synced|it|crash::power_loss|flushes
manifest: goes on after a failure|lib|version::|
manifest: what follows is ignored|lib|version::|
manifest: edit unchecked|lib|version::|
CURRENT: not synced|it|crash::power_loss|manifests_by_flushes
CURRENT: rename not synced|it|crash::power_loss|creation_at_sync
table: not synced|it|crash::power_loss|flushes
table: name not synced|it|crash::power_loss|flushes
table: tail unchecked|lib|table::tests::damage::flipped_bits|
table: index unchecked|lib|table::tests::damage::flipped_bits|
table: locator unchecked|lib|table::tests::damage::flipped_bits|
table: block unchecked|lib|table::tests::damage::flipped_bits|
table: footer unchecked|lib|table::tests::damage::flipped_bits|
key split|it|races::the_versions|
deletions go on|it|races::what_frees_space_returns|
flush: values not synced|it|crash::power_loss|values_that_stay
flush: segment gone before the edit|it|crash::power_loss|flushes
flush: keys not counted|it|crash::power_loss|flushes
flush: deletes are left out|it|crash::power_loss|flushes_of_deletes
compaction: the oldest input is left out|it|crash::power_loss|compactions
compaction: dead values not recorded|it|crash::power_loss|collections
tombstones dropped without proof|it|races::a_tombstone|
join past a neighbour|it|races::no_run|
collection trusts a stale count|it|races::values_that_die|
snapshots: none counts|it|crash::power_loss|snapshots
number before pin|it|races::a_reader|
number before lock|it|races::a_snapshot|
active memtable stays|it|races::who_pinned|
edit before the log|it|crash::power_loss|oversized
runs: oldest first|it|crash::power_loss|flushes
no threads|it|stalls::a_stall_is_bounded|
open: numbers of files begin anew|it|faults::a_file_that|
open: no first commit|it|crash::power_loss|creation
open: the log goes before it is replaced|it|crash::crash_within|puts_at_process
open: sequence numbers begin anew|it|crash::power_loss|reopens
open: parent not synced|it|crash::power_loss|creation_at_sync
destroy: CURRENT stays|it|crash::power_loss|destruction
verify: blocks not told|it|repair::every_part|
verify: locators not told|it|repair::every_part|
verify: indexes not told|it|repair::every_part|
verify: indexes not beside blocks|it|repair::what_no_checksum|
verify: entries not looked up|it|repair::what_no_checksum|
verify: footers not beside blocks|it|repair::what_no_checksum|
verify: tables not beside the manifest|lib|recount::|
verify: values not told|it|repair::one_damaged|
verify: values not beside the manifest|lib|recount::|
verify: dead values not counted again|lib|recount::|
verify: flushed segments not told|it|repair::frames_that|
verify: log not told|it|repair::damage_in_a_table|
verify: keys not counted|lib|recount::|
scrub: log not told|it|repair::a_scrub_finds|
salvage: the oldest wins|it|repair::an_intact|
salvage: deletes ignored|it|repair::an_intact|
salvage: any block|it|repair::whatever|
salvage: lost values not told|it|repair::one_damaged|
salvage: lost blocks not told|it|repair::a_damaged_block|
salvage: the source is recovered|it|repair::an_intact|
END
}

# Every rule that the engine can break must be in the table.
planted='planted\(((&[a-z.]*dir|dir), )?"[^"]*"'
for rule in $(grep -rhoE "$planted" core/src | sed 's/.*"\(.*\)"/\1/; s/ /_/g' | sort -u); do
    rule=$(echo "$rule" | tr _ ' ')
    table | cut -d'|' -f1 | grep -qxF "$rule" || { echo "planted: no test for \"$rule\"" >&2; exit 1; }
done

built=$(${CARGO:-cargo} test --package toykv --features planted --lib --test it --no-run 2>&1) ||
    { echo "$built" >&2; exit 1; }
binary() {
    echo "$built" | sed -n "s|^ *Executable .*$1.* (\(.*\))\$|\1|p"
}
absolute() {
    case $1 in /*) echo "$1" ;; *) echo "$(pwd)/$1" ;; esac
}
it=$(absolute "$(binary tests/it)")
lib=$(absolute "$(binary src/lib.rs)")

count=0 caught=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
table >"$work/table"
cd core

# The tests of a rule, with it broken or not.
try() {
    TOYKV_PLANTED=$1 TOYKV_CRASH_SCRIPT=$4 timeout 600 "$2" "$3" >"$work/out" 2>&1 </dev/null
}

# A test that fails anyway notices nothing.
cut -d'|' -f2- "$work/table" | sort -u >"$work/tests"
while IFS='|' read -r binary tests scripts <&3; do
    grep -F "|$binary|$tests|$scripts" "$work/table" | grep -q "^${1-}" || continue
    [ "$binary" = it ] && binary=$it || binary=$lib
    try nothing "$binary" "$tests" "$scripts" && grep -q ' [1-9][0-9]* passed' "$work/out" ||
        { tail -40 "$work/out"; echo "planted: $tests fails, or is none, with no rule broken" >&2; exit 1; }
done 3<"$work/tests"

while IFS='|' read -r rule binary tests scripts <&3; do
    case $rule in "${1-}"*) ;; *) continue ;; esac
    count=$((count + 1))
    [ "$binary" = it ] && binary=$it || binary=$lib
    status=0
    try "$rule" "$binary" "$tests" "$scripts" || status=$?
    failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$work/out" | head -1)
    [ "$status" -ne 124 ] || failed="$tests, which hung"
    [ "$status" -le 127 ] || failed="$tests, by a signal"
    if [ "$status" -ne 0 ] && [ -n "$failed" ]; then
        caught=$((caught + 1))
        echo "$rule: caught by $failed"
    else
        echo "$rule: NOT CAUGHT by $tests: $(tail -1 "$work/out")"
    fi
done 3<"$work/table"
echo "planted $count, caught $caught"
[ "$count" -eq "$caught" ]
