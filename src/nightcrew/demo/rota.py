"""The rota: which recipes keep the demo clean, and in one sentence what each is for."""

from nightcrew.demo.answers import STORE as STREAMS
from nightcrew.demo.files import ATTACHED, OF_PROJECTS, STORE
from nightcrew.job import Job
from nightcrew.owing import Owing, Trace
from nightcrew.recipes import accounts, chats, history, oauth

_TRACES = tuple(Trace(STORE, f"{folder}/{{id}}/*") for folder in (ATTACHED, OF_PROJECTS))
"""What an erasure looks through for files that no row has any more, or had ever."""
FILES = tuple(Owing(STORE, table, "blob_key") for table in ("message_sources", "project_sources"))

ROTA: tuple[tuple[Job, str], ...] = (
    (
        accounts.delete_stale_deactivated_accounts(
            blobs=(*FILES, Owing(STREAMS, "chats", "id")), traces=_TRACES, links=["mcp_oauth_sessions.profile_uuid"]
        ),
        "Deletes accounts that were deactivated more than 30 days ago, with everything in them, files and streams too.",
    ),
    (
        chats.delete_stale_empty_chats(),
        "Deletes chats that are older than 15 minutes and were never written in.",
    ),
    (
        oauth.cleanup_pkce(),
        "Deletes the states of connections that were begun and not finished within ten minutes.",
    ),
    (
        oauth.cleanup_oauth_sessions(),
        "Deletes sessions with tools once they have expired.",
    ),
    (
        oauth.clear_stale_token_locks(),
        "Frees tokens whose refresh took a lock more than a minute ago and died.",
    ),
    (
        history.prune_run_history(),
        "Deletes the records of runs that ended more than 90 days ago, in the tables of nightcrew itself.",
    ),
)

CREW: dict[str, str] = {
    "process-scheduled-emails": "Sends the mails that people are due, each once, to those who still want them.",
    "stale-streams": "Ends answers that nobody writes any more, and keeps what there is of them.",
    "drain-outbox": "Removes what is owed: the files whose rows, and the streams whose chats, have been deleted.",
    f"sweep-orphans-{STORE}": "Removes files that no row knows, such as uploads of messages that were never sent.",
}
"""What the jobs that come with a store, with mail and with streams are for."""
