"""A call that ends while it looks for what it left behind says that it does not know, and never that it is nothing."""

from datetime import timedelta

import sqlalchemy as sa

from nightcrew import Nightcrew, Settings

ROWS, KEPT = 6_000, 5_000


def test_what_was_not_looked_at_is_not_told_as_nothing(server_yard, monkeypatch):
    monkeypatch.setattr("nightcrew.sweep._STRETCH", 500)  # a call ends in the first of many
    yard = server_yard
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, at {time} NOT NULL, keep {number})")
    yard.run("CREATE INDEX notes_at ON notes (at)")
    times = (timedelta(days=9, seconds=-n) for n in range(ROWS))
    yard.fill("notes", *({"id": n, "at": at, "keep": int(n < KEPT)} for n, at in enumerate(times)))
    crew = Nightcrew(yard.link.engine.url.render_as_string(hide_password=False), settings=Settings())
    terms = {"older_than": timedelta(days=1), "every": "1 hour", "pace": "fast", "max_fraction": 1}
    crew.expire("sweep", "notes", column="at", where="keep = 0", **terms)
    crew.migrate()
    with yard.link.engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        other.execute(sa.text(f"UPDATE notes SET keep = 0 WHERE id = {ROWS - 1}"))
        reports = (crew.run("sweep", trigger="http", deadline=timedelta(0)) for _ in range(100))
        last = next(report for report in reports if report.outcome != "partial")
    assert (last.outcome, last.remaining, yard.ids("notes")[KEPT:]) == ("succeeded", None, [ROWS - 1])
    assert "whether more stayed is not known (deadline reached)" in last.message
    crew.close()
