"""By which ways people hear of alarms: exact requests and letters, what becomes of those that fail, and the cost."""

import base64
import hashlib
import hmac
import json
import logging
import subprocess
import sys
import threading
import time
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.alarms import HOUR, MINUTE, SIGNED, age, broken, crew_of, hook, late, ran, rows, stand, told, well
from tests.outside import serving
from tests.post import PASSWORD, Post, post
from tests.tray import KEY, mail

from nightcrew import Nightcrew, Settings, config, telling
from nightcrew.alarm import Alarm, Kind, Notice, Stage, trial
from nightcrew.channels import Letter, Slack, Webhook
from nightcrew.channels.webhook import signature
from nightcrew.cli import nightcrew
from nightcrew.clock import SystemClock
from nightcrew.console.desk import Desk
from nightcrew.console.line import run
from nightcrew.errors import ChannelError, ConfigurationError
from nightcrew.triggers import lookout

TOKEN = "services/T0/B0/a-token-that-nobody-may-see"


@pytest.fixture
def service():
    with serving() as service:
        yield service


@pytest.fixture
def crews(tmp_path):
    """Make crews over one file, and close them."""
    made = []

    def make(*channels, **more):
        crew = crew_of(f"sqlite:///{tmp_path}/x.db", *channels, **more)
        made.append(crew)
        return crew

    yield make
    for crew in made:
        crew.close()


class Own:
    """A channel of an application's own."""

    def __init__(self, act, name="own"):
        self.act, self.name, self.secrets = act, name, ()

    def tell(self, notice, means):
        self.act(notice)


# ── the exact requests ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_webhook_is_json_that_is_signed_as_the_standard_has_it(crews, service):
    crew = crews(hook(service, "/alarms?to=ops"))
    late(crew)
    crew.alarms.look()
    ((method, path, query, headers, body),) = service.asked
    assert (method, path, query) == ("POST", "/alarms", {"to": ["ops"]})
    assert headers["content-type"] == "application/json"
    said = json.loads(body)
    assert said["type"] == "nightcrew.alarm.raised"
    assert said["data"]["kind"] == "late"
    assert said["data"]["job"] == "hourly"
    assert said["data"]["message"].endswith("and nobody has run it")
    assert "nightcrew run hourly" in said["data"]["remedy"]
    key = base64.b64decode(SIGNED.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 30
    assert "." not in headers["webhook-id"]


def test_a_signature_is_that_which_the_libraries_of_the_standard_make(service):
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    notice = trial(SystemClock().now(), "x")
    for secret in (SIGNED, SIGNED.removeprefix("whsec_")):
        Webhook(f"{service.url}/a", secret).tell(notice, telling.Means(SystemClock(), None))
    for *_, headers, body in service.asked:
        assert headers["webhook-signature"] == signature(key, notice.id, headers["webhook-timestamp"], body.encode())


def test_slack_is_told_in_a_text_in_which_nothing_has_a_meaning(crews, service):
    at = SystemClock().now()
    alarm = Alarm(Kind.FAILING, "a<b>&c", at, "failed: <!channel> & <https://evil.example|here>", "look")
    Slack(f"{service.url}/{TOKEN}").tell(Notice("i", Stage.RAISED, alarm, at), telling.Means(SystemClock(), None))
    ((method, path, _, _, body),) = service.asked
    assert (method, path) == ("POST", f"/{TOKEN}")
    text = json.loads(body)["text"]
    assert text.startswith("[nightcrew] a&lt;b&gt;&amp;c is failing\n")
    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|here&gt;" in text
    assert "<" not in text


def test_a_letter_is_plain_text_to_each_by_the_crews_mailer_and_one_that_bounces_is_tried_alone(crews, monkeypatch):
    monkeypatch.setattr(telling, "_REST", telling._REST * 0)
    settings = Settings(ticker=False, unsubscribe_key=KEY)
    with post() as server:
        told_to = Letter(["ops@acme.example", "Ada <ada@acme.example>"])
        crew = crews(told_to, mail=mail(server.url()), settings=settings)
        late(crew)
        monkeypatch.setattr(Post, "handle_RCPT", _choosy(Post.handle_RCPT))
        crew.alarms.look()
        assert rows(crew)[0].wrong.startswith("mail to ada@acme.example: it is deferred: ")
        crew.alarms.look()
        crew.alarms.look()
    assert sorted(who for _, (who,), _ in server.letters) == ["ada@acme.example", "ops@acme.example"]
    letter = message_from_bytes(server.letters[0][2], policy=default)
    assert letter.get_content_type() == "text/plain"
    assert letter["subject"] == "[nightcrew] hourly is late"
    assert letter["auto-submitted"] == "auto-generated"
    assert letter["from"] == "Acme <hello@acme.example>"
    assert "nobody has run it; see that a process with the ticker runs" in letter.get_content().replace("\n", " ")
    assert rows(crew)[0].reached == ("mail to ada@acme.example", "mail to ops@acme.example")


def _choosy(take):
    """Put off the first letter to Ada, whichever connection comes first."""
    seen = []

    async def handle(self, server, session, envelope, address, options):
        self.says["RCPT"] = []
        if address.startswith("ada") and not seen:
            seen.append(address)
            return "451 4.3.0 later"
        return await take(self, server, session, envelope, address, options)

    return handle


def test_a_crew_without_mail_says_that_no_letter_can_leave(crews):
    crew = crews(Letter(["ops@acme.example"]))
    assert crew.alarms.test() == {
        "mail to ops@acme.example": "nobody says how mail is sent; write a table [mail], or Nightcrew(mail=…)"
    }


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_fails_is_tried_again_by_itself_with_the_same_id_and_not_for_ever(crews, service, monkeypatch):
    heard, fails = [], [ChannelError("no")] * 20
    own = Own(lambda notice: fails and (_ for _ in ()).throw(fails.pop()))
    crew, other = (crews(hook(service), own, listeners=[heard.append]) for _ in range(2))
    service.status = [500]
    late(crew)
    crew.alarms.look()
    (row,) = rows(crew)
    assert (row.wrong, row.told_at) == ("webhook: it answered 500; own: no", None)
    crew.alarms.look()
    assert len(service.asked) == 1, "it waits"
    for _ in range(10):
        for one in (crew, other):
            age(crew, lease_until=MINUTE)
            one.alarms.look()
    assert len(service.asked) == 2
    assert service.asked[0][3]["webhook-id"] == service.asked[1][3]["webhook-id"]
    assert service.asked[0][4] == service.asked[1][4], "what is tried again says the same"
    (row,) = rows(crew)
    assert (row.attempts, row.due_at, row.reached) == (8, None, ("webhook",))
    assert [entry.kind for entry in heard if entry.kind == "alarm_untold"] == ["alarm_untold"] * 2
    assert len(fails) == 20 - 8


def test_whoever_dies_between_the_claim_and_the_telling_is_followed_after_the_lease(yard, service):
    url = yard.link.engine.url.set(drivername=yard.kind).render_as_string(hide_password=False)
    crew = crew_of(url, hook(service))
    try:
        late(crew)
        code = (
            "import os, signal, sys\n"
            "from tests.alarms import crew_of\n"
            "class Dies:\n"
            "    name, secrets = 'webhook', ()\n"
            "    def tell(self, notice, means): os.kill(os.getpid(), signal.SIGKILL)\n"
            "crew_of(sys.argv[1], Dies()).alarms.look()\n"
        )
        root = Path(__file__).parents[2]
        died = subprocess.run([sys.executable, "-c", code, url], cwd=root, check=False, capture_output=True, text=True)
        assert died.returncode == -9, died.stderr
        crew.alarms.look()
        assert not service.asked, "its lease is in force"
        assert rows(crew)[0].attempts == 1
        age(crew, lease_until=telling.LEASE * 0)
        crew.alarms.look()
        assert told(service) == [("raised", "late", "hourly")]
    finally:
        crew.close()


def test_a_channel_that_hangs_is_given_up_soon_and_what_it_took_after_all_is_not_sent_again(
    crews, service, monkeypatch
):
    monkeypatch.setattr(telling, "_PATIENCE", 0.3)
    service.go.clear()
    heard = []
    crew = crews(hook(service), Own(heard.append))
    late(crew)
    begun = time.perf_counter()
    crew.alarms.look()
    assert time.perf_counter() - begun < 2
    assert rows(crew)[0].reached == ("own",), "another channel does not wait for it"
    age(crew, lease_until=MINUTE)
    service.go.set()
    time.sleep(0.3)
    crew.alarms.look()
    assert len(service.asked) == len(heard) == 1
    assert rows(crew)[0].reached == ("own", "webhook")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_channel_that_ends_its_thread_is_asked_again(crews, monkeypatch):
    monkeypatch.setattr(telling, "_PATIENCE", 0.3)
    asked = []

    def leaves(notice):
        asked.append(notice.id)
        if len(asked) == 1:
            raise SystemExit

    crew = crews(Own(leaves))
    late(crew)
    crew.alarms.look()
    age(crew, lease_until=MINUTE)
    crew.alarms.look()
    assert rows(crew)[0].reached == ("own",)
    assert asked == [asked[0]] * 2


def test_a_look_delays_no_run_and_fails_none(crews, service, monkeypatch, tmp_path):
    monkeypatch.setattr(lookout, "PERIOD", 0.05)
    service.go.clear()
    heard = []
    crew = crews(hook(service), settings=Settings(), listeners=[heard.append])
    ran_at = []
    crew.job(every="1 second", name="often")(lambda run: ran_at.append(time.monotonic()))
    late(crew)
    crew.start()
    service.wait(1)
    begun = time.monotonic()
    while len(ran_at) < 3 and time.monotonic() - begun < 10:
        time.sleep(0.05)
    assert time.monotonic() - begun < 4.5, "three slots of a second each"
    begun = time.monotonic()
    crew.stop()
    assert time.monotonic() - begun < 4
    assert not [entry for entry in heard if entry.kind in ("look_failed", "tick_failed", "failed")]


def test_a_look_that_fails_is_told_and_no_more(crews, service):
    heard = []
    crew = crews(hook(service), listeners=[heard.append])
    with crew._station.link.transaction() as connection:
        connection.exec_driver_sql("DROP TABLE nightcrew_alarms")
    for _ in range(3):
        crew.alarms.watch(threading.Event())
    (failed,) = [entry for entry in heard if entry.kind == "look_failed"]
    assert "nightcrew_alarms" in failed.facts["error"]


def test_no_secret_is_in_any_log_error_table_or_answer(crews, service, caplog, monkeypatch):
    monkeypatch.setattr(telling, "_REST", telling._REST * 0)
    service.status = [302, 500, 404]
    url = f"{service.url}/{TOKEN}"

    def quotes(notice):
        raise RuntimeError(url)

    def says(notice):
        raise ChannelError(f"{url} and {SIGNED} are wrong")

    heard = []
    channels = (
        Slack(url),
        Webhook(url, SIGNED),
        Own(quotes),
        Own(says, "other"),
        Slack(f"https://127.0.0.1:9/{TOKEN}", "gone"),
    )
    with caplog.at_level(logging.DEBUG):
        crew = crews(*channels, listeners=[heard.append], function=lambda run: (_ for _ in ()).throw(ValueError(url)))
        late(crew)
        said = crew.alarms.test()
        crew.alarms.look()
        kept = rows(crew)
    assert "/elsewhere" not in [path for _, path, *_ in service.asked]
    assert said["own"] == "RuntimeError"
    assert said["gone"].startswith("it does not answer (")
    everything = f"{said} {heard} {kept} {caplog.text} {channels!r}"
    assert "alarm raised could not be told" in caplog.text
    for secret in (TOKEN, SIGNED, SIGNED.removeprefix("whsec_")):
        assert secret not in everything


def test_two_channels_of_one_name_cannot_be_told_apart(service):
    with pytest.raises(ConfigurationError, match="two channels for alarms are called 'webhook'"):
        Nightcrew("sqlite:///x.db", settings=Settings(), alarms=[hook(service), hook(service)])


# ── what is said of them in a file, and on the command line ──────────────────────────────────────────────────────────

JOB = '[jobs.cleanup]\nevery = "10 minutes"\ntable = "users"\ncolumn = "left_at"\n'


def written(tmp_path, text):
    path = tmp_path / "nightcrew.toml"
    path.write_text(JOB + text)
    return path


def test_a_file_names_channels_whose_secrets_are_looked_at_when_there_is_something_to_tell(tmp_path, service):
    path = written(
        tmp_path,
        '[alarms]\nfailures = 5\n[alarms.webhook]\nurl = "${HOOK}"\nsecret = "${SIGNED}"\n'
        '[alarms.slack]\nurl = "${SLACK}"\n[alarms.mail]\nto = ["ops@acme.example", "ada@acme.example"]\n',
    )
    found = config.read(path, {"HOOK": f"{service.url}/a", "SIGNED": SIGNED})
    assert found.failures == 5
    webhook, slack, letter = found.alarms
    means = telling.Means(SystemClock(), None)
    webhook.tell(trial(SystemClock().now(), "x"), means)
    assert told(service) == [("test", "test", None)]
    with pytest.raises(ConfigurationError, match="environment variable SLACK is not set"):
        slack.tell(None, means)
    assert letter.to == ("ops@acme.example", "ada@acme.example")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[alarms.pager]\nkey = 'a'", "alarms: unknown key 'pager'"),
        ("[alarms]\nfailures = 0", "failures is 0; write a whole number from 1 on"),
        ("[alarms.webhook]\nurl = 'https://a.example'", "secret is missing; write secret ="),
        (
            f"[alarms.webhook]\nurl = 'https://a.example'\nsecret = '{TOKEN}'",
            "24 to 64 bytes in base64 (it is not shown)",
        ),
        (f"[alarms.slack]\nurl = 'http://hooks.slack.com/{TOKEN}'", "would send a secret for all to read"),
        (f"[alarms.slack]\nurl = 'https://hooks.slack.com/{TOKEN} '", "url is no address of an incoming webhook"),
        (
            "[alarms.slack]\nurl = 'https://me:a-token-that-nobody-may-see@hooks.slack.com/a'",
            "url is no address of an incoming webhook",
        ),
        ("[alarms.mail]\nto = []", "to names nobody"),
        ("[alarms.mail]\nto = ['ops']", "to is 'ops', which is no address"),
        ("[alarms]\nslack = 3", "alarms: slack is a number; write a table [alarms.slack]"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line_and_no_secret(tmp_path, text, said):
    with pytest.raises(ConfigurationError) as caught:
        config.read(written(tmp_path, text), {})
    assert said in str(caught.value)
    assert "nightcrew.toml:" in str(caught.value)
    assert "nobody-may-see" not in str(caught.value)


@pytest.fixture
def asked(tmp_path, monkeypatch, service):
    """Give command lines about a crew in a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/x.db")
    monkeypatch.setenv("SLACK", f"{service.url}/{TOKEN}")
    (tmp_path / "nightcrew.toml").write_text(
        '[jobs.hourly]\nevery = "1 hour"\ntable = "users"\ncolumn = "left_at"\n[alarms.slack]\nurl = "${SLACK}"\n'
    )

    def ask(*words):
        return CliRunner().invoke(nightcrew, words, obj=Desk())

    return ask


def test_the_command_says_what_stands_and_who_was_told_and_a_tick_tells(asked, crews, service):
    crew = crews(Slack(f"{service.url}/{TOKEN}"))
    well(crew)
    assert "no alarm stands" in asked("alarms").stdout
    ran(crew, HOUR, "failed", reason="Job hourly failed: the disk is full")
    stand(crew, fail_streak=3)
    said = json.loads(asked("alarms", "--json").stdout)
    assert [(one["kind"], one["told"]) for one in said["alarms"]] == [("failing", [])]
    assert said["channels"] == ["slack"]
    assert "nothing is due" in asked("tick").stdout
    assert len(service.asked) == 1
    shown = asked("alarms").stdout
    assert "slack just now" in shown
    assert "3 times in a row; failed: the disk is full" in shown
    assert "'nightcrew runs hourly --failed' shows the errors" in shown


def test_a_test_goes_by_every_channel_and_says_with_code_4_which_failed(asked, crews, service, capsys):
    crews(Slack(f"{service.url}/{TOKEN}"))
    well_ = asked("alarms", "--test")
    assert (well_.exit_code, well_.stdout.strip()) == (0, "✓ slack: told")
    assert "This is a test of the alarms." in json.loads(service.asked[0][-1])["text"]
    service.status = [404]
    assert run(nightcrew, ["alarms", "--test", "--json"], Desk()) == 4
    assert json.loads(capsys.readouterr().out) == {"channels": [{"channel": "slack", "error": "it answered 404"}]}


def test_a_check_warns_of_a_variable_that_is_not_set(asked, monkeypatch):
    monkeypatch.delenv("SLACK")
    assert "channel 'slack' for alarms cannot be used: " in asked("check").stdout


def test_the_password_of_the_mailer_and_failures_of_functions_are_told_without_secrets(crews, service):
    crew = crews(hook(service), function=broken, failures=1)
    crew._audience.censor.learn(PASSWORD)
    crew._jobs["hourly"] = crew.job_named("hourly").but(
        function=lambda run: (_ for _ in ()).throw(ValueError(PASSWORD))
    )
    crew.run("hourly", now=True)
    crew.alarms.look()
    assert told(service) == [("raised", "failing", "hourly")]
    assert PASSWORD not in service.asked[0][-1]
