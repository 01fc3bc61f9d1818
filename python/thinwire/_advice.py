"""How long backward waits for the last all-reduce, and which bucket size keeps that short: a small model.

Gradients are taken to become ready at a constant rate over the backward pass, and the link to carry one
bucket after another.
"""

from __future__ import annotations

from collections.abc import Sequence

MIB = 1 << 20
FIRST_BUCKET_BYTES = MIB
"""DDP's own size of the first bucket."""
CANDIDATE_CAPS_MB = (1, 2, 4, 8, 16, 25)
"""Values of DDP's bucket_cap_mb to choose from; the last one is DDP's default."""
OVERHEAD_SECONDS = 1e-3
"""What a bucket costs besides its bytes."""


def exposed_seconds(bucket_bytes: Sequence[float], backward: float, seconds_per_byte: float) -> float:
    """Return how long after a backward pass of `backward` seconds the last bucket is reduced.

    `bucket_bytes` are the buckets' gradients in order, `seconds_per_byte` the wire time of a byte of
    gradient.
    """
    total, ready, end = sum(bucket_bytes), 0.0, 0.0
    for size in bucket_bytes:
        ready += backward * size / total
        end = max(end, ready) + size * seconds_per_byte + OVERHEAD_SECONDS
    return end - backward


def buckets_of(total: float, cap_mb: float) -> list[float]:
    """Return the sizes of the buckets that DDP makes of `total` bytes, parameters taken to be small."""
    sizes, left = [min(FIRST_BUCKET_BYTES, total)], total - FIRST_BUCKET_BYTES
    while left > 0:
        sizes.append(min(cap_mb * MIB, left))
        left -= cap_mb * MIB
    return sizes


def best_bucket_cap(total: float, backward: float, seconds_per_byte: float) -> tuple[int, float]:
    """Return the cap with the shortest wait, in MB, and that wait in seconds."""
    waits = [
        (exposed_seconds(buckets_of(total, cap), backward, seconds_per_byte), cap)
        for cap in CANDIDATE_CAPS_MB
    ]
    wait, cap = min(waits, key=lambda pair: (pair[0], -pair[1]))
    return cap, wait
