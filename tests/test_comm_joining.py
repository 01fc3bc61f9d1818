"""Who joins a communicator, and ranks that were told different things when they do."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from comm_cases import Case, expected, run
from comm_ranks import QUICK, MemoryStore, Threads, all_raise, at_once, close_all, join
from thinwire import _membership
from thinwire._comm import Communicator
from thinwire.errors import Error, InvalidArgument, Timeout, TransportError

# --- told different things when they join


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"links": "tcp"}, {"links": "shm"}, ("links", "tcp on rank 0", "shm on rank 1")),
        ({"secret": "a"}, {}, ("secret", "True on rank 0", "False on rank 1")),
        ({"secret": "a", "tls": True}, {"secret": "a"}, ("tls",)),
        ({"sockets": 2}, {}, ("sockets", "2 on rank 0", "1 on rank 1")),
    ],
)
def test_different_options(one: dict[str, Any], other: dict[str, Any], words: Sequence[str]) -> None:
    begin = time.monotonic()
    all_raise(join(one, other), InvalidArgument, "ranks disagree", *words)
    assert time.monotonic() - begin < QUICK


def test_different_world_sizes() -> None:
    """The larger world waits for a rank that does not exist; the smaller one sees the difference at once."""
    found = join({}, {"world_size": 3}, timeout=1.0)
    close_all(found)
    assert isinstance(found[0], InvalidArgument | Timeout), found
    assert isinstance(found[1], InvalidArgument | Timeout), found
    assert any("world size" in str(error) or "rank 2 has not joined" in str(error) for error in found)


def test_different_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = iter(["1.0", "2.0"])
    lock = threading.Lock()
    real = _membership.Rendezvous.meet

    def meet(self: Any, message: dict[str, Any], doing: str) -> Any:
        with lock:
            message["told"]["thinwire"] = next(versions)
        return real(self, message, doing)

    monkeypatch.setattr(_membership.Rendezvous, "meet", meet)
    all_raise(join({}, {}), InvalidArgument, "thinwire is", "1.0", "2.0", "rank 0", "rank 1")


def test_different_secrets() -> None:
    """Who does not know the secret is a stranger: nobody is told more than that there is no connection."""
    begin = time.monotonic()
    found = join({"secret": "a"}, {"secret": "b"}, timeout=1.5)
    close_all(found)
    assert time.monotonic() - begin < 5
    for outcome in found:
        assert isinstance(outcome, Timeout | TransportError), outcome
    assert any("rank 0" in str(outcome) or "rank 1" in str(outcome) for outcome in found)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("secret", [None, "word", b"\x00\xff bytes"])
def test_equal_secrets(secret: str | bytes | None, tls: bool) -> None:
    if tls and secret is None:
        found = join({}, {}, tls=True, timeout=2.0)
        all_raise(found, InvalidArgument, "secret")
        return
    with Threads(2, links="tcp", secret=secret, tls=tls) as threads:
        assert threads(run, Case(n=70_000))[0].same(expected(Case(n=70_000), 2)[0])


def test_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINWIRE_SECRET", "word")
    with Threads(2, links="tcp", each=[{"secret": "word"}, {}]) as threads:
        threads(lambda comm: comm.barrier().wait())


# --- the store and the ranks


def test_a_rank_that_never_comes() -> None:
    begin = time.monotonic()
    found = join({}, {}, {}, world_size=4, timeout=0.5)
    all_raise(found, Timeout, "rank 3 has not joined the communicator within 0.5 s")
    assert time.monotonic() - begin < 3


class _Broken(MemoryStore):
    """A store that does not do what it should, in one of its methods."""

    def __init__(self, method: str, act: Callable[[], Any]) -> None:
        super().__init__()
        setattr(self, method, lambda *_: act())


def _raise() -> None:
    raise OSError("disk full")


@pytest.mark.parametrize("method", ["set", "get", "wait"])
def test_a_store_that_raises(method: str) -> None:
    found = join({}, {}, store=_Broken(method, _raise), timeout=2.0)
    all_raise(found, Error, "disk full", "thinwire/default/1/")
    assert all(isinstance(error, TransportError | Timeout) for error in found)


@pytest.mark.parametrize("method", ["set", "get", "wait"])
def test_a_store_that_hangs(method: str) -> None:
    over = threading.Event()
    begin = time.monotonic()
    found = join({}, store=_Broken(method, lambda: over.wait(30)), world_size=1, timeout=0.3)
    over.set()
    all_raise(found, Timeout, "thinwire/default/1/0")
    assert time.monotonic() - begin < 3


@pytest.mark.parametrize("answer", ["", "no json", "[]", '{"a": 1}', "null"])
def test_a_store_with_other_things_in_it(answer: str) -> None:
    found = join({}, store=_Broken("get", lambda: answer), world_size=1, timeout=1.0)
    all_raise(found, Error)


def test_bytes_of_a_store() -> None:
    """torch's stores return bytes."""

    class Bytes(MemoryStore):
        def get(self, key: str) -> Any:
            return super().get(key).encode()

    found = join({}, {}, store=Bytes())
    assert all(isinstance(comm, Communicator) for comm in found), found
    close_all(found)


@pytest.mark.parametrize("kind", ["FileStore", "TCPStore"])
def test_torchs_stores(kind: str, tmp_path: Path) -> None:
    dist = pytest.importorskip("torch.distributed")
    if kind == "FileStore":
        stores = [dist.FileStore(str(tmp_path / "store"), 2) for _ in range(2)]
    else:
        limit = timedelta(seconds=20)
        first = dist.TCPStore("127.0.0.1", 0, 2, is_master=True, timeout=limit, wait_for_workers=False)
        stores = [first, dist.TCPStore("127.0.0.1", first.port, 2, is_master=False, timeout=limit)]
    with at_once(
        [lambda rank=rank: Communicator(stores[rank], rank, 2, timeout=10.0) for rank in range(2)]
    ) as comms:
        pass
    assert all(isinstance(comm, Communicator) for comm in comms), comms
    close_all(comms)
    begin = time.monotonic()
    with pytest.raises(Timeout, match="rank 1 has not joined"):
        Communicator(stores[0], 0, 2, timeout=0.5, group="alone")
    assert time.monotonic() - begin < 3


def test_no_store() -> None:
    with pytest.raises(InvalidArgument, match=r"without set\(\)"):
        Communicator({}, 0, 1)


def test_a_group_name_is_for_one_communicator() -> None:
    store = MemoryStore()
    close_all(join({}, {}, store=store))
    with pytest.raises(InvalidArgument, match=r"was used before in this store.*group="):
        Communicator(store, 0, 2, timeout=2.0)
    both = [join({}, {}, store=store, group=name) for name in ("a", "b")]
    for comms in both:
        assert all(isinstance(comm, Communicator) for comm in comms), comms
    for comms in both:
        close_all(comms)


def test_inproc_is_for_one_process() -> None:
    store = MemoryStore()
    calls: list[Callable[[], Any]] = [
        lambda rank=rank: Communicator(store, rank, 2, "inproc", timeout=3.0) for rank in range(2)
    ]
    with at_once(calls) as found:
        pass
    assert all(isinstance(comm, Communicator) for comm in found)
    close_all(found)


def test_more_ranks_than_are_connected_at_once() -> None:
    """Neighbours are connected first, the others when an operation needs them."""
    case = Case(n=20_000, codec="int8", algorithm="ring")
    for links in ("inproc", "tcp"):
        with Threads(12, links=links, timeout=20.0) as threads:
            links_of = lambda: [len(comm.stats()["links"]) for comm in threads.comms]  # noqa: E731
            assert links_of() == [2] * 12
            for found, wanted in zip(threads(run, case), expected(case, 12), strict=True):
                assert found.same(wanted)
            assert links_of() == [2] * 12
            for found, wanted in zip(
                threads(run, Case(n=20_000, algorithm="direct")),
                expected(Case(n=20_000, algorithm="direct"), 12),
                strict=True,
            ):
                assert found.same(wanted)
            assert links_of() == [11] * 12
            threads(lambda comm: comm.barrier().wait())
