"""A store in a bucket removes all that it can, says why of the rest, and takes no silence for success."""

import itertools
import socket
import subprocess
import sys
import time
from contextlib import suppress
from random import Random

import pytest
from tests.bucket import is_bulk_removal, says

from nightcrew.clock import SystemClock
from nightcrew.errors import ConfigurationError, StoreError
from nightcrew.stores import blob_store


class Hasty(SystemClock):
    """A clock that waits for nothing, and counts."""

    waits = 0

    def wait(self, event, seconds):
        self.waits += 1
        return event.is_set()


@pytest.fixture
def store(bucket):
    return blob_store(bucket.url(), Hasty())


def fill(bucket, *keys: str) -> list[str]:
    for key in keys:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"x")
    bucket.requests.clear()
    return list(keys)


def bulk(bucket) -> int:
    return sum(request.startswith("POST") and "delete" in request for request in bucket.requests)


def errors(*keys: str, code: str = "") -> tuple[str, bytes]:
    each = "".join(f"<Error><Key>{key}</Key><Code>{code}</Code><Message>so it is</Message></Error>" for key in keys)
    return "200 OK", f"<DeleteResult>{each}</DeleteResult>".encode()


def fails(times: int, answer: tuple[str, bytes], when=is_bulk_removal):
    """Return a fault that answers so many requests, and leaves the rest to the server."""
    left = itertools.count(times, -1)
    return lambda request: answer if when(request) and next(left) > 0 else None


def test_a_thousand_keys_go_by_one_request(bucket, store):
    fill(bucket, "k0", "k1999", "k2500")
    assert store.remove([f"k{number}" for number in range(2_501)]) == {}
    assert (bucket.listed(), bulk(bucket)) == ([], 3)


def test_a_key_that_xml_cannot_carry_spoils_no_other(bucket, store):
    keys = fill(bucket, "a", "b\x01c", " d", "e")
    assert store.remove(keys) == {}
    assert bucket.listed() == []


def test_keys_that_nothing_can_have_are_told(bucket, store):
    keys = fill(bucket, "a")
    refused = store.remove([*keys, "", "x" * 1_025, "a\0b", "\ud800"])
    assert refused == {
        "": "it is empty",
        "x" * 1_025: "it has 1,025 bytes, and no name has more than 1,024",
        "a\0b": "it has a NUL in it",
        "\ud800": "it is no text that can be written",
    }
    assert bucket.listed() == []


def test_no_key_leads_out_of_the_prefix(bucket):
    store = blob_store(bucket.url("/mine/"), Hasty())
    fill(bucket, "beside", "mine/a", "mine-too", "mine")
    assert store.remove(["../beside", "/beside", "a/../../beside", "../mine", "a"]) == {}
    assert sorted(bucket.listed()) == ["beside", "mine", "mine-too"]
    assert store.page().blobs == ()


@pytest.mark.parametrize("prefix", ["", "/mine"])
def test_whether_many_are_there_is_told_by_few_listings(bucket, prefix):
    store = blob_store(bucket.url(prefix), Hasty())
    keys = [f"k{number:04}" for number in range(60)]
    for key in keys[::2]:
        store.put(key, b"")
    store.put("j", b"")
    bucket.requests.clear()
    assert store.present([*keys, "z", "a"]) == {*keys[::2]}
    assert len(bucket.requests) == 2
    bucket.requests.clear()
    assert store.present(["a", "k0002", *(f"l{number}" for number in range(30))]) == {"k0002"}
    assert len(bucket.requests) == 2


def test_where_a_listing_tells_of_few_each_is_asked_for(bucket, store, monkeypatch):
    monkeypatch.setattr("nightcrew.stores.s3.MOST", 10)
    keys = [f"k{number:02}" for number in range(60)]
    for key in keys:
        store.put(key, b"")
    bucket.requests.clear()
    assert store.present([*keys[::3], "a", "z"]) == {*keys[::3]}
    assert sum(request.startswith("HEAD") for request in bucket.requests) > 15


def test_a_bucket_that_fails_half_of_the_time_loses_nothing(bucket, store):
    keys = fill(bucket, *(f"k{number}" for number in range(20)))
    chance = Random(7)
    bucket.faults.append(lambda _: says(500, "InternalError") if chance.random() < 0.5 else None)
    assert {blob.key for blob in store.page().blobs} == {*keys}
    assert store.present(keys) == {*keys}
    assert store.remove(keys) == {}
    assert bucket.listed() == []


def test_a_bucket_that_fails_for_long_is_tried_a_few_times_and_then_told_of(bucket, store, monkeypatch):
    monkeypatch.setattr("nightcrew.stores.s3._TRIES", 1)
    keys = fill(bucket, "a", "b")
    bucket.faults.append(fails(100, says(503, "SlowDown")))
    with pytest.raises(StoreError, match="DeleteObjects with SlowDown: as the test wants it") as told:
        store.remove(keys)
    assert (told.value.transient, bulk(bucket), sorted(bucket.listed())) == (True, 4, keys)
    bucket.faults.clear()
    assert store.remove(keys) == {}


def test_a_key_that_would_not_go_is_tried_again_alone(bucket, store):
    keys = fill(bucket, "a", "b")
    bucket.faults.append(fails(2, errors(*keys, code="InternalError")))
    assert (store.remove(keys), bucket.listed(), bulk(bucket)) == ({}, [], 3)


def test_a_key_that_never_goes_is_told_with_the_reason(bucket, store):
    fill(bucket, "a", "b")
    bucket.faults.append(fails(4, errors("a", code="InternalError")))
    refused = store.remove(["a"])
    assert (refused, bulk(bucket)) == ({"a": "InternalError: so it is (4 times)"}, 4)


def test_a_key_that_is_denied_is_not_tried_again(bucket, store):
    fill(bucket, "a")
    bucket.faults.append(fails(9, errors("a", code="AccessDenied")))
    assert (store.remove(["a"]), bulk(bucket)) == ({"a": "AccessDenied: so it is"}, 1)


def test_what_an_answer_does_not_speak_of_is_not_removed(bucket, store):
    fill(bucket, "a", "b")
    bucket.faults.append(lambda request: errors() if is_bulk_removal(request) else None)
    assert store.remove(["a", "b"]) == dict.fromkeys("ab", "the answer says nothing of it (4 times)")


@pytest.mark.parametrize("body", [b"<html><body>It works!</body></html>", b"hello", b""])
def test_a_web_server_that_is_no_s3_removes_and_finds_nothing(bucket, store, body):
    bucket.faults.append(lambda _: ("200 OK", body))
    with suppress(StoreError):
        assert set(store.remove(["a"])) == {"a"}
    for act in (lambda: store.present(["a"]), store.page):
        with pytest.raises(StoreError, match="at http:"):
            act()
    bucket.faults[:] = [lambda _: ("404 Not Found", body)]
    for act in (lambda: store.remove(["a"]), lambda: store.present(["a"]), lambda: store.get("a"), store.page):
        with pytest.raises(StoreError, match="endpoint"):
            act()


# ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def history(bucket) -> None:
    """Write versions of keys: one that is there, one that the application has hidden, and a neighbour."""
    bucket.keep_versions()
    fill(bucket, "there", "there", "hidden", "hidden", "there-too", "thereafter\ttab", "thereafter\ttab")
    bucket.client.delete_object(Bucket=bucket.name, Key="hidden")
    bucket.requests.clear()


GONE = ["there", "hidden", "thereafter\ttab", "never"]


def test_all_versions_and_delete_markers_of_a_key_go_and_those_of_no_other(bucket, store):
    history(bucket)
    assert store.remove(GONE) == {}
    assert (bucket.versions(), bulk(bucket)) == (["there-too"], 1)  # nothing was hidden first


def test_what_a_bucket_only_hides_is_listed_until_it_is_gone(bucket, store):
    history(bucket)
    assert [(blob.key, blob.size) for blob in store.page().blobs] == [
        ("hidden", 2), ("there", 2), ("there-too", 1), ("thereafter\ttab", 2),
    ]  # fmt: skip
    assert store.present(["hidden", "there"]) == {"there"}
    assert [blob.key for blob in store.page("hidden", 1).blobs] == ["there"]
    assert store.remove(["hidden"]) == {}
    assert [blob.key for blob in store.page(prefix="h").blobs] == []


def test_versions_are_listed_whole_however_few_come_at_once(bucket, store):
    history(bucket)
    bucket.faults.append(lambda request: _one_by_one(request, itertools.count()))
    listed = [(blob.key, blob.size) for blob in store.page().blobs]
    assert listed == [("hidden", 2), ("there", 2), ("there-too", 1), ("thereafter\ttab", 2)]


def test_where_versions_may_not_be_listed_objects_are(bucket, store):
    history(bucket)
    lists = lambda request: "versions" in request["QUERY_STRING"]  # noqa: E731
    bucket.faults.append(fails(99, says(403, "AccessDenied"), lists))
    assert [blob.key for blob in store.page().blobs] == ["there", "there-too", "thereafter\ttab"]


def test_many_versions_of_one_key_go(bucket, store):
    bucket.keep_versions()
    fill(bucket, *["a"] * 5, "ab")
    pages = itertools.count(1)
    bucket.faults.append(lambda request: _one_by_one(request, pages))
    assert store.remove(["a"]) == {}
    assert (bucket.versions(), next(pages) > 6) == (["ab"], True)


def _one_by_one(request, pages) -> None:
    """Let a listing of versions come one by one."""
    if "versions" in request["QUERY_STRING"] and request["REQUEST_METHOD"] == "GET":
        next(pages)
        request["QUERY_STRING"] += "&max-keys=1"
        request["RAW_URI"] += "&max-keys=1"


def test_a_bucket_that_may_not_be_asked_for_its_versioning_shows_it(bucket, store):
    history(bucket)
    denied = says(403, "AccessDenied")
    asks = lambda request: request["REQUEST_METHOD"] == "GET" and "versioning" in request["QUERY_STRING"]  # noqa: E731
    bucket.faults.append(fails(9, denied, asks))
    assert store.remove(["there", "thereafter\ttab"]) == {}
    assert sorted({*bucket.versions()}) == ["hidden", "there-too"]


def test_versions_that_may_not_be_listed_are_told_of(bucket, store):
    history(bucket)
    lists = lambda request: "versions" in request["QUERY_STRING"]  # noqa: E731
    bucket.faults.append(fails(99, says(403, "AccessDenied", "no"), lists))
    why = "its versions cannot be listed: AccessDenied: no; allow s3:ListBucketVersions and s3:DeleteObjectVersion"
    assert store.remove(["there", "hidden"]) == dict.fromkeys(["there", "hidden"], why)
    bucket.faults.clear()
    assert store.remove(["there", "hidden"]) == {}
    assert {*bucket.versions()} == {"there-too", "thereafter\ttab"}


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def acts(store):
    return [lambda: store.remove(["a"]), lambda: store.present(["a"]), lambda: store.put("a", b""), store.page,
            lambda: store.get("a")]  # fmt: skip


def test_a_bucket_that_is_not_there_is_no_empty_one(bucket):
    store = blob_store(bucket.url().replace("uploads", "upload"), Hasty())
    for act in acts(store):
        with pytest.raises(
            StoreError, match=r"s3://upload at http://127.0.0.1:\d+ answers .* NoSuchBucket: .*; make the"
        ):
            act()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says(403, "AccessDenied"), "AccessDenied: as the test wants it; allow s3:ListBucket, s3:GetObject"),
        (says(403, "InvalidAccessKeyId"), "InvalidAccessKeyId: .*; see which credentials are set"),
        (says(403, "SignatureDoesNotMatch"), "SignatureDoesNotMatch: .*; see which credentials are set"),
        (says(400, "ExpiredToken"), "ExpiredToken: .*; renew the credentials"),
        (says(400, "AuthorizationHeaderMalformed"), "set AWS_DEFAULT_REGION to the bucket's region"),
    ],
)
def test_what_is_denied_is_said_with_a_remedy(bucket, store, answer, told):
    bucket.faults.append(lambda _: answer)
    for act in acts(store):
        with pytest.raises(StoreError, match=told) as refusal:
            act()
        assert (refusal.value.transient, "of-nightcrew" in str(refusal.value)) == (False, False)


def test_an_endpoint_where_nobody_listens_is_named(bucket, monkeypatch):
    monkeypatch.setattr("nightcrew.stores.s3._TRIES", 2)
    store = blob_store(f"s3://uploads?endpoint=http://127.0.0.1:{free_port()}", Hasty())
    with pytest.raises(StoreError, match=r"cannot be reached at http://127.0.0.1:\d+: .*AWS_ENDPOINT_URL_S3") as told:
        store.remove(["a"])
    assert told.value.transient


def test_an_endpoint_that_never_answers_is_not_waited_for(bucket, monkeypatch):
    monkeypatch.setattr("nightcrew.stores.s3._TRIES", 2)
    monkeypatch.setattr("nightcrew.stores.s3._READ", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = blob_store(f"s3://uploads?endpoint=http://127.0.0.1:{silent.getsockname()[1]}", Hasty())
        began = time.monotonic()
        for act in acts(store):
            with pytest.raises(StoreError, match=r"cannot be reached at .*: Read timeout") as told:
                act()
            assert told.value.transient
        assert time.monotonic() - began < 15


def test_missing_credentials_are_named(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for act in acts(blob_store(bucket.url(), Hasty())):
        with pytest.raises(
            StoreError, match="credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        ):
            act()


def test_a_listing_in_no_order_is_refused(bucket, store):
    body = "".join(
        f"<Contents><Key>{key}</Key><Size>1</Size><LastModified>2024-01-01T00:00:00Z</LastModified></Contents>"
        for key in "ba"
    )
    bucket.faults.append(
        lambda _: ("200 OK", f"<ListBucketResult><IsTruncated>false</IsTruncated>{body}</ListBucketResult>".encode())
    )
    with pytest.raises(StoreError, match="in no order"):
        store.page()


# ── where it is ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_endpoint_is_taken_from_the_environment(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", bucket.endpoint)
    fill(bucket, "a")
    store = blob_store("s3://uploads", Hasty())
    assert ([blob.key for blob in store.page().blobs], store.place) == (["a"], "s3://uploads")


def test_endpoint_credentials_and_region_are_taken_from_a_profile(bucket, monkeypatch, tmp_path):
    (tmp_path / "config").write_text(
        f"[profile blobs]\nendpoint_url = {bucket.endpoint}\nregion = eu-west-1\naws_access_key_id = a\n"
        "aws_secret_access_key = b\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    fill(bucket, "a")
    assert blob_store("s3://uploads?profile=blobs", Hasty()).present(["a"]) == {"a"}
    with pytest.raises(ConfigurationError, match=r"store s3://uploads cannot be used: .*profile.*nobody"):
        blob_store("s3://uploads?profile=nobody", Hasty()).page()


def test_without_boto3_the_extra_is_named():
    code = (
        "import sys; sys.modules['boto3'] = None\nfrom nightcrew.stores import blob_store; blob_store('s3://ab', None)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.stderr.strip().endswith(
        "a store in S3 needs boto3, which is not installed: pip install 'nightcrew[s3]'"
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
