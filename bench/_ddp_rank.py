"""The process of one rank: reads jobs as lines of JSON, trains, answers with lines of JSON.

It lives over all methods, so torch is imported and a model's data is read once. It ends when its input does.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from thinwire.bench._ddp_job import run_job
from thinwire.bench._ddp_plan import Job

_STORE_TIMEOUT = timedelta(seconds=60)


def main() -> int:
    """Serve until the input ends; status 1 after a failed job, which leaves its process groups unusable."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints belongs into the log

    def emit(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message, default=str) + "\n")
        answers.flush()

    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(host, port, world_size, is_master=rank == 0, timeout=_STORE_TIMEOUT)
    emit({"event": "ready"})
    quiet = emit if rank == 0 else _ignore
    for line in sys.stdin:
        job = Job(**json.loads(line))
        try:
            emit({"event": "done", **run_job(job, store, rank, world_size, quiet)})
        except Exception as error:
            emit({"event": "failed", "error": f"{type(error).__name__}: {error}"})
            return 1
    return 0


def _ignore(message: dict[str, Any]) -> None:
    """Only rank 0 tells about single steps."""


if __name__ == "__main__":
    sys.exit(main())
