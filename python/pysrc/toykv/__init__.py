"""toykv: an embedded, ordered, crash-safe key-value store.

>>> with toykv.open(path) as db:
...     db[b"banana"] = b"yellow"
...     db.update({b"apple": b"red", b"blueberry": b"blue"})
...     for key, value in db.items(prefix=b"b"):
...         print(key.decode(), value.decode())
banana yellow
blueberry blue

Keys and values are bytes; anything with the buffer protocol is taken, `bytes` come back. Keys are
sorted bytewise. A write that returned survives the death of the process; `durability="sync"`, or
`sync=True` for one write, makes it survive power loss, too, before the call returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._errors import (
    BusyError,
    CancelledError,
    ClosedError,
    ConflictError,
    CorruptionError,
    DiskFullError,
    Error,
    ExistsError,
    ForkedError,
    InvalidArgumentError,
    IOError,
    LockedError,
    MisuseError,
    NoDatabaseError,
    NoMemoryError,
    NotFoundError,
    PanicError,
    PoisonedError,
    ReadOnlyError,
    SnapshotExpiredError,
    TooLargeError,
    UnsupportedError,
    UnsupportedFormatError,
)
from ._toykv import (
    DB,
    MAX_KEY_LEN,
    MAX_VALUE_LEN,
    Cursor,
    Options,
    Snapshot,
    Value,
    WriteBatch,
    __version__,
    destroy,
    salvage,
    verify,
)

if TYPE_CHECKING:
    from typing import Unpack

    from _typeshed import StrOrBytesPath

    from ._toykv import OptionValues

__all__ = [
    "DB",
    "MAX_KEY_LEN",
    "MAX_VALUE_LEN",
    "BusyError",
    "CancelledError",
    "ClosedError",
    "ConflictError",
    "CorruptionError",
    "Cursor",
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
    "Options",
    "PanicError",
    "PoisonedError",
    "ReadOnlyError",
    "Snapshot",
    "SnapshotExpiredError",
    "TooLargeError",
    "UnsupportedError",
    "UnsupportedFormatError",
    "Value",
    "WriteBatch",
    "__version__",
    "destroy",
    "open",
    "salvage",
    "verify",
]


def open(
    path: StrOrBytesPath, options: Options | None = None, /, **more: Unpack[OptionValues]
) -> DB:
    """Open the database in the directory `path`, creating it when there is none.

    Options come as an Options object, by name, or both; names win. Options.describe() lists them.

    >>> with toykv.open(path, durability="sync") as db:
    ...     db[b"safe"] = b"as soon as this line is done"
    """
    return DB(path, options, **more)
