"""One call of a collective, and what `thinwire.reference` says that every rank must end with."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from comm_ranks import Threads
from support import DTYPES, FP32, Array, store, widen
from thinwire._comm import Communicator, Work
from thinwire.reference import collectives as reference
from thinwire.reference.hashing import xxh3_64
from thinwire.reference.numerics import to_bf16
from thinwire.reference.schedules import choose_algorithm, even_bounds

_NAMES = ("fp32", "fp16", "bf16")
CODECS = [info.name for info in tw.codecs()]
TREES = ["direct", "ring", "bidirectional", "hierarchical"]
MOVES = ["all_gather", "broadcast", "all_to_all"]
LINKS: dict[str, dict[str, Any]] = {
    "tcp": {"links": "tcp"},
    "tcp-3": {"links": "tcp", "sockets": 3},
    "tcp-secret": {"links": "tcp", "secret": "between us"},
    "tcp-tls": {"links": "tcp", "secret": "between us", "tls": True},
    "shm": {"links": "shm"},
    "inproc": {"links": "inproc"},
    "auto": {"links": "auto"},
}

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
every_codec = pytest.mark.parametrize("codec", CODECS)
every_link = pytest.mark.parametrize("link", LINKS)


@dataclass(frozen=True)
class Case:
    """A call. `residual` is "" or the residual's dtype; `weighted` gives every rank a weight of its own."""

    collective: str = "all_reduce"
    n: int = 3000
    codec: str = "raw"
    dtype: int = FP32
    algorithm: str = "auto"
    op: str = "sum"
    residual: str = ""
    weighted: bool = False
    root: int = 0
    seed: int = 0
    step: int = 0
    """The tag, and the step of stochastic rounding."""


@dataclass
class Outcome:
    """What a rank has in the end."""

    out: Array
    residual: Array | None

    def same(self, other: Outcome) -> bool:
        return self.out.tobytes() == other.out.tobytes() and (
            self.residual is None
            or (other.residual is not None and self.residual.tobytes() == other.residual.tobytes())
        )


@dataclass
class Started:
    """A collective that is under way."""

    work: Work
    residual: Array | None

    def wait(self) -> Outcome:
        return Outcome(np.asarray(self.work.wait()), self.residual)


def as_array(values: Array, dtype: int) -> Array:
    """Return fp32 values as an array that thinwire takes for the dtype."""
    stored = store(values, dtype)
    return stored.view(("f4", "f2", "V2")[dtype])


def as_fp32(array: Array, dtype: int) -> Array:
    """Return the fp32 values of such an array."""
    return widen(array if dtype == FP32 else array.view(np.uint16), dtype)


def values_of(case: Case, rank: int) -> Array:
    """Return what a rank puts in, as fp32."""
    random = np.random.default_rng([case.seed, rank])
    n = case.n
    if case.collective == "broadcast" and rank != case.root:
        return np.zeros(n, np.float32)
    return as_fp32(as_array(random.standard_normal(n, np.float32), case.dtype), case.dtype)


def residual_of(case: Case, rank: int) -> Array | None:
    """Return the residual that a rank begins with, as fp32."""
    if not case.residual:
        return None
    drawn = np.random.default_rng([case.seed, rank, 1]).standard_normal(case.n, np.float32) / np.float32(64)
    return widen(to_bf16(drawn), 2) if case.residual == "bfloat16" else drawn


def weights_of(case: Case, size: int) -> list[float] | None:
    """Return the weights of all ranks."""
    total = size * (size + 1) / 2
    return [(rank + 1) / total for rank in range(size)] if case.weighted else None


def begin(comm: Communicator, case: Case, *, tagged: bool = False, **more: Any) -> Started:
    """Start the call on one rank."""
    x = more.pop("x", None)
    if x is None:
        x = as_array(values_of(case, comm.rank), case.dtype)
    kept = residual_of(case, comm.rank)
    if kept is not None and case.residual == "bfloat16":
        kept = to_bf16(kept).view("V2")
    if tagged:
        more["tag"] = case.step
    codec = case.codec
    if case.collective in ("all_reduce", "reduce_scatter"):
        weights = weights_of(case, comm.world_size)
        work = getattr(comm, case.collective)(
            x,
            op=case.op,
            codec=codec,
            algorithm=case.algorithm,
            residual=kept,
            weight=weights[comm.rank] if weights else None,
            **more,
        )
    elif case.collective == "all_gather":
        work = comm.all_gather(x, codec=codec, algorithm=case.algorithm, **more)
    elif case.collective == "broadcast":
        work = comm.broadcast(x, root=case.root, codec=codec, algorithm=case.algorithm, **more)
    else:
        work = comm.all_to_all(x, codec=codec, **more)
    return Started(work, kept)


def run(comm: Communicator, case: Case, **more: Any) -> Outcome:
    """Make the call on one rank, and wait for it."""
    return begin(comm, case, **more).wait()


def expected(case: Case, size: int, sites: Sequence[int] | None = None) -> list[Outcome]:
    """Return what all ranks must end with."""
    info = tw.codec(case.codec).info
    wire = reference.Wire(
        info.name,
        dict(info.params) if info.name != "raw" else {},
        _NAMES[case.dtype],
        case.step,
        _key(case.step),
    )
    inputs = [values_of(case, rank) for rank in range(size)]
    if case.collective in ("all_reduce", "reduce_scatter"):
        return _reduced(case, wire, inputs, sites or [0] * size)
    if case.codec == "raw":
        wire = reference.Wire(dtype=wire.dtype)
    if case.collective == "all_gather":
        whole = reference.all_gather(inputs, wire).reshape(size, case.n)
        arrays = [whole] * size
    elif case.collective == "broadcast":
        arrays = [reference.broadcast(inputs[case.root], wire, case.root)] * size
    else:
        arrays = [part.reshape(size, -1) for part in reference.all_to_all(inputs, wire)]
    return [Outcome(as_array(array, case.dtype), None) for array in arrays]


def check(threads: Threads, case: Case, sites: list[int] | None = None) -> None:
    """Make a call, and compare all that it leaves behind with the reference."""
    found = threads(run, case)
    wanted = expected(case, threads.size, sites)
    wrong = [rank for rank, (f, w) in enumerate(zip(found, wanted, strict=True)) if not f.same(w)]
    assert not wrong, f"{case} on {threads.size} ranks: ranks {wrong} are wrong; {difference(found, wanted)}"


def difference(found: list[Any], wanted: list[Any]) -> str:
    """Say where the first difference is."""
    for rank, (f, w) in enumerate(zip(found, wanted, strict=True)):
        pairs = [("result", f.out, w.out), ("residual", f.residual, w.residual)]
        for what, a, b in pairs:
            if a is None or a.tobytes() == b.tobytes():
                continue
            a, b = (np.ascontiguousarray(v).reshape(-1).view(f"u{v.itemsize}") for v in (a, b))
            if a.size != b.size:
                return f"rank {rank}: the {what} has {a.size} values, not {b.size}"
            at = np.flatnonzero(a != b)
            return f"rank {rank}: the {what} at {at[:3]} of {at.size}: {a[at[:3]]}, not {b[at[:3]]}"
    return ""


def _reduced(case: Case, wire: reference.Wire, inputs: list[Array], sites: Sequence[int]) -> list[Outcome]:
    size = len(inputs)
    algorithm = case.algorithm
    if algorithm == "auto":
        compressed = case.codec != "raw" or case.collective == "reduce_scatter"
        algorithm = choose_algorithm(size, case.n, compressed, sites)
    residuals = [residual_of(case, rank) for rank in range(size)] if case.residual else None
    reduced = getattr(reference, case.collective)(
        inputs, wire, algorithm, case.op, residuals=residuals, weights=weights_of(case, size), sites=sites
    )
    whole = as_array(reduced.values, case.dtype)
    bounds = even_bounds(case.n, size)
    own = case.collective == "reduce_scatter"
    left: list[Array | None] = [None] * size
    if case.residual:
        left = [to_bf16(e).view("V2") if case.residual == "bfloat16" else e for e in reduced.residuals]
    return [
        Outcome(whole[bounds[rank] : bounds[rank + 1]] if own else whole, left[rank]) for rank in range(size)
    ]


def _key(step: int) -> reference.KeyOf:
    def key(index: int, rank: int) -> int:
        seed = xxh3_64(struct.pack("<QQ", rank, index))
        return xxh3_64(struct.pack("<QQ", seed, step))

    return key
