"""Keys: what a nightcrew.toml may say, table by table: how each key is written, and how its value is read."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from nightcrew import duration
from nightcrew.channels.channel import Channel
from nightcrew.channels.letter import Letter
from nightcrew.channels.slack import Slack
from nightcrew.channels.webhook import Webhook
from nightcrew.document import Key
from nightcrew.errors import ConfigurationError, did_you_mean
from nightcrew.gauge import hooks
from nightcrew.hours import Hours
from nightcrew.job import Job, catching_up, overlapping, primary
from nightcrew.listeners.checkin import Monitor
from nightcrew.listeners.cronitor import Cronitor
from nightcrew.listeners.healthchecks import Healthchecks
from nightcrew.listeners.sentry import Sentry
from nightcrew.mail import mailbox
from nightcrew.mailers.address import address
from nightcrew.owing import owings, traces
from nightcrew.policy import Policy, Sql, Value, action
from nightcrew.recipes import RECIPES
from nightcrew.schedule import cron, every, zone
from nightcrew.shelf import Shelf, check_name, orphans
from nightcrew.stores.address import place
from nightcrew.stores.calls import template, verb
from nightcrew.streaming import Terms
from nightcrew.tending import named
from nightcrew.throttle import pace


def _values(given: Mapping[str, Any]) -> dict[str, Value]:
    return {name: Sql(value["sql"]) if isinstance(value, dict) else value for name, value in given.items()}


def _archived(value: str | bool) -> timedelta | None:  # noqa: FBT001 - what a key's value may be
    if value is True:
        raise ConfigurationError("archive is true; say for how long, as in archive = '7 days'")
    return duration.parse(value) if value is not False else None


def _recipe(value: str) -> Callable[..., Job]:
    if value in RECIPES:
        return RECIPES[value]
    raise ConfigurationError(f"there is no recipe {value!r}{did_you_mean(value, RECIPES) or '; see docs/recipes.md'}")


def check_mailbox(key: str, value: str) -> str:
    """Return what is written as an address; raises ConfigurationError for what is none."""
    mailbox(key, value)
    return value


def _way_out(url: str) -> str:
    address(url)
    return url


def _segments(given: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    for name, domains in given.items():
        if not isinstance(domains, list) or not all(isinstance(each, str) for each in domains):
            raise ConfigurationError(f'segments: {name} is no list of domains; write {name} = ["bigcorp.example"]')
    return {name: tuple(domains) for name, domains in given.items()}


_COLUMNS = {"key": "id", "address": "email", "name": "name", "zone": "timezone", "segment": "segment"}
PARTS = {
    name: Key("", kind=Mapping)
    for name in ("nightcrew", "alarms", "blobs", "calls", "jobs", "mail", "monitors", "sequences", "streams")
}
_TIMEZONE = Key('"Europe/Istanbul"', zone)
_THROTTLE = Key('["file:/run/nightcrew.stop"]', hooks, list)
HEAD = {
    "database": Key('"${DATABASE_URL}"'),
    "redis": Key('"${REDIS_URL}"'),
    "erasures": Key('"s3://acme-erasures"', place),
    "archive": Key('"vault"', check_name),
    "timezone": _TIMEZONE,
    "throttle": _THROTTLE,
}
WHEN = {
    "schedule": Key('"0 3 * * *"', lambda value: cron(value).expression),
    "every": Key('"10 minutes"', every),
    "timezone": _TIMEZONE,
}
POLICY = {
    "table": Key('"users"', lambda value: Policy(value, "column").table),
    "column": Key('"deactivated_at"', lambda value: Policy("table", value).column),
    "older_than": Key('"30 days"', duration.parse),
    "where": Key("\"status = 'draft'\"", lambda value: Policy("table", "column", where=value).where),
    "hold": Key('"legal_hold"', lambda value: Policy("table", "column", hold=value).hold),
    "unless_exists": Key(
        '["messages.chat_id"]', lambda value: Policy("table", "column", unless_exists=tuple(value)).unless_exists, list
    ),
    "unless_active_stream": Key('"id"', lambda value: Policy("table", value).column),
    "erase": Key("true", kind=bool),
    "links": Key('["files.user_id"]', lambda value: Policy("table", "column", links=tuple(value)).links, list),
    "allow_unindexed": Key("true", kind=bool),
    "max_rows": Key("10_000", lambda value: Policy("table", "column", max_rows=value).max_rows, int),
    "max_fraction": Key("0.2", lambda value: Policy("table", "column", max_fraction=value).max_fraction, (int, float)),
    "action": Key('"clear"', action),
    "set": Key('{ status = "expired", email = { sql = "NULL" } }', _values, dict),
    "archive": Key('"7 days"', _archived, (str, bool)),
    "blobs_after": Key('"1 day"', duration.parse),
    "blobs": Key('[{ store = "uploads", table = "files", column = "blob_key" }]', owings, (list,)),
    "traces": Key('[{ store = "uploads", keys = "users/{id}/*" }]', traces, (list,)),
    "keep": Key('{ "invoices.user_id" = "tax law, 10 years" }', dict, dict),
    "keep_latest": Key("3", lambda value: Policy("table", "column", keep_latest=value).keep_latest, int),
    "per": Key('["user_id"]', lambda value: Policy("table", "-", keep_latest=1, per=tuple(value)).per, list),
}
JOB = {
    "path": Key('"/api/oauth/cleanup-pkce"'),
    "label": Key('"OAuth Cleanup"'),
    "owner": Key('"team-accounts"'),
    "runbook": Key('"https://example.com/runbook"'),
    "on_start": Key("true", kind=bool),
    "catch_up": Key('"all"', catching_up),
    "overlap": Key('"skip"', overlapping),
    "pause_after": Key("5", kind=int),
    "primary": Key('"external"', primary),
    "failsafe_after": Key('"2 minutes"', duration.parse),
    "enabled": Key("false", kind=bool),
    "pace": Key('"gentle"', pace),
    "throttle": _THROTTLE,
    "window": Key('"22:00-06:00"', lambda value: Hours(value).text),
    "fan_out": Key("500_000", kind=int),
}
BLOBS = {
    "url": Key('"s3://acme-uploads"', place),
    "columns": Key('["message_source.blob_key"]', lambda value: Shelf("", tuple(value)).columns, list),
    "orphans": Key('"report"', orphans),
    "older_than": Key('"24 hours"', lambda value: Shelf("", older_than=duration.parse(value)).older_than),
    "max_fraction": Key("0.2", lambda value: Shelf("", max_fraction=value).max_fraction, (int, float)),
}
CALLS = {
    "url": Key('"https://api.example.com/things/{key}"', template),
    "method": Key('"DELETE"', verb),
    "secret": Key('"${BILLING_TOKEN}"'),
}
MAIL = {
    "sender": Key('"Acme <hello@acme.example>"', lambda value: check_mailbox("sender", value)),
    "reply_to": Key('"support@acme.example"', lambda value: check_mailbox("reply_to", value)),
    "mailer": Key('"smtp://hello@mail.acme.example"', _way_out),
    "secret": Key('"${SMTP_PASSWORD}"'),
    "base_url": Key('"https://app.acme.example"'),
    "preferences_url": Key('"https://app.acme.example/preferences"'),
    "templates": Key('"mails"'),
    "variables": Key('{ product = "Acme", app_url = "https://app.acme.example" }', dict, dict),
    "segments": Key('{ enterprise = ["bigcorp.example"] }', _segments, (dict,)),
    "per_person": Key("1", kind=int),
    "per_day": Key("5_000", kind=int),
    "connections": Key("4", kind=int),
    "uncertain": Key('"ask"'),
}
_URL = Key('"https://hc-ping.com"')
_NAMED = Key('"production"')
MONITORS: dict[str, tuple[Callable[..., Monitor], dict[str, Key]]] = {
    "healthchecks": (Healthchecks, {"key": Key('"${HEALTHCHECKS_PING_KEY}"'), "url": _URL}),
    "sentry": (
        Sentry,
        {"dsn": Key('"${SENTRY_DSN}"'), "environment": _NAMED, "max_runtime": Key('"1 hour"', duration.parse)},
    ),
    "cronitor": (
        Cronitor,
        {"key": Key('"${CRONITOR_API_KEY}"'), "environment": _NAMED, "url": Key('"https://cronitor.link"')},
    ),
}
ALARMS = {"failures": Key("3", kind=int)}
CHANNELS: dict[str, tuple[Callable[..., Channel], dict[str, Key]]] = {
    "webhook": (
        Webhook,
        {"url": Key('"https://ops.acme.example/alarms"'), "secret": Key('"${ALARM_WEBHOOK_SECRET}"')},
    ),
    "slack": (Slack, {"url": Key('"${SLACK_WEBHOOK_URL}"')}),
    "mail": (Letter, {"to": Key('["ops@acme.example"]', tuple, list)}),
}
STREAMS = {
    "redis": Key('"${REDIS_URL}"'),
    "persist": Key('"app.chats:save"', named),
    "codec": Key('"ai-sdk"', lambda value: Terms(codec=value).codec),
    "prefix": Key('"nightcrew"'),
    "lease": Key('"15 seconds"', duration.parse),
    "longest": Key('"1 hour"', duration.parse),
    "window": Key('"10 milliseconds"', duration.parse),
    "max_bytes": Key("4_194_304", lambda value: Terms(max_bytes=value).max_bytes, int),
}
PEOPLE = {
    "table": Key('"users"', lambda value: Policy(value, "column").table),
    "verified": Key('"email_verified_at"', kind=(str, bool)),
    "preferences": Key('"user_email_preferences.user_id"'),
    "facts": Key('["plan"]', tuple, list),
    **{name: Key(f'"{example}"', lambda value: Policy("table", value).column) for name, example in _COLUMNS.items()},
}
SCHEDULED = {
    "table": Key('"scheduled_emails"', lambda value: Policy(value, "column").table),
    "sequence": Key('"welcome"'),
    **{
        name: Key(f'"{example}"', lambda value: Policy("table", value).column)
        for name, example in {
            "person": "user_id",
            "step": "email_type",
            "due": "scheduled_for",
            "sent": "sent",
            "sent_at": "sent_at",
            "cancelled": "cancelled",
        }.items()
    },
}
SEQUENCE = {
    "goal": Key('"activated_at IS NOT NULL"'),
    "hours": Key('"09:00-18:00"'),
    "days": Key('["mon", "tue", "wed", "thu", "fri"]', tuple, list),
    "preference": Key('"welcome_emails"', lambda value: Policy("table", value).column),
    "steps": Key('[{ name = "welcome" }, { name = "day3", after = "3 days" }]', kind=(list,)),
}
STEP = {
    "name": Key('"day3"'),
    "after": Key('"3 days"', duration.parse),
    "within": Key('"2 days"', duration.parse),
    "mail": Key('"day3"'),
    "only_if": Key("\"plan = 'free'\""),
    "arms": Key('["a", "b"]', tuple, list),
    "was": Key('["day-three"]', tuple, list),
}
LATER = {
    **{name: HEAD[name] for name in ("database", "redis")},
    "erasures": Key('"s3://acme-erasures"'),
    "url": Key(""),
    "secret": CALLS["secret"],
    "mailer": Key(""),
    "key": Key(""),
    "dsn": Key(""),
}
OF_JOB = {"recipe": Key('"cleanup-pkce"', _recipe)} | WHEN | POLICY | JOB
