"""The hand-written stubs against the module, and the package under strict checking."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import toykv

PROJECT = Path(__file__).parents[1]


def run(*command: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_stubs_say_what_the_module_has() -> None:
    run("mypy.stubtest", "toykv", "--mypy-config-file", "pyproject.toml")


def test_package_and_tests_are_typed() -> None:
    run("mypy")


def test_the_package_says_that_it_is_typed() -> None:
    assert (resources.files(toykv) / "py.typed").is_file()
