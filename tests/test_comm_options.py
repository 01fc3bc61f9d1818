"""A communicator's options: what cannot be, and what each of them does."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comm_cases import Case, Outcome, check, expected, run
from comm_ranks import FolderStore, MemoryStore, Nursery, Threads, all_raise, descriptors, join
from thinwire._comm import Communicator
from thinwire.cli._sockets import pacing_works
from thinwire.errors import InvalidArgument, TransportError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2}, "rank is 2"),
        ({"rank": -1}, "rank is -1"),
        ({"timeout": 0.0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"deadline": -1.0}, "deadline"),
        ({"links": "udp"}, "udp"),
        ({"ports": "80-70"}, "80-70"),
        ({"ports": "0-70000"}, "0-70000"),
        ({"ports": "many"}, "many"),
        ({"sockets": 65}, "65"),
        ({"sockets": -1}, "-1"),
        ({"tls": {"cert": "x"}}, "cert"),
        ({"secret": 7}, "secret is a int; pass text or bytes"),
        ({"secret": ["a"]}, "secret is a list"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        Communicator(**{"store": MemoryStore(), "rank": 0, "world_size": 2, "timeout": 0.5, **options})


def test_an_interface_that_does_not_exist() -> None:
    for own in ({"interface": "nope0"},):
        all_raise(join(own, world_size=1), TransportError, "nope0")


def test_an_interface_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINWIRE_IFACE", "nope1")
    all_raise(join({}, world_size=1), TransportError, "nope1")


def test_a_congestion_control_that_does_not_exist() -> None:
    all_raise(join({"congestion": "magic"}, world_size=1), TransportError, "magic")


def test_a_loopback_interface() -> None:
    with Threads(2, links="tcp", interface="lo") as threads:
        threads(lambda comm: comm.all_reduce(np.ones(100_000, np.float32)).wait())


def test_ports_that_are_taken() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        all_raise(join({"ports": f"{port}-{port}"}, world_size=1), TransportError, str(port))
        all_raise(join({"ports": str(port)}, world_size=1), TransportError, str(port))


def test_a_range_of_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks take free ones of it."""
    monkeypatch.setenv("THINWIRE_PORTS", "42811-42830")
    with Threads(3, links="tcp") as threads:
        threads(lambda comm: comm.barrier().wait())


# --- how many sockets, and how fast


def test_sockets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The argument goes before the variable."""
    opened = {}
    for sockets in (1, 3):
        monkeypatch.setenv("THINWIRE_SOCKETS", str(sockets))
        before = descriptors()
        with Threads(2, links="tcp") as threads:
            opened[sockets] = descriptors() - before
            check(threads, Case(n=300_000))
            for comm in threads.comms:
                (link,) = comm.stats()["links"]
                assert re.search(rf"\b{sockets} sockets?\b", link["detail"])
    assert opened[3] == opened[1] + 2 * 2
    with Threads(2, links="tcp", sockets=2) as threads:
        assert all("2 sockets" in comm.stats()["links"][0]["detail"] for comm in threads.comms)


@pytest.mark.parametrize("value", ["0", "65", "-1", "many"])
def test_numbers_of_sockets_that_cannot_be(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("THINWIRE_SOCKETS", value)
    all_raise(join({}, world_size=1), InvalidArgument, f"sockets is '{value}'", "from 1 to 64")


@pytest.mark.parametrize("sockets", [1, 2])
def test_pacing_is_the_most_to_each_peer(sockets: int) -> None:
    """However many sockets lead there. The kernel lets a first burst through."""
    if not pacing_works():
        pytest.skip("this kernel does not pace sockets")
    rate, seconds = 4_000_000, 0.5
    x = np.arange(int(rate * seconds), dtype=np.uint8)

    def broadcast(comm: Communicator) -> float:
        mine = x.copy() if comm.rank == 0 else np.zeros_like(x)
        begin = time.monotonic()
        comm.broadcast(mine).wait()
        np.testing.assert_array_equal(mine, x)
        return time.monotonic() - begin

    with Threads(3, links="tcp", pacing=rate, sockets=sockets) as threads:
        assert min(threads(broadcast)[1:]) > 0.6 * seconds


# --- sites


def _at_a_site(say: Any, folder: str, rank: int, case: Case, sites: list[str]) -> tuple[Outcome, Any]:
    """Reduce at the site that the environment gives; return the outcome and the statistics."""
    os.environ["THINWIRE_SITE"] = sites[rank]
    with Communicator(FolderStore(folder), rank, len(sites), links="tcp", timeout=10.0) as comm:
        outcome = run(comm, case)
        stats = comm.stats()
        comm.barrier().wait()
        return outcome, stats


@pytest.mark.parametrize("sites", [["here", "here", "far away"], ["a", "b", "a", "b"]], ids=len)
def test_sites_of_the_environment(nursery: Nursery, tmp_path: Path, sites: list[str]) -> None:
    """Values go exactly to ranks of the same site, and compressed to those of another."""
    size, case = len(sites), Case(n=90_000, codec="int4", residual="float32", op="mean")
    with nursery.processes(size) as processes:
        for rank, process in enumerate(processes):
            process.start(_at_a_site, str(tmp_path / "store"), rank, case, sites)
        found = [process.hear() for process in processes]
    wanted = expected(
        dataclasses.replace(case, algorithm="hierarchical"), size, list(map(sites.index, sites))
    )
    for rank, (outcome, stats) in enumerate(found):
        assert outcome.out.tobytes() == wanted[rank].out.tobytes()
        assert outcome.residual.tobytes() == wanted[rank].residual.tobytes()
        assert stats["sites"] == sites
        for link in stats["links"]:
            exact = sites[link["peer"]] == sites[rank]
            assert (link["sent_bytes"] > case.n) == exact, (rank, link)


def test_a_site_as_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes before the variable; without both, the host is the site."""
    with Threads(2, links="inproc") as threads:
        host = threads.comms[0].stats()["sites"]
    assert host[0] == host[1]
    monkeypatch.setenv("THINWIRE_SITE", "of all")
    with Threads(3, links="inproc", each=[{"site": "mine"}, {}, {}]) as threads:
        assert threads.comms[2].stats()["sites"] == ["mine", "of all", "of all"]
