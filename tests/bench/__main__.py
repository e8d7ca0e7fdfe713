"""`make bench`: ratios, measured side by side in one run; name the ones you want: `make bench ARGS="sweep"`."""

import multiprocessing
import sys

from tests.bench import (
    archive,
    blobs,
    claims,
    desk,
    endurance,
    foreground,
    forms,
    http_401,
    mail,
    outbox,
    plan,
    scheduler,
    streams,
    sweep,
)

MEASURES = {
    "archive": archive.measure,
    "blobs": blobs.measure,
    "claims": claims.measure,
    "desk": desk.measure,
    "endurance": endurance.measure,
    "foreground": foreground.measure,
    "forms": forms.measure,
    "http": http_401.measure,
    "mail": mail.measure,
    "outbox": outbox.measure,
    "plan": plan.measure,
    "scheduler": scheduler.measure,
    "streams": streams.measure,
    "sweep": sweep.measure,
}


def main() -> None:
    chosen = sys.argv[1:] or list(MEASURES)
    unknown = set(chosen) - set(MEASURES)
    if unknown:
        sys.exit(f"there is no measure {min(unknown)!r}: choose from {', '.join(MEASURES)}")
    for name in chosen:  # each in a process of its own, for what one took of memory is seen in the next
        process = multiprocessing.get_context("spawn").Process(target=MEASURES[name])
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"measure {name!r} ended with {process.exitcode}")


if __name__ == "__main__":
    main()
