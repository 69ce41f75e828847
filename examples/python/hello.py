"""The small program of the README in Python: hello.py [DIRECTORY]."""

import sys

import toykv

with toykv.open(sys.argv[1] if len(sys.argv) > 1 else "hello.db") as db:
    db[b"apple"] = b"red"
    db[b"cherry"] = b"dark red"
    with db.batch() as batch:  # both or neither
        batch.put(b"banana", b"yellow")
        batch.put(b"blueberry", b"blue")

    for key in (b"apple", b"cherry"):
        print(key.decode(), "=", db[key].decode())

    for key, value in db.items(prefix=b"b"):
        print(key.decode(), "=", value.decode())

    del db[b"apple"]
    print(f"after delete: {db.count()} keys")
