"""The night desk: each table's size, each job's last and next run, Run now, and the time machine."""

from datetime import timedelta

from sqlalchemy import func, literal, select, union_all
from starlette.exceptions import HTTPException
from starlette.responses import Response

from nightcrew.demo import timemachine
from nightcrew.demo.desk import Duty, caller, mark
from nightcrew.demo.paper import counted, length_of
from nightcrew.demo.schema import TABLES
from nightcrew.demo.visit import Visit, Way
from nightcrew.errors import NightcrewError
from nightcrew.outcome import Outcome

LEAPS = {
    "15-minutes": ("15 minutes later", timedelta(minutes=15)),
    "1-day": ("1 day later", timedelta(days=1)),
    "3-days": ("3 days later", timedelta(days=3)),
    "31-days": ("31 days later", timedelta(days=31)),
}
_KINDS = {Outcome.SUCCEEDED: "good", Outcome.FAILED: "bad", Outcome.REFUSED: "bad"}


def show(visit: Visit) -> Response:
    """Show the desk."""
    duties, desk = visit.workspace.desk.duties(), visit.workspace.desk
    sizes = _sizes(visit)
    with visit.workspace.data.reading() as connection:
        travelled = timemachine.travelled(connection)
    return visit.page(
        "night.html",
        duties=duties,
        mark=mark,
        caller=caller,
        waiting=sum(duty.due or 0 for duty in duties if duty.table),
        tables=[(table.name, table.info["about"], sizes[table.name], _due_in(duties, table.name)) for table in TABLES],
        largest=max(sizes.values()) or 1,
        total=sum(sizes.values()),
        leaps=LEAPS,
        travelled=travelled,
        ticking=desk.ticking,
        base=str(visit.request.base_url).rstrip("/"),
    )


def run(visit: Visit) -> Response:
    """Run one job now and say what it did."""
    name = visit.form.get("job", "")
    if not visit.workspace.desk.knows(name):
        raise HTTPException(404, "There is no such job.")
    try:
        report = visit.workspace.desk.run(name)
    except NightcrewError as error:
        return visit.go(f"/night#{name}", "bad", str(error))
    return visit.go(f"/night#{name}", _KINDS.get(report.outcome, "quiet"), report.message)


def travel(visit: Visit) -> Response:
    """Move the data into the past and say what is due because of it."""
    leap = LEAPS.get(visit.form.get("leap", ""))
    if leap is None:
        raise HTTPException(422, "The time machine has no such button.")
    before = visit.workspace.desk.due()
    moved = timemachine.travel(visit.workspace.data, leap[1], timemachine.MAIL)
    after = visit.workspace.desk.due()
    newly = {name: rows - before.get(name, 0) for name, rows in after.items()}
    named = ", ".join(f"{rows} for {name}" for name, rows in newly.items() if rows > 0)
    due = f"Newly due: {named}." if named else "Nothing became due by it."
    said = f"{leap[0]}. {counted(moved, 'row')} moved {length_of(leap[1])} into the past. {due}"
    return visit.go("/night", "quiet", said)


def tick(visit: Visit) -> Response:
    """Switch the ticker on or off."""
    visit.workspace.desk.switch(on=visit.form.get("switch") == "on")
    return visit.go("/night#jobs")


def _sizes(visit: Visit) -> dict[str, int]:
    sizes = [select(literal(table.name), func.count()).select_from(table) for table in TABLES]
    with visit.workspace.data.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(union_all(*sizes))}


def _due_in(duties: list[Duty], table: str) -> list[tuple[str, int]]:
    """Return which jobs would take how many rows of a table now."""
    found = []
    for duty in duties:
        rows = duty.due if duty.table == table else duty.along.get(table)
        if rows:
            found.append((duty.name, rows))
    return found


WAYS = (
    Way("GET", "/", show, open=True),
    Way("GET", "/night", show, open=True),
    Way("POST", "/night/run", run, open=True, page="/night"),
    Way("POST", "/night/travel", travel, open=True, page="/night"),
    Way("POST", "/night/ticker", tick, open=True, page="/night"),
)
