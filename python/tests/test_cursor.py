"""Ordered reads."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable
from typing import Any

import pytest

import toykv

KEYS = [b"a", b"b", b"c", b"d", b"e"]


def test_iteration_yields_keys_in_order(letters: toykv.DB) -> None:
    assert list(letters) == KEYS
    assert list(reversed(letters)) == KEYS[::-1]
    assert list(letters.keys()) == KEYS
    assert list(letters.values()) == [b"1", b"2", b"3", b"4", b"5"]
    assert list(letters.items())[:2] == [(b"a", b"1"), (b"b", b"2")]
    assert dict(letters.items()) == dict(zip(KEYS, [b"1", b"2", b"3", b"4", b"5"], strict=True))
    assert all(type(part) is bytes for row in letters.items() for part in row)


EDGES: list[bytes | None] = [None, b"", b"a", b"b", b"bb", b"e", b"f"]


@pytest.mark.parametrize("reverse", [False, True])
def test_every_range(letters: toykv.DB, reverse: bool) -> None:
    cases = itertools.product(EDGES, EDGES, [False, True], [False, True], [None, 0, 1, 2, 9])
    for start, stop, include_start, include_stop, limit in cases:
        expected = [
            key
            for key in (KEYS[::-1] if reverse else KEYS)
            if (start is None or key > start or (include_start and key == start))
            and (stop is None or key < stop or (include_stop and key == stop))
        ][:limit]
        arguments: dict[str, Any] = {
            "reverse": reverse,
            "include_start": include_start,
            "include_stop": include_stop,
            "limit": limit,
        }
        got = list(letters.keys(start, stop, **arguments))
        assert got == expected, (start, stop, arguments)
        values = [bytes([key[0] - ord("a") + ord("1")]) for key in expected]
        assert list(letters.values(start, stop, **arguments)) == values
        assert list(letters.items(start, stop, **arguments)) == list(
            zip(expected, values, strict=True)
        )


def test_prefix(db: toykv.DB) -> None:
    keys = [b"", b"a", b"a\xff", b"a\xff\xff", b"a\xff\xffz", b"b", b"\xff", b"\xff\xff"]
    db.update((key, b"") for key in keys)
    keys.sort()
    for prefix in [*keys, b"zz", b"\xff\xff\xff"]:
        expected = [key for key in keys if key.startswith(prefix)]
        assert list(db.keys(prefix=prefix)) == expected
        assert list(db.keys(prefix=prefix, reverse=True)) == expected[::-1]
        assert db.count(prefix=prefix) == len(expected)
    assert list(db.keys(b"a\xff\xff", prefix=b"a")) == [b"a\xff\xff", b"a\xff\xffz"]


def test_arguments_are_checked(letters: toykv.DB) -> None:
    with pytest.raises(toykv.InvalidArgumentError, match="limit"):
        letters.keys(limit=-1)
    with pytest.raises(TypeError):
        letters.keys("a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        letters.keys(prefix="a")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        letters.keys(b"a", b"b", b"c")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        toykv.Cursor()


def test_a_cursor_reads_one_state(letters: toykv.DB) -> None:
    cursor = letters.items()
    assert next(cursor) == (b"a", b"1")
    letters[b"b"] = b"changed"
    letters[b"bb"] = b"new"
    del letters[b"c"]
    assert list(cursor) == [(b"b", b"2"), (b"c", b"3"), (b"d", b"4"), (b"e", b"5")]
    assert list(letters) == [b"a", b"b", b"bb", b"d", b"e"]


def test_the_end_stays_the_end(letters: toykv.DB) -> None:
    cursor = letters.keys()
    assert list(cursor) == KEYS
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(cursor)
    assert cursor.next_batch() == []
    assert list(cursor) == []
    assert cursor.prev() == b"e"


def test_back_and_forth(letters: toykv.DB) -> None:
    cursor = letters.keys()
    with pytest.raises(StopIteration):
        cursor.prev()
    assert [next(cursor), next(cursor), next(cursor)] == [b"a", b"b", b"c"]
    assert [cursor.prev(), cursor.prev()] == [b"c", b"b"]
    assert next(cursor) == b"b"
    assert [cursor.prev(), cursor.prev()] == [b"b", b"a"]
    with pytest.raises(StopIteration):
        cursor.prev()
    assert next(cursor) == b"a"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_walk_of_every_kind_of_step(letters: toykv.DB, reverse: bool) -> None:
    rows = KEYS[::-1] if reverse else KEYS
    cursor = letters.keys(reverse=reverse)
    place = 0
    for turn in range(200):
        forwards = (turn * turn + turn // 7) % 3 != 0
        if forwards and place < len(rows):
            assert next(cursor) == rows[place]
            place += 1
        elif not forwards and place > 0:
            place -= 1
            assert cursor.prev() == rows[place]
        else:
            with pytest.raises(StopIteration):
                next(cursor) if forwards else cursor.prev()


def test_seek(letters: toykv.DB) -> None:
    cursor = letters.keys(b"b", b"e")
    for key, rest in [
        (b"c", [b"c", b"d"]),
        (b"cc", [b"d"]),
        (b"", [b"b", b"c", b"d"]),
        (b"z", []),
        (b"d", [b"d"]),
    ]:
        cursor.seek(key)
        assert list(cursor) == rest
    backwards = letters.keys(b"b", b"e", reverse=True)
    for key, rest in [
        (b"c", [b"c", b"b"]),
        (b"cc", [b"c", b"b"]),
        (b"", []),
        (b"z", [b"d", b"c", b"b"]),
    ]:
        backwards.seek(key)
        assert list(backwards) == rest


def test_both_ends(letters: toykv.DB) -> None:
    for reverse in (False, True):
        rows = KEYS[::-1] if reverse else KEYS
        cursor = letters.keys(reverse=reverse)
        cursor.seek_to_last()
        assert cursor.prev() == rows[-1]
        cursor.seek_to_last()
        assert list(cursor) == []
        cursor.seek_to_first()
        assert list(cursor) == rows
        cursor.seek_to_first()
        with pytest.raises(StopIteration):
            cursor.prev()


def test_next_batch(letters: toykv.DB) -> None:
    cursor = letters.items()
    assert cursor.next_batch(0) == []
    assert cursor.next_batch(2) == [(b"a", b"1"), (b"b", b"2")]
    assert next(cursor) == (b"c", b"3")
    assert cursor.next_batch(100) == [(b"d", b"4"), (b"e", b"5")]
    assert cursor.next_batch() == []
    assert letters.values(limit=3).next_batch() == [b"1", b"2", b"3"]
    with pytest.raises(OverflowError):
        cursor.next_batch(-1)


def test_close(letters: toykv.DB) -> None:
    with letters.keys() as cursor:
        assert next(cursor) == b"a"
    calls: list[Callable[[], object]] = [
        lambda: next(cursor),
        cursor.prev,
        cursor.next_batch,
        lambda: cursor.seek(b"a"),
        cursor.seek_to_first,
        cursor.seek_to_last,
    ]
    for call in calls:
        with pytest.raises(toykv.ClosedError, match="cursor is closed"):
            call()
    cursor.close()


def test_a_cursor_keeps_its_database(path: Any) -> None:
    def keys() -> Any:
        database = toykv.open(path)
        database.update((key, b"") for key in KEYS)
        return iter(database)

    cursor = keys()
    gc.collect()
    assert next(cursor) == b"a"
    with pytest.raises(toykv.LockedError):
        toykv.open(path)
    assert list(cursor) == KEYS[1:]
    del cursor
    toykv.open(path).close()


def test_cursors_during_flush_and_compaction(db: toykv.DB) -> None:
    rows = [(n.to_bytes(4, "big"), b"%d" % n * (n % 300)) for n in range(3000)]
    db.update(rows)
    cursors = [db.items(), db.items(reverse=True)]
    got: list[list[tuple[bytes, bytes]]] = [[], []]

    def overwrite() -> None:
        db.update((key, b"new") for key, _ in rows)

    def thin_out() -> None:
        for key, _ in rows[::2]:
            db.delete(key)

    actions = [db.flush, db.compact, overwrite, db.flush, thin_out, db.compact, db.flush]
    for action in actions:
        for cursor, into in zip(cursors, got, strict=True):
            into += cursor.next_batch(300)
        action()
    for cursor, into in zip(cursors, got, strict=True):
        into += list(cursor)
    assert got[0] == rows
    assert got[1] == rows[::-1]
    assert db.count() == 1500
    assert set(db.values()) == {b"new"}


def test_generic_at_run_time() -> None:
    assert toykv.Cursor[bytes].__origin__ is toykv.Cursor  # type: ignore[attr-defined]
