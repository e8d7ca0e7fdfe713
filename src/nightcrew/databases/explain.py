"""A statement → the planner's word on it, with the values it would run with."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler


class Explain(sa.Executable, sa.ClauseElement):
    """`prefix` (EXPLAIN in the database's own form) before a statement."""

    inherit_cache = False

    def __init__(self, prefix: str, statement: sa.Select[Any]) -> None:
        self.prefix = prefix
        self.statement = statement


@compiles(Explain)
def _explained(element: Explain, compiler: SQLCompiler, **options: Any) -> str:
    return f"{element.prefix} {compiler.process(element.statement, **options)}"
