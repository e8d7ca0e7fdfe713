"""The desk over HTTP: who sees what, who may do what, and what a page says of what is in the database."""

import asyncio
import hmac
import re
import sqlite3
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from tests.desk import Browser, hired, letting_in, past, staffed, words

from nightcrew import Job, service
from nightcrew.databases.tables import jobs as job_table
from nightcrew.databases.tables import runs as run_table
from nightcrew.errors import ConfigurationError
from nightcrew.schedule import every
from nightcrew.web.dashboard.access import Permission
from nightcrew.web.dashboard.app import WAYS, Dashboard
from nightcrew.web.dashboard.password import CHALLENGE, by_password
from nightcrew.web.dashboard.request import Request

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202etxt.exe\u2066\x1b[31m"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


@pytest.fixture
def crew(yard):
    with staffed(yard) as crew:
        yield crew


@pytest.fixture
def browser(crew):
    return Browser(crew.dashboard(letting_in("all")), "/ops/nightcrew")


# ── who is let in ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_desk_that_nobody_guards_does_not_start_outside_of_development(tmp_path):
    for environment in ("production", "test"):
        crew = hired(f"sqlite:///{tmp_path}/x.db", environment)
        with pytest.raises(ConfigurationError, match=r"authorize=.*or set NIGHTCREW_ENV=development"):
            crew.dashboard()


def test_in_development_an_unguarded_desk_is_open_to_this_machine_alone(tmp_path):
    crew = hired(f"sqlite:///{tmp_path}/x.db", "development")
    desk = crew.dashboard()
    assert "developer" in words(Browser(desk, host="localhost:8000").open("/"))
    for browser in (Browser(desk, host="evil.example"), Browser(desk, client=("192.0.2.7", 1), host="localhost")):
        assert browser.ask("GET", "/").status_code == 401
    proxied = Browser(desk, host="localhost").ask("GET", "/", headers={"X-Forwarded-For": "203.0.113.9"})
    assert proxied.status_code == 401
    crew.close()


PAGES = [
    "/",
    "/jobs/daily",
    "/jobs/nope",
    "/runs/x",
    "/plans/x",
    "/vault",
    "/vault/x",
    "/mail",
    "/streams",
    "/doctor",
    "/audit",
    "/static/desk.css",
    "/x",
]
ADDRESSES = [
    *(("GET", path) for path in PAGES),
    *(("POST", f"/jobs/daily/{act}") for act in ("plan", "run", "pause", "resume", "backfill")),
    *(
        ("POST", path)
        for path in (
            "/runs/x/cancel",
            "/plans/x/run",
            "/stop-all",
            "/resume-all",
            "/vault/x/undo",
            "/mail/retry",
            "/streams/stop",
            "/doctor",
            "/",
        )
    ),
    ("HEAD", "/"),
    ("DELETE", "/jobs/daily"),
]


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_whoever_is_not_let_in_sees_nothing_not_even_what_there_is(tmp_path, method, path):
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    answer = Browser(crew.dashboard(letting_in(None))).ask(method, path)
    assert (answer.status_code, answer.text) == (401, "" if method == "HEAD" else "Unauthorized.")
    assert not (tmp_path / "x.db").exists(), "nobody has asked the database"
    assert "set-cookie" not in answer.headers
    assert answer.headers["www-authenticate"] == 'Bearer realm="nightcrew"'


def test_whoever_decides_may_be_async_and_sees_the_request_with_what_middleware_put_there(tmp_path):
    crew, seen = hired(f"sqlite:///{tmp_path}/x.db"), []

    async def authorize(request: Request):
        seen.append((request.method, request.path, request.headers["host"], request.cookies, request.root))
        return {"pause"}, "grace"

    browser = Browser(crew.dashboard(authorize), "/desk")
    browser.cookies["session"] = "s3cr3t"
    page = browser.open("/audit")
    assert seen == [("GET", "/audit", "desk.test", {"session": "s3cr3t"}, "/desk")]
    assert "grace pause" in words(page)
    crew.close()


@pytest.mark.parametrize("granted", ["admin", {"rnu"}, ["run"], True, ("all", ""), ("all", None)])
def test_an_answer_that_means_nothing_lets_nobody_in_and_is_told(tmp_path, granted):
    told = []
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    crew.listen(told.append)
    answer = Browser(crew.dashboard(lambda _request: granted)).ask("GET", "/")
    assert answer.status_code == 500
    assert "admin" not in answer.text
    (entry,) = told
    assert entry.kind == "http_error"
    assert "authorize" in str(entry.facts["error"])


# ── who may do what ──────────────────────────────────────────────────────────────────────────────────────────────────

ACTS = [way for way in WAYS if way.method == "POST"]
GRANTS = ["read_only", *({each} for each in Permission), "all"]


def test_every_act_needs_a_permission():
    assert all(way.permission for way in ACTS)
    assert {way.permission for way in ACTS} | {Permission.ACK} == set(Permission)


@pytest.fixture
def quick(sqlite_yard):
    """A crew on the quickest database, for what no database has a part in."""
    sqlite_yard.run("CREATE TABLE notes (id {number} PRIMARY KEY, created_at {time})")
    crew = hired(sqlite_yard.link.engine.url.render_as_string(hide_password=False))
    crew.migrate()
    crew.status()
    yield crew
    crew.close()


@pytest.mark.parametrize("grant", GRANTS, ids=str)
def test_each_route_answers_who_may_and_nobody_else(quick, grant):
    browser = Browser(quick.dashboard(letting_in(grant)))
    may = set(Permission) if grant == "all" else set() if grant == "read_only" else grant
    past(quick, ("daily", 5, "done"))
    plan = quick.plan("purge-notes", keep=True).id
    page = browser.open("/jobs/purge-notes")
    browser.open("/")
    browser.open(f"/plans/{plan}")
    browser.open("/runs/daily.00000")
    browser.open("/audit")
    for act, needed in (("plan", "plan"), ("run", "run"), ("pause", "pause")):
        assert (f'action="/jobs/purge-notes/{act}"' in page) == (needed in may), "no button that does nothing"
    for way in ACTS:
        path = way.path.format(job="daily", run="daily.00000", plan=plan)
        answer = browser.ask("POST", path, data={"reason": "so", "seal": "wrong"})
        assert answer.status_code == 403
        said = "This form is not from a page" if way.permission in may else f"ada may not {way.permission} here"
        assert said in words(answer.text)
    assert quick.acts.newest() == []
    assert [row.id for row in quick.runs()] == ["daily.00000"]


@pytest.mark.parametrize("harm", ["no seal", "another's seal", "no cookie", "another site", "another actor"])
def test_a_form_that_is_not_ours_changes_nothing(quick, harm):
    desk = quick.dashboard(lambda request: ("all", request.headers.get("x-actor", "ada")))
    browser = Browser(desk)
    seal = re.search(r'name="seal" value="([0-9a-f]+)"', browser.open("/jobs/daily"))[1]
    given, headers = {"seal": seal, "reason": "so"}, {}
    match harm:
        case "no seal":
            del given["seal"]
        case "another's seal":
            given["seal"] = re.search(r'name="seal" value="([0-9a-f]+)"', Browser(desk).open("/jobs/daily"))[1]
        case "no cookie":
            browser.cookies.clear()
        case "another site":
            headers["Sec-Fetch-Site"] = "cross-site"
        case "another actor":
            headers["X-Actor"] = "mallory"
    answer = browser.ask("POST", "/jobs/daily/pause", data=given, headers=headers)
    assert answer.status_code == 403
    assert not quick.status("daily")[0].paused
    good = Browser(desk)
    assert good.send("/jobs/daily", "/pause", reason="so") == "/jobs/daily?done=paused"


def test_what_no_form_holds_is_refused(quick):
    browser = Browser(quick.dashboard(letting_in("all")))
    assert browser.ask("POST", "/jobs/daily/pause", data={"reason": "x" * 20_000}).status_code == 413
    assert browser.ask("POST", "/jobs/daily/pause", content=b"&".join(b"a=1" for _ in range(100))).status_code == 403


def test_another_method_is_told_which_ones_there_are(quick):
    browser = Browser(quick.dashboard(letting_in("all")))
    pages = ("POST", "/", "GET, HEAD"), ("GET", "/jobs/daily/run", "POST"), ("PUT", "/audit", "GET, HEAD")
    for method, path, allowed in pages:
        answer = browser.ask(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


# ── what every answer has ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["/", "/jobs/daily", "/audit", "/nope", "/jobs/nope", "/runs/nope", "/static/desk.js"])
def test_every_answer_has_strict_headers_and_no_page_needs_what_they_forbid(quick, path):
    answer = Browser(quick.dashboard(letting_in("all"))).ask("GET", path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    kept = path.startswith("/static/")
    assert ("no-store" in answer.headers["cache-control"]) != kept
    if not kept:
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:", answer.text)


@pytest.mark.parametrize("root", ["", "/ops", "/a/deep/prefix"])
def test_it_works_wherever_it_is_mounted_and_whether_or_not_the_host_takes_the_prefix_away(quick, root):
    desk = quick.dashboard(letting_in("all"))
    browser = Browser(desk, root)
    for path in ("/", "/jobs/daily", "/audit"):
        links = re.findall(r'(?:href|src|action)="([^"#]+)"', browser.open(path))
        inner = [link for link in links if not link.startswith("http")]
        assert inner
        assert all(link.startswith(f"{root}/") for link in inner)
        for link in set(inner):
            if f'action="{link}"' in browser.answer.text and "method" in link:
                continue
            status = browser.ask("GET", unescape(link).removeprefix(root)).status_code
            assert status in (200, 405, 422), link


def test_head_is_a_get_without_its_body(quick):
    browser = Browser(quick.dashboard(letting_in("all")))
    answer = browser.ask("HEAD", "/")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 1000


def test_a_file_is_one_of_ours_and_no_other(quick):
    browser = Browser(quick.dashboard(letting_in("read_only")))
    for path in ("/static/../app.py", "/static/%2e%2e/dashboard/app.py", "/static/", "/static/desk.css/x"):
        assert browser.ask("GET", path).status_code == 404


# ── what the pages say ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_screen_says_the_verdict_first_and_how_every_job_stands(crew, browser):
    past(
        crew,
        *(("purge-notes", 10 * n, "done", {"deleted": 100}) for n in range(1, 40)),
        ("daily", 300, "failed", {"reason": "Job daily failed: boom", "error": "boom", "deleted": 0}),
        ("purge-notes", 60 * 24 * 8, "done", {"deleted": 10_000}),
    )
    page = browser.open("/")
    said = words(page)
    assert said.index("1 job needs attention") < said.index("Needs attention ✗ daily failed: boom")
    assert "Removed in 24 h 3 900 rows" in said
    assert "every 10 minutes" in said
    assert "at 02:30 every day Europe/Paris" in said
    row = words(re.search(r"<tr>\s*<th[^>]*data-head=\"Job\"><a[^>]*>purge-notes.*?</tr>", page, re.DOTALL)[0])
    assert "@notes" in row
    assert "✓ done 10 min ago" in row
    assert "3 900 ticker" in row, "what is older than seven days does not count"
    assert 'aria-label="30 done"' in page, "the strip has thirty"
    assert 'aria-label="1 failed; ' in page, "and the rota the last hours"
    assert page.count('class="plan"') > 10
    assert "✗ 1 · Tonight" in page, "the tab says so, too"
    assert "desk-alarm.svg" in page


def test_all_quiet_is_said_too(quick):
    page = Browser(quick.dashboard(letting_in("read_only"))).open("/")
    assert "All quiet: 2 jobs on schedule" in words(page)
    assert "desk-alarm" not in page


def test_a_slot_that_nobody_ran_needs_a_person_until_the_job_runs_again(crew, browser):
    past(
        crew, ("daily", 300, "done"), ("daily", 60, "missed", {"trigger": "none", "reason": "slot x: nobody was there"})
    )
    assert "✗ daily missed: slot x: nobody was there" in words(browser.open("/"))
    past(crew, ("daily", 5, "done", {"id": "daily.again"}))
    assert "missed: slot x" not in words(browser.open("/"))


def test_a_job_that_is_due_and_that_nobody_runs_is_late(crew, browser):
    assert "nobody has run it" not in words(browser.open("/"))
    with crew._station.link.transaction() as connection:
        long_ago = datetime.now(UTC) - timedelta(hours=2)
        connection.execute(sa.update(job_table).where(job_table.c.name == "purge-notes").values(epoch_at=long_ago))
    said = words(browser.open("/"))
    assert "1 job needs attention" in said
    assert re.search(r"purge-notes due \d+ min ago, and nobody has run it", said)
    crew.pause("purge-notes", by="ada", reason="moving house")
    assert "nobody has run it" not in words(browser.open("/")), "whoever paused it knows"


def test_who_paused_what_why_and_until_when_stands_on_the_first_screen(crew, browser):
    until = datetime.now(UTC) + timedelta(days=1)
    crew.pause("daily", by="grace", reason="moving house", until=until)
    said = words(browser.open("/"))
    assert re.search(r"Paused daily moving house by grace (just now|.* ago) , until \d+ \w+, \d\d:\d\d UTC", said)
    crew.stop_all(by="ada", reason="a fire")
    said = words(browser.open("/"))
    assert "Every job is stopped by ada: a fire" in said


def test_a_job_shows_what_is_said_of_it_what_starts_it_and_what_it_fails_of(crew, browser):
    past(
        crew,
        ("daily", 5, "done"),
        ("daily", 6, "done", {"trigger": "http", "caller": "vercel-cron#ab12"}),
        ("daily", 7, "failed", {"reason": "Job daily failed: no answer in 30 s"}),
        ("daily", 8, "failed", {"reason": "Job daily failed: no answer in 31 s"}),
        ("daily", 9, "failed", {"reason": "Job daily failed: disk full"}),
    )
    said = words(browser.open("/jobs/daily"))
    assert "/api/internal/jobs/daily" in said
    assert re.search(r"Triggers Trigger Won Last ticker 4 5 min ago http 1 6 min ago", said)
    assert re.search(r"Times Error Last 2 no answer in 30 s 7 min ago 1 disk full 9 min ago", said)
    assert "vercel-cron#ab12" in said
    assert "(Europe/Paris)" in said
    only = words(browser.open("/jobs/daily?only=trouble"))
    assert "✗ failed" in only
    assert "vercel-cron#ab12" not in only


def test_runs_are_turned_page_by_page_and_none_is_shown_twice_or_left_out(crew, browser):
    past(crew, *(("daily", 10 + n // 3, "done") for n in range(60)))  # three began in the same instant, or nearly
    with crew._station.link.transaction() as connection:
        same = datetime.now(UTC) - timedelta(minutes=10)
        few = run_table.c.id < "daily.00040"
        connection.execute(sa.update(run_table).where(few).values(moment=same))
    seen, path = [], "/jobs/daily"
    for _ in range(3):
        page = browser.open(path)
        seen += re.findall(r'class="plain" href="[^"]*/runs/([^"]+)"', page)
        following = re.search(r'rel="next" href="([^"#]+)', page)
        path = unescape(following[1]).removeprefix("/ops/nightcrew") if following else None
    assert path is None
    assert sorted(seen) == [f"daily.{n:05}" for n in range(60)]
    assert browser.ask("GET", "/jobs/daily?before=rubbish").status_code == 200


def test_a_run_shows_its_error_with_the_cause_first_and_the_trace_folded(crew, browser):
    trace = "Traceback (most recent call last):\n  File x\nOSError: disk full"
    past(crew, ("daily", 5, "failed", {"error": trace, "reason": "Job daily failed: disk full", "attempt": 3}))
    page = browser.open("/runs/daily.00000")
    assert '<p class="error">OSError: disk full</p>' in page
    assert re.search(r"<details[^>]*><summary>The whole trace, 3 lines</summary>", page)
    assert "attempt 3" in words(page)


def test_history_of_a_job_whose_code_is_gone_stays_readable_and_has_no_buttons(crew, browser):
    past(crew, ("retired", 50, "done"))
    page = browser.open("/jobs/retired")
    assert "is not in this crew any more" in words(page)
    assert "<form" not in page
    browser.open("/runs/retired.00000")
    assert "did you mean 'daily'" in words(browser.open("/jobs/dayly", 404))


def test_whatever_stands_in_the_database_is_shown_as_text(crew):
    url = crew._station.link.engine.url.render_as_string(hide_password=False)
    hostile = hired(url)
    hostile.add(
        Job("odd", every("1 hour"), function=lambda run: 0, owner=HOSTILE, label=HOSTILE, runbook="javascript:alert(3)")
    )
    hostile.status()
    past(
        hostile,
        ("odd", 5, "failed", {"reason": HOSTILE, "error": f"{HOSTILE}\n{HOSTILE}", "caller": HOSTILE}),
        (HOSTILE[:60], 5, "failed", {"id": HOSTILE[:100]}),
    )
    hostile.pause("daily", by=HOSTILE, reason=HOSTILE)
    browser = Browser(hostile.dashboard(letting_in("all", HOSTILE)))
    pages = ["/", "/?q=%3Cscript%3Ealert(1)", "/jobs/odd", "/jobs/daily", "/runs/odd.00000", "/audit"]
    for path in pages:
        page = browser.open(path)
        assert "<script>alert" not in page
        assert "<img" not in page
        assert 'href="javascript:' not in page
        assert not re.search("[\0\x1b\u202a-\u202e\u2066-\u2069]", page)
        assert ESCAPED in page or "%3Cscript%3Ealert" in page or "q=" in path
    assert browser.ask("GET", "/jobs/%3Cscript%3Ealert(1)%3C%2Fscript%3E").status_code == 404
    hostile.close()


def test_the_schedule_is_found_in_and_turned_page_by_page(quick):
    for number in range(120):
        quick.add(Job(f"job-{number:03}", every("1 hour"), function=lambda run: 0, owner=f"@team{number % 3}"))
    browser = Browser(quick.dashboard(letting_in("read_only")))
    seen, path = [], "/"
    while path:
        page = browser.open(path)
        seen += re.findall(r'data-head="Job"><a class="name" href="/jobs/([^"]+)"', page)
        following = re.search(r'href="([^"]*after=[^"]+)"', page)
        path = unescape(following[1]) if following else None
    assert seen == list(quick.jobs)
    assert "More of 40 jobs" in words(browser.open("/?q=TEAM2"))
    assert "No job's name, owner or table has “zzz” in it" in words(browser.open("/?q=zzz"))


def test_a_database_that_is_away_is_said_in_a_sentence(tmp_path):
    crew = hired(f"sqlite:///{tmp_path}/nowhere/x.db")
    assert "The database does not answer" in words(Browser(crew.dashboard(letting_in("all"))).open("/", 503))
    crew.close()


def test_a_database_that_a_newer_nightcrew_has_seen_is_said_to_be_there(tmp_path):
    hired(f"sqlite:///{tmp_path}/x.db").close()
    with sqlite3.connect(tmp_path / "x.db") as database:
        database.execute("CREATE TABLE nightcrew_schema (version INTEGER PRIMARY KEY, applied_at TEXT)")
        database.execute("INSERT INTO nightcrew_schema VALUES (999, '2026-01-01')")
    crew = hired(f"sqlite:///{tmp_path}/x.db")
    said = words(Browser(crew.dashboard(letting_in("all"))).open("/", 503))
    assert "The database is not ready" in said
    assert "upgrade nightcrew here too" in said
    crew.close()


# ── the desk of a service ────────────────────────────────────────────────────────────────────────────────────────────

PASSWORD = "a-password-of-the-desk"


def basic(name, password):
    return {"Authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def test_a_service_asks_for_the_password_and_the_audit_keeps_the_name(quick):
    browser = Browser(Dashboard(quick, by_password(PASSWORD, quick), CHALLENGE), "/nightcrew")
    wrong = [{}, basic("ada", "wrong"), basic("ada", ""), {"Authorization": "Basic %%%"}, {"Authorization": PASSWORD}]
    for headers in (*wrong, {"Authorization": f"Bearer {PASSWORD}"}, {"Authorization": "Basic /w=="}):
        answer = browser.ask("GET", "/", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, CHALLENGE)
    assert "ada all" in words(browser.ask("GET", "/", headers=basic("ada", PASSWORD)).text)
    assert "somebody all" in words(browser.ask("GET", "/", headers=basic("", PASSWORD)).text)


def test_who_sends_wrong_passwords_has_to_wait_and_the_log_hears_of_them(quick, monkeypatch):
    desk, heard, now = Dashboard(quick, by_password(PASSWORD, quick), CHALLENGE), [], [1000.0]
    monkeypatch.setattr(quick.clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(quick, "tell", lambda kind, **facts: heard.append((kind, facts)))
    browser, friend = Browser(desk, "/nightcrew"), Browser(desk, "/nightcrew")
    for _ in range(2):
        assert friend.ask("GET", "/", headers=basic("grace", PASSWORD)).status_code == 200
    for _ in range(10):
        assert browser.ask("GET", "/audit", headers=basic("ada", "wrong-wrong-wrong")).status_code == 401
    for given in ("wrong", PASSWORD):
        answer = browser.ask("GET", "/", headers=basic("ada", given))
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
    assert friend.ask("GET", "/", headers=basic("grace", "wrong")).status_code == 429
    assert friend.ask("GET", "/", headers=basic("grace", PASSWORD)).status_code == 200, "it was let in before"
    assert browser.ask("GET", "/").status_code == 401, "who sends none guesses nothing"
    assert [kind for kind, _ in heard] == ["unauthorized"] * 10
    assert heard[0][1]["path"] == "/audit"
    assert "wrong-wrong-wrong" not in str(heard)
    now[0] += 60
    assert browser.ask("GET", "/", headers=basic("ada", PASSWORD)).status_code == 200


def test_a_service_without_a_password_keeps_its_desk_closed_and_says_so(tmp_path):
    crew, told = hired(f"sqlite:///{tmp_path}/x.db"), []
    app = service._with_desk(crew, told.append)
    assert told == ["the desk at /nightcrew stays closed until NIGHTCREW_DASHBOARD_PASSWORD is set"]
    assert Browser(app).ask("GET", "/nightcrew/").status_code == 404
    open_here = service._with_desk(hired(f"sqlite:///{tmp_path}/x.db", "development"), told.append)
    assert Browser(open_here, host="localhost").ask("GET", "/nightcrew/audit").status_code == 200
    assert Browser(open_here, host="localhost").ask("POST", "/api/internal/jobs/daily").status_code == 401
    assert len(told) == 1


# ── what a stranger may try ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_function_that_hands_on_what_is_still_to_be_awaited_is_awaited(quick):
    async def later(request):
        return "read_only", "grace"

    assert "grace read only" in words(Browser(quick.dashboard(lambda *asked: later(asked[0]))).open("/"))
    assert Browser(quick.dashboard(letting_in("all", "half \ud800"))).ask("GET", "/").status_code == 500


@pytest.mark.parametrize("tenant", ["/a; Domain=evil.example", "/日本", "//evil.example", "/a\r\nSet-Cookie: x=y"])
def test_where_it_is_mounted_cannot_bend_a_cookie_or_an_address(quick, tenant):
    desk, sent = quick.dashboard(letting_in("all")), []

    async def receive():
        return {"type": "http.request", "body": b""}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": f"{tenant}/jobs/daily", "root_path": tenant, "headers": []}
    asyncio.run(desk(scope | {"query_string": b"", "scheme": "http"}, receive, send))
    cookie = dict(sent[0]["headers"])[b"set-cookie"].decode()
    base = f"/{quote(tenant.lstrip('/'))}"
    assert re.fullmatch(r"nightcrew_desk=[\w-]+; Path=(\S+); HttpOnly; SameSite=Lax", cookie)[1] == base
    actions = re.findall(r'(?:action|href)="([^"#]+)"', sent[1]["body"].decode())
    assert all(address.startswith((f"{base}/", "http")) for address in actions)


@pytest.mark.parametrize(
    "place", ["0001-01-01T00:00:00%2B23:59~x", "9999-12-31T23:59:59-23:59~x", "2026-01-01T00:00~x"]
)
def test_a_place_that_cannot_be_begins_with_the_newest(crew, browser, place):
    past(crew, ("daily", 5, "done"))
    assert "daily.00000" in browser.open(f"/jobs/daily?before={place}")


def test_a_form_that_was_cut_off_changes_nothing(quick):
    desk = quick.dashboard(letting_in("all"))
    browser, sent = Browser(desk), []
    seal = re.search(r'name="seal" value="([0-9a-f]+)"', browser.open("/jobs/daily"))[1]
    cookie = f"nightcrew_desk={browser.cookies['nightcrew_desk']}".encode()
    coming = [
        {"type": "http.request", "body": f"seal={seal}&reason=until+the+mo".encode(), "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive():
        return coming.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/jobs/daily/pause", "headers": [(b"cookie", cookie)]}
    asyncio.run(desk(scope | {"query_string": b"", "scheme": "http"}, receive, send))
    assert sent[0]["status"] == 403
    assert not quick.status("daily")[0].paused


def test_a_cookie_that_somebody_planted_makes_no_seal(quick):
    guarded = replace(quick.settings, secret="a-secret-of-the-service")
    quick.settings = guarded
    browser = Browser(quick.dashboard(letting_in("all")))
    browser.cookies["nightcrew_desk"] = "planted"
    seal = hmac.new(b"planted", b"ada", "sha256").hexdigest()
    answer = browser.ask("POST", "/jobs/daily/pause", data={"seal": seal, "reason": "so"})
    assert answer.status_code == 403
    assert browser.send("/jobs/daily", "/pause", reason="so") == "/jobs/daily?done=paused"


def test_an_empty_cookie_is_none_and_is_replaced(quick):
    browser = Browser(quick.dashboard(letting_in("all")))
    answer = browser.ask("GET", "/", headers={"Cookie": "nightcrew_desk="})
    assert re.match(r"nightcrew_desk=[\w-]{32};", answer.headers["set-cookie"])
