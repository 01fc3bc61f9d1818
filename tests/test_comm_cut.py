"""A link that is cut: no packet says so, and still all ranks notice in time, and the survivors who it is."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from comm_survivors import TIMEOUT, check_survivor, rounds
from thinwire import errors
from thinwire.cli._shaped import Link, Ranks

SIZE = 3
RANK = Path(__file__).with_name("comm_cut_rank.py")
SECONDS = 30.0
"""After that long a silence a rank is taken for hanging."""


def hear(ranks: Ranks) -> list[dict[str, Any]]:
    """Return the next message of each rank, in order."""
    found = dict(ranks.receive(SECONDS) for _ in range(SIZE))
    return [found[rank] for rank in range(SIZE)]


@rounds(1)
def test_cut_off(namespaces_allowed: None, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    victim, moment = draw.randrange(SIZE), draw.uniform(0, 0.3)
    command = [sys.executable, RANK, tmp_path / "store", victim, seed, moment]
    with Ranks([str(word) for word in command], SIZE, Link("namespaces", 0)) as ranks:
        assert hear(ranks) == [{}] * SIZE
        ranks.send({})
        found = hear(ranks)
    since = found[victim]["cut"]
    print("noticed after", *(f"{each['when'] - since:.3f}" for each in found), "s")
    for rank, each in enumerate(found):
        each["error"] = getattr(errors, each["error"])
        if rank != victim:
            check_survivor(each, victim, since, SIZE - 1)
    assert issubclass(found[victim]["error"], errors.TransportError), found[victim]
    assert found[victim]["when"] - since < TIMEOUT, found[victim]
    assert (found[victim]["threads"], found[victim]["descriptors"]) == (0, 0), found[victim]
