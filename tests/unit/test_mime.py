"""A letter is read back as it was written, and nobody can write more into it than is theirs to say."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email.headerregistry import Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.letters import ANN, SENDER, letter, person, read, said, texts

from nightcrew.errors import UsageError
from nightcrew.mailers.mime import mailbox, message, one_line

ODD = [
    "Zoë Müller", "日本 太郎", "שלום עולם", "مرحبا", "🎉 party 👩\u200d👩\u200d👧", 'O\'Brien "the cat" \\ <b>',
    "a, b; c: d@e.f", "=?utf-8?q?x?=", "(comment)", "trailing.", "a" * 200, "é" * 200, "word " * 40, "…",
    "\u202ereversed", "e\u0301",
]  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(
    st.lists(
        st.sampled_from(
            ["Hello", ".", "..", "From me", "=", " ", "\t", "é", "🎉", "x" * 1000, "<b>", "\n", "\r\n", "\r", "\0"]
        )
    )
)
def test_texts_of_such_lines_are_read_back(lines):
    texts_are_read_back("".join(lines), "\n".join(lines))


@given(TEXT, TEXT)
@example("", "")
@example("é" * 5000, "x" * 5000)
def test_texts_are_read_back(text, html):
    texts_are_read_back(text, html)


def texts_are_read_back(text: str, html: str) -> None:
    content = message(letter(text=text, html=html))
    assert texts(read(content)) == (lines(text), lines(html))
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 78
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content)


def lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(TEXT.filter(lambda name: len(name) < 200), TEXT)
@example("Ann\r\nBcc: eve@evil.example", "Hi\r\n\r\n<script>")
@example(" ", " =?utf-8?q?x?= ")
def test_names_and_subjects_are_read_back_on_one_line(name, subject):
    people = {"recipient": Address(one_line(name), "ann", "example.com")}
    content = message(letter(subject=subject, **people))
    assert said(content, "Subject") == one_line(subject, 1000)
    assert person(content, "To") == (one_line(name), "ann@example.com")
    assert len(read(content)["to"].addresses) == 1
    assert [*read(content)] == ["Date", "From", "To", "Subject", "Message-ID", "MIME-Version", "Content-Type"]
    assert content.isascii()
    assert max(map(len, content.split(b"\r\n"))) <= 78


@pytest.mark.parametrize("name", ODD)
def test_whoever_it_is_from_or_to_bears_their_name(name):
    people = {
        "sender": Address(name, "hello", "acme.example"), "recipient": Address(name, "ann", "example.com"),
        "reply_to": Address(name, "help", "acme.example"),
    }  # fmt: skip
    content = message(letter(subject=name, **people))
    specs = {"From": "hello@acme.example", "To": "ann@example.com", "Reply-To": "help@acme.example"}
    assert {header: person(content, header) for header in specs} == {
        header: (name.strip(), specs[header]) for header in specs
    }
    assert [len(read(content)[header].addresses) for header in specs] == [1] * 3
    assert said(content, "Subject") == name.strip()


def test_a_name_or_subject_without_end_is_cut():
    content = message(letter(subject="é" * 10**6, recipient=Address("é" * 10**6, "ann", "example.com")))
    assert said(content, "Subject") == "é" * 999 + "…"
    assert person(content, "To") == ("é" * 249 + "…", "ann@example.com")


def test_a_letter_has_the_same_bytes_whenever_it_is_written():
    first, other = message(letter()), message(letter("welcome/day3:2"))
    assert first == message(letter(date=letter().date.astimezone(timezone(timedelta(hours=5)))))
    assert read(first)["message-id"] == "<welcome/day3=1@acme.example>"
    assert read(other)["message-id"] == "<welcome/day3=2@acme.example>"
    assert read(first)["date"].datetime == datetime(2024, 6, 15, 12, 30, tzinfo=UTC)


@given(st.from_regex(r"[A-Za-z0-9_.:/-]{1,100}", fullmatch=True))
@example("..")
@example("a:b")
@example(":" * 100)
def test_any_key_makes_a_message_id(key):
    found = read(message(letter(key)))["message-id"]
    assert re.fullmatch(r"<[\w+=/-]+@acme\.example>", found)  # an atom, by RFC 5322 3.2.3
    assert found == f"<{key.replace(':', '=').replace('.', '+')}@acme.example>"


@pytest.mark.parametrize("key", ["", "a b", "a\r\nBcc: x", "é", "a" * 101, "a@b", "a>"])
def test_another_key_makes_none(key):
    with pytest.raises(UsageError, match="key"):
        message(letter(key))


def test_a_naive_date_is_none():
    with pytest.raises(UsageError, match="time zone"):
        message(letter(date=datetime(2024, 6, 15)))  # noqa: DTZ001 - this is what is refused


def test_headers_beside_the_usual_ones_are_written_as_they_are():
    url = f"<https://acme.example/u/{'x' * 300}>"
    headers = {
        "List-Unsubscribe": f"{url}, <mailto:u@acme.example>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }
    content = message(letter(headers={**headers, "X-Segment": "développeur", "X-Long": "a, b " * 60}))
    found = read(content)
    assert {name: found[name] for name in headers} == headers
    assert (found["x-segment"], found["x-long"]) == ("développeur", ("a, b " * 60).strip())
    assert url.encode() in content


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nBcc: eve@evil.example"), ("X-A", "b\nBcc: eve@evil.example"), ("X-A", "b\rc"), ("X-A", "b\0"),
        ("X-A", ""), ("X-A", " "), ("X-A", "x" * 2000), ("X-A: b\r\nBcc", "eve@evil.example"), ("X A", "b"), ("", "b"),
        ("X-É", "b"), ("Bcc", "eve@evil.example"), ("subject", "b"), ("FROM", "b"), ("Content-Type", "text/html"),
        ("X" * 80, "b"), ("X:", "b"),
    ],
)  # fmt: skip
def test_no_header_can_bring_others_along(name, value):
    with pytest.raises(UsageError, match="header"):
        message(letter(headers={name: value}))


@pytest.mark.parametrize(
    ("local", "domain"),
    [
        ("ann", ""), ("", "example.com"), ("a" * 65, "example.com"), ("ann", "exa mple.com"), ("ann", f"{'a' * 64}.de"),
        ("ann", ".".join(["a" * 60] * 5)), ("a\0b", "example.com"), ("a\tb", "example.com"), ("a\x85b", "example.com"),
        ("ann", "example.com> SIZE=1"), ("ann", "evil.example,b@example.com"), ("ann", "-a.com"), ("ann", "a..com"),
        ("ann", "[127.0.0.1]"), ("ann", "example.com\u2028x"), ("\ud800", "example.com"), ("ann", "\ud800.com"),
        ("a" * 64, ".".join(["a" * 60] * 4)), ("é" * 33, "example.com"),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(local, domain):
    for role in ("sender", "recipient", "reply_to"):
        with pytest.raises(UsageError, match="address"):
            message(letter(**{role: Address("", local, domain)}))


@pytest.mark.parametrize(
    ("address", "spelled"),
    [
        (Address("", "ann", "Example.COM"), "ann@Example.COM"),
        (Address("", "ann+tag", "localhost"), "ann+tag@localhost"),
        (Address("", "a> SIZE=1 <b", "example.com"), '"a> SIZE=1 <b"@example.com'),
        (Address("", 'a"b\\', "example.com"), '"a\\"b\\\\"@example.com'),
        (Address("", "ann", "münchen.example"), "ann@xn--mnchen-3ya.example"),
        (Address("", "ann", "MÜNCHEN.example"), "ann@xn--mnchen-3ya.example"),
        (Address("", "ann", "例え.jp"), "ann@xn--r8jz45g.jp"),
    ],
)
def test_an_address_is_spelled_as_servers_read_it(address, spelled):
    assert mailbox(address) == spelled
    assert read(message(letter(recipient=address)))["to"] == spelled


@pytest.mark.parametrize("domain", ["faß.de", "βόλος.com", "a\u200db.com", "example。com.", "\uff45xample.com"])
def test_no_domain_becomes_another(domain):
    """By the names of 2003, faß.de is fass.de, which is somebody else's."""
    with pytest.raises(UsageError, match="xn--"):
        mailbox(Address("", "ann", domain))


def test_only_an_address_that_is_not_ascii_makes_a_message_that_is_not():
    assert "To: zoë@example.com\r\n" in message(letter(recipient=Address("", "zoë", "example.com"))).decode()
    assert message(letter(recipient=Address("Zoë", "zoe", "exämple.com"))).isascii()


def test_a_quoted_name_in_an_address_brings_no_other_along():
    found = read(message(letter(sender=SENDER, recipient=Address('x" <eve@evil.example>, "', "ann", "example.com"))))
    assert [each.addr_spec for each in found["to"].addresses] == [ANN.addr_spec]
