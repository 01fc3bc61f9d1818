"""Memory of devices as staging sees it: blocks are recognised where they lie, and only those that changed
cross to the host."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from thinwire import _core
from thinwire.store.checkpoint.layout import BLOCK_BYTES
from thinwire.store.checkpoint.tensors import Bytes

DIGEST_BYTES = 16

_KEY = secrets.token_bytes(32)
_log = logging.getLogger(__name__)

Digests = np.ndarray[Any, np.dtype[np.uint8]]


class Device(Protocol):
    """What holds tensors that the host cannot read."""

    def digests(self, tensors: Sequence[torch.Tensor]) -> list[Digests] | None:
        """Of the blocks of each flat uint8 tensor: uint8[n, 16], under a secret of this process. None where
        the device cannot say."""

    def fetch(self, data: torch.Tensor, target: Bytes) -> None:
        """Begin to copy a flat uint8 tensor to host memory of its size."""

    def finish(self) -> None:
        """Return when all that `fetch` began is there."""


class Cuda:
    """All CUDA devices. Works in the order of torch's current streams."""

    def __init__(self) -> None:
        info = _core.build_info()
        self._has_kernels = bool(info["cuda"])
        self._used: set[torch.device] = set()
        if not self._has_kernels:
            _log.warning(
                "every save copies all CUDA tensors whole, not only what changed: this thinwire has no CUDA "
                "kernels (%s); build it with THINWIRE_CUDA=ON",
                info["cuda_reason"],
            )

    def digests(self, tensors: Sequence[torch.Tensor]) -> list[Digests] | None:
        """Half of the blocks' keyed BLAKE3, by few launches for any number of tensors. Raises CudaError."""
        if not self._has_kernels:
            return None
        found: dict[int, Digests] = {}
        for device in {tensor.device for tensor in tensors}:
            there = [i for i, tensor in enumerate(tensors) if tensor.device == device]
            found |= zip(there, _digests_on(device, [tensors[i] for i in there]), strict=True)
        return [found[i] for i in range(len(tensors))]

    def fetch(self, data: torch.Tensor, target: Bytes) -> None:
        torch.from_numpy(target).copy_(data, non_blocking=True)
        self._used.add(data.device)

    def finish(self) -> None:
        for device in self._used:
            torch.cuda.current_stream(device).synchronize()
        self._used.clear()


class Other:
    """Devices that nothing is known of but that torch copies from them."""

    def digests(self, tensors: Sequence[torch.Tensor]) -> list[Digests] | None:
        return None

    def fetch(self, data: torch.Tensor, target: Bytes) -> None:
        torch.from_numpy(target).copy_(data)

    def finish(self) -> None:
        """All is there already."""


class Devices:
    """The devices that a state's tensors were found on, each made when it is first met."""

    def __init__(self) -> None:
        self._known: dict[str, Device] = {}

    def of(self, data: torch.Tensor) -> Device | None:
        """The device that holds a tensor's memory; None where that is the host's."""
        kind = data.device.type
        if kind == "cpu":
            return None
        if kind not in self._known:
            self._known[kind] = Cuda() if kind == "cuda" else Other()
        return self._known[kind]

    def finish(self) -> None:
        """Return when all that was fetched from any of them is there."""
        for device in self._known.values():
            device.finish()


def _digests_on(device: torch.device, tensors: Sequence[torch.Tensor]) -> list[Digests]:
    """Those of tensors on one CUDA device."""
    stream = int(torch.cuda.current_stream(device).cuda_stream)
    addresses, sizes = [tensor.data_ptr() for tensor in tensors], [len(tensor) for tensor in tensors]
    digests = _core.cuda_block_digests(addresses, sizes, BLOCK_BYTES, _KEY, stream)[:, :DIGEST_BYTES]
    ends = np.cumsum([-(-size // BLOCK_BYTES) for size in sizes])
    return np.split(digests, ends[:-1])
