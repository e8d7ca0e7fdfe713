"""The URL of a mailer says where mail goes, or is told what is wrong with it."""

import re

import pytest

from nightcrew.clock import SystemClock
from nightcrew.errors import ConfigurationError
from nightcrew.mailers import address, mailer


@pytest.mark.parametrize(
    ("url", "place", "user"),
    [
        ("smtp://mail.example.com", "smtp://mail.example.com", None),
        ("smtp://me@mail.example.com:587", "smtp://mail.example.com", "me"),
        ("SMTP://me%40example.com@Mail.Example.com:25", "smtp://mail.example.com:25", "me@example.com"),
        ("smtps://me@example.com@mail.example.com", "smtps://mail.example.com", "me@example.com"),
        ("smtp://localhost:1025?starttls=off", "smtp://localhost:1025", None),
        ("smtp://me@[::1]:1025?starttls=off", "smtp://[::1]:1025", "me"),
        ("smtp://relay:25?starttls=off", "smtp://relay:25", None),
        ("file:///srv/mail", "file:///srv/mail", None),
        ("file:///srv/our%20mail/", "file:///srv/our mail", None),
        ("./mail", "file://mail", None),
        ("/srv/mail", "file:///srv/mail", None),
        ("resend://", "resend://api.resend.com", None),
        ("resend://127.0.0.1:8025?tls=off", "resend://127.0.0.1:8025", None),
    ],
)
def test_a_url_says_where_mail_goes(url, place, user):
    assert (str(address(url)), address(url).user) == (place, user)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "write 'smtp://"), ("mail.example.com", "write 'smtp://"), ("http://x", "write 'smtp://"),
        ("smtp:", "write 'smtp://"), ("smtp://", "no server"), ("smtp://me@", "no server"), ("smtp://a/x", "no server"),
        ("smtp://a:0", "cannot be read"), ("smtp://a:99999", "cannot be read"), ("smtp://[::1", "cannot be read"),
        ("smtp://a b", "cannot be read"), ("smtp://a\nb", "cannot be read"), ("smtp://me:hunter2@a", "option secret"),
        ("resend://re_hunter2@api.resend.com", "option secret"), ("smtp://a?startls=off", "did you mean 'starttls'"),
        ("smtps://a?starttls=off", "no option 'starttls'"), ("smtp://a?starttls=never", "'on' or 'off'"),
        ("smtp://me@a?starttls=off", "for all to read"), ("resend://api.resend.com?tls=off", "for all to read"),
        ("file://mail", "file:///srv/mail"), ("file:///", "file:///srv/mail"), ("/", "file:///srv/mail"),
        ("./", "file:///srv/mail"), ("file:///a%00b", "file:///srv/mail"),
    ],
)  # fmt: skip
def test_a_url_that_can_be_none_says_what_would_be(url, told):
    with pytest.raises(ConfigurationError, match=re.escape(told)) as error:
        address(url)
    assert "hunter2" not in str(error.value)


def test_a_secret_is_for_somebody_who_logs_in():
    with pytest.raises(ConfigurationError, match="leave its secret out"):
        mailer("file:///srv/mail", SystemClock(), secret="hunter2-hunter2")


@pytest.mark.parametrize(
    ("url", "secret", "told"),
    [
        ("smtp://me@a", None, "a user and no password"), ("smtps://me@a", "", "a user and no password"),
        ("smtp://a", "hunter2-hunter2", "write 'smtp://user@a'"), ("resend://", None, "no API key"),
        ("resend://", "re_hunter2\r\nX: y", "can be none"), ("resend://", "re_hünter2", "can be none"),
    ],
)  # fmt: skip
def test_whoever_logs_in_needs_a_secret(url, secret, told):
    with pytest.raises(ConfigurationError, match=re.escape(told)) as error:
        mailer(url, SystemClock(), secret=secret)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "idempotent"),
    [("smtp://me@a", False), ("smtps://me@a", False), ("resend://", True)],
)
def test_a_mailer_says_where_mail_goes_without_the_secret(url, idempotent):
    made = mailer(url, SystemClock(), secret="hunter2-hunter2")
    assert made.place == str(address(url))
    assert made.idempotent is idempotent
    assert "hunter2" not in f"{made!r} {made.place}"
