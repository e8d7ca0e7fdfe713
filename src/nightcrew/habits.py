"""Habits: what applications call their tables and columns, and what rows of such a name are usually good for, how long.

A name is a hint and no more. What is found here is proposed to a person, with the reason, and never done by itself.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from nightcrew.database import Column
from nightcrew.outline import Outline


@dataclass(frozen=True, slots=True)
class Habit:
    """Rows of a table that leave `older_than` after their `column`; the `weight` tells how sure it is that they may.

    `why` ends a sentence that begins with the column; `care` is what to think of before it is enabled.
    """

    verb: str
    column: Column
    older_than: timedelta | None
    weight: float
    why: str
    care: str = ""
    hourly: bool = False


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a table is left out whose name or columns speak for looking after it."""

    why: str


# Where names are folded to small letters, expiresAt has become expiresat.
_WHEN = r"(at|on|date|time|datetime|ts|timestamp)"


def _column(*names: str) -> re.Pattern[str]:
    return re.compile("|".join(names))


_EXPIRES = _column(
    rf"(expire|expires|expired|expiry|expiration|valid_until|valid_till|not_valid_after)(_?{_WHEN})?",
    r"date_(expires|expired|expiry)",
)
_DELETED = _column(
    rf"(deleted|removed|trashed|discarded|destroyed|deletion|removal)_?{_WHEN}", r"date_(deleted|removed)"
)
_DEACTIVATED = _column(rf"(deactivated|deactivation)_?{_WHEN}", r"date_deactivated")
_ARCHIVED = _column(rf"archived_?{_WHEN}", r"date_archived")
_DONE = _column(
    rf"(finished|completed|processed|done|delivered|published|dispatched|sent|ended)_?{_WHEN}", r"date_(done|sent)"
)
_CREATED = _column(
    rf"(created|create|creation|inserted|added|logged|occurred|recorded|received|happened|attempted|attempt|requested"
    rf"|action|event|log|failed|started|fired|visited|viewed|access|login)_?{_WHEN}",
    r"date_(created|added|received|logged)",
    r"created|timestamp|datetime|time|ts|at|logged|date",
)
_USED = _column(r"last_(activity|seen|used|access|accessed|active)(_at|_on)?", r"(updated|modified|changed)(_at|_on)?")

# The last word of a table's name says what its rows are; where words are run together, its end does.
_SESSION = re.compile(r"sessions?$")
_FLEETING = re.compile(
    r"(token|nonce|otp|passcode|challenge|verification|confirmation|captcha|blacklist|denylist|reset|pkce|handshake"
    r"|magic_?link)s?$|(^|_)(state|code|grant|lock|cache|cache_entrie|throttle|rate_limit|idempotency_key|upload_url)s?$"
)
_SECRET = re.compile(
    r"(reset|verif|confirm|magic|otp|one_time|pkce|nonce|captcha|challenge|csrf|oauth_state|login_code|passwordless)"
)
_INVITATION = re.compile(r"invit(e|ation)s?$")
_DURABLE = re.compile(
    r"(account|user|customer|client|member|membership|subscription|license|licence|order|invoice|payment|transaction"
    r"|contract|product|price|plan|certificate|domain|coupon|voucher|card|employee|organi[sz]ation|compan(y|ie)|tenant"
    r"|project|ticket|document|polic(y|ie)|application|key|credential|promotion|campaign|offer|agreement|consent"
    r"|entitlement|deal|quote|warrant(y|ie)|insurance|polic|permit)s?$"
)
_AUDIT = re.compile(
    r"audit|(^|_)(versions|revisions|paper_trail|change_?logs?|activity_?logs?|admin_?logs?)$|easyaudit"
)
_LOG = re.compile(
    r"(^|_)(logs?|logging|logins?|log_?entr(y|ies))$|(access|event|error|activity|request|e?mail|sms|login|query|http|api"
    r"|change|debug|server|app|import|sync|webhook|message|search)_?(logs?|log_?entr(y|ies))$|(^|_)(login|sign_?in)_?histor(y|ies)$"
)
_ATTEMPT = re.compile(r"(attempts?|failures?|accessfailurelogs?)$")
_EVENT = re.compile(r"events?$")
_VISIT = re.compile(r"(^|_)(page_?views?|views|visits?|clicks?|impressions?|hits|metrics|samples|pings|heartbeats?)$")
_NOTIFICATION = re.compile(r"(^|_)?notifications?$|(^|_)alerts$")
_JOB = re.compile(
    r"(^|_)(jobs?|job_?(runs?|executions?|instances?)|executions?|queue|queues|queue_messages)$"
    r"|(celery|background|async|worker|scheduled|queued?)_?tasks?$|task_?results?$|group_?results?$"
)
_FAILED = re.compile(r"(failed|dead)_?(jobs?|tasks?|letters?|executions?|messages?)$|dead_?letters?$")
_OUTBOX = re.compile(r"outbox|(^|_)(deliver(y|ies)|webhook_?events?|inbox_?(messages?|events?))$")
_NOT_OURS = re.compile(
    r"migration|^(nightcrew_.*|alembic_version.*|ar_internal_metadata|flyway_.*|databasechangelog.*|goose_db_version"
    r"|sequelize_?(meta|data)|phinxlog|typeorm_metadata|atlas_schema_revisions|schema_(version|info|history)"
    r"|refinery_schema_history|spatial_ref_sys|django_content_type)$"
)
_TIME = re.compile(r"(?i)(small)?(timestamp|datetime|date)")
_PERHAPS = re.compile(r"(?i)(big|medium)?int(eger|8)?\b|numeric|decimal|number|real|double|float|text|varchar|untyped")
_NOT_PLAIN = re.compile(r"(?i)tinyint|bool|\[\]$")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")


def look(table: Outline) -> Habit | Doubt | None:
    """Say what rows of a table are usually good for, why nobody can, or None where nothing speaks of it."""
    words = _snake(table.name)
    if _NOT_OURS.search(words):
        return None
    found = next(_habits(words, table), None)
    if found is not None and not table.primary_key:
        return Doubt("it has no primary key, by which rows that others may change are found again")
    return found


def is_time(column: Column) -> bool:
    """Tell whether a column's type is one of times, so that its values need not be looked at."""
    return _TIME.match(column.kind) is not None


def _habits(words: str, table: Outline) -> Iterator[Habit | Doubt]:
    """Yield what speaks of a table, what is surest first."""
    expires = _first(table, _EXPIRES)
    if expires and _INVITATION.search(words):
        yield Habit("expire", expires, timedelta(days=30), 3.5, "is when an invitation can no longer be accepted")
    if expires and (_SESSION.search(words) or _FLEETING.search(words)):
        why = "is when a row stops being valid, and nothing asks for it afterwards"
        yield Habit("expire", expires, timedelta(days=1), 4, why, hourly=True)
    yield from _marked(words, table)
    yield from _done(words, table)
    yield from _aged(words, table)
    if expires and _DURABLE.search(words):
        yield Doubt(f"{expires.name} says when something of it expires, and the row is a record that outlives the date")
    elif expires:
        why = "is when a row stops being valid"
        care = "Look whether anything shows rows that have expired (a history, a receipt) before you enable it."
        yield Habit("expire", expires, timedelta(days=90), 1, why, care)


def _marked(words: str, table: Outline) -> Iterator[Habit]:
    """Yield what soft deletes leave: rows that the application hides, and somebody has to remove."""
    for pattern, days, weight, why in (
        (_DELETED, 30, 3.0, "is set when a row is deleted, which hides it and keeps it"),
        (_DEACTIVATED, 90, 2.5, "is set when a row is deactivated, and NULL again when it comes back"),
        (_ARCHIVED, 365, 0.5, "is set when a row is archived"),
    ):
        if (marked := _first(table, pattern)) and marked.nullable:
            care = "Whether people count on finding what they archived is for you to say." if days == 365 else ""
            if re.search(r"(order|invoice|payment|transaction|contract|receipt|tax)s?$", words):
                care = "The law may want such records kept for years: ask before you enable it."
            yield Habit("purge", marked, timedelta(days=days), weight, f"{why}; NULL never leaves", care)


def _done(words: str, table: Outline) -> Iterator[Habit | Doubt]:
    """Yield what queues leave behind: rows that are done; what is still to be done must not leave by its age."""
    outbox = bool(_OUTBOX.search(words))
    if _FAILED.search(words) or not (outbox or _JOB.search(words)):
        return
    done = _first(table, _DONE)
    if done is None:
        if _first(table, _CREATED):
            yield Doubt("no column says when a row was done, and what is still to be done must not leave by its age")
    elif not done.nullable and "result" not in words:
        yield Doubt(f"{done.name} is never NULL, so it cannot tell what is done from what is still to be done")
    else:
        days, why = (7, "is when it was handed over") if outbox else (30, "is when the work was done")
        yield Habit("prune", done, timedelta(days=days), 3, f"{why}; what is not done has NULL there, and stays")


def _aged(words: str, table: Outline) -> Iterator[Habit]:
    """Yield what only grows: nobody looks at its old rows, and no column says when they are over."""
    created, used = _first(table, _CREATED), _first(table, _USED)
    calendar = "Not if these are events of a calendar, or what the state of something is computed from."
    for pattern, days, weight, what, care in (
        (_AUDIT, 365, 1.5, "who did what", "How long an audit trail has to be kept is often laid down: ask first."),
        (_FAILED, 30, 2.5, "work that failed", ""),
        (_ATTEMPT, 30, 2.5, "attempts", ""),
        (_LOG, 90, 2.5, "a log", ""),
        (_VISIT, 180, 2.0, "single measurements", "Keep what is counted from them elsewhere first."),
        (_NOTIFICATION, 90, 2.0, "notifications", ""),
        (_EVENT, 180, 1.5, "events", calendar),
    ):
        if created and pattern.search(words):
            why = f"is when a row was written; the table's name says that it keeps {what}, and such a table only grows"
            yield Habit("prune", created, timedelta(days=days), weight, why, care)
    if created and _SECRET.search(words) and _FLEETING.search(words):
        why = "is when a row was written; codes and links to confirm something are used soon, or never"
        yield Habit("expire", created, timedelta(days=7), 2.5, why, "It must be longer than they are valid.")
    last = used or created
    if last and _SESSION.search(words):
        days, why = (90, "is when a session was last used") if used else (180, "is when a session began")
        care = "Whoever comes back later has to log in again: it must be longer than a session is valid."
        yield Habit("expire", last, timedelta(days=days), 2.5, why, care)


def _first(table: Outline, pattern: re.Pattern[str]) -> Column | None:
    """Return the first column of such a name that is, or may be, a time."""
    for column in table.columns:
        name = _snake(column.name)
        sure = is_time(column)
        perhaps = _PERHAPS.match(column.kind) and not _NOT_PLAIN.search(column.kind) and "_" in name
        if pattern.fullmatch(name) and (sure or perhaps or (pattern is _EXPIRES and _PERHAPS.match(column.kind))):
            return column
    return None


def _snake(name: str) -> str:
    return "_".join(part for part in _WORDS.split(name) if part).lower()
