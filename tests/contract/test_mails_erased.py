"""Who is erased is forgotten where mail is kept, too: what they were enrolled in, their mails, and what they left."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa
from tests.tray import KEY, PEOPLE, PREFERENCES, WELCOME, Tray, application, mail, people

from nightcrew import Nightcrew, Settings
from nightcrew.databases.tables import enrolments, mails, suppressions

NAME = "process-scheduled-emails"


@pytest.fixture
def crew(yard):
    """Three people, all of them enrolled and welcomed; two have left the sequence by its link."""
    yard.run(PEOPLE, PREFERENCES)
    url = yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)
    settings = Settings(cloud_deploy=True, unsubscribe_key=KEY, erasure_key="an erasure key of a test")
    crew = Nightcrew(url, settings=settings, mail=mail(Tray(), WELCOME))
    terms = {"older_than": timedelta(days=3650), "erase": True, "max_fraction": 1, "allow_unindexed": True}
    crew.expire("forget", "people", column="verified_at", schedule="0 0 1 1 *", **terms)
    crew.migrate()
    yard.fill("people", *people(1, 11, 2))
    engine = application(url)
    with engine.begin() as connection:
        for person in (1, 11, 2):
            crew.mail.enroll(connection, person, "welcome")
    engine.dispose()
    crew.run(NAME, now=True)
    for person in (1, 11):
        crew.mail.opt_out(person, "welcome")
    crew.mail.suppress(address="p1@example.com", reason="complained", by="a test")
    yield crew
    crew.close()


def kept(yard) -> dict[str, list[str]]:
    """Return whom the tables of mail know, by table."""
    columns = {"enrolments": enrolments.c.person, "mails": mails.c.person, "suppressions": suppressions.c.subject}
    with yard.link.transaction(writes=False) as connection:
        return {
            name: sorted(set(connection.execute(sa.select(column)).scalars())) for name, column in columns.items()
        }  # fmt: skip


def test_an_erased_person_is_in_no_table_of_mail_and_the_receipt_counts_it(yard, crew):
    closed = crew.erase(1, by="a test")
    assert closed.state == "complete"
    (own,) = [part for part in json.loads(closed.receipt)["parts"] if part["what"] == "mails"]
    assert own["removed"] == 1 + len(WELCOME.steps) + 1
    assert kept(yard) == {
        "enrolments": ["11", "2"],
        "mails": ["11", "2"],
        "suppressions": ["a:p1@example.com", "p:11"],
    }


def test_an_erasure_by_its_job_takes_everybodys_along(yard, crew):
    with yard.link.transaction() as connection:
        connection.execute(sa.text("UPDATE people SET verified_at = '2001-01-01 00:00:00' WHERE id IN (1, 11)"))
    assert crew.run("forget", now=True).deleted == 2
    assert kept(yard)["mails"] == ["2"]
