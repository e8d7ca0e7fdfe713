"""Promise: every command is documented, and its help shows an example."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nightcrew.checks.probe import PROBES
from nightcrew.cli import nightcrew
from nightcrew.examining import CHECKS

PAGE = (Path(__file__).parents[2] / "docs/commands.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| `(nightcrew [a-z]+(?: [a-z-]+)?)[^|]*` \| (.+) \|$", PAGE, re.MULTILINE))


def leaves(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


COMMANDS = dict(leaves(nightcrew, "nightcrew"))


def options(command: click.Command) -> set[str]:
    return {
        flag
        for option in command.params
        if isinstance(option, click.Option) and not option.hidden
        for flag in option.opts[:1]
    }


def test_the_page_documents_every_command_and_no_other() -> None:
    assert set(ROWS) == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_the_page_names_every_option_of_a_command(path: str) -> None:
    assert options(COMMANDS[path]) <= set(re.findall(r"`(--?[a-z-]+)", ROWS[path]))


def test_the_page_names_every_option_before_the_command() -> None:
    assert options(nightcrew) <= set(re.findall(r"`(--?[a-z-]+)", PAGE))


@pytest.mark.parametrize("path", ["nightcrew", "nightcrew secret", *COMMANDS])
def test_help_is_a_sentence_and_ends_with_an_example(path: str) -> None:
    words = path.split()[1:]
    result = CliRunner().invoke(nightcrew, [*words, "--help"], prog_name="nightcrew")
    assert result.exit_code == 0
    assert re.search(r"^  [A-Z].+[.:]", result.output, re.MULTILINE)
    last = result.output.strip().splitlines()[-1]
    assert last.strip().startswith("Example: ")
    assert " ".join(["nightcrew", *words]) in last


@pytest.mark.parametrize("path", COMMANDS)
def test_the_list_of_commands_cuts_no_sentence(path: str) -> None:
    assert not COMMANDS[path].get_short_help_str(limit=64).endswith("...")


def test_the_page_of_the_doctor_names_every_check_and_no_other() -> None:
    page = (Path(__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| <a id=\"\w+\"></a>(NC\d+) \| ([^|]+) \|", page, re.MULTILINE))
    assert rows.keys() == {check.code for check in (*CHECKS, *PROBES)}
    assert {code for code, says in rows.items() if "✎" in says} == {check.code for check in CHECKS if check.static}
