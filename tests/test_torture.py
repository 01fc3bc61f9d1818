"""Long fuzzing of the decoders, run by `make torture`; tests/test_fuzz_decoders.py is the short form."""

from __future__ import annotations

from itertools import count
from time import monotonic

import numpy as np
import pytest

from support import DTYPES
from test_fuzz_decoders import LENGTHS, attempt, edited, encoded, layout_of
from thinwire import reference
from thinwire.reference import frame

SECONDS = 20.0  # a codec and a CPU target

every_codec = pytest.mark.parametrize("name", reference.CODECS)


def changes(random: np.random.Generator, length: int) -> list[tuple[int, int]]:
    """A few bytes to replace: where, and by what."""
    where = random.integers(0, length, size=random.integers(1, 9))
    return [(int(at), int(value)) for at, value in zip(where, random.bytes(len(where)), strict=True)]


@pytest.mark.torture
@every_codec
def test_changed_frames_and_payloads(target: str, name: str) -> None:
    """Decoding ends with our errors or a result, inside its buffers; a failure names the case to repeat."""
    wholes = {n: encoded(name, n) for n in LENGTHS}
    ends = monotonic() + SECONDS
    for case in count():
        if monotonic() > ends:
            break
        random = np.random.default_rng(case)
        n = int(random.choice(LENGTHS))
        whole, call = wholes[n], (int(random.choice(DTYPES)), bool(random.integers(2)))
        data = edited(whole, changes(random, len(whole)))[: random.integers(len(whole) // 2, len(whole) + 1)]
        assert attempt(layout_of(name, n), data, call) == (data == whole), f"case {case}"
        header, payload = frame.parse(whole)
        if payload:
            changed = edited(payload, changes(random, len(payload)))
            attempt(layout_of(name, n), frame.pack(header, changed), call)
