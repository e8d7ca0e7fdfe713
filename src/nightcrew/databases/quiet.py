"""Whether anybody else wrote while a table was walked page by page, for an update may move a row behind the walk.

PostgreSQL numbers the transactions that write, in every database of the server, as they begin to. When those of a
walk's batches follow each other without a gap, no other is older and still under way when the first begins, and none
is younger when the last has done its work, then nobody else wrote in all that time: what the walk left is what it saw.
Where somebody did, if only elsewhere on the server, there is a gap, and whoever asks has to look again.
"""

from typing import TypeAlias

import sqlalchemy as sa

from nightcrew.database import Cursor
from nightcrew.databases.heap import Heap

Since: TypeAlias = tuple[int, int]
"""The number of the transaction of a walk's first batch, and how many batches there were with this one."""


def still(connection: sa.Connection, heap: Heap, cursor: Cursor) -> Since | None:
    """Count one batch more, before it takes anything; None where somebody else may have written.

    Each batch must have written something by itself, as a lock on its claim does, or its number means nothing.
    """
    if "since" in cursor:
        first, batches = cursor["since"]
        return first, batches + 1
    if cursor:
        return None
    number, alone = connection.execute(heap.writing).one()
    return (number, 1) if alone else None


def stayed(connection: sa.Connection, heap: Heap, since: Since) -> bool:
    """Tell, after the last batch has taken what it takes, whether it was quiet all the time."""
    first, batches = since
    number, alone = connection.execute(heap.writing).one()
    return bool(alone and number == first + batches - 1)
