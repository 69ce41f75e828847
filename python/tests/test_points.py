"""Reads and writes of single keys, in a database and in a snapshot of it."""

from __future__ import annotations

import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toykv

NOT_BUFFERS: list[Any] = ["text", 7, None, 1.5, [1, 2], object()]


def test_what_was_put_is_got(db: toykv.DB) -> None:
    db.put(b"key", b"value")
    assert db.get(b"key") == b"value"
    assert db[b"key"] == b"value"
    assert type(db.get(b"key")) is bytes
    assert b"key" in db
    assert db.has(b"key")
    db.put(b"key", b"other")
    assert db[b"key"] == b"other"


def test_what_is_absent(db: toykv.DB) -> None:
    assert db.get(b"key") is None
    assert db.get(b"key", 7) == 7
    assert db.get_value(b"key") is None
    assert db.get_into(b"key", bytearray(4)) is None
    assert b"key" not in db
    assert not db.has(b"key")
    with pytest.raises(KeyError) as caught:
        db[b"key"]
    assert caught.type is toykv.NotFoundError
    assert caught.value.args == (b"key",)


def test_empty_key_and_empty_value(db: toykv.DB) -> None:
    db[b""] = b"of nothing"
    db[b"nothing"] = b""
    assert db[b""] == b"of nothing"
    assert db[b"nothing"] == b""
    assert b"" in db
    assert list(db) == [b"", b"nothing"]


def test_delete(letters: toykv.DB) -> None:
    letters.delete(b"a")
    assert b"a" not in letters
    letters.delete(b"a")
    del letters[b"b"]
    assert list(letters) == [b"c", b"d", b"e"]
    with pytest.raises(toykv.NotFoundError):
        del letters[b"b"]


@pytest.mark.parametrize("sync", [True, False, None])
def test_sync_argument(path: Path, sync: bool | None) -> None:
    for durability in ("process", "interval", "sync"):
        with toykv.open(path, toykv.Options.from_mapping({"durability": durability})) as db:
            db.put(b"key", durability.encode(), sync=sync)
            assert db[b"key"] == durability.encode()
            db.delete(b"key", sync=sync)
            assert b"key" not in db
            db.update({b"a": b"1", b"b": b"2"}, sync=sync)
            assert db.pop_first(sync=sync) == (b"a", b"1")
            assert db.pop_last(sync=sync) == (b"b", b"2")


def test_a_synced_put_syncs(db: toykv.DB) -> None:
    before = db.stats()["syncs"]
    db.put(b"key", b"value", sync=True)
    assert db.stats()["syncs"] > before


@pytest.mark.parametrize(
    "buffer",
    [
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        memoryview(b"b.y.t.e.s.")[::2],
        array.array("B", b"bytes"),
    ],
    ids=["bytes", "bytearray", "memoryview", "strided", "array"],
)
def test_any_buffer_is_key_and_value(db: toykv.DB, buffer: Any) -> None:
    db.put(buffer, buffer)
    assert db.get(buffer) == b"bytes"
    assert db[buffer] == b"bytes"
    assert buffer in db
    assert db.get_many([buffer]) == [b"bytes"]
    assert list(db.items(buffer)) == [(b"bytes", b"bytes")]
    db.delete(buffer)
    assert db.count() == 0


def test_buffers_of_wide_items_count_in_bytes(db: toykv.DB) -> None:
    numbers = array.array("d", [1.5, -2.5])
    db[b"numbers"] = numbers
    assert db[b"numbers"] == numbers.tobytes()
    back = array.array("d", bytes(16))
    assert db.get_into(b"numbers", back) == 16
    assert back == numbers


@pytest.mark.parametrize("bad", NOT_BUFFERS, ids=repr)
def test_what_is_no_buffer_is_refused(db: toykv.DB, bad: Any) -> None:
    name = type(bad).__name__
    calls: list[Callable[[], object]] = [
        lambda: db.put(bad, b""),
        lambda: db.put(b"", bad),
        lambda: db.get(bad),
        lambda: db.get_value(bad),
        lambda: db.get_into(bad, bytearray()),
        lambda: db.get_many([b"", bad]),
        lambda: db.has(bad),
        lambda: db[bad],
        lambda: db.__setitem__(bad, b""),
        lambda: db.__delitem__(bad),
        lambda: db.delete(bad),
        lambda: db.update({bad: b""}) if bad.__hash__ else db.update([(bad, b"")]),
        lambda: db.batch().put(bad, b""),
        lambda: db.batch().delete(bad),
        lambda: db.keys().seek(bad),
        lambda: toykv.WriteBatch.from_bytes(bad),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=f"bytes-like object is required, not '{name}'"):
            call()
    assert bad not in db
    assert db.count() == 0


def test_limits_of_keys(db: toykv.DB) -> None:
    longest = bytes(toykv.MAX_KEY_LEN)
    db[longest] = b"fits"
    assert db[longest] == b"fits"
    assert list(db) == [longest]
    too_long = longest + b"!"
    calls: list[Callable[[], object]] = [
        lambda: db.put(too_long, b""),
        lambda: db.delete(too_long),
        lambda: db.update({too_long: b""}),
        lambda: db.batch().put(too_long, b""),
    ]
    for call in calls:
        with pytest.raises(toykv.TooLargeError, match="65536.*65535") as caught:
            call()
        assert isinstance(caught.value, ValueError)
    assert db.count() == 1


def test_the_limits_are_those_of_the_documentation() -> None:
    assert toykv.MAX_KEY_LEN == 65_535
    assert toykv.MAX_VALUE_LEN == 2**32 - 1


@pytest.mark.parametrize("size", [0, 1, 63, 1023, 1024, 1025, 70_000, 3_000_000, 20_000_000])
def test_values_of_all_sizes(db: toykv.DB, size: int) -> None:
    value = bytes(n * 7 % 251 for n in range(min(size, 1000))) * (size // 1000 + 1)
    value = value[:size]
    db[b"key"] = value
    assert db[b"key"] == value
    db.flush()
    assert db[b"key"] == value
    room = bytearray(size)
    assert db.get_into(b"key", room) == size
    assert room == value


def test_get_into(db: toykv.DB) -> None:
    db[b"key"] = b"value"
    room = bytearray(b"........")
    assert db.get_into(b"key", room) == 5
    assert room == b"value..."
    assert db.get_into(b"key", memoryview(room)[3:]) == 5
    assert room == b"valvalue"
    for small in (bytearray(4), bytearray()):
        with pytest.raises(BufferError, match=f"5 bytes does not fit in {len(small)}"):
            db.get_into(b"key", small)
        assert small == bytes(len(small))
    with pytest.raises(BufferError, match="writable"):
        db.get_into(b"key", bytes(8))
    with pytest.raises(BufferError, match="contiguous"):
        db.get_into(b"key", memoryview(bytearray(20))[::2])
    with pytest.raises(TypeError):
        db.get_into(b"key", "text")  # type: ignore[arg-type]


def test_get_many(letters: toykv.DB) -> None:
    assert letters.get_many([b"c", b"nothing", b"a", b"c"]) == [b"3", None, b"1", b"3"]
    assert letters.get_many([]) == []
    assert letters.get_many(iter((b"a",))) == [b"1"]
    assert letters.get_many(letters.keys(reverse=True)) == [b"5", b"4", b"3", b"2", b"1"]
    with pytest.raises(TypeError):
        letters.get_many(7)  # type: ignore[arg-type]


def test_update(db: toykv.DB, tmp_path: Path) -> None:
    db.update({b"a": b"1", b"b": b"2"})
    db.update([(b"b", b"3"), (b"c", b"4")])
    db.update((bytes([n]), bytearray(1)) for n in range(3))
    assert list(db.items()) == [
        (b"\0", b"\0"),
        (b"\1", b"\0"),
        (b"\2", b"\0"),
        (b"a", b"1"),
        (b"b", b"3"),
        (b"c", b"4"),
    ]
    with toykv.open(tmp_path / "copy") as copy:
        copy.update(db)
        assert list(copy.items()) == list(db.items())


def test_update_is_all_or_nothing(db: toykv.DB) -> None:
    def pairs() -> Any:
        yield b"a", b"1"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        db.update(pairs())
    with pytest.raises(TypeError):
        db.update([(b"a", b"1"), (b"b", "2")])  # type: ignore[list-item]
    with pytest.raises((TypeError, ValueError)):
        db.update([(b"a", b"1", b"?")])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        db.update(7)  # type: ignore[arg-type]
    assert db.count() == 0


def test_pops(letters: toykv.DB) -> None:
    assert letters.pop_first() == (b"a", b"1")
    assert letters.pop_last() == (b"e", b"5")
    assert list(letters) == [b"b", b"c", b"d"]
    assert [letters.pop_first() for _ in range(4)] == [
        (b"b", b"2"),
        (b"c", b"3"),
        (b"d", b"4"),
        None,
    ]
    assert letters.pop_last() is None


def test_a_database_is_no_dict(db: toykv.DB, tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        len(db)  # type: ignore[arg-type]
    assert db
    assert db == db  # noqa: PLR0124
    with toykv.open(tmp_path / "other") as other:
        assert db != other
        assert {db: 1, other: 2}[other] == 2


def test_counting(letters: toykv.DB) -> None:
    assert letters.count() == 5
    assert letters.count(b"b") == 4
    assert letters.count(b"b", b"d") == 2
    assert letters.count(stop=b"d") == 3
    assert letters.count(prefix=b"c") == 1
    assert letters.count(prefix=b"") == 5
    assert letters.count(b"d", b"b") == 0
    letters.update({b"a": b"again", b"z": b"26"})
    letters.delete(b"b")
    letters.delete(b"b")
    assert letters.count() == 5
    letters.flush()
    assert letters.count() == 5
    letters.compact()
    assert letters.count() == letters.count(b"") == 5


def test_counting_in_more_than_one_step(db: toykv.DB) -> None:
    entries = 150_000
    db.update((n.to_bytes(4, "big"), b"") for n in range(entries))
    assert db.count(b"") == entries
    assert db.count() == entries
    with db.snapshot() as snapshot:
        db.pop_first()
        assert snapshot.count() == entries
    assert db.count() == entries - 1


def test_parts_of_values(db: toykv.DB) -> None:
    def part(reader: toykv.DB | toykv.Snapshot, key: bytes, offset: int, length: int) -> bytes:
        value = reader.get_range(key, offset, length)
        assert value is not None
        return bytes(value)

    db[b"short"] = b"abcdef"
    db[b"long"] = bytes(range(250)) * 4000
    assert part(db, b"short", 2, 3) == b"cde"
    assert part(db, b"short", 4, 100) == b"ef"
    assert part(db, b"short", 6, 1) == b""
    assert part(db, b"long", 250_001, 3) == bytes([1, 2, 3])
    assert db.get_range(b"none", 0, 1) is None
    with db.snapshot() as frozen:
        db[b"short"] = b"other"
        assert part(frozen, b"short", 0, 2) == b"ab"
    with pytest.raises(OverflowError):
        db.get_range(b"short", -1, 1)
