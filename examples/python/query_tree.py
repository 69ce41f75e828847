"""Asks questions of a database that examples/c/import_tree.c has made.

    python query_tree.py DB [PREFIX]

How many keys are there, which files are largest, which lie below a folder (PREFIX, or else the
top folder with the most files), which changed last? The last answer is a scan backwards over the
index that import_tree keeps beside the files: keys of b"\\0mtime/", the time of change as 8 bytes,
and the path. Anything that does not fit together ends the program with exit status 1.
"""

from __future__ import annotations

import collections
import datetime
import heapq
import sys
from collections.abc import Iterator

import toykv

INDEX = b"\0mtime/"
FILES = b"\1"  # no path begins with a zero byte: the files' keys start here
SHOWN = 10


def show(path: bytes) -> str:
    """A path for people: what is not UTF-8, or not printable, is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def change_time(index_key: bytes) -> datetime.datetime:
    """The time in an index key: nanoseconds since 1970, the sign bit turned over."""
    number = int.from_bytes(index_key[len(INDEX) : len(INDEX) + 8], "big") - (1 << 63)
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    return epoch + datetime.timedelta(microseconds=number // 1000)


def largest(db: toykv.DB) -> tuple[list[tuple[int, bytes]], collections.Counter[bytes]]:
    """The largest files, and how many files each top folder has: one scan over all files."""
    folders: collections.Counter[bytes] = collections.Counter()

    def sizes() -> Iterator[tuple[int, bytes]]:
        for path, content in db.items(FILES):
            folder, slash, _ = path.partition(b"/")
            if slash:
                folders[folder + slash] += 1
            yield len(content), path

    return heapq.nlargest(SHOWN, sizes()), folders


def newest(db: toykv.DB) -> list[tuple[bytes, bytes]]:
    """Index entries from new to old; each must lead to a file."""
    entries = list(db.items(prefix=INDEX, reverse=True, limit=SHOWN))
    times = [change_time(key) for key, _ in entries]
    if times != sorted(times, reverse=True):
        sys.exit("mismatch: the index does not run from new to old")
    for key, path in entries:
        if key[len(INDEX) + 8 :] != path or path not in db:
            sys.exit(f"mismatch: {show(path)}: in the index and not among the files")
    return entries


def main(arguments: list[str]) -> None:
    if len(arguments) not in (2, 3):
        sys.exit("usage: query_tree.py DB [PREFIX]")
    with toykv.open(arguments[1], read_only=True) as db:
        files = sum(1 for _ in db.keys(FILES))
        index = sum(1 for _ in db.keys(prefix=INDEX))
        print(f"keys       {files + index}: {files} files and {index} entries of their index")
        if files != index:
            sys.exit("mismatch: every file has one entry in the index")

        sizes, folders = largest(db)
        print(f"largest    the {len(sizes)} largest files, in bytes")
        for size, path in sizes:
            print(f"{size:>20} {show(path)}")

        if len(arguments) == 3:
            prefix = arguments[2].encode("utf-8", "surrogateescape")
        else:
            prefix = max(folders, key=lambda folder: folders[folder], default=b"")
        below = list(db.keys(FILES, prefix=prefix))
        print(f"prefix     {len(below)} files begin with {show(prefix)!r}; the first are")
        for path in below[:SHOWN]:
            print(f"{'':20} {show(path)}")
        if prefix in folders and len(below) != folders[prefix]:
            sys.exit("mismatch: the scan of the prefix found another number of files")

        print("newest     what changed last (UTC), by a scan backwards over the index")
        for key, path in newest(db):
            print(f"{change_time(key):%Y-%m-%d %H:%M:%S} {show(path)}")


if __name__ == "__main__":
    try:
        main(sys.argv)
    except toykv.Error as error:
        sys.exit(f"query_tree: {error}")
