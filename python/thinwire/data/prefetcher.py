"""Batches that are on the device before the model asks for them.

A copy from host to device overlaps with computation only if the host memory is pinned, the copy runs on a
stream of its own, and the host waits for nothing. `DevicePrefetcher` sees to all three without a thread: when
the model takes a batch, the copy of a later one is begun. Batches that lie in a `HostPool`, as those of a
`RecordReader` do, are copied from where they are; others go through a block of the pool.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

from thinwire._host_array import HostArray
from thinwire._pool import HostPool
from thinwire.errors import CudaError, InvalidArgument

Batch = TypeVar("Batch")

_TORCH_NAMES = {name for name in np.sctypeDict if isinstance(getattr(torch, str(name), None), torch.dtype)}
"""Dtypes of NumPy that torch has too."""


class Copies(Protocol):
    """Copies to one device in order, and the consumer of what they bring."""

    def is_pinned(self, host: torch.Tensor) -> bool:
        """Whether a copy from this memory needs no help of the processor."""

    def begin(self, host: torch.Tensor) -> torch.Tensor:
        """Begin to copy a host tensor, and return the device's, which is complete later."""

    def mark(self) -> Any:
        """Return an event that passes when all copies begun so far have ended."""

    def deliver(self, event: Any, tensors: list[torch.Tensor]) -> None:
        """Let the consumer's work wait for `event`, and the tensors' memory for the consumer's work."""

    def passed(self, event: Any) -> bool:
        """Whether an event has passed."""

    def wait(self, event: Any) -> None:
        """Return when an event has passed."""


class CudaCopies:
    """Copies on a CUDA stream of their own. The consumer is the stream that is current when it takes one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def is_pinned(self, host: torch.Tensor) -> bool:
        return host.is_pinned()

    def begin(self, host: torch.Tensor) -> torch.Tensor:
        with torch.cuda.stream(self._stream):
            return host.to(self._device, non_blocking=True)

    def mark(self) -> Any:
        return self._stream.record_event()

    def deliver(self, event: Any, tensors: list[torch.Tensor]) -> None:
        consumer = torch.cuda.current_stream(self._device)
        consumer.wait_event(event)
        for tensor in tensors:
            tensor.record_stream(consumer)

    def passed(self, event: Any) -> bool:
        return bool(event.query())

    def wait(self, event: Any) -> None:
        event.synchronize()


@dataclasses.dataclass
class PrefetchStats:
    """What an iteration has done so far."""

    batches: int = 0
    staged_bytes: int = 0
    """Bytes that were copied to the pool first, because they did not lie in pinned memory."""
    source_s: float = 0.0
    """Seconds in which the source was asked for batches."""


@dataclasses.dataclass
class _Sent:
    """A batch on its way to the device."""

    batch: Any
    event: Any
    tensors: list[torch.Tensor]  # on the device
    sources: list[torch.Tensor]  # that the copies read


@dataclasses.dataclass
class _End:
    """The source has no more batches, or raised an error."""

    error: Exception | None = None


class DevicePrefetcher(Generic[Batch]):
    """The batches of `batches`, with their tensors and arrays on `device`.

    `device` is anything torch takes for one; None means the current CUDA device where there is one, else the
    CPU. `depth` batches are on their way while the model works on another. A batch may be a tensor, a NumPy
    array, a `HostArray`, or any nesting of dicts, lists, tuples, named tuples and dataclasses of them; other
    values pass as they are, and everything does on the CPU. The order is the source's, and an error of the
    source is raised where its batch would have come.

    Raises InvalidArgument for a depth below 1 or a device of another kind, CudaError where torch sees none.
    """

    def __init__(
        self,
        batches: Iterable[Batch],
        device: str | int | torch.device | None = None,
        *,
        depth: int = 2,
        pool: HostPool | None = None,
    ) -> None:
        if depth < 1:
            raise InvalidArgument(f"depth is {depth}; at least one batch has to be under way")
        self.device = _device(device)
        self.stats = PrefetchStats()
        self._batches = batches
        self._depth = depth
        self._pool = pool

    def __len__(self) -> int:
        return len(self._batches)  # type: ignore[arg-type]  # what has no length says so itself

    def __iter__(self) -> Iterator[Batch]:
        if self.device.type == "cpu":
            return iter(self._batches)
        return self.through(CudaCopies(self.device))

    def through(self, copies: Copies) -> Iterator[Batch]:
        """Iterate over the batches as `copies` brings them."""
        self.stats = PrefetchStats()
        source = iter(self._batches)
        under_way: deque[_Sent] = deque()
        delivered: deque[_Sent] = deque()  # their host memory may still be read
        end: _End | None = None
        try:
            while end is None or under_way:
                if end is None:
                    end = self._send_next(source, copies, under_way)
                if under_way and (end is not None or len(under_way) > self._depth):
                    sent = under_way.popleft()
                    copies.deliver(sent.event, sent.tensors)
                    delivered.append(sent)
                    yield _taken(sent)
                while delivered and copies.passed(delivered[0].event):
                    delivered.popleft()
        finally:
            for sent in (*delivered, *under_way):
                copies.wait(sent.event)
        if end.error is not None:
            raise end.error

    def _send_next(self, source: Iterator[Batch], copies: Copies, under_way: deque[_Sent]) -> _End | None:
        begin = time.perf_counter()
        try:
            batch = next(source)
        except StopIteration:
            return _End()
        except Exception as error:
            return _End(error)
        finally:
            self.stats.source_s += time.perf_counter() - begin
        under_way.append(self._send(batch, copies))
        return None

    def _send(self, batch: Batch, copies: Copies) -> _Sent:
        tensors: list[torch.Tensor] = []
        sources: list[torch.Tensor] = []

        def send(leaf: Any) -> Any:
            host = _host_tensor(leaf)
            if host is None:
                return leaf
            if not isinstance(leaf, HostArray) and not copies.is_pinned(host):
                host = self._staged(host)
            sources.append(host)
            tensors.append(copies.begin(host))
            return tensors[-1]

        moved = _mapped(send, batch)
        self.stats.batches += 1
        return _Sent(moved, copies.mark(), tensors, sources)

    def _staged(self, host: torch.Tensor) -> torch.Tensor:
        """A copy in memory of the pool."""
        if not host.numel():
            return host
        block = (self._pool or HostPool.shared()).empty(host.numel() * host.element_size())
        staged: torch.Tensor = block.torch().view(host.dtype).view(host.shape)
        self.stats.staged_bytes += block.nbytes
        return staged.copy_(host)


def _taken(sent: _Sent) -> Any:
    """The batch; what has been delivered must not keep it alive."""
    batch, sent.batch, sent.tensors = sent.batch, None, []
    return batch


def _device(device: str | int | torch.device | None) -> torch.device:
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if found.type == "cpu":
        return found
    if found.type != "cuda":
        raise InvalidArgument(f"device is '{found}'; a DevicePrefetcher copies to 'cuda', or passes on 'cpu'")
    if not torch.cuda.is_available():
        raise CudaError(f"device is '{found}', but torch sees no CUDA device; pass device='cpu'")
    if found.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    if found.index >= torch.cuda.device_count():
        raise CudaError(f"device is '{found}', but torch sees {torch.cuda.device_count()} CUDA devices")
    return found


def _host_tensor(leaf: Any) -> torch.Tensor | None:
    """A host tensor on the memory of a leaf, or None for what stays as it is."""
    if isinstance(leaf, HostArray):
        tensor: torch.Tensor = leaf.torch()
        return tensor
    if isinstance(leaf, torch.Tensor):
        return leaf if leaf.device.type == "cpu" else None
    if isinstance(leaf, np.ndarray) and leaf.dtype.name in _TORCH_NAMES:
        return torch.as_tensor(leaf if leaf.flags.writeable else leaf.copy())  # torch warns if read-only
    return None


def _mapped(change: Callable[[Any], Any], batch: Any) -> Any:
    """A batch of the same form with its leaves changed."""
    if isinstance(batch, Mapping):
        return {key: _mapped(change, value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(_mapped(change, value) for value in batch))
    if type(batch) in (list, tuple):
        return type(batch)(_mapped(change, value) for value in batch)
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        names = [field.name for field in dataclasses.fields(batch) if field.init]
        return dataclasses.replace(batch, **{name: _mapped(change, getattr(batch, name)) for name in names})
    return change(batch)
