"""A folder of blobs is never left, whatever a key says, and holds no half of a file."""

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from nightcrew.errors import StoreError
from nightcrew.stores.disk import Disk

ASTRAY = ["../secret", "a/../../secret", "/secret", "", ".", "..", "a//b", "a/./b", "a/", "a\0b", "\ud800"]


@pytest.fixture
def uploads(tmp_path):
    (tmp_path / "uploads").mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    return tmp_path / "uploads"


@pytest.fixture
def disk(uploads):
    return Disk(str(uploads))


@pytest.mark.parametrize("key", [*ASTRAY, "{absolute}"])
def test_no_key_leads_out_of_the_folder(disk, uploads, key):
    key = key.format(absolute=uploads.parent / "secret")
    (uploads / "a").mkdir()
    assert list(disk.remove([key])) == [key]
    assert disk.present([key]) == set()
    for act in (lambda: disk.put(key, b"overwritten"), lambda: disk.get(key)):
        with pytest.raises(StoreError, match="cannot be used in file://"):
            act()
    assert (uploads.parent / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in uploads.parent.rglob("*")) == ["a", "secret", "uploads"]


def test_no_link_is_followed(disk, uploads):
    outside = uploads.parent / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    (uploads / "folder").symlink_to(outside)
    (uploads / "file").symlink_to(outside / "file")
    keys = ["folder/file", "file"]
    assert {key: "link" in why for key, why in disk.remove(keys).items()} == dict.fromkeys(keys, True)
    assert (disk.present(keys), disk.page().blobs) == (set(), ())
    for key in keys:
        with pytest.raises(StoreError, match="link"):
            disk.get(key)
    with pytest.raises(StoreError, match="link"):
        disk.put("folder/new", b"")
    disk.put("file", b"mine")  # takes the link's place
    assert (disk.get("file"), [path.name for path in outside.iterdir()]) == (b"mine", ["file"])
    assert (outside / "file").read_bytes() == b"secret"


def test_the_folder_itself_may_be_a_link(uploads):
    (uploads.parent / "linked").symlink_to(uploads)
    disk = Disk(str(uploads.parent / "linked"))
    disk.put("a", b"")
    assert (disk.remove(["a"]), list(uploads.iterdir())) == ({}, [])


def test_folders_that_are_left_empty_are_removed_and_no_others(disk, uploads):
    for key in ("a/b/c/file", "a/stays", "d/e/file"):
        disk.put(key, b"")
    assert disk.remove(["a/b/c/file", "d/e/file"]) == {}
    assert sorted(path.relative_to(uploads).as_posix() for path in uploads.rglob("*")) == ["a", "a/stays"]
    assert disk.remove(["a/stays"]) == {}
    assert uploads.is_dir()


def test_a_folder_that_a_kill_left_empty_is_removed_when_its_file_is_owed_again(disk, uploads):
    (uploads / "a/b").mkdir(parents=True)
    assert disk.remove(["a/b/file"]) == {}
    assert list(uploads.iterdir()) == []


def test_a_file_by_another_name_for_the_same_stays(disk, uploads):
    """Where one file answers to two names, each is removed for itself, as a file system that folds case demands."""
    disk.put("photo.jpg", b"")
    os.link(uploads / "photo.jpg", uploads / "PHOTO.JPG")
    assert (disk.remove(["PHOTO.JPG"]), [path.name for path in uploads.iterdir()]) == ({}, ["photo.jpg"])


def test_a_folder_that_is_not_there_is_no_empty_one(tmp_path):
    disk = Disk(str(tmp_path / "nowhere"))
    for act in (lambda: disk.remove(["a"]), disk.page, lambda: disk.present(["a"]), lambda: disk.put("a", b"")):
        with pytest.raises(StoreError, match=r"there is no folder .*nowhere: make or mount it"):
            act()


def test_whoever_reads_while_a_file_is_written_has_one_of_the_two_whole(disk, uploads):
    ones, twos, stop = b"1" * 300_000, b"2" * 200_000, threading.Event()
    disk.put("file", ones)

    def write():
        while not stop.is_set():
            disk.put("file", twos)
            disk.put("file", ones)

    writer = threading.Thread(target=write)
    writer.start()
    seen = {disk.get("file") for _ in range(100)}
    stop.set()
    writer.join()
    assert seen <= {ones, twos}
    assert [path.name for path in uploads.iterdir()] == ["file"]


def test_writing_and_pruning_the_same_folder_at_once_loses_nothing(disk):
    stop = threading.Event()

    def prune():
        while not stop.is_set():
            disk.remove(["a/b/other"])

    pruner = threading.Thread(target=prune)
    pruner.start()
    for number in range(50):
        disk.put(f"a/b/{number}", b"")
        assert disk.remove([f"a/b/{number}"]) == {}
        disk.put("a/b/kept", b"kept")
        assert disk.get("a/b/kept") == b"kept"
        assert disk.remove(["a/b/kept"]) == {}
    stop.set()
    pruner.join()


AS_NOBODY = """
import os, sys
from nightcrew.errors import StoreError
from nightcrew.stores.disk import Disk
os.setgroups([]), os.setgid(65534), os.setuid(65534)
disk = Disk(sys.argv[1])
print(dict(disk.remove(["a/file", "gone"])))
for act in (disk.page, lambda: disk.put("a/new", b"")):
    try:
        act()
    except StoreError as error:
        print(error)
"""


_PUT = """
import os, signal, sys
from nightcrew.stores.disk import Disk
os.replace = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
Disk(sys.argv[1]).put("a/b", b"x" * 100_000)
"""


def test_what_somebody_died_over_who_wrote_it_is_no_blob_and_is_cleared_away_a_day_later(disk, uploads):
    disk.put("a/whole", b"")
    died = subprocess.run([sys.executable, "-c", _PUT, str(uploads)], check=False)
    assert died.returncode == -signal.SIGKILL
    (draft,) = (path for path in (uploads / "a").iterdir() if path.name != "whole")
    assert [blob.key for blob in disk.page().blobs] == ["a/whole"]
    assert draft.exists()  # for all that anybody knows, it is still written
    yesterday = draft.stat().st_mtime - timedelta(days=1).total_seconds() - 60
    os.utime(draft, (yesterday, yesterday))
    (uploads / "a" / "old").touch()
    os.utime(uploads / "a" / "old", (yesterday, yesterday))
    assert [blob.key for blob in disk.page().blobs] == ["a/old", "a/whole"]
    assert not draft.exists()
    with pytest.raises(StoreError, match=r"names that begin with \.nightcrew- are those of files that are not whole"):
        disk.put(f"a/{draft.name}", b"")


_PUT_LARGE = """
import resource, sys
from nightcrew.errors import StoreError
from nightcrew.stores.disk import Disk
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
disk = Disk(sys.argv[1])
disk.put("a/small", b"x")
try:
    disk.put("a/large", b"x" * 100_000)
except StoreError as error:
    print(error)
"""


def test_what_there_is_no_room_for_leaves_nothing_behind(uploads):
    run = subprocess.run([sys.executable, "-c", _PUT_LARGE, str(uploads)], check=True, capture_output=True, text=True)
    assert run.stdout == f"key 'a/large' cannot be used in file://{uploads}: File too large\n"
    assert [path.name for path in (uploads / "a").iterdir()] == ["small"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become nobody")
def test_what_is_not_allowed_is_said_by_key_and_by_place(disk, uploads):
    disk.put("a/file", b"")
    disk.put("b/file", b"")
    for folder, mode in ((uploads, 0o755), (uploads / "a", 0o555), (uploads / "b", 0o700)):
        folder.chmod(mode)
    for above in uploads.parents:
        above.chmod(above.stat().st_mode | 0o111)
    told = subprocess.run([sys.executable, "-c", AS_NOBODY, str(uploads)], capture_output=True, text=True, check=True)
    removed, listed, written = told.stdout.splitlines()
    assert removed == "{'a/file': 'Permission denied'}"
    assert listed == f"folder {uploads} cannot be used: Permission denied at b"
    assert written.endswith("Permission denied")
    assert disk.get("a/file") == b""
