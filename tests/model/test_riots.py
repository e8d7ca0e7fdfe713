"""Processes that are killed and frozen, with wrong clocks: no batch is done twice, and no slot is lost."""

import pytest
from tests import servers
from tests.conftest import fresh
from tests.model.riot import riot

SHORT, LONG = 4, 100  # seconds of riot on each database: `make test`, `make chaos`


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mysql"])
def test_whoever_is_killed_or_frozen_no_batch_is_doubled_and_no_slot_is_lost(kind, tmp_path, request, figure, campaign):
    """At length, the database is restarted twice meanwhile; a file has nothing to restart."""
    seed = request.config.getoption("--seed") or 0
    if campaign and kind in servers.KINDS:
        with servers.KINDS[kind]() as (url, restart):
            figures = riot(url, LONG, seed, restart)
    else:
        with fresh(kind, tmp_path) as url:
            figures = riot(url, LONG if campaign else SHORT, seed)
    figure(f"riot on {kind}", str(figures))
    assert (figures.doubled, figures.lost, figures.halved) == (0, 0, 0)
    assert figures.slots > 3
    assert not {"running", "partial"} & figures.states.keys()
