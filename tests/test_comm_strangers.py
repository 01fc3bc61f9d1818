"""Who is no member of a group: turned away, at the cost of a socket for a while."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from comm_cases import Case, expected, run
from comm_ranks import MemoryStore, Threads, at_once, close_all, join
from thinwire._comm import Communicator
from thinwire.errors import Timeout, TransportError


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
    close_all(comms)


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
    close_all(comms)


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
    close_all(found)
    assert isinstance(found[1], Timeout | TransportError), found
    comms = waiting.all_join()
    reduce_all(comms)
    close_all(comms)


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
    close_all(comms)


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
