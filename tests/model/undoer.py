"""A process that undoes a run when it is told to, and says what came of it: usage: undoer.py URL FOLDER RUN."""

import json
import sys

from tests.model.archivist import crew_that_archives


def main() -> None:
    url, folder, run = sys.argv[1:]
    crew = crew_that_archives(url, folder)
    crew.undo(run)
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(crew.undo(run, restore=True).json()))
    crew.close()


if __name__ == "__main__":
    main()
