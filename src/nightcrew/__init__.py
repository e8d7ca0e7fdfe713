"""nightcrew: the maintenance layer of a web application.

Names are loaded when they are first asked for, so that the command line starts without a database library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nightcrew.call import Call
    from nightcrew.crew import Nightcrew
    from nightcrew.errors import NightcrewError
    from nightcrew.job import Job
    from nightcrew.ledger import Entry
    from nightcrew.outcome import Outcome
    from nightcrew.plan import Plan
    from nightcrew.policy import Policy, Sql
    from nightcrew.report import Report
    from nightcrew.schedule import cron, every
    from nightcrew.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Call",
    "Entry",
    "Job",
    "Nightcrew",
    "NightcrewError",
    "Outcome",
    "Plan",
    "Policy",
    "Report",
    "Settings",
    "Sql",
    "cron",
    "every",
]

_ROOMS = {
    "Call": "call",
    "Entry": "ledger",
    "Job": "job",
    "Nightcrew": "crew",
    "NightcrewError": "errors",
    "Outcome": "outcome",
    "Plan": "plan",
    "Policy": "policy",
    "Report": "report",
    "Settings": "settings",
    "Sql": "policy",
    "cron": "schedule",
    "every": "schedule",
}


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'nightcrew' has no attribute {name!r}")
    return getattr(import_module(f"nightcrew.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
