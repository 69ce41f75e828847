"""The exceptions, and the one table that says which kind of engine error is which class.

Where Python has a word for a failure, the class is that, too: a database that is locked is a
BlockingIOError, a key that is not there a KeyError. `code` is the number that the C library's
functions return for the same failure.
"""

from __future__ import annotations

import errno as _errno
from typing import ClassVar

__all__ = [
    "BusyError",
    "CancelledError",
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "DiskFullError",
    "Error",
    "ExistsError",
    "ForkedError",
    "IOError",
    "InvalidArgumentError",
    "LockedError",
    "MisuseError",
    "NoDatabaseError",
    "NoMemoryError",
    "NotFoundError",
    "PanicError",
    "PoisonedError",
    "ReadOnlyError",
    "SnapshotExpiredError",
    "TooLargeError",
    "UnsupportedError",
    "UnsupportedFormatError",
]


class Error(Exception):
    """The root of all errors of toykv.

    >>> try:
    ...     db[b"nothing here"]
    ... except toykv.Error as error:
    ...     isinstance(error, KeyError), error.code
    (True, 1)
    """

    code: ClassVar[int] = 0
    """The number of the failure in the C library; 0 for this root, which is never raised."""

    filename: str | None = None
    """The file or directory at fault, where one is known."""

    offset: int | None = None
    """The byte in the file at which the damage was found, where one is known."""


class NotFoundError(Error, KeyError):
    """The key is not there."""

    code = 1


class BusyError(Error):
    """The call would have waited for background work and was told not to."""

    code = 6


class InvalidArgumentError(Error, ValueError):
    """An argument is not acceptable."""

    code = -1


class MisuseError(Error, RuntimeError):
    """A call in the wrong order or from the wrong place."""

    code = -2


class ClosedError(Error, ValueError):
    """The object, or the database it belongs to, was closed."""

    code = -3


class ForkedError(ClosedError):
    """The object was made before a fork: open the database in the child."""

    code = -4


class LockedError(Error, BlockingIOError):
    """Another opener, in this process or another, holds the database."""

    code = -5


class ReadOnlyError(Error, PermissionError):
    """A write to what is opened for reading or cannot be written."""

    code = -6


class ExistsError(Error, FileExistsError):
    """There is a database already, and error_if_exists was given."""

    code = -7


class NoDatabaseError(Error, FileNotFoundError):
    """There is no database at the path, and it was not to be created."""

    code = -8


class TooLargeError(InvalidArgumentError):
    """A key, value or batch exceeds its limit."""

    code = -9


class NoMemoryError(Error, MemoryError):
    """Memory could not be had."""

    code = -10


class IOError(Error, OSError):
    """The operating system reported a failure."""

    code = -11


class DiskFullError(IOError):
    """The disk is full. Writes go on once there is room."""

    code = -12


class CorruptionError(Error):
    """Stored bytes are not what was written; `filename` and `offset` say where."""

    code = -13


class UnsupportedFormatError(Error):
    """The files have a format that this version cannot read."""

    code = -14


class ConflictError(Error):
    """Two transactions touched the same keys: try again."""

    code = -15


class PoisonedError(Error):
    """An earlier append or sync failed: writes are refused until the database is opened again."""

    code = -16


class CancelledError(Error):
    """A callback asked to stop."""

    code = -17


class UnsupportedError(Error, NotImplementedError):
    """The system or this build cannot do what was asked for."""

    code = -18


class PanicError(Error, RuntimeError):
    """A defect of the engine: close the database, open it again and report the message."""

    code = -19


class SnapshotExpiredError(Error):
    """The snapshot is older than `snapshot_max_age_ms`: make a new one."""

    code = -20


BY_KIND: dict[str, type[Error]] = {
    "InvalidArgument": InvalidArgumentError,
    "TooLarge": TooLargeError,
    "Misuse": MisuseError,
    "Closed": ClosedError,
    "Forked": ForkedError,
    "Locked": LockedError,
    "ReadOnly": ReadOnlyError,
    "Exists": ExistsError,
    "NotFound": NoDatabaseError,
    "Io": IOError,
    "DiskFull": DiskFullError,
    "Corruption": CorruptionError,
    "UnsupportedFormat": UnsupportedFormatError,
    "Poisoned": PoisonedError,
    "Cancelled": CancelledError,
    "Unsupported": UnsupportedError,
    "WouldStall": BusyError,
    "Conflict": ConflictError,
    "NoMemory": NoMemoryError,
    "SnapshotExpired": SnapshotExpiredError,
}
"""The class for each kind of the engine, by the kind's name there."""

_USUAL_ERRNO: dict[type[Error], int] = {
    LockedError: _errno.EAGAIN,
    ReadOnlyError: _errno.EROFS,
    ExistsError: _errno.EEXIST,
    NoDatabaseError: _errno.ENOENT,
    DiskFullError: _errno.ENOSPC,
    IOError: _errno.EIO,
}
"""What an OSError says where the engine found the failure without the operating system."""

for _name in __all__:
    # The place where users find them, in tracebacks and pickles.
    globals()[_name].__module__ = "toykv"

for _cls in _USUAL_ERRNO:
    # Or the default that Error has for classes without a file would hide OSError's attribute.
    setattr(_cls, "filename", OSError.filename)


def from_engine(
    kind: str, message: str, errno: int | None, filename: str | None, offset: int | None
) -> Error:
    """Make the exception for an error of the engine."""
    cls = BY_KIND.get(kind, Error)
    if issubclass(cls, OSError):
        if errno is None:
            errno = _USUAL_ERRNO[cls]
        return cls(errno, message, filename)
    place = "" if filename is None else f"{filename}: "
    if filename is not None and offset is not None:
        place = f"{filename} at offset {offset}: "
    error = cls(place + message)
    error.filename = filename
    error.offset = offset
    return error
