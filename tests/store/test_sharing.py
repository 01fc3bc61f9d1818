"""Threads and processes that use one store at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from at_once import at_once
from store_data import random_bytes
from thinwire.errors import Conflict
from thinwire.store.store import Store


def test_expect_is_a_compare_and_swap(store: Store) -> None:
    assert store.put("a", b"1", expect=0).version == 1
    assert store.put("a", b"2", expect=1).version == 2
    for expect in (0, 1, 3):
        with pytest.raises(Conflict):
            store.put("a", b"3", expect=expect)
    assert store.get("a") == b"2"


def test_of_many_at_once_one_gets_what_it_expects(tmp_path: Path) -> None:
    with Store(tmp_path, threads=2) as store:
        won, lost = [], []

        def put(number: int) -> None:
            try:
                won.append(store.put("a", b"%d" % number, expect=0))
            except Conflict:
                lost.append(number)

        at_once(put, 6)
        assert len(won) <= 1
        assert len(won) + len(lost) == 6
        assert len(store.versions("a")) == len(won)


def test_threads_may_share_a_store(store: Store) -> None:
    def work(number: int) -> None:
        data = random_bytes(300_000, number % 3)
        for _ in range(3):
            store.put(f"name{number}", data)
            assert store.get(f"name{number}") == data

    at_once(work, 4)
    assert [len(store.versions(f"name{number}")) for number in range(4)] == [3] * 4
    assert store.verify()


def test_processes_may_share_a_store(store: Store, tmp_path: Path) -> None:
    if store.catalog.keys.encrypted:
        pytest.skip("once is enough")
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from thinwire.store.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for i in range(5): store.put('shared', np.random.default_rng(i).bytes(200_000))\n"
        "store.close()\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "store")]
    others = [subprocess.Popen(arguments) for _ in range(3)]
    assert [other.wait(120) for other in others] == [0, 0, 0]
    assert len(store.versions("shared")) == 15
    assert store.verify()
    assert {store.get(f"shared@{v}") for v in range(1, 16)} == {random_bytes(200_000, i) for i in range(5)}


def test_the_number_of_open_threads_goes_back(tmp_path: Path) -> None:
    before = threading.active_count()
    with Store(tmp_path) as store:
        store.put("a", random_bytes(100_000))
    assert threading.active_count() == before
