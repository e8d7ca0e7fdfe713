"""nightcrew's own tables."""

from typing import Any

import sqlalchemy as sa

from nightcrew.databases.connect import Instant

OURS = "nightcrew_"
"""How the name of every table of nightcrew's own begins."""

METADATA = sa.MetaData()
# Names are compared to the letter everywhere, whatever the database's default collation says.
_OPTIONS: dict[str, Any] = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin", "mysql_engine": "InnoDB"}
_BIGGEST = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # only INTEGER counts up by itself there

schema = sa.Table(
    "nightcrew_schema",
    METADATA,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("applied_at", Instant, nullable=False),
    **_OPTIONS,
)

jobs = sa.Table(
    "nightcrew_jobs",
    METADATA,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("schedule", sa.String(255), nullable=False),
    sa.Column("timezone", sa.String(64), nullable=False),
    sa.Column("meaning", sa.String(64), nullable=False),
    sa.Column("epoch_at", Instant, nullable=False),
    sa.Column("mark", Instant),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("run", sa.String(150)),
    sa.Column("owner", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("lease_until", Instant),
    sa.Column("failed_run", sa.String(150)),
    sa.Column("paused_at", Instant),
    sa.Column("paused_by", sa.String(100)),
    sa.Column("paused_reason", sa.String(500)),
    sa.Column("paused_until", Instant),
    sa.Column("fail_streak", sa.Integer, nullable=False),
    sa.Column("last_ok_at", Instant),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0", info={"since": 4}),
    sa.Column("retry_at", Instant, info={"since": 4}),
    sa.Column("cancelled_run", sa.String(150), info={"since": 6}),
    sa.Column("cancelled_by", sa.String(100), info={"since": 6}),
    sa.Column("cancelled_reason", sa.String(500), info={"since": 6}),
    sa.Column("rival", sa.String(64), info={"since": 8}),
    sa.Column("rival_since", Instant, info={"since": 8}),
    sa.Column("begun", sa.BigInteger, info={"since": 11}),
    **_OPTIONS,
)

runs = sa.Table(
    "nightcrew_runs",
    METADATA,
    sa.Column("id", sa.String(150), primary_key=True),
    sa.Column("job", sa.String(100), nullable=False),
    sa.Column("slot", Instant),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("trigger", sa.String(20), nullable=False),
    sa.Column("caller", sa.String(100)),
    sa.Column("reason", sa.String(500)),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.String(64)),
    sa.Column("moment", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("deleted", sa.BigInteger, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("checkpoint", sa.Text, info={"since": 3}),
    sa.Column("done", sa.BigInteger, info={"since": 3}),
    sa.Column("total", sa.BigInteger, info={"since": 3}),
    sa.Column("since", Instant, info={"since": 7}),
    sa.Index("nightcrew_runs_job_moment", "job", "moment"),
    sa.Index("nightcrew_runs_moment", "moment"),
    sa.Index("nightcrew_runs_finished_at", "finished_at"),
    **_OPTIONS,
)

entries = sa.Table(
    "nightcrew_entries",
    METADATA,
    sa.Column("id", _BIGGEST, primary_key=True, autoincrement=True),
    sa.Column("run", sa.ForeignKey(runs.c.id, ondelete="CASCADE"), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("kind", sa.String(30), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Index("nightcrew_entries_run", "run", "id"),
    **_OPTIONS,
)

place = sa.Table(
    "nightcrew_place",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("marks", sa.JSON),
    sa.Column("clock_at", Instant),
    sa.Column("stopped_at", Instant),
    sa.Column("stopped_by", sa.String(100)),
    sa.Column("stopped_reason", sa.String(500)),
    **_OPTIONS,
)

policies = sa.Table(
    "nightcrew_policies",
    METADATA,
    sa.Column("job", sa.String(100), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("terms", sa.JSON, nullable=False),
    sa.Column("since", Instant, nullable=False),
    **_OPTIONS,
)

plans = sa.Table(
    "nightcrew_plans",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("job", sa.String(100), nullable=False),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("moment", Instant, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("acked_at", Instant),
    sa.Column("acked_by", sa.String(100)),
    sa.Column("run", sa.String(150)),
    sa.Column("shown", sa.JSON, info={"since": 14}),
    sa.Index("nightcrew_plans_job_moment", "job", "moment"),
    **_OPTIONS,
)

# Number 0 is what the run takes outside of its ranges: before they are cut, and when all of them have come to an end.
ranges = sa.Table(
    "nightcrew_ranges",
    METADATA,
    sa.Column("run", sa.ForeignKey(runs.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("first", sa.JSON, nullable=False),
    sa.Column("cursor", sa.JSON, nullable=False),
    sa.Column("total", sa.JSON, nullable=False),
    sa.Column("doubts", sa.JSON, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("lease_until", Instant),
    sa.Column("finished_at", Instant),
    **_OPTIONS,
)

# A debt is due from `due_at` on: put ahead when it is claimed, or an attempt has failed, and gone when it is given up.
# One row is one key, or a parcel of `size` keys that left with one batch.
owed = sa.Table(
    "nightcrew_owed",
    METADATA,
    sa.Column("id", _BIGGEST, primary_key=True, autoincrement=True),
    sa.Column("store", sa.String(64), nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False, server_default="1"),
    sa.Column("run", sa.String(150)),
    sa.Column("since", Instant, nullable=False),
    sa.Column("due_at", Instant),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(500)),
    sa.Index("nightcrew_owed_store_due_at", "store", "due_at"),
    **_OPTIONS,
)

# A frame in the archive's store, written before the row that says of it here commits with the batch it is a copy of.
# What of it has not been put back, by table and place, is `left` once somebody has begun to.
frames = sa.Table(
    "nightcrew_frames",
    METADATA,
    sa.Column("id", _BIGGEST, primary_key=True, autoincrement=True),
    sa.Column("run", sa.String(150), nullable=False),
    sa.Column("job", sa.String(100), nullable=False),
    sa.Column("store", sa.String(64), nullable=False),
    sa.Column("key", sa.String(250), nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("until", Instant, nullable=False),
    sa.Column("counts", sa.JSON, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("seal", sa.String(250)),
    sa.Column("left", sa.JSON),
    sa.Column("restored_at", Instant),
    sa.Index("nightcrew_frames_run", "run", "id"),
    sa.Index("nightcrew_frames_until", "until"),
    sa.Index("nightcrew_frames_key", "key"),
    **_OPTIONS,
)


# Receipts are a chain by their numbers; the values of a subject are among the facts until its erasure is complete.
erasures = sa.Table(
    "nightcrew_erasures",
    METADATA,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("job", sa.String(100), nullable=False),
    sa.Column("table", sa.String(255), nullable=False),
    sa.Column("subject", sa.String(64), nullable=False),
    sa.Column("by", sa.String(100), nullable=False),
    sa.Column("requested_at", Instant, nullable=False),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("number", sa.BigInteger),
    sa.Column("receipt", sa.Text),
    sa.Column("digest", sa.String(64)),
    sa.Index("nightcrew_erasures_subject", "subject"),
    sa.Index("nightcrew_erasures_state", "state", "job"),
    sa.Index("nightcrew_erasures_number", "number", unique=True),
    **_OPTIONS,
)

# Who is enrolled has the mails of the steps whose fingerprint this is: none yet where it is empty.
enrolments = sa.Table(
    "nightcrew_enrolments",
    METADATA,
    sa.Column("id", _BIGGEST, primary_key=True, autoincrement=True),
    sa.Column("sequence", sa.String(60), nullable=False),
    sa.Column("person", sa.String(150), nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("steps", sa.String(16), nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("reason", sa.String(500)),
    sa.Index("nightcrew_enrolments_person", "person", "sequence", unique=True),
    sa.Index("nightcrew_enrolments_steps", "sequence", "ended_at", "steps"),
    **_OPTIONS,
)

# A mail waits until `due_at`, which is put ahead while somebody has a claim to it, and gone once it has ended; it was
# handed over at `sent_at`. One that an application had scheduled is `adopted` until that was told how it ended.
# `names` are all that its step is, or was, called, with blanks in between.
mails = sa.Table(
    "nightcrew_mails",
    METADATA,
    sa.Column("id", _BIGGEST, primary_key=True, autoincrement=True),
    sa.Column("key", sa.String(100), nullable=False),
    sa.Column("sequence", sa.String(60), nullable=False),
    sa.Column("step", sa.String(60), nullable=False),
    sa.Column("names", sa.Text, nullable=False),
    sa.Column("person", sa.String(150), nullable=False),
    sa.Column("planned_at", Instant, nullable=False),
    sa.Column("due_at", Instant),
    sa.Column("state", sa.String(20), nullable=False),
    sa.Column("reason", sa.String(500)),
    sa.Column("claim", sa.String(64)),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("arm", sa.String(60)),
    sa.Column("address", sa.String(320)),
    sa.Column("sent_at", Instant),
    sa.Column("adopted", sa.Boolean),
    sa.Index("nightcrew_mails_person", "person", "sequence", "step", unique=True),
    sa.Index("nightcrew_mails_state_due_at", "state", "due_at"),
    sa.Index("nightcrew_mails_sent_at", "sent_at"),
    sa.Index("nightcrew_mails_adopted", "adopted", "state"),
    **_OPTIONS,
)

# A subject is "a:" and an address, or "p:" and a person; an empty topic stands for all.
suppressions = sa.Table(
    "nightcrew_suppressions",
    METADATA,
    sa.Column("subject", sa.String(330), primary_key=True),
    sa.Column("topic", sa.String(60), primary_key=True),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("by", sa.String(100), nullable=False),
    sa.Column("since", Instant, nullable=False),
    **_OPTIONS,
)

# What people did, and why: nothing here is ever changed.
acts = sa.Table(
    "nightcrew_acts",
    METADATA,
    sa.Column("id", _BIGGEST, primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.String(100), nullable=False),
    sa.Column("verb", sa.String(30), nullable=False),
    sa.Column("job", sa.String(100)),
    sa.Column("run", sa.String(150)),
    sa.Column("plan", sa.String(64)),
    sa.Column("reason", sa.String(500)),
    sa.Index("nightcrew_acts_job", "job", "id"),
    **_OPTIONS,
)

# An alarm that stands, or ended less than a day ago, and what was told of it: `stage` is due to be told at `due_at`, by
# whoever puts `lease_until` ahead; `reached` are the channels that took it, and `number` counts what an episode told.
alarms = sa.Table(
    "nightcrew_alarms",
    METADATA,
    sa.Column("kind", sa.String(20), primary_key=True),
    sa.Column("job", sa.String(100), primary_key=True),
    sa.Column("episode", sa.String(64), nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("says", sa.String(1000), nullable=False),
    sa.Column("remedy", sa.String(300), nullable=False),
    sa.Column("rises", sa.Integer, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("ended_at", Instant),
    sa.Column("stage", sa.String(20), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("due_at", Instant),
    sa.Column("lease_until", Instant),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("reached", sa.JSON, nullable=False),
    sa.Column("told_at", Instant),
    sa.Column("wrong", sa.String(500)),
    **_OPTIONS,
)

# What is to come to an end was seen again: by whom last, and since when without a day in between.
sightings = sa.Table(
    "nightcrew_sightings",
    METADATA,
    sa.Column("what", sa.String(40), primary_key=True),
    sa.Column("since", Instant, nullable=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("by", sa.String(100), nullable=False),
    **_OPTIONS,
)
