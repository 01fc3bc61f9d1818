"""A rank in a network namespace, which cuts its own link when it is told to. `test_comm_cut.py` starts it.

    python comm_cut_rank.py FOLDER VICTIM SEED SECONDS

It says {} when it is connected, and in the end what it noticed; then it waits until it is ended. The victim
waits for a line, and SECONDS, before it cuts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from typing import Any

from comm_survivors import survive
from thinwire.cli._netns import NIC


def say(value: dict[str, Any]) -> None:
    """Send a line of JSON to the test."""
    print(json.dumps(value), flush=True)


class Cut(threading.Thread):
    """Takes the NIC down, `seconds` after a line has come; `when` is just before it does."""

    def __init__(self, seconds: float) -> None:
        super().__init__(daemon=True)
        self.when = 0.0
        self._seconds = seconds

    def run(self) -> None:
        sys.stdin.readline()
        time.sleep(self._seconds)
        self.when = time.monotonic()
        subprocess.run(["ip", "link", "set", NIC, "down"], check=True)


def main(folder: str, victim: int, seed: int, seconds: float) -> None:
    """Reduce until a rank is lost; say what was noticed."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    cut = Cut(seconds)
    if rank == victim:
        cut.start()
    found = survive(lambda _: say({}), folder, rank, size, [victim], seed, {})
    say({**found, "error": found["error"].__name__, "cut": cut.when})
    sys.stdin.read()  # who left now would look lost to the test, which waits for the others


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
