"""Place: what a Redis is called where it may be read by anybody."""

import re
from urllib.parse import urlsplit

from nightcrew.errors import ConfigurationError

_DATABASE = re.compile(r"(/\d*)?")


def redis_place(url: str) -> str:
    """Write the URL of a Redis without user, password and options.

    Raises ConfigurationError, which shows nothing of it, for one that is none: a password with a / in it that is not
    written as %2F makes what comes after it the server, or the database.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", f":{parts.port}" if parts.port else ""
    except ValueError:
        raise ConfigurationError("redis has a URL whose port is no number; write 'redis://localhost:6379/0'") from None
    if parts.scheme == "unix" and parts.path:
        return f"unix://{parts.path}"
    if parts.scheme not in ("redis", "rediss") or not (host or parts.path):
        raise ConfigurationError("redis has no URL of one; write 'redis://localhost:6379/0', or '${REDIS_URL}'")
    if not host or not _DATABASE.fullmatch(parts.path):
        raise ConfigurationError(
            "redis has a URL with more than a host, a port and a database's number; write 'redis://localhost:6379/0',"
            " and in a password / as %2F"
        )
    return f"{parts.scheme}://{host}{port}{parts.path}"
