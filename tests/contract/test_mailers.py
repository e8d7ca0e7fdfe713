"""What every mailer does, whatever its kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.headerregistry import Address
from email.message import EmailMessage
from pathlib import Path

import pytest
from tests.letters import letter, read
from tests.post import PASSWORD, USER, post
from tests.provider import KEY, provider

from nightcrew.clock import SystemClock
from nightcrew.mailer import Fate, Mailer
from nightcrew.mailers import mailer


class Way:
    """A mailer, and what has arrived by it."""

    def __init__(self, mailer: Mailer, arrived: Callable[[], list[EmailMessage]]) -> None:
        self.mailer = mailer
        self.arrived = arrived


@contextmanager
def by_folder(place: Path) -> Iterator[Way]:
    yield Way(mailer(f"file://{place}", SystemClock()), lambda: [read(f.read_bytes()) for f in sorted(place.iterdir())])


@contextmanager
def by_smtp(_: Path) -> Iterator[Way]:
    with post() as office:
        url = office.url(f"{USER}@")
        yield Way(mailer(url, SystemClock(), secret=PASSWORD), lambda: [read(each[2]) for each in office.letters])


@contextmanager
def by_resend(_: Path) -> Iterator[Way]:
    with provider() as resend:
        yield Way(mailer(resend.url, SystemClock(), secret=KEY), resend.messages)


WAYS = {"folder": by_folder, "smtp": by_smtp, "resend": by_resend}


@pytest.fixture(params=WAYS)
def way(request, tmp_path) -> Iterator[Way]:
    with WAYS[request.param](tmp_path / "mail") as way:
        yield way


def test_a_letter_arrives_whole(way):
    sent = letter(
        subject="Wëlcome", text="Hello Zoë\n\n.\n..dots\nFrom me\n" + "x" * 2000, html="<p>“Hello” 🎉</p>",
        recipient=Address("Zoë Müller", "zoe", "exämple.com"), reply_to=Address("Help", "help", "acme.example"),
        headers={"List-Unsubscribe": "<https://acme.example/u/1>"},
    )  # fmt: skip
    with way.mailer.connect() as connection:
        assert connection.deliver(sent).fate == Fate.SENT
    (found,) = way.arrived()
    text, html = (part.get_content().replace("\r\n", "\n") for part in found.iter_parts())
    assert (text.rstrip("\n"), html.rstrip("\n")) == (sent.text, sent.html)
    assert (found["subject"], found["list-unsubscribe"]) == ("Wëlcome", "<https://acme.example/u/1>")
    assert [found[name].addresses[0].addr_spec for name in ("from", "to", "reply-to")] == [
        "hello@acme.example", "zoe@xn--exmple-cua.com", "help@acme.example",
    ]  # fmt: skip
    assert found["to"].addresses[0].display_name == "Zoë Müller"


def test_one_connection_takes_many_letters(way):
    with way.mailer.connect() as connection:
        assert {connection.deliver(letter(f"n:{n}", subject=f"{n}")).fate for n in range(30)} == {Fate.SENT}
    assert sorted(int(found["subject"]) for found in way.arrived()) == [*range(30)]


def test_one_that_is_idempotent_delivers_a_letter_once(way):
    for _ in range(3):
        with way.mailer.connect() as connection:
            assert connection.deliver(letter()).fate == Fate.SENT
    assert len(way.arrived()) == (1 if way.mailer.idempotent else 3)


@pytest.mark.parametrize(
    "other",
    [
        {"recipient": Address("", "ann", "exa mple.com")}, {"headers": {"Bcc": "eve@evil.example"}},
        {"headers": {"X-A": "b\r\nBcc: eve@evil.example"}}, {"sender": Address("", "", "")},
        {"recipient": Address("", "ann\x0b", "example.com")}, {"key": "a\r\nb"},
    ],
)  # fmt: skip
def test_what_no_message_can_say_is_refused_and_the_next_one_goes(way, other):
    with way.mailer.connect() as connection:
        refused = connection.deliver(letter(**{"key": "first", **other}))
        assert (refused.fate, connection.deliver(letter()).fate) == (Fate.REFUSED, Fate.SENT)
    assert refused.reason
    assert "\n" not in refused.reason
    assert len(way.arrived()) == 1


def test_what_somebody_calls_themselves_is_a_name_and_nothing_else(way):
    name = "Ann\r\nBcc: eve@evil.example\r\n\r\n<script>alert(1)</script>"
    somebody = Address("", "ann", "example.com")
    object.__setattr__(somebody, "_display_name", name)  # which this class lets nobody do, but others may
    with way.mailer.connect() as connection:
        assert connection.deliver(letter(recipient=somebody, subject=name)).fate == Fate.SENT
    (found,) = way.arrived()
    assert found["bcc"] is None
    assert "<script>" in str(found["subject"])
    assert [each.addr_spec for each in found["to"].addresses] == ["ann@example.com"]
