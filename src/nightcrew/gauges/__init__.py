"""What an application lets hold a sweep back: a question in SQL, a file, a URL, a function of its own."""

from nightcrew.database import Database
from nightcrew.gauge import Hook, Source
from nightcrew.gauges.file import File
from nightcrew.gauges.function import Function
from nightcrew.gauges.http import Http
from nightcrew.gauges.sql import Sql


def source(hook: Hook, database: Database) -> Source:
    """Return what reads a hook."""
    name = str(hook)
    if not isinstance(hook.of, str):
        return Function(name, hook.of)
    if hook.kind == "sql":
        return Sql(name, hook.of, database)
    return File(name, hook.of) if hook.kind == "file" else Http(name, hook.of)
