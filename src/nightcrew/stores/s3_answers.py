"""What S3 and those who speak like it answer, in words: what is gone, what may pass, what is denied."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_LONGEST = 1_024  # bytes of a name

DENIED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"}
GONE = {"NoSuchKey", "NoSuchVersion"}
NO_BULK = {"NotImplemented", "MethodNotAllowed", "501", "405"}
PASSING = {"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown", "Throttling",
            "ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "503", "500"}  # fmt: skip
_REMEDIES = {
    "NoSuchBucket": "make the bucket, or correct its URL",
    "404": "see that its endpoint is right, and speaks S3",
    "InvalidAccessKeyId": "see which credentials are set",
    "SignatureDoesNotMatch": "see which credentials are set",
    "ExpiredToken": "renew the credentials",
    "PermanentRedirect": "set AWS_DEFAULT_REGION to the bucket's region",
    "AuthorizationHeaderMalformed": "set AWS_DEFAULT_REGION to the bucket's region",
    "RequestTimeTooSkewed": "set this machine's clock",
}
_ALLOW = "allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject as they are needed"


def remedy(said: str, status: int) -> str:
    """Return what to do about a code, to be added to a sentence."""
    known = _REMEDIES.get(said, _ALLOW if said in DENIED or status == 403 else "")
    return f"; {known}" if known else ""


def impossible(key: str, prefix: str) -> str | None:
    """Say why no object can have a key, or None."""
    try:
        size = len((prefix + key).encode())
    except UnicodeEncodeError:
        return "it is no text that can be written"
    if not key or "\0" in key:
        return "it is empty" if not key else "it has a NUL in it"
    return f"it has {size:,} bytes, and no name has more than {_LONGEST:,}" if size > _LONGEST else None


def code(error: Any) -> str:
    """Return the word for what is wrong."""
    said, status = error.response.get("Error", {}), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return str(said.get("Code") or status)


def reason(error: Any) -> str:
    """Return the word, and what is said beside it."""
    said = str(error.response.get("Error", {}).get("Message") or "").strip()
    return (code(error) or "an error") + (f": {said[:300]}" if said else "")


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().partition("\n")[0][:300]


def told(said: Mapping[str, Any]) -> datetime | None:
    """Return the clock of whoever answered, if they say."""
    date = said.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
    try:
        return parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return None
