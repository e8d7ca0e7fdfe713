"""Forms: what a browser sends, read within bounds, as text that every database can keep."""

from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

LARGEST = 128 * 1024  # bytes: the longest message, in a script whose every character takes nine on its way
_MOST_FIELDS = 20
_KIND = "application/x-www-form-urlencoded"


async def read(request: Request) -> dict[str, str]:
    """Return the fields of a form; raises HTTPException for a body that none of our pages sends."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _KIND:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The forms here are sent as {_KIND}.")
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise HTTPException(HTTPStatus.LENGTH_REQUIRED, "A form has to say how long it is.")
    if int(length[:9]) > LARGEST:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is more than a form of ours can hold.")
    try:
        body = (await request.body()).decode(errors="replace")
        pairs = parse_qsl(body, keep_blank_values=True, errors="replace", max_num_fields=_MOST_FIELDS)
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The form ended before its end.") from None
    except ValueError:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "No form of ours has that many fields.") from None
    return {plain(name): plain(value) for name, value in pairs}


def plain(text: str) -> str:
    """Return text with its lines ended as browsers count them, and a sign for NUL, which not every database keeps."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
