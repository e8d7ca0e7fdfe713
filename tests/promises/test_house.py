"""The tree is what its picture says it is."""

import ast
import asyncio
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest

import nightcrew

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "nightcrew"
MODULES = sorted(path for path in SOURCE.rglob("*.py"))


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def pictured() -> dict[str, str]:
    """Return the names in the picture, with their lines."""
    page = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^[├└]── (\S+?)/?\s{2,}(.+)$", page, re.MULTILINE))


def test_the_picture_shows_every_room_and_no_other():
    rooms = {path.name for path in SOURCE.iterdir() if not path.name.startswith("_") and path.name != "py.typed"}
    assert set(pictured()) == rooms


def test_the_readme_stays_under_150_lines():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 150


def test_every_file_the_readme_and_docs_link_to_exists():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_room_is_called_by_a_word_that_means_nothing():
    meaningless = {"utils", "util", "helpers", "helper", "core", "common", "manager", "models", "misc", "base"}
    assert not [relative(path) for path in MODULES if path.stem in meaningless]


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_in_one_line_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring, f"{relative(path)} has no docstring"
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_room_is_read_in_one_sitting(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 400


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_dialect_is_named_outside_its_room(path):
    if path.relative_to(SOURCE).parts[0] in {"databases", "demo"}:
        return
    named = re.findall(r"sqlite|postgres|mysql|mariadb|psycopg", path.read_text(encoding="utf-8"), re.IGNORECASE)
    assert not named


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_the_log_listener_logs(path):
    imported = {
        name.name.partition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import)
        for name in node.names
    }
    assert "logging" not in imported or relative(path) in {"listeners/log.py", "cli.py", "demo/serve.py"}


def test_public_names_are_few_sorted_and_all_there():
    assert list(nightcrew.__all__) == sorted(nightcrew.__all__)
    assert len(nightcrew.__all__) <= 13
    for name in nightcrew.__all__:
        assert getattr(nightcrew, name).__name__ == name


def test_the_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == nightcrew.__version__


def test_importing_nightcrew_loads_no_database_library():
    code = "import sys, nightcrew; sys.exit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_job_may_be_declared_as_the_readme_shows():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, object] = {}
    exec(example[1], names)
    crew = names["crew"]
    assert list(crew.jobs) == ["delete-stale-empty-chats"]

    async def call() -> int:
        transport = httpx.ASGITransport(names["app"])
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return (await client.post("/api/internal/jobs/delete-stale-empty-chats")).status_code

    assert asyncio.run(call()) == 401
