"""The link by which a person leaves a topic: whoever did not get it cannot make it, and it works for ever."""

import hmac
import re
import string
from base64 import urlsafe_b64decode, urlsafe_b64encode
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nightcrew.errors import ConfigurationError, UsageError
from nightcrew.settings import Settings
from nightcrew.unsubscribe import LONGEST_URL, PATH, headers, link, read, token

KEY, OTHER = "correct-horse-battery-staple", "another-horse-battery-staple"
SITE = "https://app.example.org"
SIGNS = string.ascii_letters + string.digits + "-_"
persons = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=63)
topics = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=16)


@given(persons, topics)
@example("a/b c?d=e&f#g", "news letters")
@example("9f1c2e34-0000-4000-8000-0123456789ab", "welcome")
@example("é" * 127, "t" * 64)
def test_a_link_is_read_as_it_was_made(person, topic):
    url = link(SITE, KEY, person, topic)
    assert re.fullmatch(rf"https://app\.example\.org{PATH}[A-Za-z0-9_-]+", url)
    assert read([KEY], url.removeprefix(SITE + PATH)) == (person, topic)


@given(persons, topics, st.data())
def test_a_token_with_any_sign_changed_is_none(person, topic, data):
    genuine = token(KEY, person, topic)
    at = data.draw(st.integers(0, len(genuine) - 1))
    sign = data.draw(st.sampled_from(SIGNS + "=+/. ~é"))
    changed = genuine[:at] + sign + genuine[at + 1 :]
    assert (read([KEY], changed) is None) == (changed != genuine)


def test_a_token_is_not_spelled_in_two_ways():
    """The last letter of base64 has bits that no byte needs."""
    for person in ("1", "12", "123"):
        genuine = token(KEY, person, "welcome")
        assert [sign for sign in SIGNS if read([KEY], genuine[:-1] + sign)] == [genuine[-1]]


@given(st.one_of(st.text(max_size=600), st.text(SIGNS, max_size=600)))
def test_whatever_else_a_stranger_writes_is_none(text):
    assert read([KEY], text) is None


@given(persons, topics, st.integers(0, 200))
def test_a_part_of_a_token_is_none_and_neither_is_more_than_one(person, topic, length):
    genuine = token(KEY, person, topic)
    assert read([KEY], genuine[: min(length, len(genuine) - 1)]) is None
    assert all(read([KEY], longer) is None for longer in (genuine + "A", genuine + "=", genuine + "\n", " " + genuine))


def test_where_the_topic_ends_cannot_be_moved():
    assert token(KEY, "bc", "a") != token(KEY, "c", "ab")
    assert read([KEY], token(KEY, "bc", "a")) == ("bc", "a")


def test_the_same_person_and_topic_have_the_same_link_for_ever():
    """This one was sent by the first version, and is in people's mailboxes."""
    assert token(KEY, "42", "welcome") == "AbKhf_8ffWF7eJYjvAEDlwEHd2VsY29tZTQy"
    assert read([KEY], "AbKhf_8ffWF7eJYjvAEDlwEHd2VsY29tZTQy") == ("42", "welcome")


def test_a_key_may_be_changed_while_links_of_the_one_before_still_work():
    old = token(OTHER, "42", "welcome")
    assert read([KEY, OTHER], old) == ("42", "welcome")
    assert [read(keys, old) for keys in ([KEY], [], [""], ["", KEY])] == [None] * 4


@pytest.mark.parametrize(
    ("person", "topic", "message"),
    [
        ("", "welcome", "a person of an unsubscribe link has 0 bytes, and is to have 1 to 255"),
        ("é" * 128, "welcome", "a person of an unsubscribe link has 256 bytes"),
        ("x" * 10_000_000, "welcome", "a person of an unsubscribe link has 10000000 bytes"),
        ("42", "", "a topic of an unsubscribe link has 0 bytes, and is to have 1 to 64"),
        ("42", "t" * 65, "a topic of an unsubscribe link has 65 bytes"),
        ("\ud800", "welcome", "a person of an unsubscribe link holds half a character"),
    ],
)
def test_what_no_link_can_carry_is_refused_in_a_sentence(person, topic, message):
    with pytest.raises(UsageError, match=message):
        link(SITE, KEY, person, topic)


@pytest.mark.parametrize(
    "base", ["https://app.example.org/", "https://app.example.org/under/a/mount", "http://[::1]:8000"]
)
def test_a_site_may_live_anywhere(base):
    assert link(base, KEY, "42", "welcome") == f"{base.rstrip('/')}{PATH}{token(KEY, '42', 'welcome')}"


@pytest.mark.parametrize(
    "base",
    ["", "app.example.org", "ftp://a.example", "https://", "https://a.example/?x=1", "https://a.example/#x",
     "https://a.example/>\r\nBcc: b@c.example", "https://a.example/\n", "https://u:p@a.example", "https://é.example",
     "javascript:alert(1)", "https://a.example/a b", "http://["],
)  # fmt: skip
def test_what_is_no_site_is_refused(base):
    with pytest.raises(UsageError, match="no address that links can start with"):
        link(base, KEY, "42", "welcome")


def test_a_link_that_no_header_can_hold_is_refused():
    with pytest.raises(UsageError, match=rf"characters, and {LONGEST_URL} at most"):
        link(f"{SITE}/{'x' * 800}", KEY, "p" * 255, "t")


def test_nothing_is_signed_with_no_key_and_nobody_who_signs_with_none_is_known():
    with pytest.raises(UsageError, match="NIGHTCREW_UNSUBSCRIBE_KEY"):
        link(SITE, "", "42", "welcome")
    payload = urlsafe_b64decode(token(KEY, "42", "welcome") + "=")[16:]
    signed = {key: hmac.digest(key.encode(), b"nightcrew unsubscribe " + payload, "sha256")[:16] for key in ("", KEY)}
    made = {key: urlsafe_b64encode(mark + payload).decode().rstrip("=") for key, mark in signed.items()}
    assert made[KEY] == token(KEY, "42", "welcome")
    assert read(["", KEY], made[""]) is None


def test_the_headers_are_those_of_one_click_and_come_back_whole_from_a_message():
    url = link(SITE, KEY, "p" * 255, "t" * 64)
    message = EmailMessage(policy=policy.SMTP.clone(max_line_length=998))
    for name, value in headers(url).items():
        message[name] = value
    parsed = message_from_bytes(message.as_bytes(), policy=policy.default)
    assert parsed["List-Unsubscribe"] == f"<{url}>"
    assert parsed["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert max(map(len, message.as_bytes().splitlines())) <= 998


def test_one_click_is_offered_over_https_only_but_on_a_developers_machine():
    url = link("http://localhost:8000", KEY, "42", "welcome")
    with pytest.raises(UsageError, match="needs a link with https, not http"):
        headers(url)
    assert headers(url, development=True)["List-Unsubscribe"] == f"<{url}>"
    with pytest.raises(UsageError):
        headers("javascript:alert(1)", development=True)


def test_the_keys_are_read_from_the_environment_and_never_shown(tmp_path):
    (tmp_path / "key").write_text(f"{OTHER}\n")
    settings = Settings.read(
        {"NIGHTCREW_UNSUBSCRIBE_KEY": f" {KEY} ", "NIGHTCREW_UNSUBSCRIBE_KEY_PREVIOUS_FILE": str(tmp_path / "key")}
    )
    assert settings.unsubscribe_keys == (KEY, OTHER)
    assert not any(key in repr(settings) for key in (KEY, OTHER))
    assert settings.censor(f"{KEY} and {OTHER}") == "*** and ***"
    assert Settings.read({}).unsubscribe_keys == ()
    assert Settings.read({"NIGHTCREW_UNSUBSCRIBE_KEY": "  "}).unsubscribe_keys == ()


@pytest.mark.parametrize("name", ["NIGHTCREW_UNSUBSCRIBE_KEY", "NIGHTCREW_UNSUBSCRIBE_KEY_PREVIOUS"])
def test_a_key_that_could_be_guessed_is_refused(name):
    with pytest.raises(ConfigurationError, match=f"{name} has 9 characters, and needs 16") as caught:
        Settings.read({"NIGHTCREW_UNSUBSCRIBE_KEY": KEY, name: "too-short"})
    assert "too-short" not in str(caught.value)
