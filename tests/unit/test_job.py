"""A job is a name, a schedule, and one thing to do."""

from datetime import timedelta

import pytest

from nightcrew import Job, Policy, every
from nightcrew.errors import ConfigurationError
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


def test_a_job_does_exactly_one_thing():
    with pytest.raises(ConfigurationError, match="either a policy or a function"):
        Job("a", HOURLY)
    with pytest.raises(ConfigurationError, match="either a policy or a function"):
        Job("a", HOURLY, policy=POLICY, function=print)


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
