"""Chromium, driven over the pipe of its own protocol: no driver, no websocket; and what its pages show."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"),
    "--remote-debugging-pipe",
)
_WHILE = 30.0  # seconds that anything may take


class Chromium:
    """A running browser: its commands go down one pipe, and its answers come up another, each with a NUL behind it."""

    def __init__(self, down: int, up: int) -> None:
        self._down = down
        self._up = up
        self._number = 0
        self._heard = b""

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Give a command and return its answer; what the browser tells besides is passed over."""
        self._number += 1
        said = {"id": self._number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._down, json.dumps(said).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def tab(self, url: str, *, script: bool = True, width: int = 1280, height: int = 900) -> "Tab":
        """Open a page; without `script`, as a browser that runs none."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        tab.call("Page.enable")
        tab.call("Emulation.setScriptExecutionDisabled", value=not script)
        shape = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        tab.call("Emulation.setDeviceMetricsOverride", **shape)
        tab.open(url)
        return tab

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._heard:
            part = os.read(self._up, 1 << 20)
            assert part, "the browser has ended"
            self._heard += part
        said, self._heard = self._heard.split(b"\0", 1)
        found: dict[str, Any] = json.loads(said)
        return found


class Tab:
    """One page, and what it shows."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Give a command that is for this page."""
        return self._browser.call(method, self._session, **params)

    def open(self, url: str) -> None:
        """Go to an address, and wait until the page is there."""
        self.value("window.left = true")
        self.call("Page.navigate", url=url)
        self.until("!window.left && document.readyState === 'complete'")

    def reload(self) -> None:
        """Load the page once more, and wait until it is there."""
        self.value("window.left = true")
        self.call("Page.reload")
        self.until("!window.left && document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """Return what an expression is worth in the page; None while it is between two pages."""
        try:
            found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        except AssertionError as gone:
            if "context" in str(gone) or "navigat" in str(gone):
                return None
            raise
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str, patience: float = _WHILE) -> Any:
        """Wait until an expression is true in the page, and return its value."""
        end, asked = time.monotonic() + patience, f"((found) => found instanceof Node || found)({expression})"
        while time.monotonic() < end:
            if found := self.value(asked):
                return found
            time.sleep(0.02)
        raise AssertionError(f"{expression} never came true; the page says: {self.value('document.body.innerText')}")

    def text(self, selector: str) -> str:
        """Return the text of the last element that a selector finds, or nothing."""
        return str(
            self.value(f"[...document.querySelectorAll({json.dumps(selector)})].at(-1)?.textContent ?? ''") or ""
        )

    def fill(self, selector: str, text: str) -> None:
        """Write into a field."""
        self.value(f"document.querySelector({json.dumps(selector)}).value = {json.dumps(text)}")

    def click(self, selector: str) -> None:
        """Click on what a selector finds."""
        self.value(f"document.querySelector({json.dumps(selector)}).click()")

    def dark(self, *, on: bool) -> None:
        """Let the page think that it is night, or day."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if on else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)


@contextmanager
def running() -> Iterator[Chromium]:
    """Run a browser with a profile of its own."""
    assert PROGRAM is not None
    ours, theirs = os.pipe(), os.pipe()
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # The browser reads its commands from descriptor 3 and answers on 4.
        pipes = f'exec "$@" 3</proc/self/fd/{ours[0]} 4>/proc/self/fd/{theirs[1]}'
        words = ["sh", "-c", pipes, "sh", PROGRAM, *_OPTIONS, f"--user-data-dir={Path(profile) / 'profile'}"]
        with subprocess.Popen(
            words, pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            os.close(ours[0])
            os.close(theirs[1])
            try:
                yield Chromium(ours[1], theirs[0])
            finally:
                os.close(ours[1])  # at which it ends
                os.close(theirs[0])
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
