"""Differences between versions: by chunks, by bytes where parts share one, by what is said of a part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinwire.store import Store
from thinwire.store.differences import Change, differences
from thinwire.store.parts import Part, parts_of

pytest.importorskip("zstandard")

BLOCK = 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def put(store: Store, large: bytes, small: list[bytes], rate: float = 0.1, shape: int = 1) -> None:
    """A version that is described as a checkpoint is: small leaves in one extent, a large one in another."""
    first = b"".join(small)
    ends = np.cumsum([len(each) for each in small])
    leaves: list[list[Any]] = [
        [0, int(e) - len(s), len(s), "uint8", [len(s)]] for e, s in zip(ends, small, strict=True)
    ]
    leaves.append([1, 0, len(large), "uint8", [shape, len(large) // shape]])
    tree = {
        "dict": [
            ["bias", [{"leaf": number} for number in range(len(small))]],
            ["weight", {"leaf": len(small)}],
            [7, {"tuple": [rate, None, {"int": "ff"}]}],
        ]
    }
    blocks = [BLOCK] * (len(large) // BLOCK)
    cut = np.cumsum([len(first), *blocks], dtype=np.int64)
    with store.writer("model") as writer:
        chunks = writer.add(first + large, cut)
        writer.commit(
            {"kind": "checkpoint", "extents": [len(first), len(large)], "leaves": leaves, "tree": tree},
            chunks,
        )


def changes(store: Store) -> list[Change]:
    return differences(store.reader("model@1"), store.reader("model"))


LARGE = np.random.default_rng(1).integers(0, 256, 5 * BLOCK, np.uint8).tobytes()
SMALL = [b"abcd", b"", b"efghij"]


def test_parts_of_a_checkpoint(store: Store) -> None:
    put(store, LARGE, SMALL)
    assert parts_of(store.reader("model").metadata) == [
        Part("bias.0", 0, 4, {"dtype": "uint8", "shape": [4]}),
        Part("bias.1", 4, 4, {"dtype": "uint8", "shape": [0]}),
        Part("bias.2", 4, 10, {"dtype": "uint8", "shape": [6]}),
        Part("weight", 10, 10 + len(LARGE), {"dtype": "uint8", "shape": [1, len(LARGE)]}),
        Part("7.0", 0, 0, {"value": 0.1}),
        Part("7.1", 0, 0, {"value": None}),
        Part("7.2", 0, 0, {"value": "ff"}),
    ]


def test_equal_versions(store: Store) -> None:
    put(store, LARGE, SMALL)
    put(store, LARGE, SMALL)
    assert changes(store) == []


def test_blocks_of_a_large_tensor(store: Store) -> None:
    put(store, LARGE, SMALL)
    changed = bytearray(LARGE)
    for at in (BLOCK, 2 * BLOCK, 4 * BLOCK + 999):
        changed[at] ^= 1
    put(store, bytes(changed), SMALL)
    ranges = [(BLOCK, 3 * BLOCK), (4 * BLOCK, 5 * BLOCK)]
    assert changes(store) == [Change("weight", "changed", ranges, ranges)]


def test_small_tensors_that_share_a_chunk_are_told_apart(store: Store) -> None:
    put(store, LARGE, SMALL)
    put(store, LARGE, [b"abcd", b"", b"eFgHij"])
    assert changes(store) == [Change("bias.2", "changed", [(1, 4)], [(1, 4)])]


def test_a_small_tensor_that_grows(store: Store) -> None:
    put(store, LARGE, SMALL)
    put(store, LARGE, [b"abcdXY", b"", b"efghij"])
    assert changes(store) == [
        Change("bias.0", "changed", [], [(4, 6)], {"shape": [4]}, {"shape": [6]}),
    ]


def test_small_tensors_that_share_a_chunk_in_other_places(store: Store) -> None:
    put(store, LARGE, [b"abab", b"abcd"])
    put(store, LARGE, [b"ab", b"ababcd"])
    assert changes(store) == [
        Change("bias.0", "changed", [(2, 4)], [], {"shape": [4]}, {"shape": [2]}),
        Change("bias.1", "changed", [(2, 4)], [(2, 6)], {"shape": [4]}, {"shape": [6]}),
    ]


def test_values_and_shapes(store: Store) -> None:
    put(store, LARGE, SMALL)
    put(store, LARGE, SMALL, rate=0.2, shape=5)
    assert changes(store) == [
        Change("weight", "changed", [], [], {"shape": [1, 5000]}, {"shape": [5, 1000]}),
        Change("7.0", "changed", [], [], {"value": 0.1}, {"value": 0.2}),
    ]


def test_parts_that_come_and_go(store: Store) -> None:
    put(store, LARGE, SMALL)
    put(store, LARGE, SMALL[:1])
    assert [(each.name, each.how, each.a) for each in changes(store)] == [
        ("bias.1", "removed", []),
        ("bias.2", "removed", [(0, 6)]),
    ]
    back = differences(store.reader("model@2"), store.reader("model@1"))
    assert [(each.name, each.how, each.b) for each in back] == [
        ("bias.1", "added", []),
        ("bias.2", "added", [(0, 6)]),
    ]


def test_chunks_that_change_places(store: Store) -> None:
    blocks = [LARGE[at : at + BLOCK] for at in range(0, len(LARGE), BLOCK)]
    put(store, LARGE, SMALL)
    put(store, b"".join(reversed(blocks)), SMALL)
    assert changes(store) == [Change("weight", "changed", [], [])]


def test_a_file_beside_a_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a").write_bytes(b"same")
    store.put("model", tmp_path / "tree")
    store.put("model", b"other")
    assert changes(store) == [Change("content", "changed", [(0, 4)], [(0, 5)])]
