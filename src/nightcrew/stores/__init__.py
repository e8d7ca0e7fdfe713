"""Where things are kept outside the database: s3 · disk · memory, each of which holds blobs."""

from nightcrew.clock import Clock
from nightcrew.store import BlobStore
from nightcrew.stores.address import address
from nightcrew.stores.disk import Disk
from nightcrew.stores.memory import Memory


def blob_store(url: str, clock: Clock) -> BlobStore:
    """Return the store of blobs at a URL; nobody is asked for it yet.

    Raises ConfigurationError for a URL that cannot be one, MissingExtra where its library is not installed.
    """
    place = address(url)
    if place.kind == "file":
        return Disk(place.place, clock)
    if place.kind == "memory":
        return Memory(clock)
    from nightcrew.stores.s3 import S3  # noqa: PLC0415 - boto3 is an extra

    return S3(place, clock)
