#!/bin/sh
# cmake for the build of leveldb-sys, which switches warnings off and so makes LevelDB believe that
# GCC knows clang's thread safety analysis. BENCH_CMAKE is the program; make bench-peers sets it.
cmake=${BENCH_CMAKE:-cmake}
case "$1" in
--build) exec "$cmake" "$@" ;;
*) exec "$cmake" "$@" -DHAVE_CLANG_THREAD_SAFETY=OFF ;;
esac
