"""Snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest

import toykv


def test_a_snapshot_sees_one_state_in_every_read(letters: toykv.DB) -> None:
    snapshot = letters.snapshot()
    letters.update({b"a": b"changed", b"zz": b"new"})
    del letters[b"b"]
    letters.flush()
    letters.compact()
    assert snapshot.get(b"a") == b"1"
    assert snapshot[b"b"] == b"2"
    assert snapshot.get(b"zz", b"?") == b"?"
    value = snapshot.get_value(b"b")
    assert value is not None
    assert bytes(value) == b"2"
    assert snapshot.get_into(b"b", bytearray(1)) == 1
    assert snapshot.get_many([b"a", b"b", b"zz"]) == [b"1", b"2", None]
    assert snapshot.has(b"b")
    assert b"b" in snapshot
    assert b"zz" not in snapshot
    assert "b" not in snapshot
    assert list(snapshot) == [b"a", b"b", b"c", b"d", b"e"]
    assert list(reversed(snapshot)) == [b"e", b"d", b"c", b"b", b"a"]
    assert list(snapshot.items(b"d")) == [(b"d", b"4"), (b"e", b"5")]
    assert list(snapshot.values(limit=2)) == [b"1", b"2"]
    assert snapshot.count() == 5
    assert snapshot.count(b"d") == 2
    with pytest.raises(toykv.NotFoundError):
        snapshot[b"zz"]
    snapshot.close()


def test_snapshots_are_for_reading(letters: toykv.DB) -> None:
    with letters.snapshot() as snapshot:
        for name in ("put", "delete", "update", "batch", "__setitem__", "__delitem__"):
            assert not hasattr(snapshot, name)
    with pytest.raises(TypeError):
        toykv.Snapshot()


def test_sequence_grows_with_writes(db: toykv.DB) -> None:
    first = db.snapshot().sequence
    db[b"a"] = b"1"
    second = db.snapshot().sequence
    assert second > first
    assert second == db.stats()["seqno"]


def test_close(letters: toykv.DB) -> None:
    assert letters.stats()["snapshots"] == 0
    with letters.snapshot() as snapshot:
        cursor = snapshot.keys()
        assert letters.stats()["snapshots"] >= 1
    for call in (
        lambda: snapshot.get(b"a"),
        lambda: snapshot[b"a"],
        lambda: snapshot.has(b"a"),
        lambda: b"a" in snapshot,
        lambda: snapshot.get_many([b"a"]),
        lambda: list(snapshot),
        snapshot.items,
        snapshot.count,
    ):
        with pytest.raises(toykv.ClosedError, match="snapshot is closed"):
            call()
    snapshot.close()
    assert snapshot.sequence > 0
    assert list(cursor) == [b"a", b"b", b"c", b"d", b"e"]
    del cursor
    assert letters.stats()["snapshots"] == 0


def test_a_snapshot_answers_closed_after_its_database(path: Path) -> None:
    db = toykv.open(path)
    db[b"a"] = b"1"
    snapshot = db.snapshot()
    db.close()
    with pytest.raises(toykv.ClosedError):
        snapshot.get(b"a")
    with pytest.raises(toykv.ClosedError):
        list(snapshot)
    snapshot.close()


def test_a_snapshot_keeps_its_database(path: Path) -> None:
    db = toykv.open(path)
    db[b"a"] = b"1"
    snapshot = db.snapshot()
    del db
    assert snapshot[b"a"] == b"1"
    with pytest.raises(toykv.LockedError):
        toykv.open(path)
    del snapshot
    toykv.open(path).close()
