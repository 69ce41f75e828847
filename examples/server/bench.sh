#!/usr/bin/env bash
# redis-benchmark against toykv-server and redis-server in alternated rounds; medians of requests a
# second, the least and the most. Needs Debian's redis-tools and redis-server, and `cargo build --release -p toykv-server`.
set -euo pipefail
server=${1:-target/release/toykv-server}
rounds=${ROUNDS:-3}
dir=$(mktemp -d)
trap 'kill %1 %2 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
redis-server --port 6399 --dir "$dir" --appendonly yes --appendfsync everysec --save "" \
    >"$dir/redis.log" 2>&1 &
"$server" --dir "$dir/db" --listen 127.0.0.1:7899 --log warn ${WORKERS:+--workers "$WORKERS"} &
for port in 6399 7899; do
    for _ in $(seq 100); do redis-cli -p $port ping >/dev/null 2>&1 && break; sleep 0.1; done
done
for round in $(seq "$rounds"); do
    for depth in 1 16; do
        requests=$((depth == 1 ? ${REQUESTS:-60000} : 8 * ${REQUESTS:-60000}))
        # The one first, then the other.
        for port in $((round % 2 ? 6399 : 7899)) $((round % 2 ? 7899 : 6399)); do
            redis-benchmark -p $port -t set,get -c 50 -P $depth -n $requests -r 100000 -d 100 -q \
                2>/dev/null | tr '\r' '\n' | awk -v p=$port -v d=$depth \
                '/requests per second/ { sub(":", "", $1); print d, $1, p, $2 }'
        done
    done
done | sort -k1,1n -k2,2 -k3,3n -k4,4n | awk '
    { key = $1 " " $2; values[key, $3, ++count[key, $3]] = $4; keys[key] }
    function middle(key, port) { return values[key, port, int((count[key, port] + 1) / 2)] }
    function spread(key, port) {
        return sprintf("%d-%d", values[key, port, 1], values[key, port, count[key, port]])
    }
    END {
        row = "%8s  %7s  %8s  %15s  %8s  %15s  %5s\n"
        printf row, "pipeline", "command", "redis/s", "", "toykv/s", "", "ratio"
        fflush()
        for (key in keys) {
            split(key, part)
            redis = middle(key, 6399)
            toykv = middle(key, 7899)
            printf row, part[1], part[2], int(redis), spread(key, 6399), int(toykv),
                spread(key, 7899), sprintf("%.2f", toykv / redis) | "sort -k1,1n -k2,2r"
        }
    }'
