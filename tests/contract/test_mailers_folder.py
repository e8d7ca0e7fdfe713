"""A folder of letters: each is there whole, once, and under a name that leads nowhere else."""

import os
import stat
import subprocess
import sys
import threading
from datetime import timedelta
from email.headerregistry import Address
from pathlib import Path

import pytest
from tests.letters import DATE, letter, read

from nightcrew.clock import SystemClock
from nightcrew.errors import MailerError
from nightcrew.mailer import Fate
from nightcrew.mailers import mailer


def deliver(place: Path, *letters) -> list[Fate]:
    with mailer(str(place), SystemClock()).connect() as connection:
        return [connection.deliver(each).fate for each in letters]


def test_files_are_listed_by_date_and_tell_for_whom_they_are(tmp_path):
    later = letter("b", date=DATE + timedelta(seconds=1), recipient=Address("", "bob+x", "example.com"))
    assert deliver(tmp_path / "a" / "b", later, letter("z")) == [Fate.SENT] * 2
    first, second = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert first.startswith("2024-06-15T12-30-00_ann@example.com_")
    assert second.startswith("2024-06-15T12-30-01_bob+x@example.com_")
    assert {first[-4:], second[-4:]} == {".eml"}


def test_it_is_for_its_owner_alone(tmp_path):
    deliver(tmp_path / "mail", letter())
    (file,) = (tmp_path / "mail").iterdir()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "mail", file)] == [0o700, 0o600]


@pytest.mark.parametrize(
    "local", ["../../etc/x", "/etc/passwd", "a/b", "..", "a" * 64, ".hidden", "a\\b", "-rf", "é", "a:b|c*?"]
)
def test_no_recipient_leads_out_of_the_folder(tmp_path, local):
    assert deliver(tmp_path / "mail", letter("/../a", recipient=Address("", local, "example.com"))) == [Fate.SENT]
    (file,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert file.parent == tmp_path / "mail"
    assert len(file.name) < 120


def test_the_same_letter_overwrites_nothing(tmp_path):
    deliver(tmp_path, letter())
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"as somebody has changed it")
    assert deliver(tmp_path, letter(), letter("other")) == [Fate.SENT] * 2
    assert file.read_bytes() == b"as somebody has changed it"
    assert len([*tmp_path.iterdir()]) == 2


def test_a_letter_that_is_written_anew_another_day_is_the_same(tmp_path):
    assert deliver(tmp_path, letter(), letter("other")) == [Fate.SENT] * 2
    again = letter(date=DATE + timedelta(days=1), recipient=Address("", "elsewhere", "example.com"))
    assert deliver(tmp_path, again) == [Fate.SENT]
    assert len([*tmp_path.iterdir()]) == 2


def test_many_at_once_write_it_once(tmp_path):
    together = threading.Barrier(8)

    def write():
        together.wait()
        deliver(tmp_path, *(letter(str(n)) for n in range(20)))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({read(path.read_bytes())["message-id"] for path in tmp_path.iterdir()}) == 20
    assert len([*tmp_path.iterdir()]) == 20


FULL = """
import resource, sys
from tests.letters import letter
from nightcrew.clock import SystemClock
from nightcrew.errors import MailerError
from nightcrew.mailers import mailer
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with mailer(sys.argv[1], SystemClock()).connect() as connection:
    try:
        connection.deliver(letter(text="x" * 9000))
    except MailerError as error:
        print(error)
"""


def test_a_disk_that_is_full_leaves_no_half_of_a_letter(tmp_path):
    line = [sys.executable, "-c", FULL, str(tmp_path / "mail")]
    said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert "File too large" in said
    assert str(tmp_path / "mail") in said
    assert [*(tmp_path / "mail").iterdir()] == []


def test_a_folder_that_cannot_be_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MailerError, match=r"File exists|Not a directory"):
        deliver(tmp_path / "file", letter())
    with pytest.raises(MailerError, match="Not a directory"):
        deliver(tmp_path / "file" / "below", letter())


def test_a_folder_that_is_gone_meanwhile_is_told(tmp_path):
    with mailer(str(tmp_path / "mail"), SystemClock()).connect() as connection:
        (tmp_path / "mail").rmdir()
        with pytest.raises(MailerError, match="No such file"):
            connection.deliver(letter())


def test_drafts_of_the_dead_are_cleared_away_a_day_later(tmp_path):
    for name, age in {".nightcrew-old": timedelta(days=2), ".nightcrew-new": timedelta(hours=1)}.items():
        (tmp_path / name).write_text("half")
        at = (SystemClock().now() - age).timestamp()
        os.utime(tmp_path / name, (at, at))
    deliver(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".nightcrew-new"]
