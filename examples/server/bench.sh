#!/usr/bin/env bash
# redis-benchmark against toykv-server and redis-server in alternated rounds; medians of requests a
# second. Needs Debian's redis-tools and redis-server, and `cargo build --release -p toykv-server`.
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
for _ in $(seq "$rounds"); do
    for depth in 1 16; do
        requests=$((depth == 1 ? ${REQUESTS:-60000} : 8 * ${REQUESTS:-60000}))
        for port in 6399 7899; do
            redis-benchmark -p $port -t set,get -c 50 -P $depth -n $requests -r 100000 -d 100 -q \
                2>/dev/null | tr '\r' '\n' | awk -v p=$port -v d=$depth \
                '/requests per second/ { sub(":", "", $1); print d, $1, p, $2 }'
        done
    done
done | sort -k1,1n -k2,2 -k3,3n -k4,4n | awk '
    { key = $1 " " $2; values[key, $3, ++count[key, $3]] = $4; keys[key] }
    END {
        print "pipeline  command  redis/s  toykv/s  ratio"
        for (key in keys) {
            split(key, part)
            redis = values[key, 6399, int((count[key, 6399] + 1) / 2)]
            toykv = values[key, 7899, int((count[key, 7899] + 1) / 2)]
            printf "%8s  %7s  %7d  %7d  %5.2f\n", part[1], part[2], redis, toykv, toykv / redis
        }
    }'
