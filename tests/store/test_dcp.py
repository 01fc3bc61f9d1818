"""torch.distributed.checkpoint into a store, and back on another number of ranks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
dcp = pytest.importorskip("torch.distributed.checkpoint")
pytest.importorskip("torch.distributed.tensor")

from dcp_rank import full  # noqa: E402
from thinwire.errors import InvalidArgument, NotFound  # noqa: E402
from thinwire.store.checkpoint import Checkpointer  # noqa: E402
from thinwire.store.checkpoint.distributed import StorageReader, StorageWriter  # noqa: E402
from thinwire.store.checkpoint.layout import BLOCK_BYTES  # noqa: E402
from thinwire.store.checkpoint.loading import Stored  # noqa: E402
from thinwire.store.store import Store  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is:UserWarning")
LIMIT_S = 180


def torchrun(ranks: int, *arguments: str) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    done = subprocess.run(
        [*launcher, *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_shards_of_two_ranks_load_on_two_and_on_one(tmp_path: Path) -> None:
    torchrun(2, str(Path(__file__).parent.with_name("dcp_rank.py")), str(tmp_path / "store"))

    for version in ("sharded@1", "sharded@2"):
        state = {
            "model": {
                "rows": torch.zeros(600, 700),
                "columns": torch.zeros(30, 50),
                "whole": torch.zeros(41),
            },
            "plain": torch.zeros(7),
            "step": 0,
            "betas": (0.0, 0.0),
        }
        dcp.load(state, storage_reader=StorageReader(tmp_path / "store", version))
        assert torch.equal(state["model"]["rows"], full(1, 600, 700))
        assert torch.equal(state["model"]["columns"], full(2, 30, 50))
        assert torch.equal(state["model"]["whole"], full(3, 41))
        assert torch.equal(state["plain"], torch.arange(7.0))
        assert (state["step"], state["betas"]) == (12, (0.9, 0.95))
    with Store(tmp_path / "store") as store:
        assert [ref.version for ref in store.versions("sharded")] == [1, 2]
        assert {name for name in store.ls() if name != "sharded"} == {"sharded/rank0", "sharded/rank1"}


def test_a_rank_reads_only_the_blocks_of_its_rows(tmp_path: Path) -> None:
    value = torch.arange(4 << 20, dtype=torch.float32).reshape(4096, 1024)  # 4 blocks
    dcp.save({"x": value}, storage_writer=StorageWriter(tmp_path), no_dist=True)
    with Store(tmp_path) as store:
        stored = Stored(store.reader("checkpoint/rank0"))
        [window], reads = stored.windows([(0, 1000, 1100)])
        stored.fetch(reads)
        assert len(window.read.memory) == 2 * BLOCK_BYTES
        assert torch.equal(window.tensor(), value[1000:1100])


def test_a_block_of_small_tensors_is_read_once(tmp_path: Path) -> None:
    state = {f"x{i}": torch.full((10,), float(i)) for i in range(100)}
    dcp.save(state, storage_writer=StorageWriter(tmp_path), no_dist=True)
    with Store(tmp_path) as store:
        stored = Stored(store.reader("checkpoint/rank0"))
        windows, reads = stored.windows((leaf, 0, 10) for leaf in range(100))
        assert len(reads) == 1
        stored.fetch(reads)
        assert sorted(float(window.tensor()[0]) for window in windows) == [float(i) for i in range(100)]


def test_objects_are_not_pickled_into_the_store(tmp_path: Path) -> None:
    writer = StorageWriter(tmp_path)
    with pytest.raises(dcp.api.CheckpointException) as caught:
        dcp.save({"x": np.zeros(3)}, storage_writer=writer, no_dist=True)
    ((error, _),) = caught.value.failures.values()
    assert isinstance(error, InvalidArgument)
    assert "ndarray" in str(error)
    with pytest.raises(NotFound):
        StorageReader(tmp_path).read_metadata()


def test_checkpoint_id_is_the_name(tmp_path: Path) -> None:
    state: dict[str, Any] = {"x": torch.ones(3)}
    dcp.save(state, checkpoint_id="run/second", storage_writer=StorageWriter(tmp_path), no_dist=True)
    found = {"x": torch.zeros(3)}
    reader = StorageReader(tmp_path)
    dcp.load(found, checkpoint_id="run/second", storage_reader=reader, no_dist=True)
    assert torch.equal(found["x"], state["x"])
    assert not StorageWriter.validate_checkpoint_id("/no/name")


def test_a_checkpointers_step_is_refused(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as saver:
        saver.save({"x": torch.ones(3)}, 1)
    with pytest.raises(InvalidArgument, match="Checkpointer"):
        StorageReader(tmp_path).read_metadata()
