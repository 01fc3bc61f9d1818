"""Ranks that lose one of them in a stream of all-reduces, and what each must have noticed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from comm_ranks import FolderStore, descriptors, threads_named_thinwire
from thinwire._comm import Communicator
from thinwire.errors import Error, PeerLost

TIMEOUT = 2.0
Say = Callable[[Any], None]


def shuffled_sizes(seed: int) -> Iterator[int]:
    """Yield sizes of all-reduces, the same on every rank: small, large, with several slices."""
    draw = random.Random(seed)
    while True:
        yield draw.choice([0, 1, 1000, 30_000, 400_000])


def reduce_until_it_fails(comm: Communicator, seed: int) -> None:
    """Keep three all-reduces under way."""
    works = []
    for count, n in enumerate(shuffled_sizes(seed)):
        codec, algorithm = (("raw", "auto"), ("int8", "ring"), ("raw", "ring"))[count % 3]
        works.append(comm.all_reduce(np.ones(n, np.float32), codec=codec, algorithm=algorithm))
        if len(works) == 3:
            works.pop(0).wait()


def survive(
    say: Say, folder: str, rank: int, size: int, victims: list[int], seed: int, options: dict[str, Any]
) -> Any:
    """Reduce until another rank is lost, clean up, go on without it; return what was noticed and is left."""
    before = descriptors()
    store = FolderStore(folder)
    comm = Communicator(store, rank, size, timeout=TIMEOUT, **options)
    say("connected")
    try:
        reduce_until_it_fails(comm, seed)
    except Error as error:
        found = {"error": type(error), "rank": getattr(error, "rank", None), "text": str(error)}
    found["when"] = time.monotonic()
    comm.close()
    found["closed"] = time.monotonic()
    found["threads"], found["descriptors"] = threads_named_thinwire(), descriptors() - before
    rest = [each for each in range(size) if each not in victims]
    if rank in rest:
        again = Communicator(store, rest.index(rank), len(rest), timeout=10.0, group="rest", **options)
        with again:
            found["sum"] = float(again.all_reduce(np.ones(5, np.float32)).wait()[0])
        found["again"] = time.monotonic()
    return found


def check_survivor(found: dict[str, Any], victim: int, since: float, survivors: int) -> None:
    """Compare what a survivor noticed, and when."""
    assert found["error"] is PeerLost, found
    assert found["rank"] == victim, found
    assert found["when"] - since < TIMEOUT, found
    assert found["closed"] - found["when"] < TIMEOUT, found
    assert (found["threads"], found["descriptors"]) == (0, 0), found
    assert found["sum"] == survivors, found


def rounds(normal: int = 5, long: int = 100) -> Any:
    """Run a test a few times, and many times as torture."""
    return pytest.mark.parametrize(
        "seed",
        [*range(normal), *(pytest.param(seed, marks=pytest.mark.torture) for seed in range(normal, long))],
    )
