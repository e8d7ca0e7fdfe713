"""Files of the library as one zip: whoever they belong to has them, under names that lead nowhere else."""

import random
import re
import zipfile
from datetime import UTC, datetime
from io import BytesIO

import pytest
import sqlalchemy as sa
from tests.story.tealight import Browser
from tests.story.test_library import NOTE, ORDERS, PLAN, add, chat_in, seal

from nightcrew.demo import bundle, files
from nightcrew.demo.library import Item


def download(browser: Browser, *keys: str, **fields: str) -> dict[str, bytes]:
    """Return what is in the zip of some files."""
    form = {"csrf": seal(browser)} | dict.fromkeys((f"file-{key}" for key in keys), "yes") | fields
    answer = browser.client.post("/library/download", data=form)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/zip", answer.text
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''library.zip"
    assert answer.headers["cache-control"] == "no-store"
    with zipfile.ZipFile(BytesIO(answer.content)) as found:
        assert found.testzip() is None
        assert all(entry.date_time[0] >= 2026 for entry in found.infolist() if entry.filename != bundle.LEFT_OUT)
        return {name: found.read(name) for name in found.namelist()}


def test_the_files_that_were_chosen_come_as_one_zip(home):
    ada = home.newcomer()
    project = ada.new_project()
    add(ada, project, NOTE, PLAN, ORDERS)
    own = ada.files()
    chat = chat_in(ada, project)
    ada.send(f"{chat}/messages", text="Draw me a loaf", files=[NOTE])
    ada.open(f"/library/{project}")
    assert 'formaction="/library/download"' in ada.page
    every = re.findall(r'name="file-(\w+)"', ada.page)
    found = download(ada, *every)
    drawn = next(name for name in found if name.endswith(".png"))
    assert found.pop(drawn).startswith(b"\x89PNG")
    assert sorted(found) == ["notes (2).md", "notes.md", "orders.csv", "plan.txt"]
    assert found["notes.md"] == found["notes (2).md"] == NOTE[1]
    assert download(ada, own["plan.txt"]) == {"plan.txt": PLAN[1]}
    ada.open(f"/library/{project}")
    assert "No file was chosen." in ada.send("/library/delete", files=())
    assert "No file was chosen." in ada.client.post("/library/download", data={"csrf": seal(ada)}).text


def test_what_has_gone_is_told_in_the_zip_and_nobody_elses_file_is_in_it(home):
    ada, eve = home.newcomer("Ada"), home.newcomer("Eve")
    for browser in (ada, eve):
        add(browser, browser.new_project(), NOTE, PLAN)
    own, theirs = ada.files(), eve.files()
    with home.data.reading() as connection:
        key = connection.execute(sa.text(f"SELECT blob_key FROM project_sources WHERE id = '{own['plan.txt']}'"))
        home.store.remove([key.scalar_one()])
    found = download(ada, *own.values(), theirs["notes.md"], "0" * 16)
    told = found.pop(bundle.LEFT_OUT).decode().splitlines()
    assert found == {"notes.md": NOTE[1]}
    assert told == ["plan.txt: its bytes are gone", "2 more: deleted, or never yours"]
    page = ada.client.post("/library/download", data={"csrf": seal(ada), f"file-{theirs['notes.md']}": "yes"}).text
    assert "None of the chosen files is there any more." in page
    guest = home.browser()
    guest.open("/sign-in")
    form = {"csrf": seal(guest), f"file-{own['notes.md']}": "yes"}
    assert guest.client.post("/library/download", data=form).url.path == "/sign-in"
    assert ada.client.post("/library/download", data={f"file-{own['notes.md']}": "yes"}).status_code == 403
    with home.away():
        answer = ada.client.post("/library/download", data={"csrf": seal(ada), f"file-{own['notes.md']}": "yes"})
    assert answer.status_code == 503
    assert "The files are out of reach" in answer.text


class Counted:
    """Files of which it is known how many have been read."""

    def __init__(self):
        self.read = 0

    def get(self, key):
        self.read += 1
        return random.Random(key).randbytes(files.LARGEST)


def item(name: str, key: str) -> Item:
    at = datetime(2026, 1, 31, tzinfo=UTC)
    return Item(key, name, "text/plain", 1, key, at, files.Origin.UPLOAD, None, None, None, 0)


def test_no_more_than_a_file_is_in_memory_while_a_zip_is_sent():
    kept, sizes = Counted(), []
    for part in bundle.zipped(kept, [item("same.bin", str(number)) for number in range(4)]):
        sizes.append(len(part))
        assert kept.read == min(len(sizes), 4), "one is read once the one before has been sent"
    assert max(sizes) < 1.01 * files.LARGEST
    assert len(sizes) == 5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["../../etc/passwd", "..\\..\\boot.ini"], ["passwd", "boot.ini"]),
        (["/", "..", "", "\0"], ["file", "file (2)", "file (3)", "file (4)"]),
        (["a.txt", "A.TXT", "a (2).txt", "a.txt"], ["a.txt", "A (2).TXT", "a (2) (2).txt", "a (3).txt"]),
        (["CON", "nul.txt", "Com1.tar.gz", "console.log"], ["_CON", "_nul.txt", "_Com1.tar.gz", "console.log"]),
        (["a:b?.txt", 'C:"x"'], ["a_b_.txt", "C__x_"]),
        (["left-out.txt", "Left-Out.txt"], ["left-out (2).txt", "Left-Out (3).txt"]),
        (["smörgås 🍞.md", "smo\u0308rga\u030as 🍞.md"], ["smörgås 🍞.md", "smörgås 🍞 (2).md"]),
    ],
)
def test_a_name_in_the_zip_leads_nowhere_and_is_no_other_ones(given, expected):
    items = [item(name, str(place)) for place, name in enumerate(given)]
    assert list(bundle.names(items).values()) == expected
