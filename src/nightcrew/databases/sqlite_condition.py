"""How a file of SQLite is, and what may be done with it."""

import os
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from nightcrew.condition import Condition, State
from nightcrew.databases.dialect import Relation


def condition(connection: sa.Connection, relations: Mapping[str, Relation]) -> Condition:
    """Ask the file system, and how the file is written."""
    named = connection.exec_driver_sql("SELECT file FROM pragma_database_list WHERE name = 'main'").scalar_one()
    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
    tables = dict.fromkeys(relations, State())
    if not named:
        return Condition("a database in memory", tables=tables)
    file = Path(named).resolve()
    writable = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    why = None if writable else "its file, or the folder of it, may not be written by this user"
    if mode == "wal":
        return Condition(f"file {file}", why, tables=tables)
    says = f"its journal_mode is {mode}: whoever reads waits for whoever writes, and the other way round"
    return Condition(
        f"file {file}", why, tables=tables, advice=((says, f'sqlite3 {file} "PRAGMA journal_mode = WAL;"'),)
    )
