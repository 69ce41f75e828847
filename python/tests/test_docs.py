"""The examples of all docstrings and of the README."""

from __future__ import annotations

import doctest
import itertools
import os
from pathlib import Path

import toykv
from toykv import _toykv

README = Path(__file__).parents[1] / "README.md"


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(toykv, "toykv")
    # The finder takes these for another module's.
    found += finder.find(_toykv._Readable, "toykv._Readable")
    for name in ["destroy", "verify", "salvage"]:
        found += finder.find(getattr(toykv, name), f"toykv.{name}")
    return [test for test in found if test.examples]


def test_examples_of_docstrings(tmp_path: Path) -> None:
    names = itertools.count()
    tests = examples()
    found = {test.name for test in tests}
    # What the finder overlooks would not be tested, so name some of each sort.
    assert {"toykv", "toykv.open", "toykv.DB", "toykv.DB.put", "toykv.Cursor.next_batch"} <= found
    assert {"toykv._Readable.items", "toykv.Error", "toykv.destroy"} <= found
    assert {"toykv.verify", "toykv.salvage", "toykv.DB.scrub"} <= found
    for test in tests:
        path = os.fspath(tmp_path / str(next(names)))
        with toykv.open(path + "-db") as db:
            test.globs = {"toykv": toykv, "db": db, "path": path}
            result = doctest.DocTestRunner().run(test)
            assert result.failed == 0, test.name
            assert result.attempted > 0


def test_example_of_the_readme(tmp_path: Path) -> None:
    text = README.read_text()
    (block,) = text.split("```python\n")[1:]
    program = block.split("```")[0].replace('"fruit.db"', repr(os.fspath(tmp_path / "fruit.db")))
    exec(compile(program, README, "exec"), {})
    with toykv.open(tmp_path / "fruit.db") as db:
        assert dict(db.items()) == {
            b"apple": b"red",
            b"banana": b"yellow",
            b"blueberry": b"blue",
            b"date": b"brown",
        }


def test_everything_public_has_a_docstring() -> None:
    for name in toykv.__all__:
        thing = getattr(toykv, name)
        if not callable(thing):
            continue
        assert thing.__doc__, name
        for attribute, member in vars(thing).items() if isinstance(thing, type) else ():
            if not attribute.startswith("_") and callable(member):
                assert member.__doc__, f"{name}.{attribute}"
