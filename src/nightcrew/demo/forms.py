"""Forms: what a browser sends, read within bounds, as text that every database can keep, and files beside it."""

import re
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from nightcrew.demo.files import LARGEST as LARGEST_FILES
from nightcrew.demo.files import Upload, upload

LARGEST = 128 * 1024  # bytes: the longest message, in a script whose every character takes nine on its way
LARGEST_WITH_FILES = (
    3 * LARGEST_FILES
)  # beyond what is kept: a little too much is refused on the page, which keeps the words
_MOST_FIELDS = 80  # a page of chats, or of files, each of which may be chosen
_MOST_FILES = 1000  # more than are kept, too
_UNKEPT = re.compile("[\0\ud800-\udfff]")
_KIND = "application/x-www-form-urlencoded"
_KIND_WITH_FILES = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form, and the files that came with them."""

    fields: dict[str, str] = field(default_factory=dict)
    files: tuple[Upload, ...] = ()


async def read(request: Request, *, files: bool = False) -> Form:
    """Return a form, with its files where there may be some; raises HTTPException for what none of our pages sends."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    many = files and kind == _KIND_WITH_FILES
    if not many and kind != _KIND:
        raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"The forms here are sent as {_KIND}.")
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise HTTPException(HTTPStatus.LENGTH_REQUIRED, "A form has to say how long it is.")
    if int(length[:9]) > (LARGEST_WITH_FILES if many else LARGEST):
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "That is more than a form of ours can hold.")
    try:
        return await (_parts(request) if many else _pairs(request))
    except ClientDisconnect:
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The form ended before its end.") from None


async def _pairs(request: Request) -> Form:
    body = (await request.body()).decode(errors="replace")
    try:
        pairs = parse_qsl(body, keep_blank_values=True, errors="replace", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "No form of ours has that many fields.") from None
    return Form({plain(name): plain(value) for name, value in pairs})


async def _parts(request: Request) -> Form:
    fields, files = {}, []
    bounds = {"max_files": _MOST_FILES, "max_fields": _MOST_FIELDS, "max_part_size": LARGEST_WITH_FILES}
    async with request.form(**bounds) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[plain(name)] = plain(value)
            elif value.filename:  # a browser sends a nameless one where none was chosen
                files.append(upload(value.filename, value.content_type or "", await value.read()))
    return Form(fields, tuple(files))


def plain(text: str) -> str:
    """Return text with its lines ended as browsers count them, and a sign for what not every database, or page, keeps.

    That is NUL, and half of a pair of UTF-16, which a form in another encoding than ours may bring.
    """
    return _UNKEPT.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))
