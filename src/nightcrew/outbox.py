"""What rows have left to the stores outside the database is settled: the blobs go, and then the debts.

The row goes first, the debt with it in one transaction, the blob after both. A debt is forgotten only once its blob is
gone, so that at whatever point a process dies, somebody does it again: a blob may be removed twice, none is forgotten.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from nightcrew import backoff
from nightcrew.call import Call
from nightcrew.debt import Debt, Debts
from nightcrew.errors import ConfigurationError, DatabaseError, JobFailed, NightcrewError, StoreError
from nightcrew.job import Job
from nightcrew.owing import Owing
from nightcrew.report import one_line
from nightcrew.schedule import every
from nightcrew.store import Store

NAME = "drain-outbox"
ATTEMPTS = 10  # with the waits between them, about four hours
FIRST = timedelta(minutes=1)  # before the second attempt
_HELD = 300.0  # seconds a batch may take before others are given its debts
_NAMED = 20  # debts that a run gives up are written down one by one


@dataclass(slots=True)
class _Account:
    """What came of one store's debts in a run: keys, each once; of those that would not go, the last reason."""

    settled: int = 0
    kept: int = 0
    put_off: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def words(self, store: str, noun: str) -> str:
        """Say it: “settled 1,204 blobs of uploads; 3 kept, 1 failed: a.png (AccessDenied)”."""
        named = {"tried again later": self.put_off, "failed": self.failed}
        rest = [f"{self.kept:,} kept"] if self.kept else []
        rest += [f"{len(keys):,} {what}: {_first(keys)}" for what, keys in named.items() if keys]
        settled = f"settled {self.settled:,} {noun}{'s' * (self.settled != 1)} of {store}"
        return f"{settled}; {', '.join(rest)}" if rest else settled


def _first(keys: Mapping[str, str]) -> str:
    key, reason = next(iter(keys.items()))
    return f"{one_line(key)[:200]} ({one_line(reason)[:200]}){', …' * (len(keys) > 1)}"


def job(function: Callable[[Call], None]) -> Job:
    """Return the job that settles what is owed, every minute; what goes wrong is another's fault, so it never rests."""
    return Job(NAME, every("1 minute"), function=function, label="Outbox", pause_after=0)


def drain(run: Call, stores: Mapping[str, Store], columns: Callable[[str], Iterable[Owing]], debts: Debts) -> None:
    """Settle what is due, batch after batch, each store in its turn; `columns` are those whose keys it keeps.

    Raises JobFailed once all else is done where a store was away or nobody knows what it keeps, or debts were given up.
    """
    accounts = {name: _Account() for name in stores}
    stopped: dict[str, NightcrewError] = {}
    ahead = list(stores)
    while ahead:
        for name in list(ahead):
            if run.should_stop:
                ahead = []
                break
            try:
                going_on = _batch(run, (name, stores[name]), list(columns(name)), debts, accounts[name])
            except (StoreError, ConfigurationError, DatabaseError) as error:
                if isinstance(error, DatabaseError) and error.away:
                    raise
                stopped[name], going_on = error, False
            if not going_on:
                ahead.remove(name)
    said = [
        account.words(name, "blob" if hasattr(stores[name], "page") else "key")
        for name, account in accounts.items()
        if account != _Account()
    ]
    said += [_stopped(name, stores, error) for name, error in stopped.items()]
    sentence = "; ".join(said) or "nothing that is owed is due"
    if stopped or any(account.failed for account in accounts.values()):
        raise JobFailed(sentence) from next(iter(stopped.values()), None)
    run.say(f"{sentence[:1].upper()}{sentence[1:]}.")


def _stopped(name: str, stores: Mapping[str, Store], error: NightcrewError) -> str:
    why = one_line(str(error))
    if isinstance(error, StoreError):
        return f"store {name} ({stores[name].place}) is away: {why}"
    return f"nothing of {name} was settled: {why}"


def _batch(run: Call, named: tuple[str, Store], columns: Sequence[Owing], debts: Debts, account: _Account) -> bool:
    """Settle some debts of a store; return whether there may be more."""
    name, store = named
    claimed = debts.claim(name, store.most, _HELD)
    if not claimed:
        return False
    keys = list(dict.fromkeys(debt.key for debt in claimed))
    try:
        kept = debts.referred(columns, keys) if columns else set()
        kept |= debts.waiting(name, [key for key in keys if key not in kept], _HELD)  # a row may yet come back with it
        going = [key for key in keys if key not in kept]
        refused = store.remove(going) if going else {}
    except BaseException:
        debts.leave(claimed)  # no key's fault, so that it costs none an attempt
        raise
    debts.settle(debt for debt in claimed if debt.key not in refused)
    waits = {debt: (refused[debt.key], _wait(debt)) for debt in claimed if debt.key in refused}
    if waits:
        debts.put_off(waits)
    gone = len(going) - len(refused)
    failed = {debt.key: debt for debt, (_, wait) in waits.items() if wait is None}
    again = {key: reason for key, reason in refused.items() if key not in failed}
    for key, debt in list(failed.items())[: max(0, _NAMED - len(account.failed))]:
        run.enter("unsettled", store=name, key=key, attempts=debt.attempts + 1, reason=refused[key])
    account.settled, account.kept = account.settled + gone, account.kept + len(kept)
    account.put_off |= again
    account.failed |= {key: refused[key] for key in failed}
    run.enter("settled", store=name, settled=gone, kept=len(kept), put_off=len(again), failed=len(failed))
    run.count(gone)
    run.checkpoint(None)
    return True  # what is fewer than asked for may be a parcel of several


def _wait(debt: Debt) -> timedelta | None:
    failures = debt.attempts + 1
    return None if failures >= ATTEMPTS else backoff.wait(FIRST, failures, debt.key)
