"""Many threads at one database."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import toykv


def together(*jobs: Callable[[], object]) -> None:
    """Run the jobs at once, each in a thread of its own; fail with the first that fails."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        start.wait()
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        for future in [pool.submit(run, job) for job in jobs]:
            future.result()


def test_reading_while_writing(path: Path) -> None:
    # Every value says its key and round, so that any read can be judged alone; rounds only grow.
    keys = [b"%03d" % n for n in range(300)]
    rounds = 30
    done = threading.Event()

    with toykv.open(path, memtable_size_bytes="64KiB", backlog_limit_bytes="1MiB") as db:
        db.update({key: key + b":000" for key in keys})

        def write() -> None:
            try:
                for turn in range(1, rounds):
                    for key in keys:
                        db[key] = key + b":%03d" % turn + bytes(turn * 40)
            finally:
                done.set()

        def judge(key: bytes, value: bytes | None, newest: dict[bytes, bytes]) -> None:
            assert value is not None
            assert value[:4] == key + b":"
            turn = value[4:7]
            assert value[7:] == bytes(int(turn) * 40)
            assert turn >= newest.get(key, b"")
            newest[key] = turn

        def read_points() -> None:
            newest: dict[bytes, bytes] = {}
            chance = random.Random(1)
            while not done.is_set():
                key = chance.choice(keys)
                judge(key, db.get(key), newest)
                some = chance.sample(keys, 10)
                for one, value in zip(some, db.get_many(some), strict=True):
                    judge(one, value, newest)

        def read_ranges() -> None:
            newest: dict[bytes, bytes] = {}
            while not done.is_set():
                rows = list(db.items())
                assert [key for key, _ in rows] == keys
                for key, value in rows:
                    judge(key, value, newest)
                assert db.count() == len(keys)
                with db.snapshot() as snapshot:
                    assert list(snapshot.items(reverse=True)) == list(snapshot.items())[::-1]

        def maintain() -> None:
            while not done.is_set():
                db.flush()
                db.compact()
                db.sync()
                assert db.health()["poisoned"] is None

        together(write, read_points, read_ranges, maintain)
        assert {value[4:7] for value in db.values()} == {b"%03d" % (rounds - 1)}


def test_writers_of_their_own_keys(path: Path) -> None:
    threads, each = 4, 2000

    def write(who: int) -> None:
        for n in range(each):
            if n % 3 == 0:
                with db.batch(sync=n % 300 == 0) as batch:
                    batch.put(b"%d:%05d" % (who, n), b"batch")
                    batch.delete(b"%d:%05d" % (who, n - 1))
            else:
                db.put(b"%d:%05d" % (who, n), b"put", sync=n % 301 == 0)

    with toykv.open(path) as db:
        together(*(lambda who=who: write(who) for who in range(threads)))
        expected = [n for n in range(each) if n % 3 != 2 or n == each - 1]
        for who in range(threads):
            found = [int(key[2:]) for key in db.keys(prefix=b"%d:" % who)]
            assert found == expected
        assert db.count() == threads * len(expected)


def test_synced_writes_of_many_threads_share_device_flushes(db: toykv.DB) -> None:
    threads, each = 8, 25
    before = db.stats()["syncs"]

    def write(who: int) -> None:
        for n in range(each):
            db.put(b"%d:%d" % (who, n), b"", sync=True)

    together(*(lambda who=who: write(who) for who in range(threads)))
    assert db.count() == threads * each
    assert 0 < db.stats()["syncs"] - before <= threads * each + 1


def test_pops_hand_out_each_pair_once(db: toykv.DB) -> None:
    rows = {b"%05d" % n: b"%d" % n for n in range(4000)}
    db.update(rows)
    taken: list[tuple[bytes, bytes]] = []

    def take(pop: Callable[[], tuple[bytes, bytes] | None]) -> None:
        while (row := pop()) is not None:
            taken.append(row)

    together(
        lambda: take(db.pop_first),
        lambda: take(db.pop_last),
        lambda: take(db.pop_first),
        lambda: take(db.pop_last),
    )
    assert len(taken) == len(rows)
    assert dict(taken) == rows
    assert db.count() == 0


def test_threads_that_share_a_cursor_get_each_row_once(db: toykv.DB) -> None:
    rows = {b"%05d" % n: b"%d" % n for n in range(6000)}
    db.update(rows)
    cursor = db.items()
    taken: list[tuple[bytes, bytes]] = []
    together(
        lambda: taken.extend(cursor),
        lambda: taken.extend(cursor),
        lambda: taken.extend(row for _ in range(50) for row in cursor.next_batch(7)),
    )
    assert len(taken) == len(rows)
    assert dict(taken) == rows


def test_threads_that_share_a_batch_lose_nothing(db: toykv.DB) -> None:
    batch = db.batch()

    def add(who: int) -> None:
        for n in range(1000):
            batch.put(b"%d:%d" % (who, n), b"")
            if n % 100 == 0:
                batch.write()

    together(lambda: add(1), lambda: add(2), lambda: add(3))
    batch.write()
    assert db.count() == 3000


def test_closing_while_everything_runs(path: Path) -> None:
    for turn in range(10):
        close_under_load(path, turn)
    with toykv.open(path) as db:
        assert db.count(stop=b"1000") >= 1000


def close_under_load(path: Path, turn: int) -> None:
    db = toykv.open(path, memtable_size_bytes="64KiB", backlog_limit_bytes="1MiB")
    db.update({b"%05d" % n: bytes(100) for n in range(1000)})

    def until_closed(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            with pytest.raises(toykv.ClosedError):
                while True:
                    call()

        return run

    together(
        until_closed(lambda: db.get(b"00500")),
        until_closed(lambda: db.put(b"%d" % turn, bytes(100))),
        until_closed(lambda: list(db.items())),
        until_closed(db.flush),
        until_closed(lambda: db.put(b"synced", b"", sync=True)),
        db.close,
    )
