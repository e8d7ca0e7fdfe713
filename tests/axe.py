"""axe-core, as npm has it: fetched once beside the environment, to the byte the one that is named here."""

import base64
import os
import shutil
import subprocess
import sys
import tarfile
from hashlib import sha512
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

_PACKAGE = "axe-core@4.14.1"
_INTEGRITY = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
_KEPT = Path(sys.prefix) / f"{_PACKAGE}.tgz"  # goes with the environment, as every dependency does
_WHILE = 60.0  # seconds that the registry may take


def script() -> str:
    """Return what a page is to run; skips the test, or under CI fails it, where it cannot be had."""
    if not _KEPT.exists() and (reason := _fetched()):
        sentence = f"AXE-CORE CANNOT BE HAD, so nobody looked who cannot see: {reason}"
        pytest.fail(sentence) if os.environ.get("CI") == "true" else pytest.skip(sentence)
    found = base64.b64encode(sha512(_KEPT.read_bytes()).digest()).decode()
    assert found == _INTEGRITY, f"{_KEPT} is not what was pinned: remove it, and run again"
    with tarfile.open(_KEPT) as package:
        member = package.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def _fetched() -> str | None:
    """Fetch the package from wherever this machine's npm fetches packages; return what was in the way."""
    if (npm := shutil.which("npm")) is None:
        return "npm is not installed"
    with TemporaryDirectory(dir=sys.prefix) as folder:
        try:
            asked = [npm, "pack", _PACKAGE, "--silent", "--pack-destination", folder]
            done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=_WHILE, check=False)
        except subprocess.TimeoutExpired:
            return f"npm had nothing after {_WHILE:g} s"
        packed = [*Path(folder).glob("*.tgz")]
        if done.returncode or not packed:
            return (done.stderr.strip().splitlines() or ["npm says nothing"])[-1]
        packed[0].replace(_KEPT)  # at once: another worker may be at it, too
    return None
