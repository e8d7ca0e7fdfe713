"""One command per crew verb."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import click

from nightcrew import __version__
from nightcrew.console import line
from nightcrew.console.acts import ACTS
from nightcrew.console.alarms import ALARMS
from nightcrew.console.desk import Desk
from nightcrew.console.exports import base, export
from nightcrew.console.line import JOB, Commands, options, run
from nightcrew.console.mails import mail
from nightcrew.console.screen import outputs
from nightcrew.console.streams import streams
from nightcrew.duration import when
from nightcrew.errors import MissingExtra, UsageError

_HELP = {"help_option_names": ["-h", "--help"]}


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    with outputs():
        code = run(nightcrew, args, Desk())
    sys.exit(code)


@click.group(cls=Commands, invoke_without_command=True, context_settings=_HELP, epilog="Example: nightcrew status")
@options(hidden=False)
@click.version_option(package_name="nightcrew")
@click.pass_context
def nightcrew(ctx: click.Context) -> None:
    """Run, watch and steer the maintenance jobs of a web application."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


command = partial(line.command, of=nightcrew)
for act in (*ACTS.commands.values(), *ALARMS.commands.values(), export, mail, streams):
    nightcrew.add_command(act)


# ── to begin ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@command("nightcrew demo")
@click.option("--database", metavar="URL", help="Any supported URL (default: a new database in a temporary folder).")
@click.option("--uploads", metavar="URL", help="A bucket or folder for files (default: a folder beside the database).")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True)
def demo(desk: Desk, database: str | None, uploads: str | None, host: str, port: int) -> None:
    """Serve the workspace: a small chat application and its jobs."""
    try:
        from nightcrew.demo.serve import serve as serve_demo
    except ModuleNotFoundError as problem:
        raise MissingExtra(f"the demo needs {problem.name}; run: pip install 'nightcrew[demo]'") from None
    desk.settings()
    serve_demo(database=database, uploads=uploads, host=host, port=port)


@command("nightcrew init")
@click.option("--no-database", is_flag=True, help="Look at no database: write the example.")
def init(desk: Desk, *, no_database: bool) -> None:
    """Look at the database, and write a nightcrew.toml to start from."""
    from nightcrew.console.draft import EXAMPLE, drafted

    taken = UsageError(f"{desk.path} is there already; edit it, or name another file with --config")
    if desk.path.exists():
        raise taken
    prospect, why = (None, None) if no_database else desk.prospect()
    try:
        with desk.path.open("x", encoding="utf-8") as file:
            file.write(EXAMPLE if prospect is None else drafted(prospect))
    except FileExistsError:
        raise taken from None
    except OSError as problem:
        raise UsageError(f"{desk.path} cannot be written ({problem.strerror}); name another with --config") from None
    first = "cleanup-pkce" if prospect is None else next((each.job for each in prospect.proposals), "NAME")
    following = [desk.line(words) for words in ("check", f"plan {first}", "serve")]
    if prospect is None:
        desk.screen.talk(f"wrote {desk.path}, an example{f': {why}' if why else ''}")
        desk.screen.talk("set DATABASE_URL, here or in a file .env, then run:")
    else:
        number = len(prospect.proposals)
        found = f"{number:,} proposal{'s' * (number != 1)} for {prospect.tables:,} table{'s' * (prospect.tables != 1)}"
        desk.screen.talk(f"wrote {desk.path}: {found}, none of them enabled; enable those you want, then run:")
    body = {"path": str(desk.path), "next": following, "noDatabase": why}
    desk.screen.show(body | (prospect.json() if prospect else {"proposals": []}), following)


@command("nightcrew migrate --sql > nightcrew.sql")
@click.option("--sql", is_flag=True, help="Only print the statements.")
def migrate(desk: Desk, *, sql: bool) -> None:
    """Bring nightcrew's own tables to this version."""
    with desk.crew() as crew:
        if sql:
            statements = crew.migration()
            desk.screen.show({"sql": statements}, [statements])
            return
        applied = crew.migrate()
    desk.screen.show({"applied": applied}, applied or ["nothing to do: the tables are of this version"])


@nightcrew.group(cls=Commands, epilog="Example: nightcrew secret new")
def secret() -> None:
    """Make a secret for the job routes, or tell two apart."""


@command("export CRON_SECRET=$(nightcrew secret new)", of=secret)
def new(desk: Desk) -> None:
    """Print a new secret: 64 hex digits, safe in every file and shell."""
    import secrets

    made = secrets.token_hex(32)
    desk.screen.show({"secret": made}, [made])


@command("nightcrew secret fingerprint", of=secret)
def fingerprint(desk: Desk) -> None:
    """Print the first 8 hex digits of each secret's digest."""
    from nightcrew.triggers.secret import fingerprint as digits

    settings = desk.settings()
    known = {"CRON_SECRET": settings.secret, "CRON_SECRET_PREVIOUS": settings.previous_secret}
    found = {name: digits(value) if value else None for name, value in known.items()}
    desk.screen.show({"fingerprints": found}, [f"{name:<20}  {value or 'not set'}" for name, value in found.items()])


# ── to look ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@command("nightcrew check --strict")
@click.option("--strict", is_flag=True, help="Ask the database whether erasures leave out a column.")
def check(desk: Desk, *, strict: bool) -> int:
    """Say in words what the configuration means; needs no database."""
    from nightcrew.console import diagnosis, prose

    settings, screen = desk.settings(), desk.screen
    with desk.crew_at_work() if strict else desk.crew() as crew:
        jobs, now = list(crew.jobs.values()), crew.clock.now()
        found = diagnosis.in_short(crew.examine(static=True, folder=desk.folder))
        faults, doubts = prose.faults(crew) + found.problems, prose.doubts(settings, crew) + found.warnings
        if strict:
            faults += [f"job {job!r}: {gap}" for job, gaps in crew.coverage().items() for gap in gaps]
        body = {"jobs": [prose.job(job, now) for job in jobs], "problems": faults, "warnings": doubts}
        lines = [
            *screen.table(["JOB", "WHEN", "NEXT", "WHAT"], [prose.job_line(job, now) for job in jobs]),
            *(f"{screen.paint('✗ problem', 'red')}  {fault}" for fault in faults),
            *(f"{screen.paint('! warning', 'yellow')}  {doubt}" for doubt in doubts),
        ]
    screen.show(body, lines)
    return 1 if faults else 0


@command("nightcrew doctor --only NC3")
@click.option("--only", default="", metavar="CODE", help="The checks whose code begins so.")
@click.option("--probe", metavar="URL", help="The application that is deployed there: the way to it alone.")
def doctor(desk: Desk, only: str, probe: str | None) -> int:
    """Look for what is wrong, and say what to do about it."""
    from nightcrew.checks import probe as probes
    from nightcrew.console import diagnosis

    with desk.crew() as crew:
        if probe is not None:
            results = probes.probe(base(probe, "--probe"), next(iter(crew.jobs), None), crew.settings.secret)
        else:
            results = crew.examine(only, folder=desk.folder)
    if not results:
        raise UsageError(f"no check has a code that begins with {only!r}: 'nightcrew doctor' makes them all")
    desk.screen.show({"checks": [result.json() for result in results]}, diagnosis.lines(results, desk.screen))
    return diagnosis.code(results)


@command("nightcrew jobs")
def jobs(desk: Desk) -> None:
    """List the jobs: when they are due, and what they do."""
    from nightcrew.console import prose

    with desk.crew() as crew:
        found, now = list(crew.jobs.values()), crew.clock.now()
    rows = [prose.job_line(job, now) for job in found]
    desk.screen.show(
        {"jobs": [prose.job(job, now) for job in found]}, desk.screen.table(["JOB", "WHEN", "NEXT", "WHAT"], rows)
    )


@command("nightcrew show cleanup-pkce")
@JOB
def show(desk: Desk, name: str) -> None:
    """Say everything the configuration says of a job."""
    from nightcrew.console import prose, reversal

    with desk.crew() as crew:
        job, now = crew.job_named(name), crew.clock.now()
        archive = reversal.kept(job, crew.archive)
    desk.screen.show(prose.job(job, now), prose.portrait(job, now, archive))


@command("nightcrew next -n 20")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many slots.")
def _next(desk: Desk, number: int) -> None:
    """List the next slots of all jobs; needs no database."""
    from nightcrew.console import prose

    with desk.crew() as crew:
        coming, now = crew.next(number), crew.clock.now()
    desk.screen.show(
        {"next": [{"slot": prose.iso(slot), "job": job.name} for slot, job in coming]},
        desk.screen.table(
            ["SLOT", "IN", "JOB"], [[prose.clock(slot), when(slot, now), job.name] for slot, job in coming]
        ),
    )


@command("nightcrew status")
def status(desk: Desk) -> None:
    """Say whether all is well, then how every job stands."""
    from nightcrew.console import debts, prose
    from nightcrew.verdict import attention, concerns

    with desk.crew_at_work() as crew:
        found, given_up, now = crew.status(), crew.given_up(), crew.clock.now()
        bad = attention(concerns(found, crew.chronicle.missed(), now))
    screen = desk.screen
    rows = [prose.status_line(each, now, screen) for each in found]
    lines = screen.table(["JOB", "WHEN", "LAST", "NEXT", "REMOVED", "BY"], rows)
    body = {"attention": bad, "givenUp": given_up, "jobs": [prose.status(each) for each in found]}
    screen.show(body, [debts.verdict(given_up, screen) or prose.verdict(found, bad, screen), *lines])


@command("nightcrew metrics --textfile /var/lib/node_exporter/nightcrew.prom")
@click.option("--textfile", metavar="FILE", type=click.Path(path_type=Path), help="Write them there, all at once.")
def metrics(desk: Desk, textfile: Path | None) -> None:
    """Tell how every job stands as Prometheus reads it."""
    from nightcrew.listeners.tally import Tally
    from nightcrew.web.exposition import Page
    from nightcrew.web.monitoring import seen

    with desk.crew_at_work() as crew:
        page, token = Page(seen(crew), Tally(), __version__).text(), crew.clock.token()
    if textfile is None:
        text = page.decode()
        desk.screen.show({"metrics": text}, text.splitlines())
        return
    beside = textfile.with_name(f".{textfile.name}.{token}")  # whoever reads meanwhile reads the one before, whole
    try:
        beside.write_bytes(page)
        beside.replace(textfile)
    except OSError as problem:
        beside.unlink(missing_ok=True)
        raise UsageError(f"{textfile} cannot be written ({problem.strerror}); name another with --textfile") from None


@command("nightcrew owed uploads --retry")
@click.argument("store", metavar="[STORE]", required=False)
@click.option("--retry", is_flag=True, help="Let what was given up be tried again.")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many to name.")
def owed(desk: Desk, store: str | None, number: int, *, retry: bool) -> None:
    """Say what is owed to the stores, and what would not go."""
    from nightcrew.console import debts

    with desk.crew_at_work() as crew:
        again = crew.retry(store) if retry else 0
        balances, overdue = crew.owed(store), crew.overdue(store, limit=number)
        now = crew.clock.now()
    body = {"retried": again, "stores": [each.json() for each in balances], "overdue": [one.json() for one in overdue]}
    said = [f"tried again from now on: {again:,}"] if retry else []
    desk.screen.show(body, [*said, *debts.lines(balances, overdue, now, desk.screen)])


@command("nightcrew orphans uploads")
@click.argument("store", metavar="STORE")
def orphans(desk: Desk, store: str) -> None:
    """Look for blobs that no row knows; removes nothing."""
    from nightcrew.console import debts
    from nightcrew.console.progress import shown

    with desk.crew_at_work() as crew, shown(desk.screen, crew) as progress:
        survey, refusal = crew.orphans(store, debts.following(progress, store))
        age = crew.stores.shelves[store].older_than
    body = survey.json() | {"refusal": refusal}
    desk.screen.show(body, debts.findings(survey, refusal, age, desk.screen))


@command("nightcrew runs cleanup-pkce --failed")
@click.argument("name", metavar="[JOB]", required=False)
@click.option("--failed", is_flag=True, help="Only runs that failed or were missed.")
@click.option("-n", "number", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many runs.")
def runs(desk: Desk, name: str | None, number: int, *, failed: bool) -> None:
    """List the newest runs first, of one job or of all."""
    from nightcrew.console import prose

    screen = desk.screen
    with desk.crew_at_work() as crew:
        found, now, known = crew.runs(name, failed=failed, limit=number), crew.clock.now(), crew.jobs
        traces = [line for row in found for line in prose.traces(row, crew)] if screen.verbose else []
    rows = [prose.run_line(row, known.get(row.job), now, screen) for row in found]
    lines = screen.table(["RUN", "STARTED", "ENDED AS", "REMOVED", "TOOK", "BY", "REASON"], rows)
    body = {"runs": [prose.run(row) for row in found]}
    screen.show(body, [*lines, *traces] if rows else [prose.no_runs(failed=failed)])


@command("nightcrew plan cleanup-pkce")
@JOB
def plan(desk: Desk, name: str) -> None:
    """Count what a job would remove now; changes nothing."""
    from nightcrew.console import prospect

    with desk.crew_at_work() as crew:
        drawn, job, archive = crew.plan(name, keep=True), crew.job_named(name), crew.archive
    run = f"run {name} --plan {drawn.id}" if drawn.id else f"run {name} --now"
    desk.screen.show(drawn.json(), [*prospect.lines(drawn, job, desk.screen, archive), f"next: {desk.line(run)}"])


# ── to stay ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@command("nightcrew serve --host 0.0.0.0 --port 8000")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65_535), default=8000, show_default=True)
def serve(desk: Desk, host: str, port: int) -> int:
    """Serve the job routes, and run every slot when it is due."""
    from nightcrew import service

    with desk.crew_at_work(logs=True) as crew:
        return service.serve(crew, host, port, desk.screen.talk)
