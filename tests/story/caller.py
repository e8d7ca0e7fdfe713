"""One of many processes that race for the same slots: told by lines on standard input, it answers on standard output.

usage: caller.py URL KIND, with KIND one of ticker, http, cli
"""

import asyncio
import contextlib
import io
import json
import random
import sys
import time

import sqlalchemy as sa

from nightcrew import Job, Nightcrew, Settings, every

SECRET = "a-secret-for-the-race-only"
JOBS = 30  # slots of one round


def crew_of_round(url: str, number: int) -> Nightcrew:
    """Return a crew whose jobs each write one row of effect a run, with the run's id."""
    crew = Nightcrew(url, settings=Settings(secret=SECRET))
    effects = sa.table("effects", sa.column("run"))

    def work(run):
        with crew._station.link.transaction() as connection:
            connection.execute(sa.insert(effects).values(run=run.id))
        run.count()

    for index in range(JOBS):
        crew.add(Job(f"round-{number}-job-{index}", every("1 day"), function=work))
    return crew


def tick(crew: Nightcrew) -> list[str]:
    """Let the in-process thread look a few times."""
    crew.start()
    time.sleep(1.5)
    crew.stop()
    return []


def http(crew: Nightcrew) -> list[str]:
    """Call every job's route, as an outside scheduler does."""

    async def call(path: str) -> str:
        sent = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"authorization", f"Bearer {SECRET}".encode()), (b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
        }

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        await crew.asgi(scope, receive, send)
        assert sent[0]["status"] == 200, sent
        return json.loads(sent[1]["body"])["outcome"]

    async def call_all() -> list[str]:
        jobs = random.sample(sorted(crew.jobs), len(crew.jobs))
        return [await call(f"/api/internal/jobs/{name}") for name in jobs]

    return asyncio.run(call_all())


def cli(crew: Nightcrew) -> list[str]:
    """Run every job by command."""
    from nightcrew import cli as command

    sys.modules["race_app"] = type(sys)("race_app")
    sys.modules["race_app"].crew = crew
    outcomes = []
    for name in random.sample(sorted(crew.jobs), len(crew.jobs)):
        said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            command.main(["--app", "race_app:crew", "--json", "run", name])
        said.seek(0)
        outcomes.append(json.loads(said.read())["outcome"])
    return outcomes


def main() -> None:
    url, kind = sys.argv[1:]
    print("ready", flush=True)
    for line in sys.stdin:
        crew = crew_of_round(url, int(line))
        outcomes = {"ticker": tick, "http": http, "cli": cli}[kind](crew)
        crew.close()
        print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    main()
