"""The examples: each trains for five steps on two ranks. The one that resumes is also killed.

Run as a script, this file is one of those ranks: test_examples.py NAME FOLDER ARGUMENTS... runs the example
of that name with these arguments and leaves in FOLDER what the test looks at.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
RANKS, STEPS, LIMIT_S = 2, 5, 120
NEEDS = {
    "torchrun": ("torch",),
    "accelerate": ("torch", "accelerate"),
    "lightning": ("torch", "lightning"),
    "hf_trainer": ("torch", "accelerate", "transformers"),
    "resume": ("torch", "zstandard"),
}
FURTHER = {"resume": ("--folder", "{folder}/checkpoints")}


def torchrun(*arguments: str, restarts: int = 0) -> str:
    """Run a program on RANKS ranks; return what they printed. Fails the test if one fails or time is up.

    A rank that fails has all ranks started again, up to `restarts` times.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += [f"--nproc-per-node={RANKS}", f"--max-restarts={restarts}"]
    environment = {
        "PYTHONPATH": str(ROOT),  # where `-m examples.NAME` would find it
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",  # nothing may be downloaded
    }
    with subprocess.Popen(
        [*launcher, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        try:
            printed, errors = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.terminate()  # then torchrun ends the ranks; killed itself, it would leave them
            printed, errors = process.communicate()
            pytest.fail(f"not done after {LIMIT_S} s\n{printed}\n{errors}")
    assert process.returncode == 0, f"{printed}\n{errors}"
    return printed


@pytest.mark.parametrize("name", NEEDS)
def test_an_example_trains_equal_replicas_with_fewer_bytes(name: str, tmp_path: Path) -> None:
    missing = [module for module in NEEDS[name] if find_spec(module) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed; examples/requirements.txt names what to install")
    further = [argument.format(folder=tmp_path) for argument in FURTHER.get(name, ())]
    printed = torchrun(__file__, name, str(tmp_path), "--steps", str(STEPS), "--codec", "int4", *further)

    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(RANKS)]
    assert ranks[0]["weights"] == ranks[1]["weights"]
    for rank in ranks:
        assert (rank["report"]["codec"], rank["report"]["world_size"]) == ("int4", RANKS)
        assert rank["report"]["steps"] > 0
        assert 0 < 5 * rank["report"]["bytes_sent"] < rank["report"]["bytes_plain"]
    assert printed.count(ranks[0]["table"]) == 1, "rank 0 prints its report"
    assert ranks[1]["table"] not in printed
    assert "loss" in printed


def test_there_is_no_example_without_a_test() -> None:
    programs = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    assert programs == set(NEEDS)
    readme = (ROOT / "examples/README.md").read_text()
    assert all(f"-m examples.{name}" in readme for name in programs)


def test_a_job_whose_ranks_are_killed_comes_out_bit_for_bit_the_same(tmp_path: Path) -> None:
    missing = [module for module in NEEDS["resume"] if find_spec(module) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed")
    for name in ("unbroken", "killed"):
        (tmp_path / name).mkdir()
    steps = ["--steps", "40", "--every", "2"]

    def train(folder: Path) -> None:
        store = ["--folder", str(folder / "checkpoints")]
        torchrun(__file__, "resume", str(folder), *steps, *store, restarts=3)

    train(tmp_path / "unbroken")
    killer = threading.Thread(target=kill_ranks, args=(tmp_path / "killed", [5, 14]))
    killer.start()
    train(tmp_path / "killed")
    killer.join()

    unbroken, killed = (
        json.loads((tmp_path / name / "0.json").read_text()) for name in ("unbroken", "killed")
    )
    assert killed["report"]["steps"] < unbroken["report"]["steps"], "it went on in the middle"
    assert killed["weights"] == unbroken["weights"]


def kill_ranks(folder: Path, when: list[int]) -> None:
    """Kill any rank at any moment after so many versions of the checkpoint were begun."""
    refs = folder / "checkpoints/refs/checkpoint"
    deadline = time.monotonic() + LIMIT_S
    for newest in when:
        while max((int(path.name[:20]) for path in refs.glob("0*")), default=0) < newest:
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)
        time.sleep(random.random() * 0.05)
        os.kill(int((folder / f"{random.randrange(RANKS)}.pid").read_text()), signal.SIGKILL)


def run_one_rank(name: str, folder: str, *arguments: str) -> None:
    """Run an example as one rank; leave its weights' hash and its report in `folder`."""
    sys.argv = [name, *arguments]
    Path(folder, f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    model, state = importlib.import_module(f"examples.{name}").main()
    weights = hashlib.sha256()
    for parameter in model.parameters():
        weights.update(parameter.detach().numpy().tobytes())
    report = state.report()
    facts: dict[str, Any] = {"weights": weights.hexdigest(), "report": report.as_dict(), "table": str(report)}
    Path(folder, f"{os.environ['RANK']}.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    run_one_rank(*sys.argv[1:])
