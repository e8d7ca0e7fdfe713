"""Every screen of the desk, as axe-core judges it by WCAG 2.2 A and AA: by day and by night, wide and narrow."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
import sqlalchemy as sa
from tests import axe, chromium
from tests.browsing import opened, sent, served
from tests.conftest import opened as opened_yard
from tests.desk import answering, past
from tests.tray import KEY, PEOPLE, PREFERENCES, Tray, application, enroll, mail, people, send

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.databases.tables import frames
from nightcrew.databases.tables import jobs as job_table
from nightcrew.mailer import Delivery, Fate
from nightcrew.schedule import every
from nightcrew.stores.memory import Memory

pytestmark = pytest.mark.skipif(
    chromium.PROGRAM is None and "CI" not in os.environ, reason="CHROMIUM IS NOT INSTALLED: no page was tested"
)
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
_ALL = {
    "runOnly": {"type": "tag", "values": _TAGS},
    "rules": {"target-size": {"enabled": True}},
}  # off unless asked for
_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}  # all that night changes
_JUDGED = """axe.run(document, %s).then((found) => ({
  passed: found.passes.map((rule) => rule.id),
  wrong: found.violations.flatMap((rule) => rule.nodes.map((node) =>
    `${rule.id}: ${node.target.join(" ")}: ${node.html.slice(0, 120)}: ${node.failureSummary}`)),
}))"""
_SCREENS = (
    *(
        "tonight",
        "a page of tonight",
        "nothing found",
        "every job stopped",
        "a job of rows",
        "a function",
        "a paused job",
        "a job that is gone",
    ),
    *(
        "a backfill",
        "a plan",
        "a refused plan",
        "a run",
        "a failed run",
        "a run under way",
        "mail",
        "a letter",
        "streams",
    ),
    *(
        "the vault",
        "what is kept",
        "an undo",
        "an undo under way",
        "time over",
        "no archive",
        "doctor",
        "an examination",
        "audit",
        "nothing there",
    ),
)


@pytest.fixture(scope="module")
def screens(tmp_path_factory) -> Iterator[dict[str, tuple[str, str | None]]]:
    """The addresses of screens, in every state that they show; or of the page with the button that leads there."""
    with opened_yard(f"sqlite:///{tmp_path_factory.mktemp('desk')}/yard.db") as yard, _everything(yard) as found:
        yield found


@contextmanager
def _everything(yard: Any) -> Iterator[dict[str, tuple[str, str | None]]]:
    yard.run(PEOPLE, PREFERENCES, "CREATE TABLE drafts (id {number} PRIMARY KEY, created_at {time})")
    yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})")
    yard.fill("people", *people(1, 2, 3))
    yard.fill("notes", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(40)))
    url, go_on = yard.link.engine.url.render_as_string(hide_password=False), Event()
    fates = {"p1@example.com": Fate.MAYBE_SENT, "p2@example.com": Fate.REFUSED}
    tray = Tray(lambda letter: Delivery(fates.pop(letter.recipient.addr_spec, Fate.SENT), "550 no such mailbox"))
    settings = Settings(cloud_deploy=True, unsubscribe_key=KEY)

    def slow(run: Any) -> int:
        run.progress(30, 120)
        run.checkpoint(30)
        go_on.wait(300)
        return 120

    with answering(["harbour"]) as (streams, _):
        rooms = {"mail": mail(tray), "streams": streams, "blobs": {"vault": Memory()}, "archive": "vault"}
        crew, bare = Nightcrew(url, settings=settings, **rooms), Nightcrew(url, settings=settings)
        archived = {"every": "1 day", "max_fraction": 1, "archive": timedelta(days=7)}
        crew.expire("purge-drafts", "drafts", column="created_at", **archived)
        crew.expire("purge-notes", "notes", column="created_at", every="10 minutes", owner="@notes", max_fraction=1)
        crew.expire(
            "purge-all", "notes", column="created_at", every="1 day", max_rows=10, runbook="https://a.example/b"
        )
        crew.add(Job("daily", cron("30 2 * * *", "Europe/Paris"), function=lambda run: 7))
        crew.add(Job("slow", every("1 day"), function=slow))
        for number in range(40):
            crew.add(Job(f"job-{number:02}", every("1 day"), function=lambda run: 7, owner="@platform"))
        crew.migrate()
        crew.status()
        error = "Traceback (most recent call last):\n  File x\nOSError: disk full"
        past(
            crew,
            ("daily", 60, "failed", {"reason": "Job daily failed: disk full", "error": error}),
            ("daily", 1500, "missed", {"trigger": "none"}),
            ("gone", 70, "cancelled"),
            *(("purge-notes", 10 * n, "done") for n in range(1, 60)),
        )
        enroll(crew, application(url), 1, 2)
        send(crew)
        crew.mail.suppress(address="eve@example.com", reason="asked by telephone", by="ada")
        crew.pause("job-00", by="ada", reason="moving house")
        refused, planned = crew.plan("purge-all", keep=True).id, crew.plan("purge-notes", keep=True).id
        taken = crew.run("purge-notes", now=True).run
        kept = []
        for _ in range(2):
            yard.fill("drafts", *({"id": n, "created_at": "2020-01-01 00:00:00"} for n in range(40)))
            kept.append(crew.run("purge-drafts", now=True).run)
        yard.fill("drafts", {"id": 7, "created_at": "2026-01-01 00:00:00"})
        with yard.link.transaction() as connection:
            over = sa.update(frames).where(frames.c.run == kept[0])
            connection.execute(over.values(until=crew.clock.now() - timedelta(minutes=20)))
        working = Thread(target=crew.run, args=("slow",), kwargs={"now": True})
        working.start()
        while not (under_way := [row.id for row in crew.runs("slow") if row.done]):
            time.sleep(0.01)
        with yard.link.transaction() as connection:
            known = sa.update(job_table).where(job_table.c.name == "daily")
            connection.execute(known.values(epoch_at=crew.clock.now() - timedelta(days=3)))
        past_day = f"{crew.clock.now() - timedelta(days=1):%Y-%m-%dT%H:%M}"
        paths = {
            "tonight": "/", "a page of tonight": "/?after=job-05", "nothing found": "/?q=nope",
            "a job of rows": "/jobs/purge-notes", "a function": "/jobs/daily", "a paused job": "/jobs/job-00",
            "a job that is gone": "/jobs/gone", "a plan": f"/plans/{planned}", "a refused plan": f"/plans/{refused}",
            "a run": f"/runs/{taken}", "a failed run": "/runs/daily.00000", "a run under way": f"/runs/{under_way[0]}",
            "the vault": "/vault", "what is kept": f"/vault/{kept[1]}", "time over": f"/vault/{kept[0]}",
            "mail": "/mail", "a letter": "/mail/welcome/day3", "streams": "/streams", "audit": "/audit",
            "doctor": "/doctor",
            "nothing there": "/nope", "a backfill": f"/jobs/daily/backfill?from={past_day}&to={past_day}",
        }  # fmt: skip
        halted = Nightcrew(f"{url}.halted", settings=settings)
        halted.add(Job("daily", every("1 day"), function=lambda run: 7))
        halted.migrate()
        halted.stop_all(by="ada", reason="a fire")
        with served(crew) as address, served(bare) as elsewhere, served(halted) as still:
            found = {name: (f"{address}{path}", None) for name, path in paths.items()}
            found |= {"an examination": (found["doctor"][0], "form[action$='/doctor'] button")}
            found |= {"an undo": (found["what is kept"][0], "form[action$='/look'] button")}
            found |= {"an undo under way": (f"{address}/vault/{kept[1]}?done=begun", None)}
            found |= {"every job stopped": (f"{still}/?done=stopped", None)}
            yield found | {"no archive": (f"{elsewhere}/vault", None)}
        go_on.set()
        working.join()
        bare.close()
        halted.close()
        crew.close()


@pytest.mark.parametrize("screen", _SCREENS)
def test_nothing_on_a_screen_keeps_anybody_out(browser, screens, screen):
    rules, (address, button) = axe.script(), screens[screen]
    for width in (1280, 320):
        tab = opened(browser, address, width=width, height=900)
        if button is not None:
            sent(tab, button)
        tab.value("for (const folded of document.querySelectorAll('details')) folded.open = true")
        tab.value(f"{rules}; 0")
        for dark in (False, True):
            tab.dark(on=dark)
            judged = tab.value(_JUDGED % json.dumps(_COLOURS if dark else _ALL))
            assert judged["wrong"] == [], f"{screen}, {width} wide, {'dark' if dark else 'light'}"
            assert "color-contrast" in judged["passed"]
            assert dark or {"target-size", "document-title", "html-has-lang"} <= {*judged["passed"]}
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.value("wrong") == []
