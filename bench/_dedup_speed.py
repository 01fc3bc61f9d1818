"""Cases of `thinwire bench dedup`: how fast data is cut and hashed."""

from __future__ import annotations

import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import thinwire as tw
from thinwire import _core
from thinwire.bench._cases import Case, Effort, LeftOut, Measured, in_turn, need

AVERAGE = 16 << 10
PROFILE = f"native:average={AVERAGE}"

_CUT_BARS = {"avx512": 2.5, "avx2": 1.2, "scalar": 0.75}
_LEAST_CHUNK, _MOST_CHUNK = 16 << 10, 64 << 10  # of those that are hashed


def cases() -> list[Case]:
    """Cutting, hashing, and both at once."""
    cutting = [
        Case(f"cuts(native), 1 thread, {target}", "pyfastcdc, same average", bar, partial(_cut, target))
        for target, bar in _CUT_BARS.items()
    ]
    return [
        *cutting,
        Case("cuts(native), 2 threads", "cuts(native), 1 thread", 1.8, _cut_on_two),
        Case("BLAKE3 of 16-64 KiB chunks, 1 thread", "loop of blake3", 1.2, _hash_chunks),
        Case("XXH3-128", "xxhash", 0.9, _hash_all),
        Case("fingerprint of a file, 2 threads", "hf_xet.hash_files", 3.0, _fingerprint),
    ]


def fastcdc(average: int) -> Any:
    """pyfastcdc's chunker for an average, otherwise at its own defaults."""
    need("pyfastcdc")
    from pyfastcdc import FastCDC

    return FastCDC(avg_size=average)


@cache
def _random(mebibytes: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, mebibytes << 20, np.uint8)


def _cut(target: str, effort: Effort) -> Measured:
    if target not in tw.targets():
        raise LeftOut(f"this machine has no {target}")
    chunker, data = fastcdc(AVERAGE), _random(effort.mebibytes)
    with tw.force_target(target):
        return in_turn(
            lambda: tw.cuts(data, PROFILE, threads=1),
            lambda: sum(1 for _ in chunker.cut_buf(memoryview(data))),
            data.nbytes,
            effort.rounds,
        )


def _cut_on_two(effort: Effort) -> Measured:
    data = _random(effort.mebibytes)
    return in_turn(
        lambda: tw.cuts(data, PROFILE, threads=2),
        lambda: tw.cuts(data, PROFILE, threads=1),
        data.nbytes,
        effort.rounds,
    )


def _hash_chunks(effort: Effort) -> Measured:
    need("blake3")
    from blake3 import blake3

    data = _random(effort.mebibytes)
    sizes = np.random.default_rng(2).integers(_LEAST_CHUNK, _MOST_CHUNK, data.nbytes // _LEAST_CHUNK)
    ends = np.cumsum(sizes)
    ends = ends[ends <= data.nbytes]
    data = data[: ends[-1]]
    chunks = [memoryview(data)[end - size : end] for end, size in zip(ends, sizes, strict=False)]
    return in_turn(
        lambda: _core.blake3_blocks(data, ends, threads=1),
        lambda: [blake3(chunk).digest() for chunk in chunks],
        data.nbytes,
        effort.rounds,
    )


def _hash_all(effort: Effort) -> Measured:
    need("xxhash")
    from xxhash import xxh3_128_digest

    data = _random(effort.mebibytes)
    return in_turn(lambda: tw.xxh3_128(data), lambda: xxh3_128_digest(data), data.nbytes, effort.rounds)


def _fingerprint(effort: Effort) -> Measured:
    need("hf_xet")
    from hf_xet import hash_files

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        data = np.random.default_rng(3).integers(0, 256, effort.file_mebibytes << 20, np.uint8)
        data.tofile(path)  # which leaves it in the page cache
        return in_turn(
            lambda: tw.fingerprint(np.memmap(path, np.uint8, "r"), threads=2),
            lambda: hash_files([str(path)]),
            data.nbytes,
            effort.rounds,
        )
