"""Whether the replicas still hold the same bits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from thinwire import _core
from thinwire.ddp.step import Step
from thinwire.errors import ReplicaMismatch

_HASH_BYTES = 8


class Gathering(Protocol):
    """The part of a transport that brings every rank's bytes together."""

    def gather(self, data: bytes) -> list[bytes]:
        """Return every rank's `data`."""


class Verifier:
    """Compares the replicas of all ranks every `every` steps; 0 means never.

    `replica` returns names and tensors, the same ones in the same order on every rank.
    """

    def __init__(
        self, every: int, wire: Gathering, replica: Callable[[], Sequence[tuple[str, torch.Tensor]]]
    ) -> None:
        self._every = every
        self._wire = wire
        self._replica = replica

    def is_due(self, step: Step) -> bool:
        """Whether this is a step to verify."""
        return self._every != 0 and step.number % self._every == 0 and not step.is_uneven

    def check(self, step: Step) -> None:
        """Compare, if it is due. Collective. Raises ReplicaMismatch on all ranks."""
        if not self.is_due(step):
            return
        named = self._replica()
        combined = _to_bytes(hash_tensors([tensor for _, tensor in named]))
        hashes = self._wire.gather(combined)
        if len(set(hashes)) > 1:
            single = self._wire.gather(b"".join(_to_bytes(hash_tensors([tensor])) for _, tensor in named))
            raise ReplicaMismatch(
                f"before step {step.number}: {_difference(hashes, single, [name for name, _ in named])}"
            )


def hash_tensors(tensors: Sequence[torch.Tensor]) -> int:
    """Return one XXH3-64 over the bytes of all tensors, in logical order. Those on a GPU are copied here."""
    flat = [tensor.detach().cpu().contiguous() for tensor in tensors]
    return _core.hash_many([p.data_ptr() for p in flat], [p.nbytes for p in flat])


def _difference(hashes: Sequence[bytes], single: Sequence[bytes], names: Sequence[str]) -> str:
    """Say which ranks differ from most, and in what first."""
    usual = Counter(hashes).most_common(1)[0][0]
    odd = [rank for rank, found in enumerate(hashes) if found != usual]
    usual_single = single[hashes.index(usual)]
    first = next((i for i in range(len(names)) if _at(single[odd[0]], i) != _at(usual_single, i)), None)
    ranks = ("rank {} differs" if len(odd) == 1 else "ranks {} differ").format(", ".join(map(str, odd)))
    where = f"first in {names[first]}" if first is not None else "in the number of parameters"
    return f"{ranks} from rank {hashes.index(usual)}, {where}"


def _at(hashes: bytes, index: int) -> bytes:
    return hashes[index * _HASH_BYTES : (index + 1) * _HASH_BYTES]


def _to_bytes(value: int) -> bytes:
    return value.to_bytes(_HASH_BYTES, "little")
