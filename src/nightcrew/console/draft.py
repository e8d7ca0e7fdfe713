"""The nightcrew.toml that 'nightcrew init' writes: an example, or what a database gave reason to propose.

Whatever comes from a database may be called anything, so that every line of it passes one of two gates: `_text` for
values, and `_said` for comments. Neither lets a line end, so nothing can begin one of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap

from nightcrew.duration import spell
from nightcrew.proposal import Proposal, Prospect

_HEAD = """\
[nightcrew]
database = "${DATABASE_URL}"    # any supported URL; the variable may stand in a file .env beside this one
timezone = "UTC"                # the time zone of every schedule
"""
EXAMPLE = f"""\
# nightcrew.toml: what may live how long, and when it is looked after.
# `nightcrew check` says in words what this file means, without touching the database.

{_HEAD}
# Look before you run: nightcrew plan cleanup-pkce
[jobs.cleanup-pkce]
every  = "10 minutes"           # or: schedule = "0 3 * * *"
table  = "oauth_pkce_states"
column = "expires_at"           # a row expires when this time has passed; NULL never expires
# older_than    = "30 days"     # … or only this long after it
# where         = "user_id IS NULL"         # only rows for which this SQL is true
# hold          = "legal_hold"              # never rows for which this SQL is true
# unless_exists = ["orders.state_id"]     # never rows that another table still refers to
# erase         = true          # delete along with a row whatever refers to it
# path          = "/api/oauth/cleanup-pkce"   # answer on this HTTP path too
# on_start      = true          # catch up when the process starts
"""
_WIDE = 110
_NAMED = 40  # tables that one list of a comment names
_LONGEST = 1_000  # letters of one comment


def drafted(prospect: Prospect) -> str:
    """Write the file, in which every proposal is a comment."""
    lines = [*_opening(prospect), "", *_HEAD.splitlines(), "", "[jobs]"]
    for proposal in prospect.proposals:
        lines += ["", *_block(proposal)]
    lines += _closing(prospect)
    return "\n".join(lines) + "\n"


def _opening(prospect: Prospect) -> Iterator[str]:
    yield from _said("nightcrew.toml: what may live how long, and when it is looked after.")
    number = _counted(len(prospect.proposals), "job")
    yield from _said(
        f"'nightcrew init' looked at {_counted(prospect.tables, 'table')} of the database, and proposes {number} below,"
        " what is surest and largest first. It went by what tables and columns are called: you know what they mean."
    )
    yield "##"
    yield from _said(
        "No job is enabled. To enable one, take the '# ' away from each of its lines, from [jobs.NAME] on; lines with"
        " ## stay comments. Then 'nightcrew check' says in words what it means, and 'nightcrew plan NAME' counts what"
        " would leave and changes nothing. Numbers of rows are the database's own estimates."
    )


def _block(proposal: Proposal) -> Iterator[str]:
    """Write a job that is a comment, line by line, below what speaks for it."""
    policy = proposal.policy
    yield f"## ── {_plain(policy.table)} {'─' * max(3, _WIDE - 7 - len(_plain(policy.table)))}"
    for sentence in proposal.why:
        yield from _said(sentence)
    if proposal.create_index:
        yield from _said("Before it is enabled:")
        yield from (f"##   {_plain(statement)}" for statement in proposal.create_index)
    yield f"# [jobs.{proposal.job}]"
    key, when = proposal.due
    given: dict[str, str] = {key: _text(when), "table": _text(policy.table), "column": _text(policy.column)}
    if policy.older_than is not None:
        given["older_than"] = _text(spell(policy.older_than))
    if policy.unless_exists:
        given["unless_exists"] = f"[{', '.join(map(_text, policy.unless_exists))}]"
    width = max(map(len, given))
    for name, value in given.items():
        yield f"# {name:<{width}} = {value}"
    if proposal.erase:
        yield f"## {'erase':<{width}} = true    # instead of unless_exists"


def _closing(prospect: Prospect) -> Iterator[str]:
    if prospect.further:
        yield ""
        yield from _said(
            f"More that may be worth a job, and are not written out: {_named(prospect.further)}.", whole=True
        )
    if prospect.left_out:
        yield ""
        yield from _said("Left out, though what they are called speaks for a job:")
        for name, why in list(prospect.left_out.items())[:_NAMED]:
            yield from _said(f"{_plain(name)}: {why}.", mark="##   ")
        if more := len(prospect.left_out) - _NAMED:
            yield from _said(f"and {more} more." if more > 0 else "", mark="##   ")


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s" if number else f"no {word}s"


def _named(names: Iterable[str]) -> str:
    known = [_plain(name) for name in names]
    more = f", and {len(known) - _NAMED:,} more" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more


def _said(text: str, mark: str = "## ", *, whole: bool = False) -> list[str]:
    """Write a comment of whole words, which ends no line but where it goes on with another comment."""
    clean = _plain(text if whole or len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
    if whole:
        return [mark + clean]
    return wrap(clean, _WIDE, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False,
                break_long_words=False)  # fmt: skip


def _plain(text: str) -> str:
    """Return a text with every sign escaped that is none to be seen: ends of lines above all."""
    return "".join(sign if sign.isprintable() else _escape(sign) for sign in text)


_SIGNS: Mapping[str, str] = {"\\": "\\\\", '"': '\\"'}


def _text(value: str) -> str:
    """Write a value as TOML reads it, in which ${ begins no variable."""
    signs = (_SIGNS.get(sign, sign) if sign.isprintable() else _escape(sign) for sign in value.replace("${", "$${"))
    return f'"{"".join(signs)}"'


def _escape(sign: str) -> str:
    return f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
