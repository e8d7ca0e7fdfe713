"""Keys of a Redis go, whatever they hold, and what the server refuses is told."""

import os
import socket
import subprocess
import sys
import uuid

import pytest
import redis

from nightcrew.clock import SystemClock
from nightcrew.errors import ConfigurationError, StoreError
from nightcrew.owing import Trace
from nightcrew.stores.redis import Redis

URL = os.environ.get("NIGHTCREW_TEST_REDIS") or "redis://127.0.0.1:6379/7"


@pytest.fixture
def server():
    """A Redis; skips the test, or under CI fails it, where there is none."""
    with redis.Redis.from_url(URL, socket_connect_timeout=2) as client:
        try:
            client.ping()
        except redis.ConnectionError as error:
            sentence = f"NO REDIS, so nothing was tested on it: {URL}: {error}; set NIGHTCREW_TEST_REDIS"
            pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
        yield client


@pytest.fixture
def mark(server):
    """What the names of a test's keys begin with."""
    name = f"nightcrew-test-{uuid.uuid4().hex[:12]}:"
    yield name
    if left := server.keys(f"{name}*"):
        server.delete(*left)


def test_keys_of_every_kind_go_and_others_stay(server, mark):
    server.set(f"{mark}text", "x")
    server.xadd(f"{mark}stream:ünï cödé\n", {"a": 1})
    server.hset(f"{mark}hash*", "a", 1)
    server.set(f"{mark}hash-stays", "x")
    keys = [f"{mark}text", f"{mark}stream:ünï cödé\n", f"{mark}hash*", f"{mark}never", ""]
    assert Redis(URL, SystemClock()).remove(keys) == {}
    assert server.keys(f"{mark}*") == [f"{mark}hash-stays".encode()]


def test_thousands_go_in_a_moment(server, mark):
    keys = [f"{mark}{number}" for number in range(3_000)]
    server.mset(dict.fromkeys(keys, "x"))
    assert Redis(URL, SystemClock()).remove(keys) == {}
    assert server.keys(f"{mark}*") == []


def test_what_the_server_refuses_is_told_by_key(server, mark):
    user = mark.strip(":")
    server.acl_setuser(user, enabled=True, passwords=["+hunter2-hunter2"], keys=[f"{mark}mine*"], commands=["+@all"])
    try:
        server.mset({f"{mark}mine": "x", f"{mark}theirs": "x"})
        store = Redis(URL.replace("://", f"://{user}:hunter2-hunter2@"), SystemClock())
        refused = store.remove([f"{mark}mine", f"{mark}theirs", "\ud800"])
        assert list(refused) == ["\ud800", f"{mark}theirs"]
        assert "no permission" in refused[f"{mark}theirs"].lower()
        assert server.keys(f"{mark}*") == [f"{mark}theirs".encode()]
    finally:
        server.acl_deluser(user)


def test_a_wrong_password_is_not_shown(server):
    store = Redis(URL.replace("://", "://default:swordfish@").replace("default", "nobody-at-all"), SystemClock())
    with pytest.raises(StoreError, match=r"redis://.*:6379/7 refuses: .*; see the password in its URL") as told:
        store.remove(["a"])
    assert ("swordfish" in str(told.value), "swordfish" in store.place, told.value.transient) == (False, False, False)


def test_a_server_that_is_away_is_named():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = Redis(f"redis://:swordfish@127.0.0.1:{port}/0", SystemClock())
    with pytest.raises(
        StoreError, match=rf"redis://127.0.0.1:{port}/0 cannot be reached: .*; see that it runs"
    ) as told:
        store.remove(["a"])
    assert (told.value.transient, "swordfish" in str(told.value)) == (True, False)


@pytest.mark.parametrize("url", ["http://localhost", "redis://", "localhost:6379", "redis://:swordfish@host:port/0"])
def test_a_url_of_no_redis_is_refused(url):
    with pytest.raises(ConfigurationError, match="write 'redis://localhost:6379/0'") as told:
        Redis(url, SystemClock())
    assert "swordfish" not in str(told.value)


def test_without_the_library_the_extra_is_named():
    code = "import sys; sys.modules['redis'] = None\nimport nightcrew.stores.redis"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stderr.strip().endswith("pip install 'nightcrew[redis]'")


def test_keys_are_found_by_a_pattern_among_thousands_of_others(server, mark):
    server.mset({f"{mark}other:{number}": "x" for number in range(3_000)})
    mine = {f"{mark}session:4[2]:{number}" for number in range(40)}
    server.mset(dict.fromkeys(mine, "x") | {f"{mark}session:42:1": "x", f"{mark}session:4[2]": "x"})
    odd = f"{mark}session:4[2]:\udcff"
    server.set(f"{mark}session:4[2]:".encode() + b"\xff", "a key that is no UTF-8")
    store, pattern = Redis(URL, SystemClock()), Trace("redis", mark + "session:{id}:*").glob({"id": "4[2]"})
    found, place, looks = set(), 0, 0
    while not looks or place:
        keys, place = store.matching(pattern, place)
        found, looks = found | {*keys}, looks + 1
    assert found == {*mine, odd}
    assert looks > 2  # each of them is short, however many keys there are
    assert store.present([*sorted(mine), f"{mark}never", odd, "\ud800"]) == {*mine, odd}
    assert store.remove([odd]) == {}
    assert store.present([odd]) == set()
