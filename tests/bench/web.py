"""A web of tables, and the job that sweeps the one they all hang on."""

from datetime import timedelta

from nightcrew import Job, Policy, cron


def web_of_tables(number: int, *, star: bool) -> list[str]:
    """Return statements for a table `users` and so many below it: all on it, or each on one before."""
    statements = ["CREATE TABLE users (id {number} PRIMARY KEY, made_at {time} NOT NULL)"]
    for index in range(number):
        parent = "users" if star or index < 2 else f"t{(index - 2) // 2}"
        statements.append(
            f"CREATE TABLE t{index} (id {{number}} PRIMARY KEY, up {{number}},"
            f" FOREIGN KEY (up) REFERENCES {parent} (id) ON DELETE CASCADE)"
        )
        statements.append(f"CREATE INDEX t{index}_up ON t{index} (up)")
    return statements


def web_job() -> Job:
    """Return the job."""
    return Job("clean", cron("0 0 * * *"), Policy("users", "made_at", timedelta(days=1)))
