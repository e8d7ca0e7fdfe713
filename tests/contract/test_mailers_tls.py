"""Letters and logins go encrypted, to whoever proves to be the server that was meant."""

import ssl

import pytest
from tests.letters import letter
from tests.post import HOST, PASSWORD, USER, Authority, Talk, post, scripted

from nightcrew.clock import SystemClock
from nightcrew.errors import MailerError
from nightcrew.mailer import Fate
from nightcrew.mailers import mailer


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority, monkeypatch):
    """An authority that this machine trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


def deliver(url: str, *, secret: str | None = None) -> Fate:
    with mailer(url, SystemClock(), secret=secret).connect() as connection:
        return connection.deliver(letter()).fate


def starttls(context: ssl.SSLContext):
    return post(tls_context=context, require_starttls=True, auth_require_tls=True, auth_required=True)


def implicit(context: ssl.SSLContext):
    return post(ssl_context=context)


def url_of(office, kind: str, user: str = "") -> str:
    return f"{kind}://{user}{HOST}:{office.port}"


def test_a_login_goes_encrypted(trusted):
    with starttls(trusted.context(HOST)) as office:
        assert deliver(url_of(office, "smtp", f"{USER}@"), secret=PASSWORD) == Fate.SENT
        assert len(office.letters) == 1
        with pytest.raises(MailerError, match="refused the login"):
            deliver(url_of(office, "smtp", f"{USER}@"), secret="hunter2-hunter2")


def test_a_server_may_be_encrypted_from_the_first_word(trusted):
    with (
        implicit(trusted.context(HOST)) as office,
        mailer(url_of(office, "smtps"), SystemClock()).connect() as connection,
    ):
        assert [connection.deliver(letter(str(n), text="x\n" * 100_000)).fate for n in range(3)] == [Fate.SENT] * 3
        assert office.connections == 1


@pytest.mark.parametrize(("kind", "served"), [("smtp", starttls), ("smtps", implicit)])
@pytest.mark.parametrize(
    ("name", "days", "told"),
    [
        ("mail.acme.example", 1, "IP address mismatch"),
        (HOST, -1, "certificate has expired"),
    ],
)
def test_a_certificate_that_is_another_s_or_old_ends_it(trusted, kind, served, name, days, told):
    with served(trusted.context(name, days=days)) as office:
        with pytest.raises(MailerError, match=f"does not prove who it is .*{told}.*SSL_CERT_FILE") as error:
            deliver(url_of(office, kind, f"{USER}@"), secret=PASSWORD)
        assert not error.value.transient
        assert office.letters == []


@pytest.mark.parametrize(("kind", "served"), [("smtp", starttls), ("smtps", implicit)])
def test_a_certificate_that_nobody_known_has_given_ends_it(authority, kind, served):
    with served(authority.context(HOST)) as office:
        with pytest.raises(MailerError, match=r"self-signed|unable to get local issuer"):
            deliver(url_of(office, kind))
        assert office.letters == []


def test_a_server_that_does_not_offer_to_encrypt_is_told_nothing():
    heard = []

    def script(talk: Talk) -> None:
        talk.greet("AUTH PLAIN LOGIN", "PIPELINING")
        heard.append(talk.lines.read())

    with (
        scripted(script) as url,
        pytest.raises(MailerError, match=r"does not offer to encrypt \(STARTTLS\).*smtps://.*starttls=off"),
    ):
        deliver(url.replace("//", f"//{USER}@").removesuffix("?starttls=off"), secret=PASSWORD)
    assert heard == [b""]


@pytest.mark.parametrize("answer", ["454 TLS not available", "502 not here"])
def test_a_server_that_will_not_encrypt_after_all_is_told_nothing(answer):
    heard = []

    def script(talk: Talk) -> None:
        talk.greet("STARTTLS", "AUTH PLAIN")
        talk.hear("STARTTLS")
        talk.say(answer)
        heard.append(talk.lines.read())

    with scripted(script) as url, pytest.raises(MailerError, match=answer):
        deliver(url.removesuffix("?starttls=off"))
    assert heard == [b""]


def test_what_somebody_slips_in_before_it_is_encrypted_is_not_heard():
    """CVE-2011-0411 the other way round: answers that a stranger has put behind the server's own."""

    def script(talk: Talk) -> None:
        talk.greet("STARTTLS")
        talk.hear("STARTTLS")
        talk.say("220 go ahead", "250-mail.evil.example", "250 AUTH PLAIN")
        talk.lines.read()

    with scripted(script) as url, pytest.raises(MailerError, match="spoke in clear"):
        deliver(url.removesuffix("?starttls=off"))


def test_a_server_that_is_not_encrypted_from_the_first_word_is_told(trusted):
    with post() as office, pytest.raises(MailerError, match=r"does not speak TLS there .*465.*587"):
        deliver(url_of(office, "smtps"))


def test_a_server_that_hangs_up_instead_of_encrypting_is_told(trusted):
    def script(talk: Talk) -> None:
        talk.greet("STARTTLS")
        talk.hear("STARTTLS")
        talk.say("220 go ahead")

    with scripted(script) as url, pytest.raises(MailerError, match="smtp://") as told:
        deliver(url.removesuffix("?starttls=off"))
    assert told.value.transient


def test_an_encrypted_connection_that_was_closed_meanwhile_costs_no_letter(trusted):
    context = trusted.context(HOST)

    def script(talk: Talk) -> None:
        talk.greet("STARTTLS")
        talk.hear("STARTTLS")
        talk.say("220 go ahead")
        talk.lines.close()
        talk.connection = context.wrap_socket(talk.connection, server_side=True)
        talk.lines = talk.connection.makefile("rb")
        talk.hear("EHLO")
        talk.say("250 here")
        talk.take()

    with scripted(script, script) as url:
        way = mailer(url.removesuffix("?starttls=off"), SystemClock())
        with way.connect() as connection:
            assert [connection.deliver(letter(str(n))).fate for n in range(2)] == [Fate.SENT] * 2
