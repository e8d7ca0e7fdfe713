"""The pictures of the desk in docs/pictures: a crew with an invented past, in Chromium: `make pictures`."""

import base64
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import sqlalchemy as sa
import uvicorn
from tests import chromium
from tests.browsing import sent

from nightcrew import Job, Nightcrew, Settings, cron
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table
from nightcrew.schedule import every
from nightcrew.stores.memory import Memory

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
SHOTS = {"tonight": "/", "job": "/jobs/fetch-exchange-rates"}
TABLES = (
    "CREATE TABLE oauth_states (id INTEGER PRIMARY KEY, expires_at DATETIME)",
    "CREATE INDEX ix_oauth_states_expires_at ON oauth_states (expires_at)",
    "CREATE TABLE chats (id INTEGER PRIMARY KEY, created_at DATETIME)",
    "CREATE INDEX ix_chats_created_at ON chats (created_at)",
    "CREATE TABLE messages (id INTEGER PRIMARY KEY, chat_id INTEGER REFERENCES chats (id) ON DELETE CASCADE)",
    "CREATE INDEX ix_messages_chat_id ON messages (chat_id)",
    "CREATE TABLE users (id INTEGER PRIMARY KEY, email VARCHAR UNIQUE, deactivated_at DATETIME)",
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY, user_id INTEGER REFERENCES users (id) ON DELETE CASCADE)",
    "CREATE INDEX ix_sessions_user_id ON sessions (user_id)",
    """INSERT INTO users SELECT i, 'user' || i || '@acme.example', '2026-01-01 00:00:00' FROM
    (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 44) SELECT i FROM n)""",
    """INSERT INTO sessions (user_id) SELECT 1 + i % 44 FROM
    (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 310) SELECT i FROM n)""",
    "CREATE TABLE audit_trail (id INTEGER PRIMARY KEY, at DATETIME)",
    """INSERT INTO chats (created_at) SELECT '2026-01-01 00:00:00' FROM
    (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 41200) SELECT i FROM n)""",
)
TRACE = """Traceback (most recent call last):
  File "/srv/acme/jobs.py", line 41, in fetch_exchange_rates
    got = client.get("https://rates.example/latest", timeout=30)
httpx.ConnectTimeout: rates.example:443 did not answer in 30 s"""


def main() -> None:
    """Take every picture, by day and by night."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        crew = hired(f"sqlite:///{folder}/acme.db")
        lived(crew)
        drawn = crew.plan("delete-empty-chats", keep=True)
        shots = SHOTS | {"plan": f"/plans/{drawn.id}", "undo": f"/vault/{removed(crew)}"}
        with served(crew) as base, chromium.running() as browser:
            for name, path in shots.items():
                for dark in (False, True):
                    taken(browser, f"{base}{path}", PICTURES / f"{name}-{'dark' if dark else 'light'}.png", dark=dark)
        crew.close()


def hired(url: str) -> Nightcrew:
    """Return a crew with jobs of every kind."""

    def fetch_exchange_rates(_run: Any) -> int:
        """Fetches the day's rates."""
        return 0

    fetch_exchange_rates.__module__, fetch_exchange_rates.__qualname__ = "acme.jobs", "fetch_exchange_rates"
    settings = Settings(archive_key="ab" * 32)
    crew = Nightcrew(url, settings=settings, blobs={"vault": Memory()}, archive="vault")
    old = {"older_than": timedelta(minutes=15), "unless_exists": ["messages.chat_id"], "max_rows": 5_000}
    crew.expire("clean-oauth-states", "oauth_states", column="expires_at", every="10 minutes", owner="@identity")
    crew.expire("delete-empty-chats", "chats", column="created_at", schedule="0 */12 * * *", owner="@chat", **old)
    crew.expire(
        "delete-deactivated-users", "users", column="deactivated_at", schedule="0 0 1 * *", owner="@identity",
        older_than=timedelta(days=30), archive=timedelta(days=7), max_fraction=1,
    )  # fmt: skip
    crew.expire(
        "trim-audit-trail", "audit_trail", column="at", schedule="30 2 * * *", timezone="Europe/Istanbul",
        older_than=timedelta(days=365), owner="@platform",
    )  # fmt: skip
    for name, when, owner in (
        ("fetch-exchange-rates", cron("5 * * * *"), "@billing"),
        ("send-invoices", cron("0 9 * * 1-5", "Europe/Berlin"), "@billing"),
        ("rebuild-search-index", cron("15 3 * * *"), "@search"),
        ("sync-crm", every("30 minutes"), "@growth"),
    ):
        crew.add(Job(name, when, function=fetch_exchange_rates, owner=owner))
    return crew


def lived(crew: Nightcrew) -> None:
    """Give it nine days that were not all quiet."""
    crew.migrate()
    crew.status()
    chance, now = random.Random(4), datetime.now(UTC)
    rows = [
        {
            "job": job.name,
            "slot": slot,
            **ended(job.name, now - slot, latest=job.schedule.latest(now) == slot, by=chance),
        }
        for job in crew.jobs.values()
        for slot in job.schedule.between(now - timedelta(days=9), now, 20_000)
        if not (job.name == "sync-crm" and now - slot < timedelta(hours=10))
    ]
    for row in rows:
        row["moment"] = row["slot"] + timedelta(seconds=chance.uniform(0.01, 1))
        row["finished_at"] = row["moment"] + timedelta(seconds=row.pop("took"))
        row["id"] = f"{row['job']}.{row['slot']:%Y%m%dT%H%M%SZ}"
    same = {"caller": None, "attempt": 1, "fence": 1, "owner": "web-1", "counts": {}, "reason": None, "error": None}
    with crew._station.link.transaction() as connection:
        for statement in TABLES:
            connection.exec_driver_sql(statement)
        connection.execute(sa.insert(run_table), [same | row for row in rows])
        for name, job in crew.jobs.items():
            mark = {"mark": job.schedule.latest(now), "epoch_at": now - timedelta(days=9)}
            connection.execute(sa.update(job_table).where(job_table.c.name == name).values(mark))
    until = (now + timedelta(hours=14)).replace(minute=0, second=0)
    crew.pause("sync-crm", by="ada", reason="the CRM moves to another region; ask @growth first", until=until)


def removed(crew: Nightcrew) -> str:
    """Let a run take deactivated users, of whom one has signed up again since; return it."""
    run = crew.run("delete-deactivated-users", now=True).run
    with crew._station.link.transaction() as connection:
        connection.exec_driver_sql("INSERT INTO users VALUES (45, 'user7@acme.example', NULL)")
    return run


def ended(job: str, age: timedelta, *, latest: bool, by: random.Random) -> dict[str, Any]:
    """Say how one run of a job ended."""
    done = {
        "state": "done",
        "trigger": by.choice(["ticker", "ticker", "http"]),
        "deleted": 0,
        "took": by.uniform(0.2, 2),
    }
    if job == "clean-oauth-states":
        done |= {"deleted": max(0, int(by.gauss(9, 4)))}
    elif job == "trim-audit-trail":
        done |= {"deleted": int(by.gauss(30_000, 4_000)), "took": 900, "state": "partial" if age.days == 2 else "done"}
    elif job == "delete-empty-chats" and not latest:
        done |= {"deleted": int(by.gauss(900, 110)), "took": 3}
    elif job == "delete-empty-chats":
        why = "it would take 41,200 rows of chats, and more than 5,000 are not taken unasked"
        done |= {"state": "failed", "reason": f"Job {job} was refused: {why}; nothing was removed", "error": why}
    elif job == "fetch-exchange-rates" and timedelta(hours=5) < age < timedelta(hours=8):
        reason = f"Job {job} failed: ConnectTimeout: rates.example:443 did not answer in 30 s"
        done |= {"state": "failed", "took": 30, "reason": reason, "error": TRACE}
    elif job == "rebuild-search-index" and age < timedelta(days=1):
        done |= {"state": "missed", "trigger": "none", "reason": "nobody was there to run it", "took": 0}
    return done


@contextmanager
def served(crew: Nightcrew) -> Iterator[str]:
    """Serve its desk."""
    desk = crew.dashboard(lambda _request: ("all", "ada"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(desk, log_level="critical"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def taken(browser: chromium.Chromium, address: str, file: Path, *, dark: bool) -> None:
    """Take a picture of a page, as high as it is and not much higher than a screen."""
    tab = browser.tab(address, width=1280, height=900)
    tab.dark(on=dark)
    tab.reload()
    if tab.value("!!document.querySelector('form[action$=\"/look\"]')"):
        sent(tab, "form[action$='/look'] button")
    height = min(tab.call("Page.getLayoutMetrics")["cssContentSize"]["height"], 1450)
    clip = {"x": 0, "y": 0, "width": 1280, "height": height, "scale": 1}
    shot = tab.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
    file.write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
