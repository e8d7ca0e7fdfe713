"""A request's worth of a bucket's listing: its objects, or in one that keeps versions every key that has any left."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, TypeAlias

from nightcrew.errors import StoreError
from nightcrew.store import MOST, Blob
from nightcrew.stores import s3_answers as answers

Ask: TypeAlias = Callable[..., dict[str, Any]]
"""A verb of the client that lists, about one bucket."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Blobs by their names in the bucket, whether there are more after them, and the clock of whoever answered."""

    blobs: tuple[Blob, ...]
    more: bool
    at: datetime | None

    def demand_order(self, after: str | None) -> "Listed":
        """Return it; raises StoreError where names do not grow, so that nobody can go on with a listing."""
        names = [after or "", *(blob.key for blob in self.blobs)]
        if any(one >= other for one, other in pairwise(names) if one):
            raise StoreError("it lists its objects in no order, so that nobody can go on with a listing")
        return self


def objects(ask: Ask, prefix: str, after: str | None, most: int) -> Listed:
    """List objects whose names begin with a prefix and come after one."""
    asked = {"StartAfter": after} if after else {}
    said = _answered(ask(Prefix=prefix, MaxKeys=min(most, MOST), **asked))
    blobs = (Blob(each["Key"], each["Size"], each["LastModified"].astimezone(UTC)) for each in said.get("Contents", []))
    return Listed(tuple(blobs), said["IsTruncated"], answers.told(said)).demand_order(after)


def versions(ask: Ask, prefix: str, after: str | None) -> Listed:
    """List all that has a version or a delete marker, which also what was hidden has; sizes are of all versions."""
    marker = {"KeyMarker": after} if after else {}
    found: dict[str, Blob] = {}
    while True:
        said = _answered(ask(Prefix=prefix, MaxKeys=MOST, **marker))
        for each in [*said.get("Versions", []), *said.get("DeleteMarkers", [])]:
            one = Blob(each["Key"], each.get("Size", 0), each["LastModified"].astimezone(UTC))
            found[one.key] = _together(found.get(one.key, one), one)
        # Some begin with the marker's own key, others after it.
        names, more = sorted(name for name in found if name > (after or "")), said["IsTruncated"]
        if more and len(names) <= 1:  # so many versions has one key
            marker = {"KeyMarker": said["NextKeyMarker"], "VersionIdMarker": said["NextVersionIdMarker"]}
            continue
        whole = names[:-1] if more else names  # of the last there may be more
        return Listed(tuple(found[name] for name in whole), more, answers.told(said)).demand_order(after)


def _together(one: Blob, other: Blob) -> Blob:
    size = one.size if one is other else one.size + other.size
    return Blob(one.key, size, max(one.modified_at, other.modified_at))


def _answered(said: dict[str, Any]) -> dict[str, Any]:
    if "IsTruncated" not in said:  # as from a web server that has a page for everything
        raise StoreError("it lists nothing; see that its endpoint speaks S3")
    return said
