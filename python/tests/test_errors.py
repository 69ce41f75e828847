"""The exceptions: their parents, their numbers, and that none is missing."""

from __future__ import annotations

import copy
import errno
import pickle
import re
from pathlib import Path

import pytest

import toykv
from toykv import _errors

REPOSITORY = Path(__file__).parents[2]

# Name in the C library (without TOYKV_): number, class, the parent that Python knows.
TABLE: dict[str, tuple[int, type[toykv.Error], type[Exception]]] = {
    "NOT_FOUND": (1, toykv.NotFoundError, KeyError),
    "WOULD_STALL": (6, toykv.BusyError, toykv.Error),
    "ERR_INVALID": (-1, toykv.InvalidArgumentError, ValueError),
    "ERR_MISUSE": (-2, toykv.MisuseError, RuntimeError),
    "ERR_CLOSED": (-3, toykv.ClosedError, ValueError),
    "ERR_FORKED": (-4, toykv.ForkedError, toykv.ClosedError),
    "ERR_LOCKED": (-5, toykv.LockedError, BlockingIOError),
    "ERR_READ_ONLY": (-6, toykv.ReadOnlyError, PermissionError),
    "ERR_EXISTS": (-7, toykv.ExistsError, FileExistsError),
    "ERR_NO_SUCH": (-8, toykv.NoDatabaseError, FileNotFoundError),
    "ERR_TOO_LARGE": (-9, toykv.TooLargeError, ValueError),
    "ERR_NO_MEMORY": (-10, toykv.NoMemoryError, MemoryError),
    "ERR_IO": (-11, toykv.IOError, OSError),
    "ERR_DISK_FULL": (-12, toykv.DiskFullError, toykv.IOError),
    "ERR_CORRUPTION": (-13, toykv.CorruptionError, toykv.Error),
    "ERR_FORMAT": (-14, toykv.UnsupportedFormatError, toykv.Error),
    "ERR_CONFLICT": (-15, toykv.ConflictError, toykv.Error),
    "ERR_POISONED": (-16, toykv.PoisonedError, toykv.Error),
    "ERR_CANCELLED": (-17, toykv.CancelledError, toykv.Error),
    "ERR_UNSUPPORTED": (-18, toykv.UnsupportedError, NotImplementedError),
    "ERR_PANIC": (-19, toykv.PanicError, RuntimeError),
    "ERR_SNAPSHOT_EXPIRED": (-20, toykv.SnapshotExpiredError, toykv.Error),
}


@pytest.mark.parametrize("name", TABLE)
def test_numbers_and_parents(name: str) -> None:
    number, cls, parent = TABLE[name]
    assert cls.code == number
    assert issubclass(cls, toykv.Error)
    assert issubclass(cls, parent)
    assert cls.__module__ == "toykv"
    assert getattr(toykv, cls.__name__) is cls
    assert cls.__doc__


def test_every_class_is_in_the_table_and_exported() -> None:
    classes = {cls for _, cls, _ in TABLE.values()} | {toykv.Error}
    assert {getattr(_errors, name) for name in _errors.__all__} == classes
    assert set(_errors.__all__) <= set(toykv.__all__)


def test_every_kind_of_the_engine_has_its_class() -> None:
    source = (REPOSITORY / "core" / "src" / "error.rs").read_text()
    (body,) = re.findall(r"pub enum ErrorKind \{(.*?)\n\}", source, re.DOTALL)
    kinds = set(re.findall(r"^    (\w+),$", body, re.MULTILINE))
    assert "Corruption" in kinds
    assert kinds == set(_errors.BY_KIND)
    # Each kind has a class of its own; only these two classes belong to no kind.
    classes = set(_errors.BY_KIND.values())
    assert len(classes) == len(kinds)
    assert {cls for _, cls, _ in TABLE.values()} - classes == {
        toykv.NotFoundError,
        toykv.PanicError,
    }


def test_the_numbers_are_those_of_the_c_library() -> None:
    header = (REPOSITORY / "include" / "toykv.h").read_text()
    found = re.findall(r"\bTOYKV_((?:ERR_\w+)|NOT_FOUND|WOULD_STALL)\b\s*=?\s*\(?(-?\d+)", header)
    assert {name: int(number) for name, number in found} == {
        name: number for name, (number, _, _) in TABLE.items()
    }


@pytest.mark.parametrize("kind", _errors.BY_KIND)
@pytest.mark.parametrize("number", [None, errno.EACCES])
@pytest.mark.parametrize("filename", [None, "/some/file"])
def test_facts_of_the_engine_arrive(kind: str, number: int | None, filename: str | None) -> None:
    offset = 4096 if kind == "Corruption" and filename else None
    error = _errors.from_engine(kind, "what happened", number, filename, offset)
    assert type(error) is _errors.BY_KIND[kind]
    assert "what happened" in str(error)
    assert error.filename == filename
    assert error.offset == offset
    if filename:
        assert filename in str(error)
    if offset:
        assert "offset 4096" in str(error)
    if isinstance(error, OSError):
        assert error.errno == number or (number is None and error.errno)
        assert error.strerror == "what happened"
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert (twin.filename, twin.offset, twin.code) == (filename, offset, error.code)


def test_errors_that_users_make() -> None:
    assert toykv.Error("x").filename is None
    assert toykv.CorruptionError("x").offset is None
    assert toykv.IOError(errno.EIO, "text", "name").filename == "name"
