"""What nightcrew.toml says of mail, and what it is told when it says something else."""

from datetime import timedelta

import pytest

from nightcrew import config
from nightcrew.errors import ConfigurationError
from nightcrew.sequence import DAY

MAIL = """
[nightcrew]
database = "sqlite:///acme.db"
timezone = "Europe/Paris"

[jobs.cleanup-pkce]
every = "10 minutes"
table = "states"
column = "expires_at"

[mail]
sender = "Acme <hello@acme.example>"
mailer = "file:///srv/mail"
base_url = "https://app.acme.example"
templates = "mails"
variables = { product = "Acme" }
segments = { enterprise = ["bigcorp.example"] }
schedule = "5 * * * *"

[mail.people]
table = "users"
verified = "email_verified_at"
zone = "timezone"
facts = ["plan"]
preferences = "preferences.user_id"
"""
STEPS = """
[sequences.welcome]
goal = "activated_at IS NOT NULL"
hours = "08:00-20:00"
days = ["mon", "tue"]
preference = "tips"
steps = [{ name = "welcome", arms = ["a", "b"] }, { name = "day3", after = "3 days", within = "1 day", was = ["d3"] }]
"""


@pytest.fixture
def read(tmp_path):
    """Read a text as a configuration."""

    def read(text, **environ):
        path = tmp_path / "nightcrew.toml"
        path.write_text(text)
        return config.read(path, environ)

    return read


def test_a_file_says_what_mail_is_sent(read, tmp_path):
    mail = read(MAIL + STEPS).mail
    assert (mail.sender, mail.mailer, mail.templates) == (
        "Acme <hello@acme.example>",
        "file:///srv/mail",
        tmp_path / "mails",
    )
    assert mail.people.columns == ("id", "email", "email_verified_at", "timezone", "plan")
    (sequence,) = mail.sequences
    assert (sequence.name, sequence.goal, sequence.hours) == ("welcome", "activated_at IS NOT NULL", "08:00-20:00")
    first, second = sequence.steps
    assert (first.name, first.after, first.within, first.arms) == ("welcome", timedelta(0), 2 * DAY, ("a", "b"))
    assert (second.name, second.after, second.within, second.was) == ("day3", 3 * DAY, DAY, ("d3",))
    assert (
        mail.schedule.describe() == "at minute 5 past every hour (Europe/Paris)"
        or mail.schedule.timezone == "Europe/Paris"
    )


def test_a_table_of_the_applications_own_is_taken_over_from(read):
    table = read(MAIL + STEPS + '[mail.scheduled_emails]\ntable = "emails"\nstep = "kind"\n').mail.scheduled_emails
    assert table.columns == ("user_id", "kind", "scheduled_for", "sent", "sent_at", "cancelled")
    for change, said in (
        ('sequence = "welcom"', "did you mean 'welcome'"),
        ('steps = "kind"', "mail.scheduled_emails: unknown key 'steps'; did you mean 'step'?"),
        ('due = "a\\"b"', "is no column name"),
    ):
        with pytest.raises(ConfigurationError, match=r"nightcrew\.toml:") as problem:
            read(f"{MAIL}{STEPS}[mail.scheduled_emails]\n{change}\n")
        assert said in str(problem.value)


def test_without_sequences_there_is_the_one_of_a_new_account(read):
    (sequence,) = read(MAIL).mail.sequences
    assert [(step.name, step.after) for step in sequence.steps] == [
        ("welcome", timedelta(0)),
        ("day3", 3 * DAY),
        ("day7", 7 * DAY),
    ]


def test_a_secret_and_a_mailer_of_a_variable_are_looked_at_when_they_are_needed(read):
    text = MAIL.replace('"file:///srv/mail"', '"${MAILER}"\nsecret = "${PASSWORD}"')
    mail = read(text).mail
    with pytest.raises(ConfigurationError, match=r"nightcrew.toml:\d+: .*MAILER"):
        mail.mailer()
    mail = read(text, MAILER="file:///tmp/mail", PASSWORD="hunter2-hunter2").mail
    assert (mail.mailer(), mail.secret()) == ("file:///tmp/mail", "hunter2-hunter2")
    assert "hunter2" not in repr(mail)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("sender =", "sendr ="), "mail: unknown key 'sendr'; did you mean 'sender'?"),
        (('sender = "Acme <hello@acme.example>"\n', ""), "mail: sender is missing"),
        (("hello@acme.example", "hello"), "which is no address"),
        (("file:///srv/mail", "smpt://mail.example"), "mail: url 'smpt://mail.example' is no way out for mail"),
        (('base_url = "https://app.acme.example"', 'base_url = "app"'), "mail: base_url is 'app'"),
        (('table = "users"\n', ""), "mail.people: table is missing"),
        (('verified = "email_verified_at"\n', ""), "mail.people: verified is missing"),
        (('zone = "timezone"', 'zone = "time\'zone"'), "mail.people"),
        (("[mail.people]", "[mail.persons]"), "nobody says who people are"),
        (('hours = "08:00-20:00"', 'hours = "8-20"'), "sequence 'welcome': hours '8-20'"),
        (('"mon", "tue"', '"mon", "tun"'), "sequence 'welcome': days are mon"),
        (('after = "3 days"', 'after = "3 moons"'), "sequence 'welcome': duration '3 moons'"),
        (('name = "day3", ', ""), "sequence 'welcome': a step is no table with a name"),
        (('within = "1 day"', 'withn = "1 day"'), "sequence 'welcome': unknown key 'withn'; did you mean 'within'?"),
        (('was = ["d3"]', 'was = ["welcome"]'), "two steps that are, or were, called 'welcome'"),
        (
            ('schedule = "5 * * * *"', 'schedule = "5 * * * *"\nevery = "1 hour"'),
            "schedule and every exclude each other",
        ),
        (('["bigcorp.example"]', '["@bigcorp"]'), "is no domain"),
        (('preferences = "preferences.user_id"\n', ""), "nobody says which table"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(read, change, said):
    text = (MAIL + STEPS).replace(*change)
    assert text != MAIL + STEPS
    with pytest.raises(ConfigurationError) as problem:
        read(text)
    assert said in str(problem.value)
    assert "nightcrew.toml:" in str(problem.value)


def test_sequences_without_mail_are_for_nobody(read):
    with pytest.raises(ConfigurationError, match="nobody says how mail is sent"):
        read(MAIL[: MAIL.index("[mail]")] + STEPS)


def test_a_file_that_is_about_mail_alone_needs_no_other_job(read):
    before, _, after = MAIL.partition("[jobs.cleanup-pkce]")
    assert read(before + "[mail]" + after.partition("[mail]")[2]).mail is not None
