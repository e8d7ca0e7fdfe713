"""Block: the part of a text file that is ours, between two comments; the rest stays as it is."""

from nightcrew.errors import UsageError

BEGIN, END = "# >>> nightcrew", "# <<< nightcrew"


def merged(path: str, ours: str, command: str, before: str | None) -> str:
    """Return the file with our lines in place of those it had, or as a new file.

    Raises UsageError for a file that somebody else has written, or whose marks are not one of each, in order.
    """
    block = f"{BEGIN}: these lines are written by `{command}`, and what is changed in them is lost\n{ours}{END}\n"
    if before is None or not before.strip():
        return block
    lines = before.splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if line.startswith(BEGIN)]
    ends = [number for number, line in enumerate(lines) if line.startswith(END)]
    if not begins and not ends:
        raise UsageError(f"{path} is there already, and nightcrew has not written it: name another with --to")
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise UsageError(
            f"{path} is to have one line {BEGIN!r} and below it one line {END!r}, and has not: correct it, or remove it"
        )
    return "".join([*lines[: begins[0]], block, *lines[ends[0] + 1 :]])
