#!/usr/bin/env bash
# Opens the status page: page.sh BROWSER URL SCREENSHOT. It has to show what the server counts.
set -euo pipefail
mkdir -p "$(dirname "$3")"
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
flags=(--headless --no-sandbox --disable-gpu --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync
    --user-data-dir="$profile" --virtual-time-budget=4000 --window-size=1100,1000)
timeout 60 "$1" "${flags[@]}" --dump-dom "$2" >"$profile/dom" 2>"$profile/log" ||
    { tail -5 "$profile/log" >&2; exit 1; }
for text in '>healthy<' 'class="numbers"' '>GET<' 'half below' '>tables<' 'Sorted runs' \
    '>all<' '>total<'; do
    grep -qF "$text" "$profile/dom" || { echo "page: no $text" >&2; exit 1; }
done
timeout 60 "$1" "${flags[@]}" --screenshot="$3" "$2" >/dev/null 2>"$profile/log" ||
    { tail -5 "$profile/log" >&2; exit 1; }
[ "$(wc -c <"$3")" -gt 10000 ] || { echo "page: an empty screenshot" >&2; exit 1; }
