"""verify, scrub and salvage."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import toykv

LARGE = b"large"


def contents() -> dict[bytes, bytes]:
    noise = random.Random(7)
    found = {b"key%03d" % number: noise.randbytes(number % 5 * 20 + 12) for number in range(400)}
    found[LARGE] = noise.randbytes(3000)
    return found


def fill(path: Path) -> dict[bytes, bytes]:
    with toykv.open(path) as db:
        db.update(contents())
        db.compact()
    return contents()


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def damage(path: Path, value: bytes, ending: str) -> tuple[Path, int]:
    """Flips a bit in the middle of a value; answers the file and where the value begins."""
    for file in path.glob("*" + ending):
        stored = bytearray(file.read_bytes())
        at = stored.find(value)
        if at >= 0:
            stored[at + len(value) // 2] ^= 4
            file.write_bytes(stored)
            return file, at
    raise AssertionError("no file has this value")


def test_an_intact_database_is_clean(tmp_path: Path) -> None:
    stored = fill(tmp_path / "db")
    calls: list[tuple[int, int]] = []
    report = toykv.verify(tmp_path / "db", progress=lambda done, total: calls.append((done, total)))
    assert report["clean"] and report["findings"] == [] and report["omitted_findings"] == 0
    assert report["files"] >= 2 and report["records"] >= len(stored) and report["bytes"] > 3000
    assert calls and all(done <= total for done, total in calls)
    with toykv.open(tmp_path / "db") as db:
        assert db.scrub()["clean"] and db.scrub(bytes_per_second=1 << 40)["clean"]
        with pytest.raises(toykv.LockedError):
            toykv.verify(tmp_path / "db")
    saved = toykv.salvage(tmp_path / "db", tmp_path / "saved")
    assert saved["clean"] and saved["records"] == len(stored)


def test_a_damaged_value_is_one_key_lost(tmp_path: Path) -> None:
    stored = fill(tmp_path / "db")
    file, at = damage(tmp_path / "db", stored.pop(LARGE), ".vlog")
    before = files(tmp_path / "db")
    report = toykv.verify(tmp_path / "db")
    assert not report["clean"]
    (finding,) = (own for own in report["findings"] if own["first_key"] is not None)
    assert finding["first_key"] == finding["last_key"] == LARGE and finding["records"] == 1
    assert finding["path"] == str(file) and at - 64 < finding["offset"] < at and finding["what"]
    saved = toykv.salvage(tmp_path / "db", tmp_path / "saved", durability="process")
    assert files(tmp_path / "db") == before
    assert saved["records"] == len(stored) and not saved["clean"]
    with toykv.open(tmp_path / "saved", create_if_missing=False) as db:
        assert dict(db.items()) == stored
    assert toykv.verify(tmp_path / "saved")["clean"]


def test_a_damaged_block_names_its_keys_and_the_rest_is_saved(tmp_path: Path) -> None:
    stored = fill(tmp_path / "db")
    key = b"key204"
    table, at = damage(tmp_path / "db", stored[key], ".table")
    before = files(tmp_path / "db")
    (finding,) = toykv.verify(tmp_path / "db")["findings"]
    assert finding["path"] == str(table) and finding["offset"] <= at
    first, last = finding["first_key"], finding["last_key"]
    assert first is not None and last is not None and first <= key <= last
    saved = toykv.salvage(str(tmp_path / "db"), tmp_path / "saved", toykv.Options(compression="lz4"))
    assert files(tmp_path / "db") == before
    with toykv.open(tmp_path / "saved", create_if_missing=False) as db:
        kept = dict(db.items())
    gone = stored.keys() - kept.keys()
    assert kept.items() <= stored.items() and key in gone
    assert all(first <= lost <= last for lost in gone)
    assert len(gone) == finding["records"] == len(stored) - saved["records"] < 300


def test_a_scrub_finds_damage_of_an_open_database(tmp_path: Path) -> None:
    stored = fill(tmp_path / "db")
    with toykv.open(tmp_path / "db") as db:
        assert db.scrub()["clean"]
        file, _ = damage(tmp_path / "db", stored[LARGE], ".vlog")
        assert {own["path"] for own in db.scrub()["findings"]} == {str(file)}
        db[b"later"] = b"1"


def test_a_callback_that_raises_ends_the_search(tmp_path: Path) -> None:
    fill(tmp_path / "db")

    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        toykv.verify(tmp_path / "db", progress=stop)
    with pytest.raises(RuntimeError, match="enough"):
        toykv.salvage(tmp_path / "db", tmp_path / "saved", progress=stop)
    with toykv.open(tmp_path / "db") as db, pytest.raises(RuntimeError, match="enough"):
        db.scrub(bytes_per_second=1, progress=stop)


def test_others_go_on_beside_a_slow_scrub_and_close_ends_it(tmp_path: Path) -> None:
    fill(tmp_path / "db")
    db = toykv.open(tmp_path / "db")
    begun = threading.Event()
    raised: list[BaseException] = []

    def scrub() -> None:
        try:
            # A byte a second: by itself it would take an hour.
            db.scrub(bytes_per_second=1, progress=lambda done, total: begun.set())
        except toykv.ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=scrub)
    thread.start()
    begun.wait()
    db[b"beside"] = b"1"
    assert db[b"beside"] == b"1"
    db.close()
    thread.join()
    assert len(raised) == 1


def test_a_callback_may_use_the_database_but_not_close_it(tmp_path: Path) -> None:
    fill(tmp_path / "db")
    with toykv.open(tmp_path / "db") as db:
        assert db.scrub(progress=lambda done, total: db[LARGE])["clean"]
        with pytest.raises(toykv.MisuseError):
            db.scrub(progress=lambda done, total: db.close())
        assert db[LARGE]


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as usual, also where it was ignored when the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_ends_a_search(tmp_path: Path) -> None:
    fill(tmp_path / "db")

    def interrupt(done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        toykv.verify(tmp_path / "db", progress=interrupt)


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_from_outside_ends_a_search(tmp_path: Path) -> None:
    fill(tmp_path / "db")
    begun = threading.Event()

    def press() -> None:
        begun.wait()
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with toykv.open(tmp_path / "db") as db, pytest.raises(KeyboardInterrupt):
        # A byte a second: by itself it would take an hour.
        db.scrub(bytes_per_second=1, progress=lambda done, total: begun.set())
    thread.join()


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(toykv.NoDatabaseError):
        toykv.verify(tmp_path / "nothing")
    with pytest.raises(toykv.NoDatabaseError):
        toykv.salvage(tmp_path / "nothing", tmp_path / "saved")
    fill(tmp_path / "db")
    with pytest.raises(toykv.ExistsError):
        toykv.salvage(tmp_path / "db", tmp_path / "db")
    with pytest.raises(TypeError):
        toykv.verify(tmp_path / "db", progress=lambda: None)  # type: ignore[arg-type, misc]
    with toykv.open(tmp_path / "db") as db:
        with pytest.raises(OverflowError):
            db.scrub(bytes_per_second=-1)
    with pytest.raises(toykv.ClosedError):
        db.scrub()
