"""Random operations beside a dict that does the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import toykv

KEYS = [b"", *(bytes([a, b]) for a in range(8) for b in range(8)), b"\0" * 300]


class Model:
    """A database and the dict that says what should be in it."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.expected: dict[bytes, bytes] = {}
        self.open()

    def open(self) -> None:
        durability = self.chance.choice(["process", "interval", "sync"])
        options = {"memtable_size_bytes": "64KiB", "backlog_limit_bytes": "1MiB"}
        self.db = toykv.open(
            self.path, toykv.Options.from_mapping({**options, "durability": durability})
        )

    def key(self) -> bytes:
        return self.chance.choice(KEYS)

    def value(self) -> bytes:
        size = self.chance.choice([0, 1, 50, 119, 120, 1023, 1024, 4000, 30_000])
        return self.chance.randbytes(size)

    def put(self) -> None:
        key, value = self.key(), self.value()
        self.db[key] = value
        self.expected[key] = value

    def delete(self) -> None:
        key = self.key()
        self.db.delete(key)
        self.expected.pop(key, None)

    def delete_item(self) -> None:
        key = self.key()
        if key in self.expected:
            del self.db[key]
            del self.expected[key]
        else:
            with pytest.raises(KeyError):
                del self.db[key]

    def write_batch(self) -> None:
        with self.db.batch() as batch:
            for _ in range(self.chance.randrange(30)):
                key, value = self.key(), self.value()
                if self.chance.random() < 0.7:
                    batch.put(key, value)
                    self.expected[key] = value
                else:
                    batch.delete(key)
                    self.expected.pop(key, None)

    def pop(self) -> None:
        first = self.chance.random() < 0.5
        row = self.db.pop_first() if first else self.db.pop_last()
        if not self.expected:
            assert row is None
            return
        key = min(self.expected) if first else max(self.expected)
        assert row == (key, self.expected.pop(key))

    def read(self) -> None:
        key = self.key()
        assert self.db.get(key) == self.expected.get(key)
        assert (key in self.db) == (key in self.expected)
        keys = [self.key() for _ in range(5)]
        assert self.db.get_many(keys) == [self.expected.get(key) for key in keys]
        assert self.db.count() == len(self.expected)

    def scan(self) -> None:
        start, stop = self.key(), self.key()
        reverse = self.chance.random() < 0.5
        rows = sorted((k, v) for k, v in self.expected.items() if start <= k < stop)
        if reverse:
            rows.reverse()
        assert list(self.db.items(start, stop, reverse=reverse)) == rows
        assert self.db.count(start, stop) == len(rows)

    def reopen(self) -> None:
        self.db.close()
        self.open()

    def step(self) -> None:
        verbs = [
            (40, self.put),
            (10, self.delete),
            (5, self.delete_item),
            (10, self.write_batch),
            (5, self.pop),
            (20, self.read),
            (10, self.scan),
            (2, self.db.flush),
            (1, self.db.compact),
            (1, self.db.sync),
            (1, self.reopen),
        ]
        weights = [weight for weight, _ in verbs]
        self.chance.choices([verb for _, verb in verbs], weights)[0]()


@pytest.mark.parametrize("seed", range(6))
def test_random_operations(path: Path, seed: int) -> None:
    model = Model(path, seed)
    for _ in range(600):
        model.step()
    model.reopen()
    assert dict(model.db.items()) == model.expected
    assert list(model.db) == sorted(model.expected)
    assert model.db.count() == len(model.expected)
    model.db.close()
