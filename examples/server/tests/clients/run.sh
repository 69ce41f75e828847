#!/usr/bin/env bash
# Real clients against a real server: run.sh SERVER PYTHON, Python with the package redis. What is
# missing is left out and named; with INSIST=1 that is a failure.
set -euo pipefail
server=$1 python=$2
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
"$server" --dir "$dir/db" --listen 127.0.0.1:0 --http 127.0.0.1:0 --flushdb allow \
    --log-format json 2>"$dir/log" &
trap 'kill $! 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
for _ in $(seq 200); do grep -q '"ready"' "$dir/log" && break; sleep 0.1; done
port() { sed -n "s/.*\"$1\":[^,]*127.0.0.1:\([0-9]*\).*/\1/p" "$dir/log" | head -1; }
tcp=$(port listen) http=$(port http)
[ -n "$tcp" ] || { cat "$dir/log" >&2; exit 1; }

missing() {
    echo "clients: left out: $1" >&2
    [ -z "${INSIST:-}" ] || exit 1
}
expect() { # expect WANTED COMMAND...
    local wanted=$1 got
    shift
    got=$("$@")
    [ "$got" = "$wanted" ] || { echo "clients: $*: $got instead of $wanted" >&2; exit 1; }
}

echo "clients: Python's redis"
"$python" "$here/client.py" "$tcp"

if command -v redis-cli >/dev/null; then
    echo "clients: redis-cli"
    expect OK redis-cli -p "$tcp" set greeting 'Hello, World!'
    expect 'Hello, World!' redis-cli -3 -p "$tcp" get greeting
    expect 2 redis-cli -p "$tcp" incrby visits 2
    expect greeting redis-cli -p "$tcp" --scan --pattern 'greet*'
    expect '' redis-cli -3 -p "$tcp" get nothing
    seq 1000 2000 | awk '{ printf "*3\r\n$3\r\nSET\r\n$4\r\n%s\r\n$4\r\n%s\r\n", $1, $1 }' |
        redis-cli -p "$tcp" --pipe >"$dir/pipe"
    grep -q 'errors: 0, replies: 1001' "$dir/pipe" || { cat "$dir/pipe" >&2; exit 1; }
else
    missing 'redis-cli (Debian: redis-tools)'
fi

if command -v redis-benchmark >/dev/null; then
    echo "clients: redis-benchmark"
    redis-benchmark -p "$tcp" -t ping,set,get,incr,mset -n 2000 -c 20 -P 4 -q >"$dir/bench" 2>&1
    [ "$(grep -c 'requests per second' "$dir/bench")" -ge 6 ] || { cat "$dir/bench" >&2; exit 1; }
else
    missing 'redis-benchmark (Debian: redis-tools)'
fi

node_modules=${NODE_MODULES:-target/clients/node_modules}
if command -v node >/dev/null && [ -n "${INSIST:-}" ] && [ ! -d "$node_modules/redis" ]; then
    npm install --silent --no-audit --no-fund --prefix "$(dirname "$node_modules")" redis@5
fi
if command -v node >/dev/null && [ -d "$node_modules/redis" ]; then
    echo "clients: Node's redis"
    NODE_PATH=$node_modules node "$here/client.cjs" "$tcp"
else
    missing "Node's redis (node, and make test-clients installs the package)"
fi

browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -n "$browser" ]; then
    echo "clients: the status page in $browser"
    "$here/page.sh" "$browser" "http://127.0.0.1:$http/" "${SCREENSHOT:-$dir/page.png}"
else
    missing 'a browser for the status page (Debian: chromium)'
fi
echo "clients: done"
