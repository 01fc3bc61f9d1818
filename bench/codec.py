"""`thinwire bench codec`: how fast every codec encodes and decodes on one core, beside memcpy and torch."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

import thinwire as tw
from thinwire.bench import _command, _report
from thinwire.cli._progress import Progress

HELP = """\
Speed of every codec on every CPU target, beside memcpy.

One core. Each sample times memcpy and then the operation, so that the ratio is of the same moment; the
table shows medians. GB/s count fp32 bytes: read by an encoder, written by a decoder. "+ feedback" adds a
residual and replaces it in the same pass.

examples:
  thinwire bench codec --quick
  thinwire bench codec --codecs int4 topk:density=0.01 --targets avx2 --json codec.json
"""

EXTRA_CODECS = ("topk:density=0.01",)
TOPK_DENSITIES = (0.01, 0.03)
WITHOUT_FEEDBACK = 2.0  # codecs that shrink fp32 by no more than this are used without a residual
LINE = 64  # bytes of a cache line; tensors of torch start at one

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    mebibytes: int
    samples: int


FULL = Effort(64, 9)
QUICK = Effort(64, 3)


@dataclass(frozen=True)
class Operation:
    """Something to time: a row of the table."""

    name: str
    run: Callable[[], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    parser.add_argument("--codecs", nargs="+", metavar="CODEC", help="default: all, and topk at 1 %%")
    parser.add_argument("--targets", nargs="+", metavar="TARGET", help="default: all this machine has")
    _command.add_common(parser, quick="fewer samples")


def run(args: argparse.Namespace) -> int:
    """Measures, prints one table a target, writes the JSON file."""
    effort = QUICK if args.quick else FULL
    codecs = args.codecs or [info.name for info in tw.codecs()] + list(EXTRA_CODECS)
    targets = args.targets or tw.targets()
    facts: dict[str, Any] = {"benchmark": "codec", "machine": _report.machine()}
    facts["mebibytes"] = effort.mebibytes
    print(_report.describe(facts["machine"]))
    data = Data(effort.mebibytes)
    facts["rows"] = []
    for target in reversed(targets):
        with tw.force_target(target):
            rows = measure(target, native_operations(codecs, data), data, effort)
        facts["rows"] += rows
        print(f"\n{effort.mebibytes} MiB fp32, one core, target {target}\n\n{format_table(rows)}", flush=True)
    with one_torch_thread() as torch:
        if torch is not None:
            rows = measure("torch", torch_operations(torch, data), data, effort)
            facts["rows"] += rows
            print(
                f"\nthe same with torch {torch.__version__}, one thread\n\n{format_table(rows)}", flush=True
            )
    if args.json:
        _report.write_json(args.json, facts)
    return 0


class Data:
    """Gradient-like values, and memory to write to, aligned as torch aligns tensors."""

    def __init__(self, mebibytes: int) -> None:
        count = mebibytes << 18
        self.x = aligned(count)
        self.x[:] = np.random.default_rng(0).standard_normal(count, np.float32) * np.float32(1e-3)
        self.y = aligned(count)
        self.y[:] = 0
        self.residual = aligned(count)
        self.residual[:] = 0

    def copy(self) -> None:
        """The baseline: one memcpy."""
        np.copyto(self.y, self.x)


def aligned(count: int, dtype: type = np.float32) -> NDArray[Any]:
    """An array of `count` values that starts at a cache line."""
    item = np.dtype(dtype).itemsize
    memory = np.empty(count * item + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + count * item].view(dtype)


def native_operations(codecs: list[str], data: Data) -> Iterator[Operation]:
    """What thinwire does, codec by codec."""
    for name in codecs:
        yield from codec_operations(tw.codec(name), data)


def codec_operations(codec: tw.Codec, data: Data) -> Iterator[Operation]:
    """What thinwire does with one codec."""
    frame = aligned(codec.bound(data.x.size), np.uint8)
    yield Operation(f"{codec} encode", lambda: codec.encode(data.x, out=frame))
    if codec.info.ratio > WITHOUT_FEEDBACK:
        data.residual[:] = 0
        yield Operation(
            f"{codec} encode + feedback",
            lambda: codec.encode(data.x, out=frame, residual=data.residual),
        )
    yield Operation(f"{codec} decode", lambda: codec.decode(frame, out=data.y))
    yield Operation(f"{codec} decode + accumulate", lambda: codec.decode(frame, out=data.y, accumulate=True))


def torch_operations(torch: Any, data: Data) -> Iterator[Operation]:
    """What torch has for the same jobs."""
    x = torch.from_numpy(data.x)
    half = torch.empty(x.shape, dtype=torch.float16)
    brain = torch.empty(x.shape, dtype=torch.bfloat16)
    yield Operation("torch to fp16", lambda: half.copy_(x))
    yield Operation("torch to bf16", lambda: brain.copy_(x))
    for density in TOPK_DENSITIES:
        choose = partial(x.abs().topk, int(density * x.numel()))
        yield Operation(f"torch.topk of magnitudes, {density:.0%}", choose)


@contextmanager
def one_torch_thread() -> Iterator[Any]:
    """torch held to one thread, or None where it is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        yield None
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield torch
    finally:
        torch.set_num_threads(before)


def measure(target: str, operations: Iterator[Operation], data: Data, effort: Effort) -> list[dict[str, Any]]:
    """Time every operation in turn with memcpy."""
    progress = Progress()
    rows = []
    for operation in operations:
        progress.show(f"{target}: {operation.name}")
        operation.run()  # touches memory that is new
        pairs = [(seconds(data.copy), seconds(operation.run)) for _ in range(effort.samples)]
        gigabytes = data.x.nbytes / 1e9
        rows.append(
            {
                "target": target,
                "operation": operation.name,
                "gb_per_s": _report.spread([gigabytes / own for _, own in pairs]).as_dict(),
                "memcpy_gb_per_s": _report.spread([gigabytes / copy for copy, _ in pairs]).as_dict(),
                "of_memcpy": _report.spread([copy / own for copy, own in pairs]).as_dict(),
            }
        )
    progress.clear()
    return rows


def seconds(action: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def format_table(rows: list[dict[str, Any]]) -> str:
    """The rows as text: medians, and the quartiles of the ratio."""
    header = ["operation", "GB/s", "memcpy GB/s", "of memcpy", "quartiles"]
    cells = [
        [
            row["operation"],
            f"{row['gb_per_s']['median']:.2f}",
            f"{row['memcpy_gb_per_s']['median']:.1f}",
            f"{row['of_memcpy']['median']:.2f}",
            f"{row['of_memcpy']['low']:.2f}-{row['of_memcpy']['high']:.2f}",
        ]
        for row in rows
    ]
    return _report.table(header, cells)


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
