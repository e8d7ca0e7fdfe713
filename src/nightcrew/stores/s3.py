"""Blobs as the objects of a bucket, at any endpoint that speaks S3."""

import re
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property, partial
from hashlib import md5
from typing import Any

from nightcrew.clock import Clock
from nightcrew.errors import ConfigurationError, MissingExtra, StoreError
from nightcrew.store import MOST, Blob, Page
from nightcrew.stores import s3_answers as answers
from nightcrew.stores import s3_listing as listing
from nightcrew.stores.address import Address
from nightcrew.stores.patience import Refusal, patiently
from nightcrew.stores.s3_listing import Listed

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
    )
    from botocore.exceptions import ConnectionError as Unconnected
    from botocore.parsers import ResponseParserError
except ImportError:
    raise MissingExtra("a store in S3 needs boto3, which is not installed: pip install 'nightcrew[s3]'") from None

_REQUESTS = 4  # at once, of those that are about a thousand keys each
_HANDS = 8  # requests at once, of those that are about one key each
_TRIES = 5  # of each request, as botocore counts; between them it waits longer each time
_CONNECT, _READ = 5, 30  # seconds
_WORTH = 20  # keys that a listing should tell of; a question for each is as quick for fewer
# What XML cannot carry, or what one of those who write and read it may trim: such a key goes by a request of its own.
_FRAGILE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\ufffe\uffff]|^\s|\s$")


class S3:
    """The objects of a bucket whose names begin with a prefix, which their keys are without.

    Credentials, region and endpoint come from where every tool of AWS looks for them, unless the address says
    otherwise. In a bucket that keeps versions, all versions and delete markers of a key are removed.
    """

    most = _REQUESTS * MOST

    def __init__(self, address: Address, clock: Clock) -> None:
        self.place = str(address)
        self._bucket = address.place
        self._prefix = address.prefix
        self._options = address.options
        self._clock = clock
        self._in_bulk = True

    def remove(self, keys: Sequence[str]) -> Mapping[str, str]:
        """Remove these objects, a thousand a request and some requests at once, and return why each stayed that did."""
        refused = {key: why for key in keys if (why := answers.impossible(key, self._prefix))}
        possible = [key for key in dict.fromkeys(keys) if key not in refused]
        failures: list[StoreError] = []
        stayed = patiently(partial(self._remove, failures), possible, self._clock)
        if failures and len(stayed) == len(possible):
            raise failures[-1]
        return refused | stayed

    def page(self, after: str | None = None, limit: int = MOST, *, prefix: str = "") -> Page:
        """Return up to `limit` objects whose keys come after one, of those that begin with `prefix`.

        In a bucket that keeps versions, these are also the keys that were hidden, of which older versions are left.
        """
        found: list[Blob] = []
        at: datetime | None = None
        cut, last = len(self._prefix), self._prefix + (after or "")
        while len(found) < limit:
            listed = self._list(self._prefix + prefix, last, limit - len(found), versions=self._sees_versions)
            found += (replace(blob, key=blob.key[cut:]) for blob in listed.blobs)
            at = at or listed.at
            if not listed.more or not listed.blobs:
                break
            last = listed.blobs[-1].key
        return Page(tuple(found[:limit]), at or self._clock.now())

    def present(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys under which there is an object; listings are asked as long as they tell of many."""
        wanted = sorted({key for key in keys if not answers.impossible(key, self._prefix)})
        there: set[str] = set()
        if len(wanted) < _WORTH:
            self._list(self._prefix, None, 1)  # of an object alone, a missing bucket says the same as a missing object
            alone = wanted
        else:
            alone = [wanted[0], *self._listed(there, wanted)]
        for key, why in patiently(partial(self._look, there), alone, self._clock).items():
            raise StoreError(f"whether {key[:200]!r} is there is not known: {why}", transient=True)
        return there

    def _listed(self, there: set[str], wanted: Sequence[str]) -> Sequence[str]:
        """Add those of the keys after the first that listings show, and return those that none was asked for."""
        last, rest, cut = self._prefix + wanted[0], wanted[1:], len(self._prefix)
        while True:
            listed = self._list(self._prefix, last, MOST)
            names = {blob.key[cut:] for blob in listed.blobs}
            end = listed.blobs[-1].key[cut:] if listed.more and listed.blobs else None
            told = bisect_right(rest, end) if end is not None else len(rest)
            there.update(names.intersection(rest[:told]))
            rest = rest[told:]
            if not rest or end is None or told < _WORTH:
                return rest
            last = self._prefix + end

    def get(self, key: str) -> bytes | None:
        """Return an object, or None where there is none."""
        try:
            with self._renamed():
                body: bytes = self._client.get_object(Bucket=self._bucket, Key=self._name(key))["Body"].read()
                return body
        except StoreError as error:
            if isinstance(error.__cause__, ClientError) and answers.code(error.__cause__) in answers.GONE:
                return None
            raise

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        with self._renamed():
            self._client.put_object(Bucket=self._bucket, Key=self._name(key), Body=data)

    def _list(self, prefix: str, after: str | None, most: int, *, versions: bool = False) -> Listed:
        try:
            with self._renamed():
                if versions:
                    return listing.versions(
                        partial(self._client.list_object_versions, Bucket=self._bucket), prefix, after
                    )
                return listing.objects(partial(self._client.list_objects_v2, Bucket=self._bucket), prefix, after, most)
        except StoreError as error:
            if isinstance(error.__cause__, ClientError):
                if versions and answers.code(error.__cause__) in answers.DENIED:
                    self._sees_versions = False
                    return self._list(prefix, after, most)
                raise
            if error.__cause__ is not None:
                raise
            raise StoreError(f"{self.place} at {self._endpoint} cannot be listed: {error}") from None

    @cached_property
    def _client(self) -> Any:
        """Everything that asks S3; made when the first question is to be asked."""
        config = Config(
            connect_timeout=_CONNECT,
            read_timeout=_READ,
            max_pool_connections=_REQUESTS * _HANDS,
            parameter_validation=False,  # a walk through a thousand keys, of which each is looked at already
            retries={"mode": "standard", "total_max_attempts": _TRIES},
            request_checksum_calculation="when_required",  # others than AWS know no other checksum than the MD5 below
            response_checksum_validation="when_required",
        )
        try:
            session = boto3.Session(profile_name=self._options.get("profile"), region_name=self._options.get("region"))
            client = session.client("s3", endpoint_url=self._options.get("endpoint"), config=config)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(f"store {self.place} cannot be used: {error}") from None
        client.meta.events.register("before-sign.s3.DeleteObjects", _with_md5)
        return client

    @cached_property
    def _versioned(self) -> bool:
        """Whether the bucket keeps versions; where that may not be asked, the first removal shows it."""
        try:
            with self._renamed():
                status = self._client.get_bucket_versioning(Bucket=self._bucket).get("Status")
        except StoreError as error:
            if error.transient or not isinstance(error.__cause__, ClientError):
                raise
            return False
        return status in ("Enabled", "Suspended")

    @cached_property
    def _sees_versions(self) -> bool:
        """Whether listings are of versions: where there are some, and they may be listed."""
        return self._versioned

    def _remove(self, failures: list[StoreError], keys: Sequence[str]) -> dict[str, Refusal]:
        """Try once; what the bucket says of a whole request goes for each of its keys, and is one of the failures."""
        refused: dict[str, Refusal] = {}
        parts = [keys[first : first + MOST] for first in range(0, len(keys), MOST)]
        with self._renamed(), ThreadPoolExecutor(1 if self._versioned else _REQUESTS) as hands:
            for part, found in zip(parts, hands.map(self._remove_part, parts), strict=True):
                if isinstance(found, StoreError):
                    failures.append(found)
                    refused |= dict.fromkeys(part, Refusal(str(found)))
                else:
                    refused |= found
        return refused

    def _remove_part(self, keys: Sequence[str]) -> dict[str, Refusal] | StoreError:
        try:
            with self._renamed():
                return self._remove_versions(keys) if self._versioned else self._remove_latest(keys)
        except StoreError as error:
            if not error.transient or not isinstance(error.__cause__, ClientError):
                raise
            return error

    def _remove_latest(self, keys: Sequence[str]) -> dict[str, Refusal]:
        """Delete by key, and where that shows that the bucket keeps versions, all of those that it did so for."""
        refused, hidden = self._delete([{"Key": self._prefix + key} for key in keys])
        if hidden:
            self._versioned = True
            refused |= self._remove_versions(hidden)
        return refused

    def _remove_versions(self, keys: Sequence[str]) -> dict[str, Refusal]:
        """Delete all versions and delete markers of keys."""
        refused: dict[str, Refusal] = {}
        versions: list[dict[str, str]] = []
        with ThreadPoolExecutor(_HANDS) as hands:
            for key, found in zip(keys, hands.map(self._versions_of, keys), strict=True):
                if isinstance(found, Refusal):
                    refused[key] = found
                else:
                    versions += found
        for first in range(0, len(versions), MOST):
            refused |= self._delete(versions[first : first + MOST])[0]
        return refused

    def _versions_of(self, key: str) -> list[dict[str, str]] | Refusal:
        """Return what to delete of a key, or why that is not known."""
        found: list[dict[str, str]] = []
        name = self._prefix + key
        marker: dict[str, str] = {}
        while True:
            try:
                said = self._client.list_object_versions(Bucket=self._bucket, Prefix=name, **marker)
            except ClientError as error:
                denied = answers.code(error) in answers.DENIED
                remedy = "; allow s3:ListBucketVersions and s3:DeleteObjectVersion" if denied else ""
                return Refusal(f"its versions cannot be listed: {answers.reason(error)}{remedy}", final=denied)
            listed = [*said.get("Versions", []), *said.get("DeleteMarkers", [])]
            found += ({"Key": name, "VersionId": each["VersionId"]} for each in listed if each["Key"] == name)
            if not said.get("IsTruncated") or said.get("NextKeyMarker") != name:  # what is left has longer names
                return found
            marker = {"KeyMarker": name, "VersionIdMarker": said["NextVersionIdMarker"]}

    def _delete(self, objects: Sequence[dict[str, str]]) -> tuple[dict[str, Refusal], list[str]]:
        """Delete objects or versions; return those refused, and those of which the bucket hid a version, by key."""
        many = [each for each in objects if self._in_bulk and not _FRAGILE.search(each["Key"])]
        refused, hidden = self._delete_many(many) if many else ({}, [])
        alone = [each for each in objects if not self._in_bulk or _FRAGILE.search(each["Key"])]
        with ThreadPoolExecutor(_HANDS) as hands:
            for each, found in zip(alone, hands.map(self._delete_one, alone), strict=True):
                key = each["Key"][len(self._prefix) :]
                if isinstance(found, Refusal):
                    refused[key] = found
                elif found:
                    hidden.append(key)
        return refused, hidden

    def _delete_many(self, objects: Sequence[dict[str, str]]) -> tuple[dict[str, Refusal], list[str]]:
        try:
            said = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects})
        except ClientError as error:
            if answers.code(error) not in answers.NO_BULK:
                raise
            self._in_bulk = False
            return {}, []
        silent = Refusal("the answer says nothing of it")  # as from an endpoint that is none of S3
        refused = {each["Key"]: silent for each in objects}
        deleted, cut = said.get("Deleted", []), len(self._prefix)
        for each in deleted:
            refused.pop(each.get("Key"), None)
        for each in said.get("Errors", []):
            code, message = each.get("Code", "an error"), each.get("Message", "")
            if code not in answers.GONE:
                refused[each.get("Key", "")] = Refusal(f"{code}: {message}", final=code not in answers.PASSING)
        hidden = [each["Key"][cut:] for each in deleted if each.get("DeleteMarker") and "VersionId" not in each]
        return {name[cut:]: refusal for name, refusal in refused.items()}, hidden

    def _delete_one(self, each: dict[str, str]) -> Refusal | bool:
        """Delete one object or version, and return whether the bucket only hid it, or why it would not go."""
        try:
            said = self._client.delete_object(Bucket=self._bucket, **each)
        except ClientError as error:
            if answers.code(error) in answers.GONE:
                return False
            if answers.code(error) in answers.DENIED:
                return Refusal(answers.reason(error), final=True)
            raise
        return bool(said.get("DeleteMarker")) and "VersionId" not in each

    def _look(self, there: set[str], keys: Sequence[str]) -> dict[str, Refusal]:
        """Add those of the keys under which there is an object, and return of which it is not known."""
        with ThreadPoolExecutor(_HANDS) as hands:
            found = dict(zip(keys, hands.map(self._is_there, keys), strict=True))
        there.update(key for key, known in found.items() if known is True)
        return {key: known for key, known in found.items() if isinstance(known, Refusal)}

    def _is_there(self, key: str) -> bool | Refusal:
        try:
            with self._renamed():
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
            return True
        except StoreError as error:
            if not isinstance(error.__cause__, ClientError):
                raise
            if answers.code(error.__cause__) in answers.GONE | {"404"}:
                return False
            if error.transient:
                return Refusal(str(error))
            raise

    def _name(self, key: str) -> str:
        if why := answers.impossible(key, self._prefix):
            raise StoreError(f"key {key[:200]!r} cannot be used in {self.place}: {why}")
        return self._prefix + key

    @contextmanager
    def _renamed(self) -> Iterator[None]:
        """Rename what boto3 raises in the block: one sentence with the place, what is wrong, and a remedy."""
        try:
            yield
        except ClientError as error:
            code, status = answers.code(error), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            passing = code in answers.PASSING or status >= 500 or status == 429
            what = f"{self.place} at {self._endpoint} answers {error.operation_name} with {answers.reason(error)}"
            raise StoreError(f"{what}{answers.remedy(code, status)}", transient=passing) from error
        except (NoCredentialsError, PartialCredentialsError) as error:
            raise StoreError(
                f"{self.place} cannot be asked: {error}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
            ) from error
        except (Unconnected, HTTPClientError) as error:
            raise StoreError(
                f"{self.place} cannot be reached at {self._endpoint}: {answers.first_line(error)}; see that its"
                " endpoint, or AWS_ENDPOINT_URL_S3, is right, and that it runs",
                transient=True,
            ) from error
        except (BotoCoreError, ResponseParserError) as error:
            what = f"{self.place} at {self._endpoint} cannot be used: {answers.first_line(error)}"
            raise StoreError(f"{what}; see that its endpoint is right, and speaks S3") from error

    @property
    def _endpoint(self) -> str:
        return str(self._client.meta.endpoint_url)


def _with_md5(request: Any, **_: Any) -> None:
    """Add the checksum of a removal that endpoints ask for which are older than the one that boto3 sends."""
    if request.body is not None and "Content-MD5" not in request.headers:
        request.headers["Content-MD5"] = b64encode(md5(request.body, usedforsecurity=False).digest()).decode()
