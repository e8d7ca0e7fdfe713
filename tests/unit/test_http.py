"""The HTTP contract, Request to Response: who is let in, what is run, what is answered."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.alarms import Nobody

from nightcrew.bid import slot_asked_for
from nightcrew.caller import Caller
from nightcrew.clock import SystemClock
from nightcrew.errors import BrokerError, DatabaseError, JobFailed, SafetyStop, UnknownJob, UsageError
from nightcrew.job import ROUTES, Job
from nightcrew.outcome import Outcome
from nightcrew.report import Report
from nightcrew.schedule import every
from nightcrew.settings import Settings
from nightcrew.trigger import Errand
from nightcrew.triggers.http import Door, Response
from nightcrew.triggers.request import Request
from nightcrew.triggers.secret import fingerprint

SECRET = "correct-horse-battery-staple"
PREVIOUS = "last-months-battery-staple"
PKCE = "/api/oauth/cleanup-pkce"
NOW = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
BEARER = (b"authorization", b"Bearer " + SECRET.encode())
TOKEN = (b"x-cron-secret", SECRET.encode())
WRONG = (b"authorization", b"Bearer wrong-wrong-wrong-wrong")


class StillClock(SystemClock):
    """A clock that moves when told."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOW


@dataclass
class Crew:
    """A crew that runs nothing and remembers what it was asked and what it heard."""

    settings: Settings = field(default_factory=lambda: Settings(secret=SECRET, previous_secret=PREVIOUS))
    clock: StillClock = field(default_factory=StillClock)
    jobs: Mapping[str, Job] = field(
        default_factory=lambda: {
            "cleanup-pkce": Job("cleanup-pkce", every("10 minutes"), function=print, path=PKCE),
            "empty-chats": Job("empty-chats", every("12 hours"), function=print),
        }
    )
    ends: Outcome | Exception = Outcome.SUCCEEDED
    errand: Errand | None = None
    alarms = Nobody()
    runs: list[dict[str, Any]] = field(default_factory=list)
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def tick(self, **_: Any) -> list[Report]:
        return []

    def run(self, name: str, **asked: Any) -> Report:
        self.runs.append({"name": name, **asked})
        if isinstance(self.ends, Exception):
            raise self.ends
        return Report(name, self.ends, "Deleted 3 expired rows.", NOW, asked["trigger"], deleted=3)

    def slot_of(self, name: str, asked: datetime) -> datetime | None:
        return slot_asked_for(self.jobs[name], asked, NOW)

    def tell(self, kind: str, **facts: Any) -> None:
        self.heard.append((kind, facts))


@pytest.fixture
def crew() -> Crew:
    return Crew()


def call(crew: Crew, *headers: tuple[bytes, bytes], path: str = f"{ROUTES}/cleanup-pkce", **more: Any) -> Response:
    request = Request(
        more.pop("method", "GET"), path, headers=headers, client=more.pop("client", "203.0.113.9"), **more
    )
    response = Door(crew).answer(request)
    check(response)
    return response


def check(response: Response) -> None:
    """Every response, whatever it says, keeps what the contract promises of every response."""
    headers = dict(response.headers)
    assert len(headers) == len(response.headers)
    assert headers[b"x-robots-tag"] == b"noindex, nofollow, noarchive"
    assert headers[b"cache-control"] == b"no-store"
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"content-length"] == str(len(response.body)).encode()
    assert not 300 <= response.status < 400
    assert len(response.body) < 1200
    json.loads(response.body)


def body(response: Response) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(response.body)
    return said


# Who may come in


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [BEARER]),
        (200, [(b"Authorization", b"bearer " + SECRET.encode())]),
        (200, [(b"authorization", b"BEARER " + SECRET.encode())]),
        (200, [TOKEN]),
        (200, [(b"X-Cron-Secret", SECRET.encode())]),
        (200, [(b"authorization", b"Bearer " + PREVIOUS.encode())]),
        (200, [BEARER, TOKEN]),
        (200, [BEARER, (b"x-cron-secret", PREVIOUS.encode())]),
        (401, []),
        (401, [WRONG]),
        (401, [BEARER, BEARER]),
        (401, [TOKEN, TOKEN]),
        (401, [BEARER, WRONG]),
        (401, [BEARER, (b"Authorization", b"Bearer x")]),
        (401, [WRONG, TOKEN]),
        (401, [BEARER, (b"x-cron-secret", b"wrong")]),
        (401, [BEARER, (b"x-cron-secret", b"")]),
        (401, [(b"authorization", b"Basic dXNlcjpwYXNz"), TOKEN]),
        (401, [(b"authorization", b"")]),
        (401, [(b"authorization", b"Bearer")]),
        (401, [(b"authorization", b"Bearer ")]),
        (401, [(b"authorization", b"Bearer  " + SECRET.encode())]),
        (401, [(b"authorization", b"Bearer\t" + SECRET.encode())]),
        (401, [(b"authorization", b" Bearer " + SECRET.encode())]),
        (401, [(b"authorization", BEARER[1] + b" ")]),
        (401, [(b"authorization", BEARER[1] + b"\n")]),
        (401, [(b"authorization", BEARER[1] + b"\x00")]),
        (401, [(b"authorization", BEARER[1] + b", " + BEARER[1])]),
        (401, [(b"authorization", BEARER[1][:-1])]),
        (401, [(b"authorization", BEARER[1].upper())]),
        (401, [(b"authorization", SECRET.encode())]),
        (401, [(b"authorization", b"Bearer undefined")]),
        (401, [(b"authorization", b"Bearer \xff\xfe\xfd")]),
        (401, [(b"authorization", b"Bearer " + b"x" * 1_000_000)]),
        (401, [(b"proxy-authorization", BEARER[1])]),
        (401, [(b"cookie", b"authorization=" + BEARER[1])]),
    ],
)
def test_only_the_exact_secret_sent_once_opens_the_door(crew: Crew, status: int, headers: list[Any]) -> None:
    assert call(crew, *headers).status == status
    assert bool(crew.runs) == (status == 200)


@pytest.mark.parametrize(
    "settings",
    [
        "",
        " ",
        " \n\t ",
        "undefined",
        "None",
        "null",
        "${CRON_SECRET}",
        "${CRON_SECRET_PREVIOUS}",
        "{{ cron_secret_here }}",
        "fifteen-letters",
        "  fourteen-chars  ",
        None,
    ],
)
def test_a_server_without_a_real_secret_lets_nobody_in(crew: Crew, settings: str | None) -> None:
    crew.settings = Settings(secret=settings, previous_secret=settings)
    sent = (settings or "").strip().encode()
    for headers in ([], [(b"authorization", b"Bearer " + sent)], [(b"x-cron-secret", sent)], [BEARER]):
        assert call(crew, *headers).status == 401
    assert not crew.runs


def test_the_previous_secret_works_alone_while_the_current_one_is_a_placeholder(crew: Crew) -> None:
    crew.settings = Settings(secret="undefined", previous_secret=PREVIOUS)
    assert call(crew, (b"x-cron-secret", PREVIOUS.encode())).status == 200
    assert call(crew, (b"x-cron-secret", b"undefined")).status == 401


def test_a_newline_at_the_end_of_the_configured_secret_does_no_harm(crew: Crew) -> None:
    crew.settings = Settings(secret=f" {SECRET}\r\n")
    assert call(crew, BEARER).status == 200


def test_new_settings_are_heard_at_once(crew: Crew) -> None:
    door = Door(crew)
    request = Request("POST", PKCE, headers=[BEARER])
    assert door.answer(request).status == 200
    crew.settings = Settings(secret="another-secret-altogether")
    assert door.answer(request).status == 401


def test_a_stranger_learns_nothing_from_the_answer(crew: Crew) -> None:
    unset = replace(crew, settings=Settings())
    answers = {
        call(crew),
        call(crew, WRONG),
        call(crew, BEARER, BEARER),
        call(crew, WRONG, method="HEAD"),
        call(crew, path=f"{ROUTES}/no-such-job"),
        call(crew, path=ROUTES),
        call(crew, path=f"{ROUTES}/../../etc"),
        call(crew, query=b"deadline=abc"),
        call(unset, BEARER),
    }
    (answer,) = answers
    assert answer.status == 401
    assert dict(answer.headers)[b"www-authenticate"] == b"Bearer"
    assert list(body(answer)) == ["error"]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"Authorization", b"x-cron-secret", b"X-CRON-SECRET", b"host", b"via"]),
            st.one_of(
                st.binary(max_size=80),
                st.binary(max_size=4).map(lambda junk: b"Bearer " + junk + SECRET.encode()[len(junk) :]),
                st.sampled_from([SECRET.encode(), PREVIOUS.encode(), BEARER[1], b"Bearer " + PREVIOUS.encode()]),
            ),
        ),
        max_size=4,
    ),
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "\x00"]),
    st.one_of(st.text(max_size=20).map(lambda text: f"{ROUTES}/{text}"), st.just(PKCE)),
    st.binary(max_size=30),
    st.sampled_from([None, "127.0.0.1", "::1", "not an address"]),
)
def test_no_header_but_the_exact_secret_ever_gets_in_and_no_call_escapes_an_answer(
    headers: list[Any], method: str, path: str, query: bytes, client: str | None
) -> None:
    crew = Crew()
    response = call(crew, *headers, method=method, path=path, query=query, client=client)
    good = {SECRET.encode(), PREVIOUS.encode()}
    sent = [(name.lower(), value) for name, value in headers if name.lower() in (b"authorization", b"x-cron-secret")]
    right = [
        value.removeprefix(b"Bearer ").removeprefix(b"bearer ") in good if name == b"authorization" else value in good
        for name, value in sent
    ]
    once = len({name for name, _ in sent}) == len(sent)
    let_in = (
        bool(sent) and once and all(right) and all(b" " in value for name, value in sent if name == b"authorization")
    )
    assert (response.status != 401) == let_in
    assert not crew.runs or let_in


@given(st.text(max_size=40))
def test_any_text_can_be_configured_as_the_secret_and_only_a_long_enough_one_is_taken(secret: str) -> None:
    crew = Crew(Settings(secret=secret))
    sent = secret.strip().encode("utf-8", "surrogatepass")
    assert (call(crew, (b"x-cron-secret", sent)).status == 200) == (len(secret.strip()) >= 16)


# Development


def local(crew: Crew, *headers: tuple[bytes, bytes], **more: Any) -> Response:
    crew.settings = replace(crew.settings, environment=more.pop("environment", "development"))
    hosts = more.pop("hosts", [b"localhost:8000"])
    return call(crew, *headers, *((b"host", host) for host in hosts), **{"client": "127.0.0.1", **more})


@pytest.mark.parametrize(
    "host", [b"localhost", b"LOCALHOST:80", b"127.0.0.1:8000", b"[::1]:8000", b"[::1]", b"app.localhost:3000"]
)
@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_in_development_a_get_from_this_machine_needs_no_secret_and_says_so(
    crew: Crew, host: bytes, client: str
) -> None:
    response = local(crew, hosts=[host], client=client)
    assert response.status == 200
    assert "development" in body(response)["note"]
    assert crew.runs[0]["caller"].name == "unknown#no-secret"


def test_in_development_the_note_is_on_errors_too(crew: Crew) -> None:
    assert "development" in body(local(crew, path=f"{ROUTES}/nope"))["note"]


def test_a_browser_tab_opened_by_hand_may_run_a_job_in_development(crew: Crew) -> None:
    for site in (b"none", b"same-origin"):
        assert local(crew, (b"sec-fetch-site", site), (b"user-agent", b"Mozilla/5.0 (X11)")).status == 200
    assert crew.runs[0]["caller"].name == "browser#no-secret"


@pytest.mark.parametrize(
    ("headers", "more"),
    [
        ((), {"environment": "production"}),
        ((), {"environment": "test"}),
        ((), {"method": "POST"}),
        ((), {"method": "HEAD"}),
        ((), {"client": "10.0.0.7"}),
        ((), {"client": "::ffff:10.0.0.7"}),
        ((), {"client": None}),
        ((), {"client": "localhost"}),
        ((), {"hosts": []}),
        ((), {"hosts": [b""]}),
        ((), {"hosts": [b"attacker.example"]}),
        ((), {"hosts": [b"attacker.example:80"]}),
        ((), {"hosts": [b"localhost.attacker.example"]}),
        ((), {"hosts": [b"notlocalhost"]}),
        ((), {"hosts": [b"localhost:80@attacker.example"]}),
        ((), {"hosts": [b"attacker.example:localhost"]}),
        ((), {"hosts": [b"localhost", b"attacker.example"]}),
        (((b"forwarded", b"for=10.0.0.7"),), {}),
        (((b"Via", b"1.1 proxy"),), {}),
        (((b"x-forwarded-for", b"127.0.0.1"),), {}),
        (((b"X-Forwarded-Proto", b"https"),), {}),
        (((b"x-real-ip", b"10.0.0.7"),), {}),
        (((b"cf-connecting-ip", b"203.0.113.9"),), {}),
        (((b"origin", b"http://evil.example"),), {}),
        (((b"sec-fetch-site", b"cross-site"),), {}),
        (((b"sec-fetch-site", b"same-site"),), {}),
        (((b"sec-fetch-site", b"none"), (b"sec-fetch-site", b"cross-site")), {}),
        ((WRONG,), {}),
        (((b"authorization", b""),), {}),
    ],
)
def test_outside_development_or_this_machine_or_a_hand_made_get_the_secret_is_needed(
    crew: Crew, headers: tuple[Any, ...], more: dict[str, Any]
) -> None:
    assert local(crew, *headers, **more).status == 401
    assert not crew.runs


# What the operator hears


def test_a_wrong_secret_is_told_with_its_reason_and_never_with_its_value(crew: Crew) -> None:
    call(crew, (b"authorization", b"Bearer hunter2-hunter2-hunter2"), path=f"{ROUTES}/x\ny")
    assert crew.heard == [
        (
            "unauthorized",
            {"reason": "the secret is wrong", "client": "203.0.113.9", "path": f"{ROUTES}/x_y", "untold": 0},
        )
    ]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([], "no secret was sent"),
        ([(b"authorization", b"Bearer")], "the Authorization header is not 'Bearer SECRET'"),
        ([(b"authorization", b"Basic dXNlcjpwYXNz")], "the Authorization header is not 'Bearer SECRET'"),
        ([TOKEN, TOKEN], "a secret was sent twice in one kind of header"),
        ([(b"x-cron-secret", b"")], "the secret is wrong"),
    ],
)
def test_the_operator_hears_what_to_look_for(crew: Crew, headers: list[Any], reason: str) -> None:
    call(crew, *headers)
    assert crew.heard[0][1]["reason"] == reason


def test_a_stranger_cannot_fill_the_log(crew: Crew) -> None:
    door = Door(crew)
    for _ in range(1000):
        door.answer(Request("GET", PKCE))
    assert len(crew.heard) == 20
    crew.clock.seconds = 60
    door.answer(Request("GET", PKCE))
    door.answer(Request("GET", PKCE))
    assert [facts["untold"] for _, facts in crew.heard[-2:]] == [980, 0]


def test_an_unset_secret_is_told_once_a_minute(crew: Crew) -> None:
    crew.settings = Settings()
    door = Door(crew)
    for second in (0, 1, 59, 60, 61, 130):
        crew.clock.seconds = second
        assert door.answer(Request("GET", PKCE, headers=[BEARER])).status == 401
    assert [kind for kind, _ in crew.heard] == ["secret_unset"] * 3


def test_use_of_the_previous_secret_is_told_so_that_rotation_can_end(crew: Crew) -> None:
    call(crew, (b"authorization", b"Bearer " + PREVIOUS.encode()), (b"user-agent", b"curl/8.5.0"))
    assert crew.heard[0][0] == "previous_secret_used"
    assert crew.heard[0][1]["caller"] == f"curl#{fingerprint(PREVIOUS)}"
    call(crew, BEARER)
    assert len(crew.heard) == 1


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (b"vercel-cron/1.0", "vercel-cron"),
        (b"Google-Cloud-Scheduler", "cloud-scheduler"),
        (b"github-actions", "github-actions"),
        (b"curl/8.5.0", "curl"),
        (b"Amazon/EventBridge/ApiDestinations", "eventbridge"),
        (b"Mozilla/4.0 (compatible; cron-job.org; http://cron-job.org/abuse/)", "cron-job.org"),
        (b"Mozilla/5.0 (X11; Linux)", "browser"),
        (b"", "unknown"),
        (b"evil\n\x1b[31m\xff", "evil__[31m_"),
        (b"x" * 5000, "x" * 40),
    ],
)
def test_the_caller_is_named_by_its_user_agent_and_its_secrets_fingerprint(crew: Crew, agent: bytes, name: str) -> None:
    call(crew, BEARER, (b"user-agent", agent))
    caller = crew.runs[0]["caller"].name
    assert caller == f"{name}#{fingerprint(SECRET)}"
    assert len(caller) <= 60
    assert all("!" <= char <= "~" for char in caller)


# Routes and methods


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("path", [f"{ROUTES}/cleanup-pkce", f"{ROUTES}/cleanup-pkce/", PKCE, f"{PKCE}/"])
def test_every_route_of_a_job_runs_it_with_and_without_a_slash(crew: Crew, method: str, path: str) -> None:
    assert call(crew, BEARER, method=method, path=path).status == 200
    assert crew.runs[0]["name"] == "cleanup-pkce"
    assert crew.runs[0]["trigger"] == "http"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "get", "TRACE", "BREW\r\n"])
def test_any_other_method_runs_nothing_and_is_told_what_is_allowed(crew: Crew, method: str) -> None:
    response = call(crew, BEARER, method=method)
    assert response.status == 405
    assert dict(response.headers)[b"allow"] == b"GET, POST"
    assert not crew.runs


def test_an_unknown_job_is_named_only_to_who_has_the_secret(crew: Crew) -> None:
    response = call(crew, BEARER, path=f"{ROUTES}/cleanup-pcke")
    assert response.status == 404
    assert body(response)["error"].endswith("did you mean 'cleanup-pkce'?")


@pytest.mark.parametrize(
    "path", [ROUTES, f"{ROUTES}/", f"{ROUTES}//", f"{ROUTES}/cleanup-pkce//", f"{ROUTES}/CLEANUP-PKCE", f"{ROUTES}/a/b"]
)
def test_a_path_under_the_prefix_that_is_no_job_is_not_found(crew: Crew, path: str) -> None:
    assert call(crew, BEARER, path=path).status == 404


@pytest.mark.parametrize(
    "path", ["", "/", "/api", "/api/internal/jobsx", "/api/internal/job", "/x/api/internal/jobs/y", f"{PKCE}/x"]
)
def test_a_path_that_is_none_of_ours_belongs_to_the_application(crew: Crew, path: str) -> None:
    assert not Door(crew).owns(path)
    assert call(crew, path=path).status == 404
    assert not crew.heard


# What a call may ask


@pytest.mark.parametrize(
    ("query", "seconds"),
    [
        (b"", 50),
        (b"deadline=20s", 20),
        (b"deadline=20", 20),
        (b"deadline=5m", 300),
        (b"deadline=1+minute", 60),
        (b"deadline=1h", 3600),
    ],
)
def test_the_deadline_is_what_was_asked_or_fifty_seconds(crew: Crew, query: bytes, seconds: int) -> None:
    assert call(crew, BEARER, query=query).status == 200
    assert crew.runs[0]["deadline"] == timedelta(seconds=seconds)


def test_the_default_deadline_can_be_set(crew: Crew) -> None:
    crew.settings = replace(crew.settings, deadline=timedelta(seconds=4))
    assert call(crew, BEARER).status == 200
    assert crew.runs[0]["deadline"] == timedelta(seconds=4)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "0s",
        "-5",
        "-5s",
        "abc",
        "1.5",
        "1.5s",
        "3601",
        "61m",
        "2h",
        "1e3",
        "inf",
        "nan",
        "%D9%A2%D9%A0",
        "20x",
        "9" * 500,
        "%00",
        "%FF",
    ],
)
def test_a_deadline_that_makes_no_sense_is_refused_in_one_sentence(crew: Crew, value: str) -> None:
    response = call(crew, BEARER, query=f"deadline={value}".encode())
    assert response.status == 400
    assert body(response)["success"] is False
    assert "at most 1h" in body(response)["error"]
    assert not crew.runs


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-29T01:00:00Z",
        "2026-03-29T01:00:00.000z",
        "2026-03-29T01:00Z",
        "2026-03-29t03:00:00%2B02:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-29+03:00:00+0200",
        "2026-03-28T21:00:00-04:00",
    ],
)
def test_an_explicit_slot_is_run_however_its_offset_is_written(crew: Crew, value: str) -> None:
    assert call(crew, BEARER, query=f"slot={value}".encode()).status == 200
    assert crew.runs[0]["slot"] == datetime(2026, 3, 29, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "", "now", "2026-03-29", "2026-03-29T01:00:00", "2026-03-29+01:00", "2026-02-30T00:00:00Z", "1774746000",
        "2026-03-29T25:00:00Z", "0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00",
        "2026-03-29T01:00:00%2B99:00", "%00", "x" * 900,
    ],
)  # fmt: skip
def test_a_slot_that_is_no_instant_is_refused(crew: Crew, value: str) -> None:
    response = call(crew, BEARER, query=f"slot={value}".encode())
    assert response.status == 400
    assert "2026-03-29T01:00:00Z" in body(response)["error"]
    assert not crew.runs


def test_a_naive_slot_is_told_what_it_lacks(crew: Crew) -> None:
    assert "no offset" in body(call(crew, BEARER, query=b"slot=2026-03-29T01:00:00"))["error"]


@pytest.mark.parametrize(
    "query", [b"deadline=20&deadline=20", b"slot=2026-03-29T01:00Z&slot=2026-03-29T01:00Z", b"a=&" * 60]
)
def test_a_query_that_says_two_things_is_refused(crew: Crew, query: bytes) -> None:
    assert call(crew, BEARER, query=query).status == 400


@pytest.mark.parametrize(
    ("key", "meant"), [("dedline", "deadline"), ("Deadline", "deadline"), ("slots", "slot"), ("SLOT", "slot")]
)
def test_a_misspelt_key_is_refused_with_the_right_one(crew: Crew, key: str, meant: str) -> None:
    assert f"did you mean ?{meant}=?" in body(call(crew, BEARER, query=f"{key}=1".encode()))["error"]


@pytest.mark.parametrize(
    "query", [b"_=1712", b"utm_source=x&utm_source=y", b"x-vercel-protection-bypass=1", b"&&=", b"\xff=\xff"]
)
def test_what_monitors_and_proxies_add_to_a_query_is_ignored(crew: Crew, query: bytes) -> None:
    assert call(crew, BEARER, query=query).status == 200


def scheduled(value: bytes) -> tuple[bytes, bytes]:
    return (b"X-CloudScheduler-ScheduleTime", value)


def test_cloud_schedulers_time_names_the_slot(crew: Crew) -> None:
    assert call(crew, BEARER, scheduled(b"2026-03-29T01:00:00.123456789Z")).status == 200
    assert crew.runs[0]["slot"] == datetime(2026, 3, 29, 1, 0, 0, 123456, UTC)


def test_an_explicit_slot_is_a_better_source_than_cloud_schedulers_time(crew: Crew) -> None:
    assert call(crew, BEARER, scheduled(b"soon"), query=b"slot=2026-03-29T02:00Z").status == 200
    assert crew.runs[0]["slot"] == datetime(2026, 3, 29, 2, tzinfo=UTC)


def test_without_a_slot_the_crew_takes_the_latest(crew: Crew) -> None:
    call(crew, BEARER)
    assert crew.runs[0]["slot"] is None


@pytest.mark.parametrize("headers", [[scheduled(b"soon")], [scheduled(b"")], [scheduled(b"2026-03-29T01:00Z")] * 2])
def test_a_malformed_schedule_time_is_refused(crew: Crew, headers: list[Any]) -> None:
    response = call(crew, BEARER, *headers)
    assert response.status == 400
    assert "X-CloudScheduler-ScheduleTime" in body(response)["error"]


VERCEL = (b"ce-type", b"com.vercel.schedule.v1beta")
EXECUTION = (b"ce-id", b"01JABCDEF0123456789012345:1774746000000")


def vercels(value: bytes, header: bytes = b"ce-vssscheduledat") -> tuple[bytes, bytes]:
    return (header, value)


@pytest.mark.parametrize("header", [b"ce-vssscheduledat", b"Ce-Time"])
def test_the_time_of_vercels_schedule_names_the_slot_and_its_execution_id_is_kept(crew: Crew, header: bytes) -> None:
    assert call(crew, BEARER, VERCEL, EXECUTION, vercels(b"2026-03-29T01:00:00.000Z", header)).status == 200
    assert crew.runs[0]["slot"] == datetime(2026, 3, 29, 1, tzinfo=UTC)
    caller = crew.runs[0]["caller"]
    assert caller.source.encode().lower() == header.lower()
    assert caller.name.endswith(" 01JABCDEF0123456789012345:1774746000000")


def test_the_events_of_others_say_nothing_of_a_slot(crew: Crew) -> None:
    assert call(crew, BEARER, (b"ce-type", b"com.example.order"), vercels(b"soon", b"ce-time")).status == 200
    assert (crew.runs[0]["slot"], crew.runs[0]["caller"].source) == (None, None)


def test_vercels_expression_is_told_on_and_names_no_slot(crew: Crew) -> None:
    call(crew, BEARER, (b"X-Vercel-Cron-Schedule", b" 0  */12 * * * "), (b"user-agent", b"vercel-cron/1.0"))
    caller = crew.runs[0]["caller"]
    assert (caller.schedule, caller.source, crew.runs[0]["slot"]) == ("0 */12 * * *", None, None)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ([VERCEL, EXECUTION], "Ce-Vssscheduledat is missing"),
        ([VERCEL, vercels(b"soon")], "Ce-Vssscheduledat 'soon' cannot be read"),
        ([VERCEL, vercels(b"2026-03-29T01:00:00")], "Ce-Vssscheduledat '2026-03-29T01:00:00' has no offset"),
        ([VERCEL, vercels(b"1774746000000", b"ce-time")], "Ce-Time '1774746000000' cannot be read"),
        ([VERCEL, vercels(b"2026-03-29T01:00Z"), vercels(b"2026-03-29T01:00Z")], "Ce-Vssscheduledat is given twice"),
        ([VERCEL, VERCEL], "Ce-Type is given twice"),
        ([(b"x-vercel-cron-schedule", b"* * * * *")] * 2, "X-Vercel-Cron-Schedule is given twice"),
    ],
)
def test_a_malformed_header_is_named_with_a_right_example_and_nothing_is_run(
    crew: Crew, headers: list[Any], named: str
) -> None:
    response = call(crew, BEARER, *headers)
    assert response.status == 400
    assert named in body(response)["error"]
    assert "twice" in named or "2026-03-29T01:00:00" in body(response)["error"]
    assert not crew.runs


def test_a_header_that_names_no_slot_there_is_is_told_of(crew: Crew) -> None:
    crew.ends = UsageError("slot 2026-03-29T01:00:00.000Z of job 'x' lies in the future: it cannot be run yet")
    answer = body(call(crew, BEARER, scheduled(b"2026-03-29T01:00:00Z")))
    assert answer["error"].startswith("X-CloudScheduler-ScheduleTime: slot 2026-03-29T01")


def test_nothing_that_a_stranger_says_is_read(crew: Crew) -> None:
    for header in (scheduled(b"soon"), VERCEL, (b"idempotency-key", b"")):
        assert call(crew, header, method="POST", query=b"now=perhaps").status == 401


# By hand


@pytest.mark.parametrize("query", [b"now", b"now=", b"now=1", b"now=true", b"now=YES"])
def test_a_post_may_ask_for_a_run_that_belongs_to_no_slot(crew: Crew, query: bytes) -> None:
    assert call(crew, BEARER, scheduled(b"soon"), method="POST", query=query).status == 200
    assert (crew.runs[0]["now"], crew.runs[0]["slot"], crew.runs[0]["caller"].key) == (True, None, None)


def test_a_get_may_not_for_it_may_be_repeated_by_anybody(crew: Crew) -> None:
    assert "send it with POST" in body(call(crew, BEARER, query=b"now=1"))["error"]
    assert not crew.runs


def test_now_is_yes_or_no(crew: Crew) -> None:
    assert call(crew, BEARER, query=b"now=no").status == 200
    assert not crew.runs[0]["now"]
    assert "write ?now=true" in body(call(crew, BEARER, method="POST", query=b"now=perhaps"))["error"]


def keyed(value: bytes) -> tuple[bytes, bytes]:
    return (b"Idempotency-Key", value)


@pytest.mark.parametrize("value", [b"deploy-17", b'"deploy-17"', b' "deploy-17" '])
def test_a_key_is_the_same_with_quotes_and_without(crew: Crew, value: bytes) -> None:
    assert call(crew, BEARER, keyed(value), method="POST", query=b"now").status == 200
    assert crew.runs[0]["caller"].key == "deploy-17"


@pytest.mark.parametrize(
    "headers",
    [*([keyed(key)] for key in (b"", b'""', b"a b", b"\xe9", b"k" * 256, b"a\x00")), [keyed(b"a"), keyed(b"a")]],
)
def test_a_key_that_is_none_is_refused(crew: Crew, headers: list[Any]) -> None:
    response = call(crew, BEARER, *headers, method="POST", query=b"now")
    assert response.status == 400
    assert "Idempotency-Key" in body(response)["error"]
    assert not crew.runs


def test_a_slot_needs_no_key(crew: Crew) -> None:
    assert call(crew, BEARER, keyed(b""), method="POST").status == 200
    assert crew.runs[0]["caller"].key is None


# What is answered


@pytest.mark.parametrize("outcome", Outcome)
def test_the_body_is_the_report_and_the_status_its_outcomes(crew: Crew, outcome: Outcome) -> None:
    crew.ends = outcome
    response = call(crew, BEARER)
    assert response.status == outcome.status
    said = body(response)
    assert said["success"] == outcome.success
    assert (said["deletedCount"], said["message"], said["outcome"]) == (3, "Deleted 3 expired rows.", outcome)
    assert said["timestamp"] == "2026-03-29T01:00:00.000Z"


def failing(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (UsageError("the slot is no slot of this job"), 400, None),
        (UnknownJob("no job is called 'x'"), 404, None),
        (SafetyStop("would delete 90 % of users"), 503, "refused"),
        (DatabaseError("the database is away", transient=True), 503, "failed"),
        (failing(JobFailed("cleanup-pkce failed"), ValueError("boom")), 500, "failed"),
        (ValueError("boom"), 500, "failed"),
        (RuntimeError(), 500, "failed"),
    ],
)
def test_an_error_is_answered_with_its_status_and_one_sentence(
    crew: Crew, error: Exception, status: int, outcome: str | None
) -> None:
    crew.ends = error
    response = call(crew, BEARER)
    said = body(response)
    assert response.status == status
    assert said["success"] is False
    assert said["error"]
    assert said["details"]
    assert said.get("outcome") == outcome
    assert "deletedCount" not in said
    assert dict(response.headers).get(b"retry-after") == (b"30" if isinstance(error, DatabaseError) else None)


def test_a_failure_names_its_cause(crew: Crew) -> None:
    crew.ends = failing(JobFailed("cleanup-pkce failed"), ValueError("boom"))
    assert body(call(crew, BEARER))["details"] == "ValueError: boom"
    crew.ends = KeyError("user_id")
    assert body(call(crew, BEARER))["details"] == "KeyError: 'user_id'"


def test_a_long_story_is_cut_to_a_sentence(crew: Crew) -> None:
    crew.ends = failing(JobFailed("x" * 9999), ValueError("y" * 9999))
    said = body(call(crew, BEARER))
    assert len(said["error"]) == len(said["details"]) == 301


def test_an_unexpected_failure_is_told_to_the_operator_whole(crew: Crew) -> None:
    crew.ends = ZeroDivisionError("division by zero")
    call(crew, BEARER)
    assert crew.heard == [("http_error", {"job": "cleanup-pkce", "error": crew.ends})]


@pytest.mark.parametrize(
    "text",
    [
        "cannot connect to postgresql://crew:p%40ss-w0rd@db/app",
        "cannot connect to postgresql://crew:p@ss-w0rd@db/app",
        "FATAL for user crew with p@ss-w0rd",
        "redis://:p@ss-w0rd@cache:6379 is away",
        "host=db password=p@ss-w0rd dbname=app",
        "host=db Password = 'p@ss-w0rd' dbname=app",
        f"{SECRET}",
        f"os.environ: {{'CRON_SECRET': '{PREVIOUS}'}}",
        "line one\n" * 50 + "p@ss-w0rd",
    ],
)
@pytest.mark.parametrize("kind", [DatabaseError, JobFailed, ValueError])
def test_no_answer_carries_a_secret_or_a_password_or_a_second_line(
    crew: Crew, text: str, kind: type[Exception]
) -> None:
    crew.settings = replace(crew.settings, database="postgresql://crew:p%40ss-w0rd@db/app")
    crew.ends = failing(kind(text), OSError(text))
    said = call(crew, BEARER).body.decode()
    for hidden in ("p@ss-w0rd", "p%40ss-w0rd", SECRET, PREVIOUS, "\\n", "Traceback"):
        assert hidden not in said


def test_a_report_that_quotes_a_password_is_censored_too(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report(
        "j", Outcome.FAILED, "failed", NOW, "http", error="mysql://root:hunter2@db is away", details="pwd=hunter2"
    )
    monkeypatch.setattr(Crew, "run", lambda *_, **__: report)
    response = call(crew, BEARER)
    assert response.status == 500
    assert "hunter2" not in response.body.decode()


def test_the_door_itself_writes_no_log_line(crew: Crew, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        call(crew, WRONG)
        call(crew, BEARER)
    assert not caplog.records


def test_a_call_that_is_handed_to_a_worker_is_answered_202_and_run_by_nobody_here(crew):
    sent: list[tuple[Any, ...]] = []
    crew.errand = lambda *asked: sent.append(asked) or "task 7"
    response = call(crew, BEARER, query=b"slot=2026-03-29T00:55:00Z")
    body = json.loads(response.body)
    assert (response.status, body["success"], body["outcome"]) == (202, True, "in_progress_elsewhere")
    assert body["message"] == "Job cleanup-pkce was handed to a worker (task 7)."
    assert body["slot"] == "2026-03-29T00:50:00.000Z"
    caller = Caller(f"unknown#{fingerprint(SECRET)}")
    assert sent == [("cleanup-pkce", datetime(2026, 3, 29, 0, 55, tzinfo=UTC), caller, False)]
    assert crew.runs == []


@pytest.mark.parametrize(
    ("headers", "query", "status"), [((), b"", 401), ((BEARER,), b"slot=2030-01-01T00:00:00Z", 400)]
)
def test_a_worker_is_told_nothing_by_a_stranger_or_of_a_slot_that_cannot_be(crew, headers, query, status):
    crew.errand = lambda *asked: pytest.fail(f"{asked} was sent")
    assert call(crew, *headers, query=query).status == status


def test_where_no_worker_can_be_told_the_call_may_be_repeated(crew):
    def broken(*_: object) -> str:
        raise BrokerError("job 'cleanup-pkce' could not be handed to a worker: the broker did not take it")

    crew.errand = broken
    response = call(crew, BEARER)
    assert (response.status, dict(response.headers)[b"retry-after"]) == (503, b"30")
    assert "could not be handed to a worker" in json.loads(response.body)["error"]
