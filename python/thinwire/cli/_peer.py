"""What two or more doctors measure together: rate, latency, and the time of an all-reduce with each codec."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from thinwire import Communicator
from thinwire._table import columns
from thinwire.cli._prediction import CODECS, RAW, Prediction, choose, predict
from thinwire.cli._shaped import format_rate

_LATENCY_CALLS = 200
_LATENCY_LIMIT_S = 2.0
_SAMPLES = 3
_MIB = 1 << 20
_LEAST_BYTES, _MOST_BYTES = _MIB, 64 * _MIB
_LONG_ENOUGH_S = 0.4
"""A transfer that lasts this long is past the start of a TCP connection."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Measurement:
    """What was measured; seconds and bytes. The rate is what one rank sends while it receives as much."""

    rank: int
    world_size: int
    bytes_per_second: float
    latency_seconds: float
    transfer_bytes: int
    seconds_per_byte: dict[str, float]
    links: list[dict[str, Any]]
    """As `Communicator.stats` has them, and `idle_rtt_seconds`, from before anything large was sent."""


def measure(communicator: Communicator, progress: Progress) -> Measurement:
    """Measure with all other ranks. Collective."""
    progress("measuring the latency")
    latency = _latency(communicator)
    idle = {link["peer"]: link["rtt_seconds"] for link in communicator.stats()["links"]}
    progress("measuring the rate")
    size, rate = _rate(communicator)
    per_byte = {}
    for codec in CODECS:
        progress(f"measuring an all-reduce with {codec}")
        per_byte[codec] = _all_reduce_seconds(communicator, codec, size) / size
    links = [
        {**link, "idle_rtt_seconds": idle.get(link["peer"], 0.0)} for link in communicator.stats()["links"]
    ]
    return Measurement(communicator.rank, communicator.world_size, rate, latency, size, per_byte, links)


def _latency(communicator: Communicator) -> float:
    """The median time of an all-reduce of 4 bytes."""
    value = np.zeros(1, np.float32)
    result = np.zeros(1, np.float32)
    first = _agreed(communicator, _timed(lambda: communicator.all_reduce(value, out=result).wait()))
    calls = max(3, min(_LATENCY_CALLS, int(_LATENCY_LIMIT_S / max(first, 1e-9))))
    return statistics.median(
        _timed(lambda: communicator.all_reduce(value, out=result).wait()) for _ in range(calls)
    )


def _rate(communicator: Communicator) -> tuple[int, float]:
    """The size of a transfer that lasts long enough, and the bytes a second that this rank sends."""
    size = _LEAST_BYTES
    seconds = _exchange_seconds(communicator, size)
    while seconds < _LONG_ENOUGH_S and size < _MOST_BYTES:
        size *= 4
        seconds = _exchange_seconds(communicator, size)
    seconds = statistics.median(_exchange_seconds(communicator, size) for _ in range(_SAMPLES))
    return size, (communicator.world_size - 1) * size / seconds


def _exchange_seconds(communicator: Communicator, size: int) -> float:
    """The time until every rank has `size` bytes of every other: both ways at once, nothing added."""
    mine = np.zeros(size, np.uint8)
    everyones = np.zeros((communicator.world_size, size), np.uint8)
    communicator.barrier().wait()
    return _agreed(communicator, _timed(lambda: communicator.all_gather(mine, out=everyones).wait()))


def _all_reduce_seconds(communicator: Communicator, codec: str, size: int) -> float:
    """The median time of an all-reduce of `size` bytes as in training: with feedback if values are lost."""
    gradient = np.random.default_rng(communicator.rank).standard_normal(size // 4, np.float32)
    result = np.zeros_like(gradient)
    residual = None if codec == RAW else np.zeros_like(gradient)

    def call() -> None:
        communicator.all_reduce(gradient, codec=codec, out=result, residual=residual).wait()

    call()
    samples = []
    for _ in range(_SAMPLES):
        communicator.barrier().wait()
        samples.append(_agreed(communicator, _timed(call)))
    return statistics.median(samples)


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _agreed(communicator: Communicator, seconds: float) -> float:
    """The slowest rank's time, the same on all ranks, so that all decide the same."""
    slowest = np.array([seconds], np.float32)
    communicator.all_reduce(slowest, op="max", out=slowest).wait()
    return float(slowest[0])


def as_dict(found: Measurement, predictions: list[Prediction]) -> dict[str, Any]:
    """Everything for programs."""
    return {
        **asdict(found),
        "predictions": [asdict(each) for each in predictions],
        "take": codec_to_take(predictions) if predictions else None,
    }


def codec_to_take(predictions: list[Prediction]) -> str:
    """The codec's name, `none` where compression does not pay."""
    chosen = choose(predictions).codec
    return "none" if chosen == RAW else chosen


def predictions_for(found: Measurement, params: int | None, backward: float | None) -> list[Prediction]:
    """The prediction for a model, nothing where its size is not known."""
    if params is None:
        return []
    return predict(found.seconds_per_byte, found.latency_seconds, params, backward)


def as_table(found: Measurement, predictions: list[Prediction]) -> str:
    """The report for people."""
    lines = [f"rank {found.rank} of {found.world_size}", ""]
    for link in found.links:
        lines.append(f"link to rank {link['peer']}  {link['kind']}, {link['detail']}")
        if link["kind"] == "tcp":
            lines.append(
                f"                {link['retransmits']} TCP retransmits, "
                f"round trip {link['idle_rtt_seconds'] * 1e3:.3f} ms idle, "
                f"{link['rtt_seconds'] * 1e3:.3f} ms under load"
            )
    rate = format_rate(int(float(f"{found.bytes_per_second * 8:.3g}")))
    lines += [
        f"rate            {rate} each way, both ways at once",
        f"latency         {found.latency_seconds * 1e3:.3f} ms for an all-reduce of 4 bytes",
        "",
    ]
    if not predictions:
        return "\n".join(
            [*lines, _per_gigabyte(found), "", "For a prediction: --params 124M --backward-ms 300"]
        )
    return "\n".join([*lines, _prediction_table(predictions), "", _verdict(predictions)])


def _per_gigabyte(found: Measurement) -> str:
    times = (f"{codec} {each * 4e8:.3g} s" for codec, each in found.seconds_per_byte.items())
    return f"all-reduce of 100 million parameters: {', '.join(times)}"


def _prediction_table(predictions: list[Prediction]) -> str:
    header = ["codec", "communication"]
    known = predictions[0].step is not None
    header += ["wait after backward", "backward + wait", "bucket_cap_mb"] if known else []
    rows = []
    for each in predictions:
        cells = ["plain fp32" if each.codec == RAW else each.codec, _milliseconds(each.communication)]
        if each.wait is not None and each.step is not None:
            cells += [_milliseconds(each.wait), _milliseconds(each.step), str(each.bucket_cap_mb)]
        rows.append(cells)
    return columns([header, *rows])


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"


def _verdict(predictions: list[Prediction]) -> str:
    plain = next(each for each in predictions if each.codec == RAW)
    chosen = choose(predictions)
    if chosen is plain:
        return "take: none. Compression brings too little on this link."
    what = "communication" if chosen.step is None else "step"
    ratio = plain.deciding / chosen.deciding
    start = (
        "" if chosen.codec == "int8" else "; it loses more than int8, so compare the loss with an int8 run"
    )
    return f"take: {chosen.codec}. The {what} is {ratio:.1f} times shorter than with plain fp32{start}."
