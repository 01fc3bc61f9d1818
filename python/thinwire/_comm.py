"""Collectives between processes, without torch: `Communicator`."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

from thinwire import _core
from thinwire._buffers import View
from thinwire._codecs import Codec, residual_view
from thinwire._codecs import codec as make_codec
from thinwire._collective_memory import memory_of, part, restorer, result_of, value_bytes
from thinwire._membership import Options, join
from thinwire._tags import Tags, number_of
from thinwire._work import Work
from thinwire.errors import InvalidArgument

_log = logging.getLogger("thinwire.comm")
_OPS = ("sum", "mean", "max")
_AUTOMATIC, _PLANNED, _TAGGED = 0, 1, 2
"""The space of numbers of operations in order, of those with a plan, and the first of those with a tag."""
_raw = make_codec("raw")


class Communicator:
    """One rank's access to the collectives of a group of processes. The constructor is collective.

    Arrays are contiguous and in host memory: NumPy, torch, anything with DLPack or the buffer protocol.
    Sums take float32, float16 and bfloat16; what is only moved may have any dtype. A call returns at once
    with a `Work`; several may be under way. Every rank calls the same collectives in the same order, unless
    they are told apart by `tag`. Results are the same bits on all ranks and in every run; docs/algorithms.md
    says in which order values are added.

    Args:
        store: how ranks find each other: an object with `set(key, value)`, `get(key)` and
            `wait([key], timedelta)`, as torch's TCPStore and FileStore.
        rank, world_size: this rank, and how many there are.
        links: "auto" (memory shared with ranks on this host, TCP to others), "tcp", "shm", or "inproc" (ranks
            that are threads of one process).
        secret: ranks must prove that they know it; every frame is then authenticated. Default:
            THINWIRE_SECRET, or none.
        timeout: seconds of silence after which a rank is lost; also the most that the constructor waits.
        deadline: seconds that one collective may take.
        group: the group's name in the store. Every communicator made with one store needs its own.
        tls: True for TLS 1.3 with a key derived from the secret, or a dict of PEM files with certificate, key
            and authority.
        interface: network interfaces, separated by commas. Default: THINWIRE_IFACE, or whatever leads to the
            peer.
        ports: "first-last", where to listen. Default: THINWIRE_PORTS, or any.
        sockets: TCP connections to each peer. Default: THINWIRE_SOCKETS, or 1.
        congestion: TCP congestion control, as "bbr" or "cubic". Default: the system's.
        pacing: bytes a second at most to each peer; 0 for no limit.
        site: where this rank is, for the hierarchical schedule. Default: THINWIRE_SITE, or its host.
        cuda_ipc: whether ranks of one host read frames of gradients on GPUs in each other's device memory.

    Raises InvalidArgument on all ranks where they were told different things, Timeout naming the ranks that
    did not come or the store's key, TransportError for a port or an interface that cannot be used.
    """

    def __init__(
        self,
        store: Any,
        rank: int,
        world_size: int,
        links: str = "auto",
        secret: str | bytes | None = None,
        timeout: float = 30.0,
        deadline: float = 1800.0,
        *,
        group: str = "default",
        tls: bool | dict[str, str] = False,
        interface: str | None = None,
        ports: str | None = None,
        sockets: int | None = None,
        congestion: str = "",
        pacing: int = 0,
        site: str | None = None,
        cuda_ipc: bool = True,
    ) -> None:
        if not 0 <= rank < world_size:
            raise InvalidArgument(
                f"rank is {rank}, world_size {world_size}; ranks go from 0 to world_size - 1"
            )
        for name, seconds in (("timeout", timeout), ("deadline", deadline)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise InvalidArgument(f"{name} is {seconds!r}; it must be a number of seconds above 0")
        self.rank, self.world_size = rank, world_size
        self.timeout, self.deadline = float(timeout), float(deadline)
        options = Options(links, secret, tls, interface, ports, sockets, congestion, pacing, site, cuda_ipc)
        network = options.network(self.timeout)
        self._native: _core.Rank | None = _core.Rank(rank, world_size, self.timeout, network, cuda_ipc)
        self._pid = os.getpid()
        self._closed = False
        self._number = self._planned = 0
        self._lock = threading.Lock()
        self._under_way: list[tuple[_core.Operation, list[Any]]] = []
        self._tags = Tags()
        try:
            self._agreed, self.group_number = join(
                self._native, store, group, rank, world_size, self.timeout, options
            )
        except BaseException as error:
            self._native.abort(f"it could not join: {error}")
            self._native.close()
            raise
        self._finalizer = weakref.finalize(self, _close, self._native, self._pid)
        _live.add(self)
        _log.info("rank %d of %d joined %r: links %s", rank, world_size, group, self._agreed["links"])

    def all_reduce(
        self,
        x: Any,
        op: str = "sum",
        codec: str | Codec = "raw",
        algorithm: str = "auto",
        out: Any = None,
        residual: Any = None,
        weight: float | None = None,
        tag: Hashable | None = None,
        keep_input: bool = False,
    ) -> Work:
        """Combine the arrays of all ranks; the result is `out`, the same on every rank.

        Args:
            x: any shape, equal on all ranks.
            op: "sum", "mean" or "max" (element by element; NaN wins).
            codec: how values travel; see `thinwire.codecs()`.
            algorithm: "auto", "direct", "ring", "bidirectional", "hierarchical" or "doubling"; see
                docs/algorithms.md.
            out: where the result goes; x itself for in place. Default: a new array.
            residual: as many values as x, float32 or bfloat16. It is added to x, and replaced by what the
                codec lost, so that nothing is lost over many calls.
            weight: in place of 1 (or 1 / world_size, for a mean); the weights of all ranks must add up to 1.
            tag: tells operations apart that are not called in the same order everywhere.
            keep_input: with out=x, give x its values back if the operation fails.
        """
        return self._reduce("all_reduce", x, op, codec, algorithm, out, residual, weight, tag, keep_input)

    def reduce_scatter(
        self,
        x: Any,
        op: str = "sum",
        codec: str | Codec = "raw",
        algorithm: str = "auto",
        out: Any = None,
        residual: Any = None,
        weight: float | None = None,
        tag: Hashable | None = None,
    ) -> Work:
        """Combine as `all_reduce` does, and leave each rank its part of the flattened result.

        Parts are as even as possible: the first size % world_size ranks get one value more.
        """
        return self._reduce("reduce_scatter", x, op, codec, algorithm, out, residual, weight, tag, False)

    def all_gather(
        self,
        x: Any,
        codec: str | Codec | None = None,
        algorithm: str = "auto",
        out: Any = None,
        residual: Any = None,
        tag: Hashable | None = None,
    ) -> Work:
        """Return the arrays of all ranks, shape (world_size, *x.shape). Without a codec any dtype will do."""
        source = memory_of(x, "x")
        result = result_of(out, source, (self.world_size, *x.shape), source.count * self.world_size)
        return self._move("all_gather", source, result, codec, residual, tag, algorithm)

    def broadcast(
        self,
        x: Any,
        root: int = 0,
        codec: str | Codec | None = None,
        algorithm: str = "auto",
        residual: Any = None,
        tag: Hashable | None = None,
    ) -> Work:
        """Replace x on all ranks by the root's. With a codec on the root, too, by what the others get."""
        if not 0 <= root < self.world_size:
            raise InvalidArgument(f"root is {root}; ranks go from 0 to {self.world_size - 1}")
        target = memory_of(x, "x", writable=True)
        return self._move("broadcast", target, (x, target), codec, residual, tag, algorithm, root)

    def all_to_all(
        self,
        x: Any,
        codec: str | Codec | None = None,
        out: Any = None,
        residual: Any = None,
        tag: Hashable | None = None,
    ) -> Work:
        """Send part r of the flattened x to rank r; return the parts for this rank, in the order of ranks.

        Parts are as even as possible, as in `reduce_scatter`; the result has shape (world_size, part).
        """
        source = memory_of(x, "x")
        size = part(source.count, self.rank, self.world_size)
        result = result_of(out, source, (self.world_size, size), size * self.world_size)
        return self._move("all_to_all", source, result, codec, residual, tag, "auto")

    def run_plan(
        self,
        plan: _core.ReducePlan,
        step: int,
        bucket: int,
        address: int,
        weight: float,
        residuals: tuple[int, int],
        held: bytes | bytearray,
        sample: int,
        where: _core.OnDevice | None = None,
    ) -> _core.Operation:
        """Start a weighted sum over a plan of the caller's own, in place at `address`. For thinwire.ddp.

        Memory is the host's, or a device's, which `where` then tells of.
        """
        native = self._live()
        with self._lock:
            self._planned += 1
        label = f"step {step}, bucket {bucket}"
        call = _core.Call(self._planned, _PLANNED, label, address, address, 0, self.deadline)
        return native.run_plan(call, plan, step, weight, *residuals, list(held), sample, where)

    @property
    def native(self) -> _core.Rank:
        """The native form, for plans. Raises InvalidArgument where it was closed."""
        return self._live()

    def barrier(self, tag: Hashable | None = None) -> Work:
        """Wait for all ranks."""
        return Work(self._start("barrier", tag, (0, 0, 0)), None, [], None)

    def abort(self, reason: str = "abort() was called") -> None:
        """End everything under way: here with TransportError, on all other ranks with PeerLost."""
        self._live().abort(reason)

    def stats(self) -> dict[str, Any]:
        """Return what was moved: bytes and rates by link, seconds by stage, the slowest peer."""
        stats = self._live().stats()
        self._log_events(stats)
        for link in stats["links"]:
            busy = link["busy_seconds"]
            link["bytes_per_second"] = link["sent_bytes"] / busy if busy > 0 else None
        waits = stats["waited_seconds"]
        late = max(range(len(waits)), key=waits.__getitem__, default=None)
        stats["slowest_peer"] = late if late is not None and waits[late] > 0 else None
        return {"rank": self.rank, "world_size": self.world_size, **self._agreed, **stats}

    def close(self) -> None:
        """Say goodbye, end the thread, close all links. Operations under way end with TransportError."""
        if self._native is not None and os.getpid() == self._pid:
            self._log_events(self._native.stats())
        self._closed = True
        self._finalizer()
        self._native = None  # its descriptors go with it

    def __enter__(self) -> Communicator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _log_events(self, stats: dict[str, Any]) -> None:
        """Log who was turned away, and the like, since the last time."""
        for event in stats.pop("events"):
            _log.warning("rank %d: %s", self.rank, event)

    def _live(self) -> _core.Rank:
        native = self._native
        if self._closed or native is None:
            raise InvalidArgument("this communicator was closed")
        if os.getpid() != self._pid:
            raise InvalidArgument("this communicator was made before a fork; make one in the child")
        return native

    def _start(
        self, name: str, tag: Hashable | None, memory: tuple[int, int, int], *arguments: Any
    ) -> _core.Operation:
        """Start an operation. One that is refused takes no number: the other ranks know nothing of it.

        `memory`: addresses of the input, the output and the residual.
        """
        start: Callable[..., _core.Operation] = getattr(self._live(), name)
        with self._lock:
            if tag is not None:
                number, label = number_of(tag), f"{name} with tag {tag!r}"
                space = _TAGGED + self._tags.uses(number, label)
                operation = start(_core.Call(number, space, label, *memory, self.deadline), *arguments)
                self._tags.add(number, operation)
                return operation
            number = self._number + 1
            call = _core.Call(number, _AUTOMATIC, f"operation {number}", *memory, self.deadline)
            operation = start(call, *arguments)
            self._number = number
        return operation

    def _work(
        self,
        operation: _core.Operation,
        result: Any,
        keep: list[Any],
        restore: Callable[[], None] | None = None,
    ) -> Work:
        """Return the caller's side of an operation. Its memory stays, even where nobody waits for it."""
        with self._lock:
            self._under_way = [entry for entry in self._under_way if not entry[0].is_over()]
            self._under_way.append((operation, keep))
        return Work(operation, result, keep, restore)

    def _reduce(
        self,
        name: str,
        x: Any,
        op: str,
        codec: str | Codec,
        algorithm: str,
        out: Any,
        residual: Any,
        weight: float | None,
        tag: Hashable | None,
        keep_input: bool,
    ) -> Work:
        spec = make_codec(codec)
        source = memory_of(x, "x")
        source.dtype_code  # noqa: B018 (raises where the dtype cannot be added)
        self._check_reduction(op, spec, weight, residual)
        if name == "all_reduce":
            result, target = result_of(out, source, x.shape, source.count)
        else:
            size = part(source.count, self.rank, self.world_size)
            result, target = result_of(out, source, (size,), size)
        kept = residual_view(residual, source)
        restore = restorer(x) if keep_input and target.address == source.address else None
        how = _core.Reduction(
            source.dtype_code, op, weight, spec.spec, algorithm, kept.dtype_code if kept else 0
        )
        memory = (source.address, target.address, kept.address if kept else 0)
        operation = self._start(name, tag, memory, source.count, how)
        return self._work(operation, result, [x, out, residual, source.owner, target.owner], restore)

    def _check_reduction(self, op: str, codec: Codec, weight: float | None, residual: Any) -> None:
        if op not in _OPS:
            raise InvalidArgument(f"op is {op!r}; it must be one of {', '.join(_OPS)}")
        if op == "max" and (codec != _raw or weight is not None or residual is not None):
            raise InvalidArgument(
                "op='max' takes no codec, weight or residual: the greatest value is sent as it is"
            )
        if weight is not None and not (math.isfinite(weight) and weight >= 0):
            raise InvalidArgument(f"weight is {weight!r}; it must be a finite number of 0 or more")

    def _move(
        self,
        name: str,
        source: View,
        result: tuple[Any, View],
        codec: str | Codec | None,
        residual: Any,
        tag: Hashable | None,
        algorithm: str,
        *root: int,
    ) -> Work:
        target = result[1]
        spec = None if codec is None or make_codec(codec) == _raw else make_codec(codec).spec
        if spec is None and residual is not None:
            raise InvalidArgument("without a codec nothing is lost: leave residual out")
        kept = residual_view(residual, source)
        how = _core.Movement(
            source.dtype_code if spec is not None else 0,
            spec,
            value_bytes(source),
            algorithm,
            kept.dtype_code if kept else 0,
        )
        memory = (source.address, target.address, kept.address if kept else 0)
        count = source.owner.nbytes if spec is None else source.count
        operation = self._start(name, tag, memory, count, how, *root)
        return self._work(operation, result[0], [source.owner, target.owner, residual])


def _close(native: _core.Rank, pid: int) -> None:
    if os.getpid() == pid:
        native.close()


_live: weakref.WeakSet[Communicator] = weakref.WeakSet()
