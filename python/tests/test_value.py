"""Values that are read without a copy."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import pytest

import toykv

SIZES = [0, 1, 100, 1023, 1024, 5000, 3_000_000]


def read(db: toykv.DB, key: bytes) -> toykv.Value:
    value = db.get_value(key)
    assert value is not None
    return value


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("flushed", [False, True])
def test_the_buffer_protocol(db: toykv.DB, size: int, flushed: bool) -> None:
    content = bytes(n % 251 for n in range(size))
    db[b"key"] = content
    if flushed:
        db.flush()
    value = read(db, b"key")
    assert len(value) == size
    assert bytes(value) == content
    assert value == content
    assert value != content + b"!"
    assert value != "text"
    assert f"{size} bytes" in repr(value)
    view = memoryview(value)
    assert view.readonly
    assert view.format == "B"
    assert view.contiguous
    assert view.nbytes == size
    assert view == content
    assert view[size // 2 :].tobytes() == content[size // 2 :]
    assert hashlib.sha256(value).digest() == hashlib.sha256(content).digest()
    assert io.BytesIO(value).read() == content
    with pytest.raises(TypeError):
        io.BytesIO(content).readinto(value)
    with pytest.raises(TypeError):
        hash(value)


@pytest.mark.parametrize("size", SIZES)
def test_values_outlive_everything(path: Path, size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    db = toykv.open(path)
    db.update({b"old": content, b"new": content})
    db.flush()
    db[b"new"] = content
    old, new = read(db, b"old"), read(db, b"new")
    view = memoryview(read(db, b"old"))
    db.update({b"old": b"", b"new": b""})
    db.flush()
    db.compact()
    assert old == new == view == content
    db.close()
    assert old == new == view == content
    toykv.destroy(path)
    del db
    assert old == new == view == content


def test_release(db: toykv.DB) -> None:
    db[b"key"] = bytes(5000)
    value = read(db, b"key")
    with memoryview(value) as view, memoryview(value) as other:
        with pytest.raises(BufferError, match="memoryviews"):
            value.release()
        other.release()
        with pytest.raises(BufferError):
            value.release()
        assert view.nbytes == 5000
    value.release()
    value.release()
    calls: list[Callable[[], object]] = [
        lambda: len(value),
        lambda: bytes(value),
        lambda: memoryview(value),
        lambda: value == b"",
    ]
    for call in calls:
        with pytest.raises(toykv.ClosedError, match="released"):
            call()
    assert "released" in repr(value)


def test_values_come_from_a_database_only() -> None:
    with pytest.raises(TypeError):
        toykv.Value()


def test_a_value_is_a_value(db: toykv.DB) -> None:
    db[b"key"] = b"x" * 5000
    db[b"copy"] = read(db, b"key")
    assert db[b"copy"] == b"x" * 5000


def test_values_on_the_heap_are_counted(path: Path) -> None:
    with toykv.open(path, compression="lz4") as db:
        db.update({b"one": b"x" * 100_000, b"two": b"y" * 50_000})
        assert db.stats()["pinned_bytes"] == 0
        one, two = read(db, b"one"), read(db, b"two")
        assert 150_000 <= db.stats()["pinned_bytes"] < 151_000
        one.release()
        assert 50_000 <= db.stats()["pinned_bytes"] < 51_000
        del two
        assert db.stats()["pinned_bytes"] == 0
