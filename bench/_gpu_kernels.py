"""`thinwire bench gpu`: kernels, as a share of the device's copy bandwidth, by the bytes that must move."""

from __future__ import annotations

from functools import partial
from typing import Any

import thinwire as tw
from thinwire import _core
from thinwire.bench import _gpu_device
from thinwire.bench._cases import Case, Measured, seconds
from thinwire.bench._gpu_device import Effort, against_copy, torch_and_kernels
from thinwire.bench._gpu_launches import Launches

COPY = "copy of as many bytes"
BLOCK_CODECS = ("int8", "int4", "sign1")
TOPK = "topk:density=0.01"
PEERS = 4
FINGERPRINT_BYTES_PER_S = 150e9


def cases() -> list[Case]:
    """The rows."""
    return [
        *(Case(f"{name} encode + feedback", COPY, 0.75, partial(_encode, name)) for name in BLOCK_CODECS),
        *(
            Case(f"{name} decode + accumulate, {PEERS} peers", COPY, 0.75, partial(_decode, name))
            for name in BLOCK_CODECS
        ),
        Case("topk 1 % + feedback", COPY, 0.5, partial(_encode, TOPK)),
        Case("fingerprint: cut + BLAKE3", f"{FINGERPRINT_BYTES_PER_S / 1e9:g} GB/s", 1.0, _fingerprint),
    ]


def launches(torch: Any, codec: str, effort: Effort, frames: int = 1) -> Launches:
    """Return those over gradient-like values."""
    count = effort.mebibytes << 18
    values = torch.empty(count, device=_gpu_device.DEVICE).normal_(std=1e-3)
    return Launches(torch, _core.Layout([(count, _core_spec(codec))]), values, frames)


def _core_spec(codec: str) -> _core.CodecSpec:
    name, _, parameters = codec.partition(":density=")
    return _core.CodecSpec(name, density=float(parameters)) if parameters else _core.CodecSpec(name)


def _encode(codec: str, effort: Effort) -> Measured:
    """Values and residual are read, the residual and the frame written."""
    torch = torch_and_kernels()
    made = launches(torch, codec, effort)
    must_move = 3 * made.values.nbytes + made.layout.frame_bytes
    return against_copy(torch, made.encode, must_move, effort)


def _decode(codec: str, effort: Effort) -> Measured:
    """The frames and the sum are read once, the sum written once."""
    torch = torch_and_kernels()
    made = launches(torch, codec, effort, PEERS)
    for frame in range(PEERS):
        made.encode(frame)
    must_move = 2 * made.values.nbytes + PEERS * made.layout.frame_bytes
    return against_copy(torch, partial(made.decode, made.values), must_move, effort)


def _fingerprint(effort: Effort) -> Measured:
    """By the host's clock: ends and digests are there when it returns. The baseline is the bar's own rate."""
    torch = torch_and_kernels()
    data = torch.randint(0, 256, (effort.mebibytes << 20,), dtype=torch.uint8, device=_gpu_device.DEVICE)
    samples = [seconds(lambda: tw.fingerprint(data)) for _ in range(effort.rounds + 1)][1:]
    bar = data.nbytes / FINGERPRINT_BYTES_PER_S
    return Measured(samples, [bar] * len(samples), data.nbytes)
