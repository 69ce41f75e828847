"""Opening, closing and destroying; what is in the way; what is damaged."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import toykv


def run_python(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own; what it prints is the test's."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def files(path: Path, suffix: str) -> list[Path]:
    return sorted(path.glob(f"*{suffix}"))


def fill(path: Path) -> dict[bytes, bytes]:
    """A closed database of one table, with small and large values."""
    rows = {b"%05d" % n: bytes([n % 251]) * (n % 3000) for n in range(2000)}
    with toykv.open(path) as db:
        db.update(rows)
        db.flush()
        assert db.stats()["tables"] >= 1
        assert sum(run["tables"] for run in db.runs()) == db.stats()["tables"]
        assert all(run["entries"] > 0 and run["bytes"] > 0 for run in db.runs())
    return rows


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_kinds_of_paths(path: Path, kind: Callable[[Path], Any]) -> None:
    with toykv.open(kind(path)) as db:
        assert db.path == str(path)
        assert not db.read_only
    assert (path / "CURRENT").is_file()
    toykv.destroy(kind(path))
    assert not path.exists()


def test_a_path_of_any_bytes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/n\xffme \xe2\x82\xac"
    with toykv.open(raw) as db:
        db[b"a"] = b"1"
        assert os.fsencode(db.path) == raw
    assert os.path.isdir(raw)


def test_content_survives(path: Path) -> None:
    rows = fill(path)
    with toykv.open(path) as db:
        assert dict(db.items()) == rows
        assert db.count() == len(rows)
        db[b"new"] = b"row"
    with toykv.open(path, create_if_missing=False) as db:
        assert db[b"new"] == b"row"
        assert db.count() == len(rows) + 1


def test_close(path: Path) -> None:
    db = toykv.open(path)
    db[b"a"] = b"1"
    cursor, snapshot, batch = db.items(), db.snapshot(), db.batch()
    batch.put(b"b", b"2")
    assert not db.closed
    assert "open" in repr(db)
    db.close()
    db.close()
    assert db.closed
    assert "closed" in repr(db)
    assert db.path == str(path)
    assert not db.read_only
    calls: list[Callable[[], object]] = [
        lambda: db.get(b"a"),
        lambda: db.get_value(b"a"),
        lambda: db.get_into(b"a", bytearray(9)),
        lambda: db.get_many([b"a"]),
        lambda: db.has(b"a"),
        lambda: db[b"a"],
        lambda: b"a" in db,
        lambda: list(db),
        lambda: list(reversed(db)),
        db.keys,
        db.values,
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
        lambda: next(cursor),
        lambda: cursor.seek(b"a"),
        lambda: snapshot.get(b"a"),
        lambda: list(snapshot),
        batch.write,
    ]
    for call in calls:
        with pytest.raises(toykv.ClosedError) as caught:
            call()
        assert isinstance(caught.value, ValueError)
    toykv.open(path).close()


def test_leaving_the_block_closes_whatever_happened(path: Path) -> None:
    with pytest.raises(RuntimeError, match="stop"), toykv.open(path) as db:
        db[b"a"] = b"1"
        raise RuntimeError("stop")
    assert db.closed
    with toykv.open(path) as db:
        assert db[b"a"] == b"1"


def test_collection_closes(path: Path) -> None:
    db = toykv.open(path)
    db[b"a"] = b"1"
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None
    with toykv.open(path) as db:
        assert db[b"a"] == b"1"


def test_databases_are_neither_copied_nor_pickled(db: toykv.DB) -> None:
    for made in (db, db.snapshot(), db.keys(), db.batch()):
        for call in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError):
                call(made)


def test_subclasses(path: Path) -> None:
    class Fruit(toykv.DB):
        def color(self, name: str) -> str:
            return self[name.encode()].decode()

    with Fruit(path) as db:
        db[b"apple"] = b"red"
        assert db.color("apple") == "red"


def test_missing_database(path: Path) -> None:
    for options in ({"create_if_missing": False}, {"read_only": True}):
        with pytest.raises(toykv.NoDatabaseError) as caught:
            toykv.open(path, toykv.Options.from_mapping(options))
        assert isinstance(caught.value, FileNotFoundError)
        assert str(path) in str(caught.value)
        assert not path.exists()
    path.mkdir()
    with pytest.raises(toykv.NoDatabaseError):
        toykv.open(path, create_if_missing=False)
    assert list(path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        toykv.destroy(path)
    with pytest.raises(FileNotFoundError):
        toykv.destroy(path / "no such parent")


def test_missing_parent(path: Path) -> None:
    with pytest.raises(OSError, match=str(path)):
        toykv.open(path / "below")
    assert not path.exists()


def test_existing_database(path: Path) -> None:
    toykv.open(path, error_if_exists=True).close()
    with pytest.raises(toykv.ExistsError) as caught:
        toykv.open(path, error_if_exists=True)
    assert isinstance(caught.value, FileExistsError)
    toykv.open(path).close()


@pytest.mark.parametrize("bad", ["", b""])
def test_empty_path(bad: Any) -> None:
    with pytest.raises(toykv.InvalidArgumentError, match="empty"):
        toykv.open(bad)
    with pytest.raises(toykv.Error):
        toykv.destroy(bad)


@pytest.mark.parametrize("bad", [None, 7, 1.5, [], bytearray(b"x")], ids=repr)
def test_what_is_no_path(bad: Any) -> None:
    with pytest.raises(TypeError):
        toykv.open(bad)
    with pytest.raises(TypeError):
        toykv.destroy(bad)


def test_a_path_with_a_nul(tmp_path: Path) -> None:
    with pytest.raises((toykv.Error, ValueError)):
        toykv.open(f"{tmp_path}/a\0b")


def test_a_file_in_place_of_the_directory(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(toykv.InvalidArgumentError, match=str(path)):
        toykv.open(path)
    with pytest.raises(toykv.Error):
        toykv.destroy(path)
    assert path.read_text() == "precious"


def test_foreign_files(path: Path) -> None:
    path.mkdir()
    (path / "thesis.tex").write_text("precious")
    with pytest.raises(toykv.InvalidArgumentError, match=str(path)):
        toykv.open(path)
    assert [file.name for file in path.iterdir()] == ["thesis.tex"]


def test_destroy_leaves_foreign_files(path: Path) -> None:
    fill(path)
    (path / "thesis.tex").write_text("precious")
    toykv.destroy(path)
    assert [file.name for file in path.iterdir()] == ["thesis.tex"]


def test_a_second_opener_in_the_process(path: Path) -> None:
    with toykv.open(path) as db:
        for other in (path, path / "." / ".." / path.name):
            with pytest.raises(toykv.LockedError) as caught:
                toykv.open(other)
            assert isinstance(caught.value, BlockingIOError)
            with pytest.raises(toykv.LockedError):
                toykv.destroy(path)
        db[b"a"] = b"1"
    with toykv.open(path) as db:
        assert db[b"a"] == b"1"


HOLDER = """
import sys, toykv
db = toykv.open(sys.argv[1])
db[b"written by"] = b"the other process"
print("ready", flush=True)
sys.stdin.readline()
"""


@contextlib.contextmanager
def held_by_another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            yield holder
        finally:
            holder.kill()


def test_a_second_opener_in_another_process(path: Path) -> None:
    with held_by_another_process(path) as holder:
        with pytest.raises(toykv.LockedError, match=str(holder.pid)):
            toykv.open(path)
        with pytest.raises(toykv.LockedError):
            toykv.destroy(path)
        # A process that is killed has lost nothing, and its lock is gone with it.
        holder.kill()
        holder.wait()
        with toykv.open(path) as db:
            assert db[b"written by"] == b"the other process"


def test_an_exit_without_close_loses_nothing(path: Path) -> None:
    script = """
import sys, toykv
db = toykv.open(sys.argv[1], durability="process")
db.update({b"%d" % n: b"" for n in range(1000)})
cursor = iter(db)
next(cursor)
"""
    ended = run_python(script, path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    with toykv.open(path) as db:
        assert db.count() == 1000


def test_read_only(path: Path) -> None:
    rows = fill(path)
    with toykv.open(path) as db:
        db[b"in the log"] = b"only"
    rows[b"in the log"] = b"only"
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}
    with toykv.open(path, read_only=True) as db:
        assert db.read_only
        assert dict(db.items()) == rows
        assert db.count() == len(rows)
        calls: list[Callable[[], object]] = [
            lambda: db.put(b"a", b"1"),
            lambda: db.put(b"a", b"1", sync=True),
            lambda: db.delete(b"a"),
            lambda: db.update({b"a": b"1"}),
            db.pop_first,
            db.flush,
            db.compact,
        ]
        for call in calls:
            with pytest.raises(toykv.ReadOnlyError) as caught:
                call()
            assert isinstance(caught.value, PermissionError)
    after = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}
    assert after == before


AS_NOBODY = """
import os, sys, toykv
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    db = toykv.open(sys.argv[1])
except toykv.Error as error:
    print(type(error).__name__, isinstance(error, PermissionError), error.errno, error.filename)
else:
    print("opened")
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can enter and nobody else can write."""
    directory = Path(tempfile.mkdtemp(prefix="toykv-test-"))
    directory.chmod(0o755)
    yield directory
    for inner in directory.rglob("*"):
        if inner.is_dir():
            inner.chmod(0o755)
    shutil.rmtree(directory)


def test_a_directory_without_write_permission(public: Path) -> None:
    public.chmod(0o555)
    ended = run_python(AS_NOBODY, public / "db")
    public.chmod(0o755)
    assert ended.stdout.startswith("ReadOnlyError True 13 "), ended
    assert str(public) in ended.stdout


def test_a_database_without_write_permission(public: Path) -> None:
    path = public / "db"
    rows = fill(path)
    for file in path.iterdir():
        file.chmod(0o444)
    path.chmod(0o555)
    ended = run_python(AS_NOBODY, path)
    path.chmod(0o755)
    assert ended.stdout.startswith("ReadOnlyError True "), ended
    for file in path.iterdir():
        file.chmod(0o644)
    with toykv.open(path) as db:
        assert db.count() == len(rows)


def current_manifest(path: Path) -> Path:
    return path / (path / "CURRENT").read_text().split()[0]


def test_a_newer_format_is_named(path: Path) -> None:
    fill(path)
    manifest = current_manifest(path)
    header = bytearray(manifest.read_bytes()[:56])
    assert header[:8] == b"toykvMAN"
    assert header[48:] == header_checksum(header[:48])
    header[8:12] = (999).to_bytes(4, "little")
    header[48:] = header_checksum(header[:48])
    with manifest.open("r+b") as file:
        file.write(header)
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}
    for options in ({}, {"read_only": True}):
        with pytest.raises(toykv.UnsupportedFormatError, match=r"999.*\b1\b"):
            toykv.open(path, toykv.Options.from_mapping(options))
    after = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "LOCK"}
    assert after == before


def header_checksum(data: bytes | bytearray) -> bytes:
    """XXH3-64 of 33 to 64 bytes with the seed of manifests."""
    mask = 2**64 - 1
    seed = 0x6D616E6966657374
    secret = bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
        "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    )

    def word(source: bytes | bytearray, at: int) -> int:
        return int.from_bytes(source[at : at + 8], "little")

    def mix(at: int, secret_at: int) -> int:
        low = word(data, at) ^ ((word(secret, secret_at) + seed) & mask)
        high = word(data, at + 8) ^ ((word(secret, secret_at + 8) - seed) & mask)
        return (low * high & mask) ^ (low * high >> 64)

    end = len(data) - 16
    total = len(data) * 0x9E3779B185EBCA87
    total += mix(16, 32) + mix(end - 16, 48) + mix(0, 0) + mix(end, 16)
    total &= mask
    total = (total ^ (total >> 37)) * 0x165667919E3779F9 & mask
    return (total ^ (total >> 32)).to_bytes(8, "little")


def read_all(path: Path) -> None:
    with toykv.open(path) as db:
        for _ in db.items():
            pass
        for key in db:
            db.get(key)


def damaged_files(path: Path) -> list[Path]:
    return [*files(path, ".table"), current_manifest(path), path / "CURRENT"]


@pytest.mark.parametrize("which", range(3), ids=["table", "manifest", "current"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.999])
def test_truncated_files(path: Path, which: int, part: float) -> None:
    fill(path)
    victim = damaged_files(path)[which]
    os.truncate(victim, int(victim.stat().st_size * part))
    with pytest.raises(toykv.CorruptionError) as caught:
        read_all(path)
    assert caught.value.filename is not None
    assert caught.value.offset is not None
    assert victim.name in str(caught.value)


def test_damaged_table(path: Path) -> None:
    fill(path)
    table = files(path, ".table")[0]
    content = bytearray(table.read_bytes())
    content[len(content) // 3] ^= 0x10
    table.write_bytes(content)
    with pytest.raises(toykv.CorruptionError) as caught:
        read_all(path)
    assert caught.value.filename == str(table)
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset < len(content)


@pytest.mark.parametrize("suffix", [".table", ".vlog", "CURRENT"])
def test_missing_files(path: Path, suffix: str) -> None:
    fill(path)
    with toykv.open(path) as db:
        db[b"more"] = b"x" * 5000
    for file in files(path, suffix):
        file.unlink()
    with pytest.raises(toykv.CorruptionError, match=str(path)):
        read_all(path)


def test_memory_for_a_result_that_cannot_be_had(path: Path) -> None:
    script = """
import resource, sys, toykv
db = toykv.open(sys.argv[1])
db[b"large"] = bytes(200 << 20)
with open("/proc/self/statm") as statm:
    used = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), resource.RLIM_INFINITY))
value = db.get_value(b"large")
try:
    db[b"large"]
except MemoryError:
    print(len(value))
"""
    ended = run_python(script, path)
    assert ended.stdout == f"{200 << 20}\n", ended
