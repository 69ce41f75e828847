"""Fixtures: a fresh path, and a database in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import toykv


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A path where a database can be made."""
    return tmp_path / "db"


@pytest.fixture
def db(path: Path) -> Iterator[toykv.DB]:
    """An empty database."""
    with toykv.open(path) as database:
        yield database


@pytest.fixture
def letters(db: toykv.DB) -> toykv.DB:
    """A database of a: 1, b: 2, ... e: 5."""
    db.update({b"a": b"1", b"b": b"2", b"c": b"3", b"d": b"4", b"e": b"5"})
    return db
