"""A forked child has its parent's memory but must not touch its parent's database."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

import toykv

# Python 3.12 and later warn of forking a process that has threads, as the engine's are.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def in_child(check: Callable[[], None]) -> None:
    """Run `check` in a forked child; fail if it fails there."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            check()
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may return into the parent's tests
            traceback.print_exc()
        finally:
            os._exit(status)
    _, wait_status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(wait_status) == 0


def test_every_call_in_the_child_says_so(path: Path) -> None:
    db = toykv.open(path)
    db[b"a"] = b"1"
    cursor, snapshot, batch = db.items(), db.snapshot(), db.batch()
    batch.put(b"b", b"2")
    calls: list[Callable[[], object]] = [
        lambda: db.get(b"a"),
        lambda: db.get_value(b"a"),
        lambda: db.get_into(b"a", bytearray(9)),
        lambda: db.get_many([b"a"]),
        lambda: db.has(b"a"),
        lambda: db[b"a"],
        lambda: b"a" in db,
        lambda: list(db),
        db.items,
        db.count,
        lambda: db.count(b"a"),
        lambda: db.put(b"a", b""),
        lambda: db.put(b"a", b"", sync=True),
        lambda: db.__setitem__(b"a", b""),
        lambda: db.__delitem__(b"a"),
        lambda: db.delete(b"a"),
        lambda: db.update({b"a": b""}),
        db.snapshot,
        db.pop_first,
        db.pop_last,
        db.sync,
        db.flush,
        db.compact,
        db.stats,
        db.runs,
        db.health,
        db.close,
        lambda: next(cursor),
        cursor.prev,
        cursor.next_batch,
        lambda: cursor.seek(b"a"),
        cursor.close,
        lambda: snapshot.get(b"a"),
        lambda: list(snapshot),
        snapshot.count,
        snapshot.close,
        batch.write,
    ]

    def check() -> None:
        for call in calls:
            with pytest.raises(toykv.ForkedError, match="fork"):
                call()
        assert db.closed
        assert db.path == str(path)
        assert not db.read_only

    in_child(check)
    # The parent goes on as if nothing had been.
    assert not db.closed
    assert next(cursor) == (b"a", b"1")
    batch.write()
    assert list(snapshot) == [b"a"]
    assert list(db) == [b"a", b"b"]
    db.close()


def test_values_can_be_read_in_the_child(db: toykv.DB) -> None:
    db.update({b"small": b"1", b"large": b"x" * 100_000})
    values = [db.get_value(b"small"), db.get_value(b"large")]
    db.flush()
    values.append(db.get_value(b"large"))

    def check() -> None:
        assert values == [b"1", b"x" * 100_000, b"x" * 100_000]
        assert values[1] is not None
        assert memoryview(values[1])[99_999:].tobytes() == b"x"

    in_child(check)


def test_dropping_everything_in_the_child_leaves_the_parent_alone(path: Path) -> None:
    db = toykv.open(path)
    db.update({b"%d" % n: bytes(2000) for n in range(100)})
    things: list[object] = [db.items(), db.snapshot(), db.batch(), db.get_value(b"1")]
    databases = [db]
    db.flush()

    def check() -> None:
        gone = weakref.ref(databases[0])
        things.clear()
        databases.clear()
        gc.collect()
        assert gone() is None

    del db
    in_child(check)
    db = databases.pop()
    db[b"after"] = b"the fork"
    db.compact()
    assert db.count() == 101
    db.close()
    with toykv.open(path) as db:
        assert db.count() == 101


def test_the_child_can_open_other_databases_and_its_parents_when_that_is_done(path: Path) -> None:
    parent = toykv.open(path)
    parent[b"a"] = b"1"

    def check() -> None:
        with pytest.raises(toykv.LockedError):
            toykv.open(path)
        with toykv.open(f"{path}.other") as other:
            other[b"b"] = b"2"
            assert list(other) == [b"b"]

            def check_again() -> None:
                with pytest.raises(toykv.ForkedError):
                    other.get(b"b")

            in_child(check_again)
            assert other[b"b"] == b"2"

    in_child(check)
    parent.close()

    def open_it() -> None:
        with toykv.open(path) as db:
            db[b"from"] = b"the child"

    in_child(open_it)
    with toykv.open(path) as db:
        assert list(db) == [b"a", b"from"]


def test_a_child_that_ends_as_programs_do(path: Path) -> None:
    script = """
import os, sys, toykv
db = toykv.open(sys.argv[1])
db.update({b"%d" % n: b"" for n in range(1000)})
cursor, snapshot, value = iter(db), db.snapshot(), db.get_value(b"1")
if os.fork() == 0:
    sys.exit()
assert os.wait()[1] == 0
db[b"after"] = b"the fork"
print(db.count())
"""
    command = [sys.executable, "-W", "ignore", "-c", script, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1001\n", "")
    with toykv.open(path) as db:
        assert db.count() == 1001


def square(number: int) -> int:
    return number * number


def test_multiprocessing_beside_an_open_database(db: toykv.DB) -> None:
    db[b"a"] = b"1"
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(square, range(5)) == [0, 1, 4, 9, 16]
        assert db[b"a"] == b"1"
    db[b"b"] = b"2"
    assert db.count() == 2
