"""Options."""

from __future__ import annotations

import ast
import copy
import pickle
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

import toykv

VALUE_TYPES = {
    "bool",
    "bytes",
    "compression",
    "durability",
    "io",
    "milliseconds",
    "number",
    "ratio",
}


def test_describe_has_what_the_engine_has() -> None:
    described = toykv.Options.describe()
    assert described["create_if_missing"][:2] == ("bool", "true")
    assert described["durability"][:2] == ("durability", "interval")
    assert described["memtable_size_bytes"][:2] == ("bytes", "auto")
    for value_type, default, doc in described.values():
        assert value_type in VALUE_TYPES
        assert default
        assert doc


def test_the_stub_names_every_option_and_no_other() -> None:
    stub = ast.parse((resources.files(toykv) / "_toykv.pyi").read_text())
    (values,) = (
        node
        for node in stub.body
        if isinstance(node, ast.ClassDef) and node.name == "OptionValues"
    )
    names = {ast.unparse(field.target) for field in values.body if isinstance(field, ast.AnnAssign)}
    assert names == set(toykv.Options.describe())


def test_every_default_is_accepted() -> None:
    for name, (_, default, _) in toykv.Options.describe().items():
        options = toykv.Options.from_mapping({name: default})
        assert options == toykv.Options()
        assert options.to_dict() == {name: default}
        assert options.get(name) == default


def test_values_are_got_as_text() -> None:
    options = toykv.Options(memory_budget=96 << 20, durability="sync", read_only=True)
    assert options.get("memory_budget") == "96MiB"
    assert options.get("durability") == "sync"
    assert options.get("read_only") == "true"
    with pytest.raises(toykv.InvalidArgumentError, match="no_such"):
        options.get("no_such")


def test_values_by_type() -> None:
    options = toykv.Options(create_if_missing=False, memtable_size_bytes=1 << 20)
    assert options == toykv.Options(create_if_missing="no", memtable_size_bytes="1MiB")
    assert options != toykv.Options(create_if_missing=False)
    assert options != {"create_if_missing": False}
    assert hash(options) == hash(
        toykv.Options(memtable_size_bytes="1024KiB", create_if_missing="false")
    )
    assert options.to_dict() == {"create_if_missing": False, "memtable_size_bytes": 1 << 20}
    assert repr(options) == "Options(create_if_missing=False, memtable_size_bytes=1048576)"
    options.to_dict().clear()
    assert len(options.to_dict()) == 2


def test_options_are_immutable_and_can_be_copied() -> None:
    options = toykv.Options(durability="sync")
    with pytest.raises(AttributeError):
        options.durability = "process"  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(options)) == options
    assert copy.deepcopy(options) == options


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("memtable_size", 1, toykv.InvalidArgumentError, "memtable_size"),
        ("durability", "always", toykv.InvalidArgumentError, "durability.*always"),
        ("read_only", "perhaps", toykv.InvalidArgumentError, "read_only.*perhaps"),
        ("memtable_size_bytes", "64 parsecs", toykv.InvalidArgumentError, "memtable_size_bytes"),
        ("memtable_size_bytes", -1, toykv.InvalidArgumentError, "memtable_size_bytes"),
        ("memtable_size_bytes", True, toykv.InvalidArgumentError, "memtable_size_bytes"),
        ("memtable_size_bytes", 1.5, TypeError, "memtable_size_bytes.*float"),
        ("durability", None, TypeError, "durability.*NoneType"),
        ("durability", b"sync", TypeError, "durability.*bytes"),
    ],
)
def test_bad_options_are_named(
    path: Path, name: str, value: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        toykv.Options(**{name: value})
    with pytest.raises(error, match=message):
        toykv.Options.from_mapping({name: value})
    with pytest.raises(error, match=message):
        toykv.open(path, **{name: value})
    assert not path.exists()


@pytest.mark.parametrize(
    "options",
    [
        {"memtable_size_bytes": 1},
        {"memtable_size_bytes": "2GiB"},
        {"sync_interval_ms": 0},
        {"value_threshold_bytes": 1},
        {"backlog_limit_bytes": "64KiB"},
        {"memory_budget": "1MiB"},
        {"read_only": True, "error_if_exists": True},
    ],
    ids=str,
)
def test_values_out_of_range_are_named_when_opening(path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(toykv.InvalidArgumentError, match=next(iter(options))):
        toykv.open(path, toykv.Options.from_mapping(options))
    assert not path.exists()


def test_from_mapping_takes_mappings() -> None:
    with pytest.raises(TypeError):
        toykv.Options.from_mapping(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        toykv.Options.from_mapping({1: "x"})  # type: ignore[dict-item]


def test_names_win_over_the_object(path: Path) -> None:
    options = toykv.Options(create_if_missing=False)
    with pytest.raises(toykv.NoDatabaseError):
        toykv.open(path, options)
    toykv.open(path, options, create_if_missing=True).close()
    assert options.to_dict() == {"create_if_missing": False}
    with pytest.raises(TypeError):
        toykv.open(path, {"create_if_missing": False})  # type: ignore[arg-type]
