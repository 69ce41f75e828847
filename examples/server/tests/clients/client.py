"""Python's Redis client, as it is, against toykv-server: client.py PORT."""

import sys
import threading

import redis


def check(protocol: int) -> None:
    client = redis.Redis(port=int(sys.argv[1]), protocol=protocol)
    assert client.flushdb()
    assert client.ping()
    assert client.set("a", b"\x00\xff") and client.get("a") == b"\x00\xff"
    assert client.get("nothing") is None
    assert client.set("a", "2", nx=True) is None
    assert client.set("a", "2", get=True) == b"\x00\xff"
    assert client.mset({"b": 1, "c": 2}) and client.mget("b", "x", "c") == [b"1", None, b"2"]
    assert client.msetnx({"b": 1, "d": 2}) is False
    assert client.incr("n") == 1 and client.decrby("n", 5) == -4
    assert client.append("b", "23") == 3 and client.strlen("b") == 3
    assert client.getrange("b", 1, 2) == b"23" and client.getdel("b") == b"123"
    assert client.exists("a", "b") == 1 and client.delete("a", "b") == 1
    assert client.dbsize() == 2
    assert client.info()["db0"]["keys"] == 2
    assert client.config_get("appendonly") == {"appendonly": "yes"}
    assert client.command()["mset"]["step_count"] == 2
    assert client.client_setname("me") and client.client_getname() in ("me", b"me")
    try:
        client.set("a", "1", ex=10)
    except redis.ResponseError as error:
        assert "expire" in str(error)
    else:
        raise AssertionError("EX was taken")
    try:
        client.lpush("list", 1)
    except redis.ResponseError as error:
        assert "unknown command" in str(error)
    else:
        raise AssertionError("LPUSH was taken")

    pipeline = client.pipeline(transaction=False)
    for number in range(1000):
        pipeline.set(f"key:{number:04}", number).get(f"key:{number:04}")
    assert pipeline.execute() == [answer for n in range(1000) for answer in (True, b"%d" % n)]
    keys = [b"key:%04d" % number for number in range(1000)]
    assert list(client.scan_iter("key:*", count=37)) == keys
    assert client.keys("key:00*") == keys[:100]

    def count() -> None:
        own = redis.Redis(port=int(sys.argv[1]), protocol=protocol)
        for _ in range(100):
            own.incr("together")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("together") == b"800"


check(2)
check(3)
