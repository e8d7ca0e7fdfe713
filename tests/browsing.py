"""A desk served under a prefix, and a browser that looks at it: by keys, and with every breach of its rules noted."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

import uvicorn
from tests.chromium import Chromium, Tab
from tests.desk import letting_in

from nightcrew import Nightcrew
from nightcrew.web.asgi import beside

_WATCH = """
window.wrong = [];
addEventListener("securitypolicyviolation", (event) => wrong.push(`${event.violatedDirective} ${event.blockedURI}`));
addEventListener("error", (event) => wrong.push(`error: ${event.message}`), true);
addEventListener("unhandledrejection", (event) => wrong.push(`rejected: ${event.reason}`));
for (const kind of ["error", "warn"]) {
  const before = console[kind];
  console[kind] = (...said) => (wrong.push(`console: ${said.join(" ")}`), before.apply(console, said));
}
"""
_EVERYBODY = letting_in("all")
ENTER = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
TAB = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}


@contextmanager
def served(crew: Nightcrew, authorize: Callable[[Any], object] = _EVERYBODY) -> Iterator[str]:
    """Serve the desk of a crew under a prefix, beside an application that has nothing."""

    async def nothing(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app = beside(nothing, "/ops/nightcrew", crew.dashboard(authorize))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/ops/nightcrew"
        finally:
            server.should_exit = True
            thread.join()


def opened(browser: Chromium, address: str, **shape: Any) -> Tab:
    """Open a page whose breaches of its own rules, and errors, are noted from the beginning on."""
    tab = browser.tab("about:blank", **shape)
    tab.call("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
    tab.open(address)
    return tab


def press(tab: Tab, key: dict[str, object]) -> None:
    """Press a key and let go of it."""
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, **(key if kind == "keyDown" else key | {"text": ""}))


def reach(tab: Tab, selector: str) -> None:
    """Press Tab until what a selector finds has the focus, and shows it."""
    for _ in range(80):
        press(tab, TAB)
        if tab.value(f"document.activeElement?.matches({selector!r}) ?? false"):
            outline = tab.value("getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", f"nobody sees that {selector} has the focus"
            return
    raise AssertionError(f"the keyboard never comes to {selector}")


def follow(tab: Tab, key: dict[str, object]) -> None:
    """Press a key that leads to another page."""
    tab.value("window.left = true")
    press(tab, key)
    tab.until("!window.left && document.readyState === 'complete'")


def sent(tab: Tab, selector: str) -> None:
    """Click on what leads to another page."""
    tab.value("window.left = true")
    tab.click(selector)
    tab.until("!window.left && document.readyState === 'complete'")
