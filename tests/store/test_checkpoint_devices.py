"""Checkpoints of tensors on a device, which is a stand-in: only blocks that changed cross to the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from thinwire import _core  # noqa: E402
from thinwire.errors import StoreError  # noqa: E402
from thinwire.store.checkpoint import Checkpointer, devices  # noqa: E402
from thinwire.store.checkpoint.layout import BLOCK_BYTES  # noqa: E402

BLOCK_VALUES = BLOCK_BYTES // 4
KEY = bytes(range(32))


class StandIn:
    """A device whose tensors lie in host memory. What is fetched from it arrives at `finish`, not before."""

    def __init__(self, *, hashes: bool = True) -> None:
        self.crossed = 0
        self.asked = 0
        self._hashes = hashes
        self._under_way: list[tuple[Any, Any]] = []

    def of(self, data: Any) -> StandIn | None:
        """As of `Devices`: those of an odd number of bytes are on the host."""
        return self if data.numel() % 2 == 0 else None

    def digests(self, tensors: Any) -> Any:
        self.asked += 1
        return [self._digests_of(tensor) for tensor in tensors] if self._hashes else None

    def _digests_of(self, data: Any) -> Any:
        ends = np.minimum(np.arange(1, -(-len(data) // BLOCK_BYTES) + 1) * BLOCK_BYTES, len(data))
        return _core.blake3_blocks(data.numpy().data, ends, KEY, 1)[:, : devices.DIGEST_BYTES]

    def fetch(self, data: Any, target: Any) -> None:
        target[:] = 0xA5
        self._under_way.append((data, target))
        self.crossed += len(target)

    def finish(self) -> None:
        for data, target in self._under_way:
            target[:] = data.numpy()
        self._under_way.clear()

    def crossed_by(self, saver: Checkpointer, state: dict[str, Any], step: int, **options: Any) -> int:
        """The bytes that a save brings to the host."""
        before = self.crossed
        saver.save(state, step, **options).wait_durable()
        return self.crossed - before


def state_of(blocks: int) -> dict[str, Any]:
    """On the device tensors of several blocks and a part of one, of one, and a small one; one on the host."""
    generator = torch.Generator().manual_seed(blocks)
    return {
        "weights": torch.randn(blocks * BLOCK_VALUES + 1000, generator=generator),
        "one": torch.randn(40_000, generator=generator),
        "small": torch.randn(50, generator=generator),
        "host": torch.randint(0, 256, (100_001,), dtype=torch.uint8, generator=generator),
        "step": 3,
    }


def size_on_device(state: dict[str, Any]) -> int:
    return sum(state[name].nbytes for name in ("weights", "one", "small"))


def assert_stored(saver: Checkpointer, state: dict[str, Any]) -> None:
    found = saver.load()
    assert found["step"] == state["step"]
    for name in ("weights", "one", "small", "host"):
        assert torch.equal(found[name], state[name]), name


@pytest.fixture
def device() -> StandIn:
    return StandIn()


@pytest.fixture
def saver(device: StandIn, tmp_path: Path) -> Iterator[Checkpointer]:
    with Checkpointer(tmp_path) as made:
        made._staging.devices = device
        yield made


@pytest.mark.parametrize("blocking", [True, False])
def test_only_blocks_that_changed_cross(saver: Checkpointer, device: StandIn, blocking: bool) -> None:
    state = state_of(3)
    small = state["small"].nbytes
    assert device.crossed_by(saver, state, 1, blocking=blocking) == size_on_device(state)
    assert_stored(saver, state)
    assert device.crossed_by(saver, state, 2, blocking=blocking) == small
    assert device.asked == 2  # however many tensors there are
    state["weights"][BLOCK_VALUES + 5] += 1
    assert device.crossed_by(saver, state, 3, blocking=blocking) == small + BLOCK_BYTES
    assert_stored(saver, state)
    state["weights"][-1] += 1
    state["weights"][0] += 1
    state["small"] += 1
    state["host"] += 1
    assert device.crossed_by(saver, state, 4, blocking=blocking) == small + BLOCK_BYTES + 4000
    assert_stored(saver, state)


def test_a_state_that_always_changes_is_recognised_when_it_rests(
    saver: Checkpointer, device: StandIn
) -> None:
    state = state_of(2)
    for step in range(3):
        state["weights"] += 1
        state["one"] += 1
        assert device.crossed_by(saver, state, step) == size_on_device(state)
    assert device.crossed_by(saver, state, 3) == state["small"].nbytes
    assert_stored(saver, state)


def test_a_tensor_of_another_size_crosses_whole(saver: Checkpointer, device: StandIn) -> None:
    device.crossed_by(saver, state_of(2), 1)
    larger = state_of(3)
    assert device.crossed_by(saver, larger, 2) >= larger["weights"].nbytes
    assert_stored(saver, larger)


def test_a_device_that_cannot_tell_copies_all(tmp_path: Path) -> None:
    state, device = state_of(1), StandIn(hashes=False)
    with Checkpointer(tmp_path) as saver:
        saver._staging.devices = device  # type: ignore[assignment]
        saver.save(state, 1)
        assert device.crossed_by(saver, state, 2) == size_on_device(state)
        second = saver.save(state, 3)
        assert second.new_bytes == 0
        assert_stored(saver, state)


def test_what_was_relied_on_and_is_gone_is_an_error_once(saver: Checkpointer, device: StandIn) -> None:
    state = state_of(1)
    saver.save(state, 1)
    saver.delete(1)
    saver.store.gc(grace_s=0)
    with pytest.raises(StoreError, match="save again"):
        saver.save(state, 2)
    assert device.crossed_by(saver, state, 3) == size_on_device(state)
    assert_stored(saver, state)


def test_without_kernels_it_is_said_that_all_is_copied(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        devices, "_core", SimpleNamespace(build_info=lambda: {"cuda": False, "cuda_reason": "switched off"})
    )
    made = devices.Devices()
    tensor = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    device = made.of(tensor)
    assert device is not None
    assert made.of(tensor) is device
    assert device.digests([tensor]) is None
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert "copies all CUDA tensors whole" in said[0]
    assert "no CUDA kernels (switched off); build it with THINWIRE_CUDA=ON" in said[0]


def test_digests_of_several_gpus_come_in_the_order_of_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [BLOCK_BYTES + 1, 5, 2 * BLOCK_BYTES, 7, BLOCK_BYTES]
    asked = []

    class Tensor:
        def __init__(self, number: int) -> None:
            self.number, self.device = number, number % 2

        def data_ptr(self) -> int:
            return self.number

        def __len__(self) -> int:
            return sizes[self.number]

    def block_digests(addresses: Any, found: Any, block_bytes: int, key: bytes, stream: int) -> Any:
        assert (block_bytes, len(key), found) == (BLOCK_BYTES, 32, [sizes[i] for i in addresses])
        asked.append(stream)
        counts = [-(-sizes[i] // BLOCK_BYTES) for i in addresses]
        return np.repeat(np.array(addresses, np.uint8), counts)[:, None].repeat(32, axis=1)

    core = SimpleNamespace(build_info=lambda: {"cuda": True}, cuda_block_digests=block_digests)
    monkeypatch.setattr(devices, "_core", core)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=70 + device))
    found = devices.Cuda().digests([Tensor(i) for i in range(5)])
    assert sorted(asked) == [70, 71]
    assert [each.shape for each in found] == [(2, 16), (1, 16), (2, 16), (1, 16), (1, 16)]
    assert [int(each[0, 0]) for each in found] == [0, 1, 2, 3, 4]


def test_tensors_of_the_host_are_on_no_device() -> None:
    made = devices.Devices()
    assert made.of(torch.zeros(3)) is None
    assert isinstance(made.of(torch.zeros(3, device="meta")), devices.Other)
