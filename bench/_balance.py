"""Rows of `thinwire bench data` on balance: the longest rank of a step beside the mean, over an epoch."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from thinwire.data import BalancedBatchSampler, Batch, Cost, ElasticSampler

RANKS, BATCH_SIZE, SKEW = 8, 32, 8
LONGEST = 4096
"""Characters that a model of characters takes; longer functions are cut there."""
LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
"""Folders of the standard library."""
COSTS = {"a L": Cost(1.0), "a L + b L^2": Cost(1.0, 1 / (6 * 512))}
"""The second is that of a transformer of width 512."""


class Balance(NamedTuple):
    """The cost of the slowest rank over the mean rank's: of all steps together, and of the worst step."""

    epoch: float
    worst_step: float


def function_lengths() -> NDArray[np.int64]:
    """Lengths of the functions of the running Python's standard library, in characters, LONGEST at most.

    (functions,). Without tests and installed packages; a nested function counts in its outer one as well.
    """
    lengths = [len(source) for path in _modules() for source in _functions(path)]
    return np.minimum(np.array(lengths), LONGEST)


def balances(lengths: NDArray[np.int64], cost: Cost) -> dict[str, Balance]:
    """How well batches in random order, of equal counts, and of counts that differ are balanced."""

    def balanced(skew: int) -> Balance:
        make = partial(BalancedBatchSampler, lengths, BATCH_SIZE, world_size=RANKS, cost=cost, skew=skew)
        return _measured(lengths, cost, [make(rank=rank) for rank in range(RANKS)])

    by_chance = [ElasticSampler(len(lengths), BATCH_SIZE, rank, RANKS) for rank in range(RANKS)]
    return {
        "random order": _measured(lengths, cost, by_chance),
        "balanced, equal counts": balanced(0),
        f"balanced, counts within {SKEW}": balanced(SKEW),
    }


def rows() -> dict[str, dict[str, Balance]]:
    """Every balance, by cost and by how the batches were made."""
    lengths = function_lengths()
    return {name: balances(lengths, cost) for name, cost in COSTS.items()}


def _measured(lengths: NDArray[np.int64], cost: Cost, samplers: Iterable[Iterable[Batch]]) -> Balance:
    costs = np.array([[cost(lengths[batch.indices]).sum() for batch in rank] for rank in samplers])
    slowest, mean = costs.max(axis=0), costs.mean(axis=0)
    return Balance(float(slowest.sum() / mean.sum()), float((slowest / mean).max()))


def _modules() -> Iterator[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        if not LEFT_OUT & set(path.relative_to(root).parts):
            yield path


def _functions(path: Path) -> Iterator[str]:
    """The sources of the functions of a module."""
    try:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old escapes in strings
            tree = ast.parse(text)
    except (SyntaxError, UnicodeDecodeError):  # examples of what is not Python
        return
    lines = text.split("\n")
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield "\n".join(lines[node.lineno - 1 : node.end_lineno])
