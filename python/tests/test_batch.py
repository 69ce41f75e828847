"""Batches."""

from __future__ import annotations

from pathlib import Path

import pytest

import toykv


def test_a_batch_is_written_when_its_block_ends(letters: toykv.DB) -> None:
    with letters.batch() as batch:
        batch.put(b"z", b"26")
        batch.delete(b"a")
        batch.put(b"b", b"first")
        batch.put(b"b", b"last")
        assert len(batch) == 4
        assert b"z" not in letters
        assert b"a" in letters
    assert len(batch) == 0
    assert list(letters.items()) == [
        (b"b", b"last"),
        (b"c", b"3"),
        (b"d", b"4"),
        (b"e", b"5"),
        (b"z", b"26"),
    ]


def test_a_batch_is_discarded_by_an_exception(letters: toykv.DB) -> None:
    with pytest.raises(RuntimeError, match="stop"), letters.batch() as batch:
        batch.delete(b"a")
        raise RuntimeError("stop")
    assert len(batch) == 0
    assert b"a" in letters


def test_write_empties_the_batch_so_that_nothing_is_written_twice(db: toykv.DB) -> None:
    with db.batch() as batch:
        batch.put(b"a", b"1")
        batch.write()
        assert len(batch) == 0
        del db[b"a"]
        batch.put(b"b", b"2")
    assert list(db) == [b"b"]
    batch.write()
    assert list(db) == [b"b"]


def test_a_batch_that_cannot_be_written_keeps_its_writes(path: Path) -> None:
    db = toykv.open(path)
    batch = db.batch()
    batch.put(b"a", b"1")
    db.close()
    with pytest.raises(toykv.ClosedError):
        batch.write()
    assert len(batch) == 1
    with toykv.open(path) as again, again.batch() as other:
        other.append(batch)
    with toykv.open(path) as again:
        assert again[b"a"] == b"1"


@pytest.mark.parametrize("sync", [True, False, None])
def test_sync(db: toykv.DB, sync: bool | None) -> None:
    before = db.stats()["syncs"]
    with db.batch(sync=sync) as batch:
        batch.put(b"a", b"1")
    assert db[b"a"] == b"1"
    if sync:
        assert db.stats()["syncs"] > before
    batch.put(b"b", b"2")
    before = db.stats()["syncs"]
    batch.write(sync=True)
    assert db.stats()["syncs"] > before


def test_bytes_and_back(db: toykv.DB) -> None:
    batch = toykv.WriteBatch()
    batch.put(b"key", b"value" * 100)
    batch.delete(b"")
    data = bytes(batch)
    copy = toykv.WriteBatch.from_bytes(memoryview(data))
    assert len(copy) == 2
    assert bytes(copy) == data
    db[b""] = b""
    with db.batch() as target:
        target.append(copy)
    assert list(db.items()) == [(b"key", b"value" * 100)]
    assert bytes(toykv.WriteBatch()) == b"\1\0"
    for end in range(len(data)):
        with pytest.raises(toykv.InvalidArgumentError):
            toykv.WriteBatch.from_bytes(data[:end])
    with pytest.raises(toykv.InvalidArgumentError):
        toykv.WriteBatch.from_bytes(data + b"\0")
    with pytest.raises(toykv.InvalidArgumentError, match="version"):
        toykv.WriteBatch.from_bytes(b"\2\0")


def test_append_clear_and_sizes() -> None:
    one, two = toykv.WriteBatch(), toykv.WriteBatch()
    assert one.size_bytes == len(one) == 0
    one.put(b"a", b"1" * 1000)
    assert one.size_bytes > 1000
    two.append(one)
    two.append(one)
    two.append(two)
    assert len(two) == 4
    assert two.size_bytes == 4 * one.size_bytes
    one.clear()
    assert len(one) == one.size_bytes == 0
    with pytest.raises(TypeError):
        one.append(b"batch")  # type: ignore[arg-type]


def test_a_free_batch_has_nowhere_to_go() -> None:
    batch = toykv.WriteBatch()
    batch.put(b"a", b"1")
    with pytest.raises(toykv.MisuseError, match=r"db\.batch\(\)"):
        batch.write()
    assert len(batch) == 1


def test_a_refused_put_leaves_the_batch(db: toykv.DB) -> None:
    batch = db.batch()
    batch.put(b"a", b"1")
    with pytest.raises(toykv.TooLargeError):
        batch.put(bytes(toykv.MAX_KEY_LEN + 1), b"")
    assert len(batch) == 1


def test_a_batch_larger_than_a_memtable(path: Path) -> None:
    rows = {n.to_bytes(4, "big"): bytes([n % 251]) * 2000 for n in range(2000)}
    with toykv.open(path, memtable_size_bytes="64KiB", backlog_limit_bytes="1MiB") as db:
        db[(7).to_bytes(4, "big")] = b"older"
        db.update(rows)
        db[(8).to_bytes(4, "big")] = b"newer"
        assert db.count() == 2000
        assert db[(7).to_bytes(4, "big")] == bytes([7]) * 2000
    rows[(8).to_bytes(4, "big")] = b"newer"
    with toykv.open(path) as db:
        assert dict(db.items()) == rows
