"""People as applications keep them: whatever stands in a row, others get their mail, and nobody who said no does."""

import uuid
from contextlib import suppress
from dataclasses import replace
from threading import Barrier, BrokenBarrierError

import pytest
import sqlalchemy as sa
from tests.post import post
from tests.tray import SENT, Tray, enroll, people, send, states

from nightcrew.errors import UsageError
from nightcrew.letters.writer import recipient
from nightcrew.mail import People
from nightcrew.mailer import Delivery, Fate
from nightcrew.outcome import Outcome
from nightcrew.sent import State
from nightcrew.sequence import Person, Sequence, Step

ONE = Sequence("welcome", (Step("welcome"),))
MORE = Sequence("more", (Step("day3"),))
KINDS = {
    "words": ("VARCHAR(30)", "'False'", "'true'"),
    "letters": ("VARCHAR(30)", "'f'", "'t'"),
    "digits": ("VARCHAR(30)", "'0'", "'1'"),
    "times as text": ("VARCHAR(30)", "' '", "'2024-01-01'"),
    "booleans": ("BOOLEAN", "FALSE", "TRUE"),
    "numbers": ("DECIMAL(9,2)", "0", "1"),
}
OWN = {
    "sqlite": {},
    "postgresql": {"bits": ("BIT(1)", "B'0'", "B'1'"), "endless": ("timestamptz", "NULL", "'infinity'")},
    "mysql": {"bits": ("BIT(1)", "b'0'", "b'1'"), "dates of zeros": ("DATETIME", "'0000-00-00'", "'2024-01-01'")},
}
WAYS = [(kind, way) for kind, own in OWN.items() for way in {**KINDS, **own}]


def why(crew):
    return {each.person: (each.state, each.reason) for each in crew.mail.of_state(*State, limit=1000)}


@pytest.fixture
def said_by(engine, crew):
    """Return a crew for people, or preferences, one of whom says no and another yes, in a column of a type."""

    def make(tray, kind, no, yes, **terms):
        statements = (
            f"CREATE TABLE folk (id INT PRIMARY KEY, email VARCHAR(90), says {kind})",
            f"INSERT INTO folk VALUES (1, 'no@example.com', {no})",
            f"INSERT INTO folk VALUES (2, 'yes@example.com', {yes})",
        )
        with engine.begin() as connection:
            if engine.dialect.name == "mysql":
                connection.exec_driver_sql("SET sql_mode = ''")
            for statement in statements:
                connection.exec_driver_sql(statement)
        return crew(tray, *terms.pop("sequences", (ONE,)), people=People("folk", **terms))

    return make


@pytest.mark.parametrize(("database_url", "way"), WAYS, indirect=["database_url"])
def test_yes_and_no_are_read_as_applications_write_them(yard, engine, said_by, way):
    tray, told = Tray(), {**KINDS, **OWN[yard.kind]}[way]
    one = said_by(tray, *told, verified="says")
    enroll(one, engine, 1, 2)
    send(one)
    assert tray.addresses == ["yes@example.com"]


@pytest.mark.parametrize(("database_url", "way"), WAYS, indirect=["database_url"])
def test_a_preference_that_says_no_is_heeded_however_it_says_so(yard, engine, said_by, way):
    kind, no, yes = {**KINDS, **OWN[yard.kind]}[way]
    tray, steps = Tray(), replace(ONE, preference="says")
    one = said_by(tray, kind, no, yes, verified=True, preferences="folk.id", sequences=(steps,))
    enroll(one, engine, 1, 2)
    send(one)
    assert tray.addresses == ["yes@example.com"] or no == "NULL"


def test_keys_are_found_as_the_application_writes_them(engine, crew):
    """SQLAlchemy's Uuid is a text without hyphens where the database has no such type."""
    meta, key, tray = sa.MetaData(), uuid.uuid4(), Tray()
    table = sa.Table("folk", meta, sa.Column("id", sa.Uuid, primary_key=True), sa.Column("email", sa.String(50)))
    meta.create_all(engine)
    one = crew(tray, ONE, people=People("folk", True))
    with engine.begin() as connection:
        connection.execute(sa.insert(table).values(id=key, email="ada@example.com"))
        one.mail.enroll(connection, key, "welcome")
    send(one)
    assert tray.addresses == ["ada@example.com"]


def test_what_is_no_key_is_nobody_and_keeps_nobody_else_from_their_mail(yard, engine, crew):
    tray, odd = Tray(), ("abc", "1e3", " 1", "01", "1.0", "9" * 30, "-1", "1'; --", "%s", ":x", "\N{GRINNING FACE}")
    yard.fill("people", *people(1, 2))
    one = crew(tray, ONE)
    enroll(one, engine, *odd, 2)
    send(one)
    assert tray.addresses == ["p2@example.com"]
    assert states(one) == {State.SENT: 1, State.WAITING: len(odd)}


def test_a_predicate_that_fails_for_somebody_costs_nobody_their_mail(yard, engine, crew):
    tray = Tray()
    yard.fill("people", *people(1, 3, score=5), *people(2, score=0))
    one = crew(tray, Sequence("welcome", (Step("welcome", only_if="10 / score > 1"),)))
    enroll(one, engine, 1, 2, 3)
    report = send(one)
    assert tray.addresses == ["p1@example.com", "p3@example.com"]
    if yard.kind == "postgresql":  # elsewhere it is NULL, so that it does not hold
        assert report.outcome is Outcome.FAILED
        assert "what is kept of person 2 cannot be read" in report.message
        assert why(one)["2"][0] is State.WAITING


def test_a_template_that_fails_for_somebody_does_not_stop_the_others(yard, engine, crew, tmp_path):
    (tmp_path / "welcome.subject.txt").write_text("Hi {{ plan.title() }}")
    for name in ("txt", "html"):
        (tmp_path / f"welcome.{name}").write_text("{{ unsubscribe_url }}")
    tray = Tray()
    yard.fill("people", *people(*range(1, 251)), *people(0, plan=None))
    one = crew(tray, ONE, templates=tmp_path)
    enroll(one, engine, *range(251))
    report = send(one)
    assert report.outcome is Outcome.FAILED
    assert "has no attribute 'title'" in report.message
    assert states(one) == {State.SENT: 250, State.WAITING: 1}


def test_an_address_that_is_longest_in_small_letters_keeps_nobody_from_their_mail(yard, engine, crew):
    tray = Tray()
    yard.fill("people", people(1)[0] | {"email": "\u0390" * 200 + "@example.com"}, *people(2))
    one = crew(tray, ONE)
    enroll(one, engine, 1, 2)
    send(one)
    assert "p2@example.com" in tray.addresses


# ── whom nothing is sent to ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("Ada@B\u00dcCHER.example", "ada@xn--bcher-kva.example"),
        ("ada@xn--bcher-kva.example", "ada@b\u00fccher.example"),
        ("stra\u00dfe@example.com", "STRASSE@example.com"),
        ("e\u0301va@example.com", "\u00e9va@example.com"),
        ("ada@example.com", "Ada@Example.COM."),
        ('"ada"@example.com', "ada@example.com"),
    ],
)
def test_an_address_is_the_same_however_it_is_spelled(yard, engine, crew, kept, said):
    tray = Tray()
    yard.fill("people", people(1)[0] | {"email": kept})
    one = crew(tray, ONE)
    one.mail.suppress(address=said, by="a test")
    enroll(one, engine, 1)
    send(one)
    assert states(one) == {State.SUPPRESSED: 1}


@pytest.mark.parametrize(
    "address", ['"ada"@example.com', "ada(x)@example.com", '"a b"@example.com', "\u0130da@example.com"]
)
def test_an_address_that_was_none_is_asked_once(yard, engine, crew, address):
    asked = []
    tray = Tray(lambda letter: (asked.append(letter), Delivery(Fate.BOUNCED, "550 5.1.1"))[1])
    yard.fill("people", people(1)[0] | {"email": address})
    one = crew(tray, ONE, MORE, per_person=9)
    for sequence in (ONE, MORE):
        enroll(one, engine, 1, sequence=sequence.name)
        send(one)
    assert len(asked) <= 1


def test_two_people_of_one_address_may_bounce_at_once(yard, engine, crew):
    together = Barrier(2, timeout=1)

    def fate(letter):
        if letter.recipient.addr_spec != "both@example.com":
            return SENT
        with suppress(BrokenBarrierError):  # where both have come to one connection
            together.wait()
        return Delivery(Fate.BOUNCED, "550 5.1.1")

    rows = people(*range(10))
    rows[0]["email"] = rows[9]["email"] = "both@example.com"
    yard.fill("people", *rows)
    one = crew(Tray(fate), ONE, connections=2)
    enroll(one, engine, *range(10))
    assert send(one).outcome is Outcome.SUCCEEDED
    assert states(one) == {State.SENT: 8, State.FAILED: 2}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_address_of_any_letters_gets_its_mail_where_the_server_takes_it_and_else_fails_alone(yard, engine, crew):
    spelled = ["zoë@exämple.com", "иван@пример.рф", "用户@例子.广告", "ann@example.com"]
    yard.fill("people", *(people(n, name="Zoë 🎉")[0] | {"email": one} for n, one in enumerate(spelled)))
    with post(enable_SMTPUTF8=False) as plain, post() as wide:
        one = crew(plain.url(), ONE)
        enroll(one, engine, *range(4))
        assert send(one).outcome is Outcome.SUCCEEDED
        assert [each[1] for each in plain.letters] == [["ann@example.com"]]
        assert {person for person, (_, reason) in why(one).items() if "SMTPUTF8" in reason} == {"0", "1", "2"}
        other = crew(wide.url(), ONE)
        assert other.mail.retry(states=[State.FAILED]) == 3
        assert send(other).outcome is Outcome.SUCCEEDED
        arrived = {each[1][0]: each[2].decode() for each in wide.letters}
    assert sorted(arrived) == ["zoë@xn--exmple-cua.com", "иван@xn--e1afmkfd.xn--p1ai", "用户@xn--fsqu00a.xn--4rr70v"]
    assert all(f" <{spec}>\r\n" in content for spec, content in arrived.items())


@pytest.mark.parametrize("address", ["a\u200bë@x.example", "a\u3000b@x.example", "ë..ü@x.example", "ë;x@x.example"])
def test_what_only_looks_like_an_address_of_other_letters_is_none(address):
    with pytest.raises(UsageError):
        recipient(Person("1", address))
