import sys
from collections.abc import Callable, Iterable, Mapping
from types import GenericAlias, TracebackType
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    Protocol,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    final,
    overload,
    type_check_only,
)

from _typeshed import StrOrBytesPath
from typing_extensions import Buffer, disjoint_base

from ._errors import Error

__all__ = [
    "DB",
    "MAX_KEY_LEN",
    "MAX_VALUE_LEN",
    "Cursor",
    "Options",
    "Snapshot",
    "Value",
    "WriteBatch",
    "_Readable",
    "__version__",
    "destroy",
    "salvage",
    "verify",
]

_T = TypeVar("_T")
_RowT_co = TypeVar("_RowT_co", covariant=True)

MAX_KEY_LEN: Final[int]
MAX_VALUE_LEN: Final[int]
__version__: Final[str]

@type_check_only
class OptionValues(TypedDict, total=False):
    create_if_missing: bool | str
    error_if_exists: bool | str
    read_only: bool | str
    durability: Literal["process", "interval", "sync"]
    sync_interval_ms: int | str
    memory_budget: int | str
    memtable_size_bytes: int | str
    backlog_limit_bytes: int | str
    stall_limit_ms: int | str
    value_threshold_bytes: int | str
    space_amplification: int | str
    snapshot_max_age_ms: int | str
    compression: str
    compression_level: int | str
    cache_size_bytes: int | str
    io: str

@type_check_only
class _HasItems(Protocol):
    def items(self) -> Iterable[tuple[Buffer, Buffer]]: ...

@type_check_only
class FindingDict(TypedDict):
    path: str
    offset: int
    what: str
    first_key: bytes | None
    last_key: bytes | None
    records: int | None

@type_check_only
class DamageReportDict(TypedDict):
    clean: bool
    files: int
    bytes: int
    records: int
    omitted_findings: int
    findings: list[FindingDict]

@type_check_only
class RunDict(TypedDict):
    tables: int
    entries: int
    bytes: int

@type_check_only
class SnapshotSpaceDict(TypedDict):
    sequence: int
    count: int
    age_ms: int
    held_bytes: int

@type_check_only
class HeldFileDict(TypedDict):
    name: str
    bytes: int
    age_ms: int

@type_check_only
class SpaceDict(TypedDict):
    total_bytes: int
    live_value_bytes: int
    hidden_value_bytes: int
    dead_value_bytes: int
    value_overhead_bytes: int
    log_bytes: int
    preallocated_bytes: int
    table_bytes: int
    manifest_bytes: int
    obsolete_bytes: int
    unfinished_bytes: int
    other_bytes: int
    snapshots: list[SnapshotSpaceDict]
    held_files: list[HeldFileDict]

@type_check_only
class HealthDict(TypedDict):
    poisoned: Error | None
    background_error: Error | None
    stalled_us: int

@final
class Options:
    def __new__(cls, **options: Unpack[OptionValues]) -> Self: ...
    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str | int | bool], /) -> Self: ...
    def to_dict(self) -> dict[str, str | int | bool]: ...
    def get(self, name: str, /) -> str: ...
    @staticmethod
    def describe() -> dict[str, tuple[str, str, str]]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __reduce__(self) -> tuple[Any, ...]: ...

@final
class Value(Buffer):
    def __len__(self) -> int: ...
    def __bytes__(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    __hash__: None  # type: ignore[assignment]
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...

    def release(self) -> None: ...

@disjoint_base
class _Readable:
    @overload
    def get(self, key: Buffer, default: None = None, /) -> bytes | None: ...
    @overload
    def get(self, key: Buffer, default: _T, /) -> bytes | _T: ...
    def get_value(self, key: Buffer, /) -> Value | None: ...
    def get_range(self, key: Buffer, offset: int, length: int, /) -> Value | None: ...
    def get_into(self, key: Buffer, out: Buffer, /) -> int | None: ...
    def get_many(self, keys: Iterable[Buffer], /) -> list[bytes | None]: ...
    def has(self, key: Buffer, /) -> bool: ...
    def __getitem__(self, key: Buffer, /) -> bytes: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __iter__(self) -> Cursor[bytes]: ...
    def __reversed__(self) -> Cursor[bytes]: ...
    def keys(
        self,
        start: Buffer | None = None,
        stop: Buffer | None = None,
        *,
        prefix: Buffer | None = None,
        reverse: bool = False,
        include_start: bool = True,
        include_stop: bool = False,
        limit: int | None = None,
    ) -> Cursor[bytes]: ...
    def values(
        self,
        start: Buffer | None = None,
        stop: Buffer | None = None,
        *,
        prefix: Buffer | None = None,
        reverse: bool = False,
        include_start: bool = True,
        include_stop: bool = False,
        limit: int | None = None,
    ) -> Cursor[bytes]: ...
    def items(
        self,
        start: Buffer | None = None,
        stop: Buffer | None = None,
        *,
        prefix: Buffer | None = None,
        reverse: bool = False,
        include_start: bool = True,
        include_stop: bool = False,
        limit: int | None = None,
    ) -> Cursor[tuple[bytes, bytes]]: ...
    def count(
        self,
        start: Buffer | None = None,
        stop: Buffer | None = None,
        *,
        prefix: Buffer | None = None,
    ) -> int: ...

@final
class Cursor(Generic[_RowT_co]):
    def __class_getitem__(cls, key: Any) -> GenericAlias: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> _RowT_co: ...
    def prev(self) -> _RowT_co: ...
    def next_batch(self, n: int = 1024, /) -> list[_RowT_co]: ...
    def seek(self, key: Buffer, /) -> None: ...
    def seek_to_first(self) -> None: ...
    def seek_to_last(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class Snapshot(_Readable):
    @property
    def sequence(self) -> int: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@final
class WriteBatch:
    def __new__(cls) -> Self: ...
    def put(self, key: Buffer, value: Buffer, /) -> None: ...
    def delete(self, key: Buffer, /) -> None: ...
    def append(self, other: WriteBatch, /) -> None: ...
    def clear(self) -> None: ...
    def write(self, *, sync: bool | None = None) -> None: ...
    def __bytes__(self) -> bytes: ...
    @classmethod
    def from_bytes(cls, data: Buffer, /) -> Self: ...
    def __len__(self) -> int: ...
    @property
    def size_bytes(self) -> int: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

@disjoint_base
class DB(_Readable):
    def __new__(
        cls, path: StrOrBytesPath, options: Options | None = None, /, **more: Unpack[OptionValues]
    ) -> Self: ...
    def put(self, key: Buffer, value: Buffer, /, *, sync: bool | None = None) -> None: ...
    def delete(self, key: Buffer, /, *, sync: bool | None = None) -> None: ...
    def __setitem__(self, key: Buffer, value: Buffer, /) -> None: ...
    def __delitem__(self, key: Buffer, /) -> None: ...
    def update(
        self,
        items: _HasItems | Iterable[tuple[Buffer, Buffer]],
        /,
        *,
        sync: bool | None = None,
    ) -> None: ...
    def batch(self, *, sync: bool | None = None) -> WriteBatch: ...
    def snapshot(self) -> Snapshot: ...
    def pop_first(self, *, sync: bool | None = None) -> tuple[bytes, bytes] | None: ...
    def pop_last(self, *, sync: bool | None = None) -> tuple[bytes, bytes] | None: ...
    def sync(self) -> None: ...
    def flush(self) -> None: ...
    def compact(self, start: Buffer | None = None, stop: Buffer | None = None, /) -> None: ...
    def stats(self) -> dict[str, int]: ...
    def runs(self) -> list[RunDict]: ...
    def gc(self) -> None: ...
    def scrub(
        self, *, bytes_per_second: int = 0, progress: Callable[[int, int], object] | None = None
    ) -> DamageReportDict: ...
    def explain_space(self) -> SpaceDict: ...
    def health(self) -> HealthDict: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
    @property
    def path(self) -> str: ...
    @property
    def read_only(self) -> bool: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
        /,
    ) -> None: ...

def destroy(path: StrOrBytesPath, /) -> None: ...
def verify(
    path: StrOrBytesPath, /, *, progress: Callable[[int, int], object] | None = None
) -> DamageReportDict: ...
def salvage(
    source: StrOrBytesPath,
    target: StrOrBytesPath,
    options: Options | None = None,
    /,
    *,
    progress: Callable[[int, int], object] | None = None,
    **more: Unpack[OptionValues],
) -> DamageReportDict: ...
