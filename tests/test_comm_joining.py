"""Who joins a communicator, who does not, and ranks that were told different things."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comm_cases import Case, expected, run
from comm_ranks import MemoryStore, Threads, at_once
from thinwire import _membership
from thinwire._comm import Communicator
from thinwire.errors import Error, InvalidArgument, Timeout, TransportError

QUICK = 3.0
"""Seconds within which a disagreement must be told."""


def join(*ranks: dict[str, Any], store: Any = None, **common: Any) -> list[Any]:
    """Make a communicator in a thread for each rank; return them, or what they raised."""
    store = store or MemoryStore()
    calls = []
    for rank, own in enumerate(ranks):
        options = {"world_size": len(ranks), "timeout": 10.0, "links": "tcp", **common, **own}
        calls.append(lambda rank=rank, options=options: Communicator(store, rank, **options))
    with at_once(calls) as found:
        return found


def close(comms: Sequence[Any]) -> None:
    """Close those that were made, together."""
    made = [comm for comm in comms if isinstance(comm, Communicator)]
    with at_once([comm.close for comm in made] or [lambda: None]):
        pass


def all_raise(found: Sequence[Any], kind: type[Error], *words: str) -> None:
    """Check that every rank raised the same kind, with all the words."""
    close(found)
    for outcome in found:
        assert isinstance(outcome, kind), found
        for word in words:
            assert word in str(outcome), (word, str(outcome))


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
    close(found)
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
    close(found)
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
    close(found)


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
    close(comms)
    begin = time.monotonic()
    with pytest.raises(Timeout, match="rank 1 has not joined"):
        Communicator(stores[0], 0, 2, timeout=0.5, group="alone")
    assert time.monotonic() - begin < 3


def test_no_store() -> None:
    with pytest.raises(InvalidArgument, match=r"without set\(\)"):
        Communicator({}, 0, 1)


def test_a_group_name_is_for_one_communicator() -> None:
    store = MemoryStore()
    close(join({}, {}, store=store))
    with pytest.raises(InvalidArgument, match=r"was used before in this store.*group="):
        Communicator(store, 0, 2, timeout=2.0)
    both = [join({}, {}, store=store, group=name) for name in ("a", "b")]
    for comms in both:
        assert all(isinstance(comm, Communicator) for comm in comms), comms
    for comms in both:
        close(comms)


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


def test_inproc_is_for_one_process() -> None:
    store = MemoryStore()
    calls: list[Callable[[], Any]] = [
        lambda rank=rank: Communicator(store, rank, 2, "inproc", timeout=3.0) for rank in range(2)
    ]
    with at_once(calls) as found:
        pass
    assert all(isinstance(comm, Communicator) for comm in found)
    close(found)


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


# --- told different things in a call


Call = Callable[[Communicator, np.ndarray], Any]


@pytest.mark.parametrize("links", ["inproc", "tcp"])
@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (lambda c, x: c.all_reduce(x), lambda c, x: c.all_reduce(x[1:]), ("3000 float32", "2999 float32")),
        (
            lambda c, x: c.all_reduce(x),
            lambda c, x: c.all_reduce(x.astype(np.float16)),
            ("float32", "float16"),
        ),
        (
            lambda c, x: c.all_reduce(x, codec="int8"),
            lambda c, x: c.all_reduce(x, codec="int4"),
            ("int8", "int4"),
        ),
        (
            lambda c, x: c.all_reduce(x, codec="int8"),
            lambda c, x: c.all_reduce(x, codec="int8:block=64"),
            ("256", "64"),
        ),
        (lambda c, x: c.all_reduce(x, op="max"), lambda c, x: c.all_reduce(x), ("max", "sum")),
        (lambda c, x: c.all_reduce(x, op="mean"), lambda c, x: c.all_reduce(x), ("mean", "sum")),
        (
            lambda c, x: c.all_reduce(x, algorithm="ring"),
            lambda c, x: c.all_reduce(x, algorithm="direct"),
            ("ring", "direct"),
        ),
        (lambda c, x: c.all_reduce(x), lambda c, x: c.all_reduce(x, weight=0.5), ("sum", "weighted sum")),
        (lambda c, x: c.all_reduce(x), lambda c, x: c.reduce_scatter(x), ("all_reduce", "reduce_scatter")),
        (lambda c, x: c.all_gather(x), lambda c, x: c.all_to_all(x), ("all_gather", "all_to_all")),
        (lambda c, x: c.barrier(), lambda c, x: c.all_reduce(x), ("barrier", "all_reduce")),
    ],
)
def test_ranks_that_disagree(one: Call, other: Call, words: Sequence[str], links: str) -> None:
    """All of them hear both views, and the next call works."""
    for size, odd in ((2, 1), (3, 0)):

        def call(comm: Communicator, odd: int = odd) -> None:
            (other if comm.rank == odd else one)(comm, np.ones(3000, np.float32)).wait()

        with Threads(size, links=links, deadline=20.0) as threads:
            for _ in range(2):
                begin = time.monotonic()
                found = threads.outcomes(call)
                assert time.monotonic() - begin < QUICK
                for outcome in found:
                    assert isinstance(outcome, InvalidArgument), found
                    assert "ranks disagree: rank" in str(outcome)
                    for word in words:
                        assert word in str(outcome), (word, str(outcome))
                wanted = expected(Case(n=500), size)
                for good, right in zip(threads(run, Case(n=500)), wanted, strict=True):
                    assert good.same(right)


def test_calls_in_different_orders() -> None:
    def call(comm: Communicator) -> None:
        sizes = (10, 20_000) if comm.rank else (20_000, 10)
        works = [comm.all_reduce(np.ones(n, np.float32)) for n in sizes]
        for work in works:
            with pytest.raises(InvalidArgument, match="ranks disagree"):
                work.wait()

    with Threads(2, links="inproc", deadline=20.0) as threads:
        threads(call)
        threads(lambda comm: comm.barrier().wait())


@pytest.mark.parametrize("algorithm", ["direct", "ring", "doubling"])
def test_weights_that_do_not_add_up_to_one(algorithm: str) -> None:
    def call(comm: Communicator) -> None:
        comm.all_reduce(np.ones(5000, np.float32), weight=0.5, algorithm=algorithm).wait()

    with Threads(3, links="inproc") as threads:
        for _ in range(2):
            for outcome in threads.outcomes(call):
                assert isinstance(outcome, InvalidArgument)
                assert "must add up to 1, not 1.5" in str(outcome)
        threads(run, Case(n=500))


# --- strangers


def _hello(port: int, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.sendall(data)
    return connection


def _knock(port: int, seed: int, stop: threading.Event) -> int:
    """Send random bytes on one connection after another until told to stop."""
    random, count = np.random.default_rng(seed), 0
    while not stop.is_set():
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), timeout=1) as knocker,
        ):
            knocker.settimeout(0.05)
            knocker.sendall(random.bytes(int(random.integers(1, 4000))))
            if random.random() < 0.5:
                knocker.recv(1000)
        count += 1
    return count


class _Waiting:
    """Rank 0 of `size` that has not been joined by the others yet, and its port."""

    def __init__(self, size: int, **options: Any) -> None:
        self.store, self.size, self.options = MemoryStore(), size, {"timeout": 20.0, "links": "tcp"} | options
        self.pool = threading.Thread(target=self._join, daemon=True)
        self.first: Any = None
        self.pool.start()
        self.store.wait(["thinwire/default/1/0"], timedelta(seconds=10))
        self.port = int(json.loads(self.store.get("thinwire/default/1/0"))["message"]["port"])

    def _join(self) -> None:
        self.first = Communicator(self.store, 0, self.size, **self.options)

    def all_join(self) -> list[Communicator]:
        calls = [
            lambda rank=rank: Communicator(self.store, rank, self.size, **self.options)
            for rank in range(1, self.size)
        ]
        with at_once(calls) as others:
            self.pool.join(20)
        return [self.first, *others]


def reduce_all(comms: list[Communicator]) -> None:
    """Make some all-reduces, and compare them."""
    case = Case(n=50_000, codec="int8")
    wanted = expected(case, len(comms))
    with at_once([lambda comm=comm: run(comm, case) for comm in comms]) as found:
        for outcome, right in zip(found, wanted, strict=True):
            assert outcome.same(right)


@pytest.mark.parametrize("secret", [None, "word"])
@pytest.mark.parametrize("data", [b"", b"\x00", b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"TWHELLO" * 30])
def test_a_stranger_before_all_have_joined(data: bytes, secret: str | None) -> None:
    waiting = _Waiting(3, secret=secret)
    strangers = [_hello(waiting.port, data) for _ in range(3)]
    comms = waiting.all_join()
    assert all(isinstance(comm, Communicator) for comm in comms), comms
    reduce_all(comms)
    for stranger in strangers:
        stranger.close()
    close(comms)


def test_a_stranger_is_told_in_the_events(caplog: pytest.LogCaptureFixture) -> None:
    waiting = _Waiting(2)
    with _hello(waiting.port, b"GET / HTTP/1.1\r\n\r\n" * 20) as stranger:
        comms_later = threading.Event()

        def late() -> list[Communicator]:
            comms_later.wait(10)
            return waiting.all_join()

        with contextlib.suppress(OSError):
            stranger.settimeout(0.3)
            stranger.recv(1)
        comms_later.set()
        comms = late()
    reduce_all(comms)
    with caplog.at_level("WARNING", logger="thinwire.comm"):
        comms[0].stats()
    assert "turned away" in caplog.text
    close(comms)


def test_a_rank_of_another_group() -> None:
    """It finds a port where its peer was, and is not taken for the peer."""
    waiting = _Waiting(2)

    class Wrong(MemoryStore):
        def set(self, key: str, value: str) -> None:
            message = json.loads(value)
            if key.endswith("/1/0"):
                message["message"]["port"] = waiting.port
            super().set(key, json.dumps(message))

    found = join({}, {}, store=Wrong(), timeout=1.0, group="default")
    close(found)
    assert isinstance(found[1], Timeout | TransportError), found
    comms = waiting.all_join()
    reduce_all(comms)
    close(comms)


def test_fifty_strangers_at_once() -> None:
    waiting = _Waiting(3)
    strangers = []
    for _ in range(50):
        with contextlib.suppress(OSError):
            strangers.append(_hello(waiting.port, b""))
    begin = time.monotonic()
    comms = waiting.all_join()
    assert all(isinstance(comm, Communicator) for comm in comms), comms
    assert time.monotonic() - begin < 15
    reduce_all(comms)
    for stranger in strangers:
        stranger.close()
    close(comms)


@pytest.mark.parametrize(
    "seconds", [pytest.param(1.0, id="short"), pytest.param(60.0, id="long", marks=pytest.mark.torture)]
)
def test_random_bytes_while_all_reduces_run(seconds: float) -> None:
    """With more ranks than are connected at once the doors stay open."""
    stop = threading.Event()
    with Threads(10, links="tcp", timeout=20.0) as threads:
        ports = {port for comm in threads.comms for port in [comm.stats().get("port")] if port}
        if not ports:
            ports = set(_listening_ports())
        assert ports
        knockers = [threading.Thread(target=_knock, args=(port, port, stop)) for port in sorted(ports)[:4]]
        for knocker in knockers:
            knocker.start()
        case = Case(n=30_000, algorithm="ring", codec="int8")
        wanted = expected(case, 10)
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                for found, right in zip(threads(run, case), wanted, strict=True):
                    assert found.same(right)
        finally:
            stop.set()
            for knocker in knockers:
                knocker.join(20)
        reduce_all(threads.comms)


def _listening_ports() -> list[int]:
    """Return the TCP ports that this process listens on."""
    inodes = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    ports = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.append(int(fields[1].rsplit(":", 1)[1], 16))
    return sorted(ports)


# --- idle


def test_waiting_costs_nothing() -> None:
    seconds = 3.0
    with Threads(2, links="shm") as shared, Threads(2, links="tcp", timeout=30.0) as remote:
        comms = [*shared.comms, *remote.comms]
        for comm in comms:
            comm.stats()
        before = [comm.stats()["busy_seconds"] for comm in comms]
        time.sleep(seconds)
        after = [comm.stats()["busy_seconds"] for comm in comms]
    for begin, end in zip(before, after, strict=True):
        assert end - begin < 0.001 * seconds
