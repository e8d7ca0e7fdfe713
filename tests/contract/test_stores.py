"""What every store does, whatever its kind."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.bucket import is_bulk_removal, says

from nightcrew.clock import SystemClock
from nightcrew.store import BlobStore
from nightcrew.stores import blob_store
from nightcrew.stores.memory import Memory

KINDS = ["memory", "disk", "s3", "s3 prefixed", "s3 versioned", "s3 one by one"]
ODD = [
    "with space.txt", "ünï/cödé.txt", "日本/語", "a+b&c=d?e#f%20.txt", "quo'te\"s", "<xml>&amp;", "tab\there",
    "line\nfeed", "back\\slash", "trailing ", " leading", "dots...", ".hidden", "emoji 🎉",
]  # fmt: skip
_numbers = itertools.count()


@pytest.fixture(params=KINDS)
def fresh(request, tmp_path) -> Callable[[], BlobStore]:
    """Makes empty stores of a kind."""
    kind, _, sort = request.param.partition(" ")
    if kind == "s3":
        bucket = request.getfixturevalue("bucket")
        return lambda: in_bucket(bucket, sort)
    return lambda: Memory() if kind == "memory" else on_disk(tmp_path)


def on_disk(folder: Path) -> BlobStore:
    place = folder / str(next(_numbers))
    place.mkdir()
    return blob_store(f"file://{place}", SystemClock())


def in_bucket(bucket, sort: str) -> BlobStore:
    for key in bucket.listed():
        bucket.client.delete_object(Bucket=bucket.name, Key=key)
    if sort == "versioned":
        bucket.keep_versions()
    if sort == "one by one":
        bucket.faults[:] = [lambda request: says(501, "NotImplemented") if is_bulk_removal(request) else None]
    if sort == "prefixed":  # which must not see what is beneath
        bucket.client.put_object(Bucket=bucket.name, Key="beneath", Body=b"")
        return blob_store(bucket.url("/beneath/this"), SystemClock())
    return blob_store(bucket.url(), SystemClock())


@pytest.fixture
def store(fresh) -> BlobStore:
    return fresh()


def keys_of(store: BlobStore, **which) -> list[str]:
    return [blob.key for blob in store.page(**which).blobs]


def test_what_was_put_is_there_until_it_is_removed(store):
    store.put("a/b.txt", b"one")
    store.put("a/b.txt", b"two!")
    assert (store.get("a/b.txt"), store.get("a"), store.get("a/b")) == (b"two!", None, None)
    assert store.present(["a/b.txt", "a", "a/b", "a/b.txt/c"]) == {"a/b.txt"}
    (blob,) = store.page().blobs
    assert (blob.key, blob.size in (4, 3 + 4)) == ("a/b.txt", True)  # all versions of a bucket that keeps them
    assert store.remove(["a/b.txt"]) == {}
    assert (store.get("a/b.txt"), store.present(["a/b.txt"]), store.page().blobs) == (None, set(), ())


def test_what_is_not_there_counts_as_removed(store):
    store.put("a/b", b"")
    assert store.remove(["a", "a/b/c", "nothing", "a/b", "a/b"]) == {}
    assert store.remove(["a/b"]) == {}
    assert store.remove([]) == {}


def test_a_store_dates_its_blobs_by_the_clock_that_its_pages_tell(store):
    store.put("now", b"")
    page = store.page()
    assert timedelta(seconds=-1) <= page.at - page.blobs[0].modified_at < timedelta(minutes=1)
    assert page.at.utcoffset() == page.blobs[0].modified_at.utcoffset() == timedelta(0)


def test_a_key_may_be_any_text(store):
    odd = [
        key for key in ODD if "\n" not in key or not store.place.startswith("s3:")
    ]  # the test's server has no such URL
    for key in ["beside", *odd]:
        store.put(key, key.encode())
    assert [store.get(key) for key in odd] == [key.encode() for key in odd]
    assert store.present([*odd, "Beside"]) == {*odd}
    assert keys_of(store) == sorted(["beside", *odd])
    assert (store.remove(odd), keys_of(store)) == ({}, ["beside"])


def test_a_listing_goes_on_after_any_key_and_within_any_prefix(store, request):
    keys = ["a.txt", "a/b/c", "a/b0", "a0", "b/c", "b/d/e", "z", "é/x"]
    for key in keys:
        store.put(key, b"")
    assert keys_of(store) == keys
    nothing = ["a/", "a/b", "b", "b/c0", "zz"]
    if "versioned" in request.node.name:  # the test's server passes by what comes after a key that it has not
        nothing = []
    for after in [None, *keys, *nothing]:
        for limit in (1, 2, 100):
            assert keys_of(store, after=after, limit=limit) == [k for k in keys if after is None or k > after][:limit]
    for prefix in ["a", "a/", "a/b", "a/b/", "b/d/e", "é", "nothing", ""]:
        assert keys_of(store, prefix=prefix) == [key for key in keys if key.startswith(prefix)]
        assert keys_of(store, prefix=prefix, after="a/b/c") == [k for k in keys if k.startswith(prefix) and k > "a/b/c"]


NAMES = st.text(alphabet="ab/.é 0", min_size=1, max_size=6).filter(lambda key: not {"", ".", ".."} & {*key.split("/")})


@pytest.mark.parametrize("fresh", ["memory", "disk", "s3"], indirect=True)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(NAMES, max_size=8), gone=st.sets(NAMES, max_size=6), limit=st.integers(1, 4))
def test_pages_show_each_blob_once_and_in_order(fresh, keys, gone, limit):
    keys = {key for key in keys if not any(other.startswith(f"{key}/") for other in keys)}  # no file that is a folder
    store = fresh()
    for key in keys:
        store.put(key, key.encode())
    assert store.remove([*gone]) == {}
    seen, after = [], None
    while page := keys_of(store, after=after, limit=limit):
        seen += page
        after = page[-1]
    assert seen == sorted(keys - gone)
    assert store.remove(seen) == {}
    assert not store.page().blobs
