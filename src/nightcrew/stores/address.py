"""Where a store of blobs is: what its URL says, read without asking anybody."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from nightcrew.errors import ConfigurationError, did_you_mean

KINDS = ("s3", "file", "memory")
_EXAMPLES = "'s3://bucket/prefix', 'file:///srv/uploads' or 'memory://'"
_BUCKET = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{1,254}$")
_OPTIONS = ("endpoint", "profile", "region")


@dataclass(frozen=True, slots=True)
class Address:
    """A bucket or a folder, the prefix that all its keys have there, and options by name."""

    kind: str
    place: str = ""
    prefix: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Write it as a URL, without its options."""
        return f"{self.kind}://{self.place}" + (f"/{self.prefix.rstrip('/')}" if self.prefix else "")


def address(url: str) -> Address:
    """Read a store's URL; raises ConfigurationError for one that cannot be one."""
    scheme, parted, rest = url.strip().partition("://")
    if not parted or scheme.lower() not in KINDS:
        raise ConfigurationError(f"url {_shown(url)} is no place of blobs; write {_EXAMPLES}")
    kind = scheme.lower()
    if kind == "s3":
        return _bucket(url, rest)
    if kind == "file":
        return Address(kind, _folder(url, rest))
    if rest.strip("/"):
        raise ConfigurationError(f"url {_shown(url)} names a place in memory, which has none; write 'memory://'")
    return Address(kind)


def place(url: str) -> str:
    """Return a store's URL if it can be one; raises ConfigurationError."""
    address(url)
    return url


def _bucket(url: str, rest: str) -> Address:
    path, _, query = rest.partition("?")
    bucket, _, prefix = path.partition("/")
    if "@" in bucket:
        raise ConfigurationError(
            "url s3://… has credentials in it (they are not shown): leave them to AWS_ACCESS_KEY_ID and"
            " AWS_SECRET_ACCESS_KEY, or to a profile"
        )
    if not _BUCKET.match(bucket):
        raise ConfigurationError(f"url {_shown(url)} names no bucket; write 's3://acme-uploads'")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name, value in options.items():
        if name not in _OPTIONS:
            raise ConfigurationError(f"url {_shown(url)} has no option {name!r}{did_you_mean(name, _OPTIONS)}")
        if name == "endpoint":
            _check_endpoint(value)
    prefix = unquote(prefix).strip("/")
    return Address("s3", bucket, f"{prefix}/" if prefix else "", options)


def _check_endpoint(value: str) -> None:
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1)
    except ValueError:
        good = False
    if not good or "@" in value:
        raise ConfigurationError("the endpoint of url s3://… is no URL; write endpoint=https://minio.example.com:9000")


def _folder(url: str, rest: str) -> str:
    path = unquote(rest)
    if not path.startswith("/") or not path.strip("/") or "\0" in path:
        raise ConfigurationError(f"url {_shown(url)} names no whole path of a folder; write 'file:///srv/uploads'")
    return path.rstrip("/")


def _shown(url: str) -> str:
    """Show a URL without what may be secret in it."""
    scheme, parted, rest = url.partition("://")
    bare = f"{scheme}{parted}{rest.rpartition('@')[2]}".partition("?")[0]
    return repr(bare if len(bare) <= 60 else f"{bare[:59]}…")
