"""A job is a name, a schedule, and one thing to do."""

import re
from datetime import timedelta
from functools import partial

import pytest

from nightcrew import Job, Nightcrew, Policy, Settings, every
from nightcrew.errors import ConfigurationError, UsageError
from nightcrew.recipes import RECIPES

HOURLY = every("1 hour")
POLICY = Policy("users", "deactivated_at")


@pytest.mark.parametrize("name", ["", "Cleanup", "clean up", "a--b", "-a", "ä", "x" * 101, "../etc", "a_b"])
def test_a_name_that_could_not_be_a_route_is_refused(name):
    with pytest.raises(ConfigurationError, match="job name"):
        Job(name, HOURLY, policy=POLICY)


@pytest.mark.parametrize("path", ["api", "/a b", "/a?b", "/a/", "//a", "/%2e%2e"])
def test_a_path_that_is_no_plain_path_is_refused(path):
    with pytest.raises(ConfigurationError, match="path"):
        Job("a", HOURLY, policy=POLICY, path=path)


ABOVE = "write @crew.job('0 3 * * *') or @crew.job(every='10 minutes') above a function"
MISUSES = {
    "no brackets": (lambda crew: crew.job(print), f"@crew.job is not told when print is due; {ABOVE}"),
    "empty brackets": (lambda crew: crew.job(), f"@crew.job is told neither a schedule nor every; {ABOVE}"),
    "a name for a schedule": (
        lambda crew: crew.job("tidy", every="1 hour"),
        "@crew.job is told a schedule, 'tidy', and every, '1 hour'; drop one of the two, and write a name as name='…'",
    ),
    "no function": (
        lambda crew: crew.job(every="1 hour")(42),
        "what @crew.job decorates is 42 (int); put it above a function, def or async def",
    ),
    "no function, but a name": (
        lambda crew: crew.job(every="1 hour", name="tidy")(42),
        "function of job 'tidy' is 42 (int); name a function",
    ),
    "a lambda": (
        lambda crew: crew.job(every="1 hour")(lambda run: 3),
        "<lambda> has no name that a job could have; add name='…' to @crew.job(…)",
    ),
    "a partial": (
        lambda crew: crew.job(every="1 hour")(partial(print, 3)),
        "partial has no name that a job could have; add name='…' to @crew.job(…)",
    ),
}


@pytest.mark.parametrize("case", MISUSES)
def test_a_decorator_put_to_no_use_says_how_to_use_it_at_once(case):
    misuse, sentence = MISUSES[case]
    crew = Nightcrew(settings=Settings())
    with pytest.raises(ConfigurationError) as refusal:
        misuse(crew)
    assert str(refusal.value) == sentence
    assert not crew.jobs


def test_a_job_does_exactly_one_thing():
    with pytest.raises(ConfigurationError, match="either a policy or a function"):
        Job("a", HOURLY)
    with pytest.raises(ConfigurationError, match="either a policy or a function"):
        Job("a", HOURLY, policy=POLICY, function=print)


SPAN = "write a timedelta, such as timedelta(days=30)"
SQL = "write SQL as a text, such as \"status = 'draft'\""
ODD = {
    "age as a text": ({"older_than": "30 days"}, f"job 'tidy': older_than is '30 days' (str); {SPAN}"),
    "age as a number": ({"older_than": 30}, f"job 'tidy': older_than is 30 (int); {SPAN}"),
    "where": ({"where": 5}, f"job 'tidy': where is 5 (int); {SQL}"),
    "hold": ({"hold": True}, f"job 'tidy': hold is True (bool); {SQL}"),
    "action": ({"action": "archive"}, "job 'tidy': there is no action 'archive'; there is 'anonymize', 'clear', "),
    "one name": ({"unless_exists": "messages.chat_id"}, "unless_exists is 'messages.chat_id' (str); write a list of"),
    "no name": ({"unless_exists": [5]}, "job 'tidy': a name in unless_exists is 5 (int); name a column with a text"),
    "one column": ({"keep_latest": 1, "per": "user_id"}, "job 'tidy': per is 'user_id' (str); write a list of texts"),
    "erase": ({"erase": "yes"}, "job 'tidy': erase is 'yes' (str); write True or False"),
    "set": ({"set": ["email"], "action": "clear"}, "job 'tidy': set is ['email'] (list); write a mapping, such as"),
    "value": ({"set": {"email": b""}, "action": "clear"}, "set of column 'email' is b'' (bytes); write a text, a num"),
    "path": ({"path": 5}, "path of job 'tidy' is 5 (int); write a URL path"),
    "label": ({"label": 5}, "label of job 'tidy' is 5 (int); write a text"),
    "on_start": ({"on_start": "no"}, "on_start of job 'tidy' is 'no' (str); write True or False"),
    "pace": ({"pace": 5}, "job 'tidy': there is no pace '5'"),
    "fan out": ({"fan_out": "many"}, "fan_out of job 'tidy' is 'many' (str); write a number of rows: 500_000"),
    "no fan": ({"fan_out": 0}, "fan_out of job 'tidy' is 0; write a number of rows: 500_000"),
    "gentle fan": ({"fan_out": 9, "pace": "gentle"}, "fan_out of job 'tidy' asks for many workers, and pace 'gentle'"),
    "unknown": ({"wear": "x"}, "job 'tidy' has no field 'wear'; did you mean 'where'?"),
    "schedule": (
        {"schedule": 5, "every": None},
        "schedule of job 'tidy' is 5 (int); write cron('0 3 * * *') or every(",
    ),
    "cron": ({"schedule": "x", "every": None}, "job 'tidy': schedule 'x' has 1 fields"),
    "every": ({"every": 5}, "job 'tidy': a length of time of a schedule is 5 (int); write a text such as '10 minutes'"),
}


@pytest.mark.parametrize(("terms", "sentence"), ODD.values(), ids=ODD)
def test_a_value_of_another_kind_is_told_with_its_job_its_argument_and_the_remedy(terms, sentence):
    crew = Nightcrew(settings=Settings())
    with pytest.raises(ConfigurationError) as refused:
        crew.expire("tidy", "chats", **{"column": "created_at", "every": "1 hour", **terms})
    assert sentence in str(refused.value)
    assert not crew.jobs


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        ({"every": 5}, "job 'tidy': a length of time of a schedule is 5 (int); write a text such as"),
        ({"every": "1 hour", "enabled": 1}, "enabled of job 'tidy' is 1 (int); write True or False"),
        ({"every": "1 hour", "fan_out": 9}, "job 'tidy' is a function: fan_out cuts the rows of a policy"),
        ({"every": "1 hour", "labl": "x"}, "job 'tidy' has no field 'labl'; did you mean 'label'?"),
    ],
)
def test_a_function_is_registered_as_carefully(terms, sentence):
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        Nightcrew(settings=Settings()).job(name="tidy", **terms)(print)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: Job("tidy", "0 3 * * *", function=print), "schedule of job 'tidy' is '0 3 * * *' (str); write cron("),
        (lambda: Job("tidy", HOURLY, policy="users"), "policy of job 'tidy' is 'users' (str); write Policy("),
        (lambda: Job("tidy", HOURLY, function="print"), "function of job 'tidy' is 'print' (str); name a function"),
        (lambda: Job(5, HOURLY, function=print), "job name is 5 (int); write a text"),
        (
            lambda: Job("tidy", HOURLY, function=print, attempts=0),
            "attempts of job 'tidy' is 0; write a number from 1",
        ),
        (lambda: Job("tidy", HOURLY, function=print, attempts=True), "attempts of job 'tidy' is True; write a number"),
        (lambda: Job("tidy", HOURLY, function=print, attempts="3"), "attempts of job 'tidy' is '3' (str); write a num"),
        (
            lambda: Job("tidy", HOURLY, policy=POLICY, attempts=3),
            "job 'tidy' is a policy: attempts and backoff are",
        ),
        (lambda: Job("tidy", HOURLY, function=print, backoff="1 s"), "backoff of job 'tidy' goes with attempts; write"),
        (
            lambda: Job("tidy", HOURLY, function=print, attempts=3, backoff="2 hours"),
            "backoff of job 'tidy' is not within an hour; write '30 seconds'",
        ),
        (
            lambda: Job("tidy", HOURLY, function=print, attempts=3, backoff=timedelta(0)),
            "backoff of job 'tidy' is not within an hour; write '30 seconds'",
        ),
        (lambda: Nightcrew(settings=Settings(), jobs=["tidy"]), "registered as a job is 'tidy' (str); write Job("),
        (lambda: every(5.0), "is 5.0 (float); write a text such as '10 minutes', or timedelta(minutes=10)"),
        (lambda: RECIPES["cleanup-pkce"](name="states", older_than=5), "job 'states': older_than is 5 (int)"),
    ],
)
def test_a_job_of_the_wrong_parts_is_refused(made, sentence):
    with pytest.raises(ConfigurationError, match=re.escape(sentence)):
        made()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"deadline": 5.0}, "deadline of a run of job 'tidy' is 5.0 (float); write a timedelta, such as timedelta(sec"),
        ({"deadline": "50s"}, "deadline of a run of job 'tidy' is '50s' (str); write a timedelta"),
        ({"deadline": timedelta(seconds=-1)}, "deadline of a run of job 'tidy' is negative"),
        (
            {"slot": "2026-01-31T12:00Z"},
            "slot of a run of job 'tidy' is '2026-01-31T12:00Z' (str); write an aware date",
        ),
    ],
)
def test_a_run_is_asked_for_with_values_that_mean_something(given, sentence):
    crew = Nightcrew("sqlite:///never.db", settings=Settings())
    crew.job(every="1 hour", name="tidy")(print)
    with pytest.raises(UsageError, match=re.escape(sentence)):
        crew.run("tidy", **given)
    with pytest.raises(UsageError, match="until of a pause of job 'tidy' is '2h'"):
        crew.pause("tidy", by="me", reason="x", until="2h")


def test_a_run_that_names_no_trigger_is_manual(tmp_path):
    crew = Nightcrew(f"sqlite:///{tmp_path}/app.db", settings=Settings())
    crew.job(every="1 hour", name="tidy")(lambda run: 3)
    assert crew.run("tidy", now=True).trigger == "manual"
    crew.close()


def test_changes_reach_the_job_and_its_policy():
    job = Job("a", HOURLY, policy=POLICY).but(label="Accounts", older_than=timedelta(days=1), table="people")
    assert (job.label, job.policy.table, job.policy.older_than) == ("Accounts", "people", timedelta(days=1))


def test_an_unknown_change_names_the_nearest_field():
    with pytest.raises(ConfigurationError, match="did you mean 'older_than'"):
        Job("a", HOURLY, policy=POLICY).but(older_then=timedelta(days=1))
    with pytest.raises(ConfigurationError, match="no policy"):
        Job("a", HOURLY, function=print).but(table="x")


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_a_recipe_builds_the_job_it_is_called(name):
    given = {"table": "invitations"} if name == "delete-expired-rows" else {}
    job = RECIPES[name](**given)
    expected = "delete-expired-invitations" if given else name
    assert (job.name, job.policy is not None) == (expected, True)
    assert RECIPES[name](**given, older_than=timedelta(days=7)).policy.older_than == timedelta(days=7)


def test_the_seeds_schedules_and_paths_are_the_recipes_defaults():
    accounts, chats = RECIPES["delete-stale-deactivated-accounts"](), RECIPES["delete-stale-empty-chats"]()
    assert (accounts.schedule.expression, accounts.policy.older_than) == ("0 0 1 * *", timedelta(days=30))
    assert (chats.schedule.expression, chats.policy.older_than) == ("0 */12 * * *", timedelta(minutes=15))
    pkce = RECIPES["cleanup-pkce"]()
    assert (pkce.schedule.describe(), pkce.path, pkce.on_start) == ("every 10 minutes", "/api/oauth/cleanup-pkce", True)
