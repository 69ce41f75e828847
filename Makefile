# The commands of the project; `make` or `make help` lists them.
#
#   make demo DIR=/any/folder        make test        make bench BENCH_ARGS="--entries 1000000"
#   make bench-guard GUARD_ARGS=--record         after a change that is meant to cost more

CARGO ?= cargo
PYTHON ?= python3
CFLAGS ?= -O2 -g
CXXFLAGS ?= -O2 -g
TARGET := $(or $(CARGO_TARGET_DIR),target)
VENV := $(TARGET)/venv
LIB := $(TARGET)/lib
DEMO := $(TARGET)/demo
HELLO := $(TARGET)/hello

HOST = $(shell rustc --version --verbose | sed -n 's/^host: //p')

# What runs on several threads, by parts of names.
TSAN_TESTS ?= background concurrent crash_threads linear races stalls kill::what_several \
    queue threads thread reader writers
# Names of core/soak.sh; all without.
SOAK ?=

# The folder that `make demo` stores; the default is Python's standard library.
DIR ?=
BENCH_ARGS ?=
SERVER_ARGS ?= --dir $(TARGET)/server/db --grpc 127.0.0.1:50051 --http 127.0.0.1:9090
GUARD_ARGS ?=
ROCKSDB ?= bundled
ROCKSDB_LIB_DIR = $(dir $(realpath $(shell $(CC) -print-file-name=librocksdb.so)))

WARNINGS := -Wall -Wextra -pedantic -Werror
C_FLAGS := -std=c99 -Iinclude $(CFLAGS)
# Programs find the library beside themselves, wherever the repository lies.
LINK := -L$(LIB) -ltoykv -Wl,-rpath,'$$ORIGIN/../lib'

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_REQUIRE_VIRTUALENV := 1
export PIP_RETRIES ?= 10
export PIP_DEFAULT_TIMEOUT ?= 60
export PYO3_PYTHON := $(shell command -v $(PYTHON) 2>/dev/null)

.PHONY: help demo planted server test test-clients test-death-long test-server-long clean
.PHONY: coverage interleavings soak tsan
.PHONY: bench bench-guard bench-peers bench-space bench-report bench-server bench-tools
.PHONY: tools need-rust need-cc need-cxx need-python venv lib import_tree python
.PHONY: test-format test-lint test-rust test-doc test-examples test-python test-demo test-bench
.PHONY: test-server fuzz fuzz-short
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## List the commands
	@awk '/^[a-z-]+:/ { sub(/:.*/, "", $$1); name = $$1 } \
	    name && sub(/.*## /, "") { printf "make %-16s %s\n", name, $$0; name = "" }' Makefile

demo: need-rust need-cc need-python import_tree python ## Store a folder from C, ask about it from Python (DIR=/any/folder)
	@rm -rf $(DEMO)/database
	@dir="$(DIR)"; [ -n "$$dir" ] || \
	    dir=$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))'); \
	echo; echo "== import_tree: $$dir, through libtoykv.so"; \
	$(DEMO)/import_tree "$$dir" $(DEMO)/database
	@echo; echo "== query_tree: the same database from Python"
	@$(VENV)/bin/python examples/python/query_tree.py $(DEMO)/database

server: need-rust ## Serve a database: lines, Redis' protocol, gRPC (SERVER_ARGS="--dir /any/folder")
	$(CARGO) run --release --package toykv-server -- $(SERVER_ARGS)

test: tools test-format test-lint test-rust test-doc test-examples test-python test-demo \
      test-bench test-server bench-guard ## Everything that must pass, as .ci/run does
	@echo; echo "make test: every step above succeeded"

bench-guard: need-rust ## Instructions per operation beside the recorded ones (needs valgrind)
	$(CARGO) bench --quiet --package toykv --bench guard -- $(GUARD_ARGS)

test-clients: INSIST := 1
test-clients: test-server ## Real clients of the server: Python, redis-cli, Node and a browser must be there

test-death-long: need-rust need-cc ## Kills and failing system calls: half an hour (needs strace)
	TOYKV_DEATH_SEED=$${TOYKV_DEATH_SEED:-$$(date +%s)} TOYKV_DEATH_KILLS=10000 \
	    TOYKV_DEATH_STOPS=1000000 TOYKV_DEATH_FAILURES=5000 \
	    $(CARGO) test --package toykv-ffi --test death -- --nocapture --test-threads 1

interleavings: need-rust ## The engine's threads under a scheduler that tries their interleavings
	$(CARGO) test --package toykv --features shuttle --test interleavings -- --show-output

# Rust's own library is built with the sanitizer too, or it would see only half of every lock.
tsan: need-rust ## The tests of several threads under ThreadSanitizer (needs nightly Rust and rust-src)
	RUSTFLAGS=-Zsanitizer=thread \
	    TSAN_OPTIONS='halt_on_error=1 suppressions=$(CURDIR)/core/tests/tsan.supp' \
	    $(CARGO) +nightly test -Zbuild-std --target $(HOST) --target-dir $(TARGET)/tsan \
	    --package toykv --features sim --lib --test it -- $(TSAN_TESTS)

coverage: need-rust ## Lines of the engine that its tests reach (needs cargo-llvm-cov and llvm-tools)
	$(CARGO) llvm-cov --package toykv --features sim --lib --test it \
	    --ignore-filename-regex '/tests/|tests\.rs|conformance\.rs|fs/sim' --summary-only

soak: need-rust need-cc ## Every long run of the reliability rig and a table of them: hours
	core/soak.sh $(SOAK)

test-server-long: need-rust ## The server's tests in their long form: some minutes
	TOYKV_FRAMES=1000000 TOYKV_KILLS=50 TOYKV_CONNECTIONS=10000 \
	    $(CARGO) test --release --package toykv-server -- --show-output

planted: need-rust ## Breaks the engine's rules one by one: a test notices each (some minutes)
	core/planted.sh

bench-server: need-rust ## The server beside Debian's redis-server (needs redis-tools)
	$(CARGO) build --release --package toykv-server
	examples/server/bench.sh $(TARGET)/release/toykv-server
	$(CARGO) test --release --package toykv-server --test it -- \
	    --ignored --nocapture latency_of_a_get_beside_a_bare_echo

bench: need-rust need-cc ## Compare with LMDB: some minutes, keep the machine idle
	$(CARGO) run --release --package toykv-bench -- $(BENCH_ARGS)

bench-peers: bench-tools ## All suites with all peers, about 45 minutes and a long first build
	$(BENCH_ENV) $(CARGO) run --release --package toykv-bench --features peers -- \
	    peers $(BENCH_ARGS)

bench-space: bench-tools ## Disk, device bytes, 4 KiB values, compression, little memory: some minutes
	$(BENCH_ENV) $(CARGO) run --release --package toykv-bench --features peers -- \
	    peers --suites space --engines toykv,lmdb,rocksdb,rocksdb_blob \
	    --out $(TARGET)/bench/space.jsonl $(BENCH_ARGS)

bench-report: bench-tools ## examples/bench/RESULTS.md and its plots from the last bench-peers
	$(BENCH_ENV) $(CARGO) run --release --package toykv-bench --features peers -- \
	    report $(BENCH_ARGS)

fuzz-short: need-rust ## A minute of fuzzing for every decoder (needs nightly Rust and cargo-fuzz)
	core/fuzz/run.sh 60

fuzz: need-rust ## The same for FUZZ_SECONDS each, an hour if not told otherwise
	core/fuzz/run.sh $(or $(FUZZ_SECONDS),3600)

clean: ## Remove everything that was built
	$(CARGO) clean

# --- What is needed -------------------------------------------------------------------------

tools: need-rust need-cc need-cxx need-python

need-rust:
	@command -v $(CARGO) >/dev/null 2>&1 || \
	    { echo "make: $(CARGO) is missing: install Rust, https://rustup.rs" >&2; exit 1; }

need-cc:
	@command -v $(CC) >/dev/null 2>&1 || \
	    { echo "make: no C compiler ($(CC)): install gcc or clang, or set CC" >&2; exit 1; }

need-cxx:
	@command -v $(CXX) >/dev/null 2>&1 || \
	    { echo "make: no C++ compiler ($(CXX)): install g++ or clang++, or set CXX" >&2; exit 1; }

need-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	    { echo "make: $(PYTHON) is missing or older than 3.11: install it, or set PYTHON" >&2; exit 1; }

# A virtual environment of our own: nothing is installed into the system's Python.
venv: need-python
	@[ -x $(VENV)/bin/pip ] || $(PYTHON) -m venv --clear $(VENV) || \
	    $(PYTHON) -m virtualenv --clear $(VENV) || \
	    { rm -rf $(VENV); \
	      echo "make: $(PYTHON) cannot make a virtual environment with pip in it: install the" \
	           "package python3-venv (Debian, Ubuntu) or virtualenv" >&2; exit 1; }

# What the builds of RocksDB (libclang) and LevelDB (cmake) need beside a C++ compiler.
bench-tools: need-rust need-cc need-cxx venv
	@$(VENV)/bin/python -c 'import clang, cmake' 2>/dev/null || \
	    $(VENV)/bin/pip install --quiet libclang 'cmake>=3.20,<4'

# Expanded by the recipes, after bench-tools.
# ROCKSDB=system links the installed library (Debian: librocksdb-dev), which saves a long build.
BENCH_ENV = $(if $(filter system,$(ROCKSDB)),ROCKSDB_LIB_DIR=$(ROCKSDB_LIB_DIR) )\
    CMAKE=$(CURDIR)/examples/bench/cmake.sh BENCH_CMAKE=$(abspath $(VENV))/bin/cmake \
    LIBCLANG_PATH=$$($(VENV)/bin/python -c 'import clang; print(clang.__path__[0] + "/native")') \
    BINDGEN_EXTRA_CLANG_ARGS=-I$$($(CC) -print-file-name=include)

# --- What is built --------------------------------------------------------------------------

# The library as installed: the file is named after its soname, the linker's name points at it.
lib: need-rust
	$(CARGO) build --release --package toykv-ffi
	@mkdir -p $(LIB)
	@ln -sf ../release/libtoykv.so $(LIB)/libtoykv.so.0
	@ln -sf libtoykv.so.0 $(LIB)/libtoykv.so

import_tree: lib need-cc
	@mkdir -p $(DEMO)
	$(CC) $(C_FLAGS) -o $(DEMO)/import_tree examples/c/import_tree.c $(LINK)

# Built by the maturin of the environment, so that a second build only does what changed.
python: venv need-rust
	$(VENV)/bin/pip install --quiet 'maturin>=1.16,<2'
	PATH="$$(cd $(VENV)/bin && pwd):$$PATH" $(VENV)/bin/pip install --quiet \
	    --no-build-isolation --force-reinstall --no-deps ./python

# --- The steps of `make test` ---------------------------------------------------------------

test-format:
	$(CARGO) fmt --all --check

test-lint:
	$(CARGO) clippy --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --package toykv --all-targets --features sim -- --deny warnings

# Unit tests, documentation tests, the house rules, the header's drift, exported symbols, and the
# C and C++ programs that the library's tests compile; then the engine's black-box tests on the
# simulated disk.
test-rust:
	$(CARGO) test --workspace
	$(CARGO) test --package toykv --features sim --test it

test-doc:
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --workspace --no-deps

# The same program in three languages prints the same lines, and stands in the README as it is.
test-examples: lib python need-cc
	$(PYTHON) examples/excerpts.py
	@rm -rf $(HELLO); mkdir -p $(HELLO)
	$(CC) $(C_FLAGS) $(WARNINGS) -o $(HELLO)/hello examples/c/hello.c $(LINK)
	$(HELLO)/hello $(HELLO)/c.db >$(HELLO)/c.out
	$(CARGO) run --quiet --package toykv --example hello -- $(HELLO)/rust.db >$(HELLO)/rust.out
	$(VENV)/bin/python examples/python/hello.py $(HELLO)/python.db >$(HELLO)/python.out
	diff examples/hello.expected $(HELLO)/c.out
	diff examples/hello.expected $(HELLO)/rust.out
	diff examples/hello.expected $(HELLO)/python.out

test-python: python
	$(VENV)/bin/pip install --quiet pytest mypy
	$(VENV)/bin/python -m pytest python/tests
	$(VENV)/bin/python -m mypy.stubtest toykv
	$(VENV)/bin/python -m mypy --config-file python/pyproject.toml \
	    python/pysrc python/tests examples/python

# The programs of `make demo`, on this repository's own sources.
test-demo: lib python need-cc
	@mkdir -p $(DEMO); rm -rf $(DEMO)/test
	$(CC) $(C_FLAGS) $(WARNINGS) -o $(DEMO)/import_tree examples/c/import_tree.c $(LINK)
	$(DEMO)/import_tree core $(DEMO)/test src/
	$(VENV)/bin/python examples/python/query_tree.py $(DEMO)/test src/

test-bench: need-rust
	$(CARGO) run --quiet --package toykv-bench -- --quick \
	    --dir $(TARGET)/bench/test --out $(TARGET)/bench/test.jsonl

# Real clients; what the machine does not have is left out and named, but for `make test-clients`.
# The server is the one of test-rust: alone it would have other features, and be built again.
test-server: need-rust venv
	$(CARGO) test --quiet --workspace --no-run
	$(VENV)/bin/pip install --quiet 'redis>=5,<8'
	INSIST=$(INSIST) NODE_MODULES=$(TARGET)/clients/node_modules \
	    SCREENSHOT=$(TARGET)/clients/page.png \
	    examples/server/tests/clients/run.sh $(TARGET)/debug/toykv-server $(VENV)/bin/python
