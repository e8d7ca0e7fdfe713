"""Frames that are not what they were: an undo says which, and puts back nothing of the run before all can be read."""

from datetime import timedelta

import pytest

from nightcrew import Nightcrew, Settings
from nightcrew.archives import frame
from nightcrew.databases.tables import frames
from nightcrew.errors import ArchiveError
from nightcrew.outcome import Outcome
from nightcrew.stores.memory import Memory

KEY = "ab" * 32
USERS = 12


class Site:
    """A crew whose runs leave one frame a batch, of few rows each."""

    def __init__(self, url, vault, key):
        self.url, self.vault = url, vault
        self.crew = self.opened(key)
        self.engine = self.crew._station.link.engine

    def opened(self, key):
        crew = Nightcrew(self.url, settings=Settings(archive_key=key), blobs={"vault": self.vault}, archive="vault")
        terms = {"archive": timedelta(days=7), "max_fraction": 1, "max_rows": USERS}
        crew.expire("purge", "users", column="left_at", schedule="0 0 1 * *", **terms)
        return crew

    def fill(self, first=1):
        with self.engine.begin() as connection:
            for user in range(first, first + USERS):
                connection.exec_driver_sql(f"INSERT INTO users VALUES ({user}, '2020-01-01 00:00:00')")

    def purged(self):
        report = self.crew.run("purge", now=True)
        assert report.outcome is Outcome.SUCCEEDED, report.message
        with self.engine.connect() as connection:
            found = connection.execute(frames.select().where(frames.c.run == report.run).order_by(frames.c.id))
            return report.run, [row.key for row in found]

    def ids(self):
        with self.engine.connect() as connection:
            return connection.exec_driver_sql("SELECT id FROM users ORDER BY id").scalars().all()


@pytest.fixture(params=[KEY, None], ids=["sealed", "open"])
def key(request):
    return request.param


@pytest.fixture
def site(database_url, key, monkeypatch):
    monkeypatch.setattr("nightcrew.databases.copies._MOST_BYTES", 200)  # a batch of more is taken in smaller ones
    site = Site(database_url, Memory(), key)
    site.crew.migrate()
    with site.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (id INTEGER PRIMARY KEY, left_at TIMESTAMP NULL)")
        connection.exec_driver_sql("CREATE INDEX users_left ON users (left_at)")
    site.fill()
    yield site
    site.crew.close()


def _swapped(vault, own, others):
    first, last = vault.get(own[0]), vault.get(own[-1])
    vault.put(own[0], last)
    vault.put(own[-1], first)
    return own[-1]


def _of_another_run(vault, own, others):
    vault.put(own[0], vault.get(others[0]))
    return own[0]


def _cut(vault, own, others):
    vault.put(own[0], vault.get(own[0])[:-1])
    return own[0]


def _one_bit(vault, own, others):
    data = bytearray(vault.get(own[0]))
    data[len(data) // 2] ^= 1
    vault.put(own[0], bytes(data))
    return own[0]


def _gone(vault, own, others):
    vault.remove([own[0]])
    return own[0]


def test_a_run_of_which_one_frame_is_harmed_does_not_come_back_by_half(site):
    run, own = site.purged()
    site.fill(100)
    _, others = site.purged()
    assert len(own) > 2
    before = {name: site.vault.get(name) for name in own}
    for harm in (_swapped, _of_another_run, _cut, _one_bit, _gone):
        harmed = harm(site.vault, own, others)
        for restore in (False, True):
            with pytest.raises(ArchiveError, match=rf"frame {harmed} of the archive .* (is damaged|is not there)"):
                site.crew.undo(run, restore=restore)
        assert site.ids() == [], harm
        for name, data in before.items():
            site.vault.put(name, data)
    assert site.crew.undo(run, restore=True).back == USERS
    assert site.ids() == [*range(1, USERS + 1)]


def test_a_frame_of_a_newer_format_is_left_to_who_reads_it(site, monkeypatch):
    monkeypatch.setattr(frame, "FORMAT", 2)
    run, own = site.purged()
    assert len(own) > 2
    monkeypatch.undo()
    for restore in (False, True):
        with pytest.raises(ArchiveError, match="of format 2, which another version of nightcrew reads"):
            site.crew.undo(run, restore=restore)
    assert site.ids() == []
