"""Service: the job routes, the desk, what monitors ask, and the ticker in one process, until a signal ends it."""

import gc
import os
import signal
import socket
from collections.abc import Callable
from threading import Event, Thread
from types import FrameType

from nightcrew.crew import Nightcrew
from nightcrew.errors import DatabaseError, MissingExtra, UsageError
from nightcrew.web.asgi import App, beside
from nightcrew.web.monitoring import Monitoring, before

try:
    import uvicorn
except ImportError:
    raise MissingExtra("serve needs uvicorn, which is not installed: pip install 'nightcrew[serve]'") from None

DESK = "/nightcrew"
PATIENCE = 25.0  # seconds from a signal to the end: whoever sent it often kills a process that takes 30
_INTERRUPTED = 130


def serve(crew: Nightcrew, host: str, port: int, talk: Callable[[str], None]) -> int:
    """Serve until SIGTERM or Ctrl-C, then let runs finish their batch; return the exit code.

    A job's function that will not return ends with the process: its lease runs out, and another crew goes on.
    """
    with _listening(host, port) as listening:
        _look(crew, talk)
        shown = f"[{host}]" if ":" in host else host
        talk(f"serving {len(crew.jobs)} jobs on http://{shown}:{listening.getsockname()[1]}; Ctrl-C stops")
        gc.freeze()  # what is there from the start stays: to look through it all would hold up what is due
        config = uvicorn.Config(_whole(crew, talk), lifespan="on", log_level="warning", server_header=False)
        server = _Server(config, crew)
        code = _run(server, listening)
        if crew.at_work:
            server.cut_off()
        return code


class _Server(uvicorn.Server):
    """A server that waits for no run to reach its end: the calls it waits for hand theirs over."""

    def __init__(self, config: uvicorn.Config, crew: Nightcrew) -> None:
        super().__init__(config)
        self._crew = crew
        self._asked_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._crew.hand_over()
        if self._asked_at is None:
            self._asked_at = self._crew.clock.monotonic()
            Thread(target=self._end_in_time, name="nightcrew-end", daemon=True).start()
        super().handle_exit(sig, frame)

    def _end_in_time(self) -> None:
        """End the process where a thread keeps it, which Python would wait for however long that takes."""
        self._crew.clock.wait(Event(), PATIENCE)
        self.cut_off()

    def cut_off(self) -> None:
        """End the process now, and say whose run it takes along."""
        seconds = self._crew.clock.monotonic() - (self._asked_at or 0.0)
        self._crew.tell("cut_off", jobs=", ".join(self._crew.at_work) or "a call", seconds=seconds)
        os._exit(_INTERRUPTED)


def _whole(crew: Nightcrew, talk: Callable[[str], None]) -> App:
    """Return all that is served: what monitors ask comes first, for no job takes such a path."""
    return before(_with_desk(crew, talk), Monitoring(crew))


def _with_desk(crew: Nightcrew, talk: Callable[[str], None]) -> App:
    """Return the job routes with the desk beside them: behind its password, or in development as it is."""
    password = crew.settings.dashboard_password
    if password is None and crew.settings.environment != "development":
        talk(f"the desk at {DESK} stays closed until NIGHTCREW_DASHBOARD_PASSWORD is set")
        return crew.asgi
    try:
        from nightcrew.web.dashboard.app import Dashboard  # noqa: PLC0415 - Jinja2 is an extra
        from nightcrew.web.dashboard.password import CHALLENGE, by_password  # noqa: PLC0415
    except MissingExtra as missing:
        talk(f"there is no desk at {DESK}: {missing}")
        return crew.asgi
    desk = Dashboard(crew, by_password(password, crew), CHALLENGE) if password else Dashboard(crew, None)
    return beside(crew.asgi, DESK, desk)


def _look(crew: Nightcrew, talk: Callable[[str], None]) -> None:
    """Find out now what no waiting would cure; a database that is away comes back."""
    try:
        crew.status()
    except DatabaseError as problem:
        if not problem.transient:
            raise
        talk(f"{problem}; serving all the same, and trying again")


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as problem:
        reason = str(problem.strerror or problem).partition(" (while")[0]
        raise UsageError(f"{host}:{port} cannot be listened on ({reason}); choose another --host or --port") from None


def _run(server: uvicorn.Server, listening: socket.socket) -> int:
    """Run the server; it raises the signal that ended it once more at its end, when there is still tidying to do."""
    heard: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: heard.append(number))
    server.run(sockets=[listening])
    if not server.started:
        return 1
    return _INTERRUPTED if signal.SIGINT in heard else 0
