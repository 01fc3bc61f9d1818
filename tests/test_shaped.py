"""Ranks on shaped links: rates, namespaces, paced sockets, and that nothing is left of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from thinwire.cli import _netns, _shaped, _sockets
from thinwire.cli._shaped import Link, RankFailed, Ranks

LOOPBACK = Link("loopback", 0)
RATE = 10**8

# A rank that answers what it is asked: an expression, evaluated where `os` and `transfer` are known.
ANSWERING = textwrap.dedent(
    """
    import json, os, socket, sys, threading, time

    def transfer(count):
        "Send and receive `count` bytes at once; seconds until both are through."
        rank = int(os.environ["RANK"])
        server = socket.create_server(("", 5000 + rank))
        print("1", flush=True)
        sys.stdin.readline()
        sender = socket.create_connection((f"10.77.0.{2 - rank}", 5001 - rank))
        receiver, _ = server.accept()
        started = time.monotonic()
        sending = threading.Thread(target=sender.sendall, args=(bytes(count),))
        sending.start()
        left = count
        while left:
            left -= len(receiver.recv(65536))
        sending.join()
        return time.monotonic() - started

    for line in sys.stdin:
        print(json.dumps(eval(json.loads(line)["ask"])), flush=True)
    """
)
COMMAND = [sys.executable, "-c", ANSWERING]


@pytest.fixture(scope="module")
def namespaces(namespaces_allowed: None) -> Link:
    return Link("namespaces", RATE)


def ask(ranks: Ranks, expression: str, count: int = 2) -> list[Any]:
    """The answers of all ranks, in rank order."""
    ranks.send({"ask": expression})
    answers = dict(ranks.receive(20.0) for _ in range(count))
    return [answers[rank] for rank in range(count)]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 5
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"{pids} still run"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100mbit", 10**8),
        ("1gbit", 10**9),
        ("250M", 25 * 10**7),
        ("1.5 Gbit/s", 15 * 10**8),
        ("64000", 64000),
    ],
)
def test_rates_are_read(text: str, rate: int) -> None:
    assert _shaped.parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "fast", "-3mbit", "0", "infgbit", "nanmbit", "100 MB"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write 100mbit or 1gbit"):
        _shaped.parse_rate(text)


def test_rates_are_written() -> None:
    assert [_shaped.format_rate(rate) for rate in (10**8, 10**9, 1500, 5)] == [
        "100 Mbit/s",
        "1 Gbit/s",
        "1.5 kbit/s",
        "5 bit/s",
    ]


def test_unshaped_is_loopback() -> None:
    assert _shaped.choose_link(RATE, unshaped=True) == LOOPBACK


def test_a_shaped_nic_hides_no_burst_that_a_compressed_step_would_fit_into() -> None:
    assert _netns.burst_bytes(10**8) == 16 * 1024
    assert _netns.burst_bytes(10**9) == 125_000


def test_ranks_know_their_place_and_answer() -> None:
    with Ranks(COMMAND, 2, LOOPBACK, {"EXTRA": "x"}) as ranks:
        keys = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "GLOO_SOCKET_IFNAME", "EXTRA")
        answers = ask(ranks, f"[os.environ[key] for key in {keys}]")
        ports = ask(ranks, "os.environ['MASTER_PORT']")
    assert answers == [[str(rank), "2", "0", "127.0.0.1", "lo", "x"] for rank in range(2)]
    assert ports[0] == ports[1]


@pytest.mark.parametrize("kind", ["loopback", "namespaces"])
def test_a_rank_that_ends_is_reported_with_its_last_words(kind: str, request: pytest.FixtureRequest) -> None:
    link = LOOPBACK if kind == "loopback" else request.getfixturevalue("namespaces")
    with Ranks([sys.executable, "-c", "raise SystemExit('out of luck')"], 2, link) as ranks:
        with pytest.raises(RankFailed, match=r"rank \d ended(.|\n)*out of luck"):
            ranks.receive(20.0)
        with pytest.raises(RankFailed, match="exit status"):
            ranks.wait(20.0)


def test_silence_has_a_limit_and_closing_ends_the_ranks() -> None:
    with Ranks([sys.executable, "-c", "import time; time.sleep(60)"], 2, LOOPBACK) as ranks:
        pids = ranks.pids
        with pytest.raises(RankFailed, match=r"no rank said anything for 0\.1 s"):
            ranks.receive(0.1)
        with pytest.raises(RankFailed, match=r"still running after 0\.1 s"):
            ranks.wait(0.1)
    wait_until_gone(pids)


def test_each_rank_has_its_own_shaped_nic_both_ways_at_once(namespaces: Link) -> None:
    count = RATE // 8 // 5  # a fifth of a second
    with Ranks(COMMAND, 2, namespaces) as ranks:
        namespace = ask(ranks, "os.readlink('/proc/self/ns/net')")
        assert len({*namespace, str(Path("/proc/self/ns/net").readlink())}) == 3
        ranks.send({"ask": f"transfer({count})"})
        for _ in range(2):
            ranks.receive(20.0)
        ranks.send({})
        seconds = [ranks.receive(20.0)[1] for _ in range(2)]
    assert all(0.19 < each < 1.0 for each in seconds), seconds


def test_closing_ends_the_ranks_in_namespaces(namespaces: Link) -> None:
    with Ranks(COMMAND, 2, namespaces) as ranks:
        pids = ranks.pids
        assert ask(ranks, "os.getpid()") == pids
    wait_until_gone(pids)


def test_the_ranks_in_namespaces_die_with_the_process_that_started_them(namespaces: Link) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        from thinwire.cli._shaped import Link, Ranks
        ranks = Ranks([sys.executable, "-c", "import time; time.sleep(60)"], 2, Link("namespaces", 10**8))
        print(*ranks.pids, flush=True)
        time.sleep(60)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pids = [int(word) for word in starter.stdout.readline().split()]
        assert len(pids) == 2
        starter.send_signal(signal.SIGKILL)
    wait_until_gone(pids)


def test_a_refusal_names_the_setting(namespaces: Link) -> None:
    script = (
        "from pathlib import Path; Path('/proc/sys/user/max_net_namespaces').write_text('0');"
        "from thinwire.cli._shaped import namespaces_refused; print(namespaces_refused())"
    )
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("needs the command unshare")
    command = [unshare, "--user", "--map-root-user", sys.executable, "-c", script]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "sudo sysctl -w user.max_net_namespaces=" in said


def test_without_the_tools_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    refusal = _shaped.namespaces_refused()
    assert refusal is not None
    assert "iproute2" in refusal


def test_where_nothing_works_the_error_offers_unshaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shaped, "namespaces_refused", lambda: "Refused.")
    monkeypatch.setattr(_shaped, "pacing_works", lambda: True)
    assert _shaped.choose_link(RATE) == Link("pacing", RATE)
    monkeypatch.setattr(_shaped, "pacing_works", lambda: False)
    with pytest.raises(_shaped.LinkError, match=r"Refused\.(.|\n)*--unshaped"):
        _shaped.choose_link(RATE)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as sender,
        server.accept()[0] as receiver,
    ):
        yield sender, receiver


def drain(receiver: socket.socket, count: int) -> float:
    started = time.monotonic()
    while count:
        count -= len(receiver.recv(65536))
    return time.monotonic() - started


def test_own_connections_are_found_and_paced(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    ids = _sockets.connection_ids()
    assert {os.fstat(end.fileno()).st_ino for end in pair} <= ids
    if not _sockets.pacing_works():
        pytest.skip("this kernel does not pace sockets")
    _sockets.pace_connections(RATE, ids - {os.fstat(end.fileno()).st_ino for end in pair})
    rate = sender.getsockopt(socket.SOL_SOCKET, _sockets.SO_MAX_PACING_RATE)
    assert rate == RATE // 8 // 2, "two new connections share the rate"
    count = RATE // 8 // 10
    sending = threading.Thread(target=sender.sendall, args=(bytes(count),))
    sending.start()
    seconds = drain(receiver, count)
    sending.join()
    assert seconds > 0.1, "a tenth of a second's bytes at half the rate"


def test_payload_is_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = pair
    before = _sockets.payload_sent()
    sender.sendall(bytes(100_000))
    assert _sockets.payload_sent() - before == 100_000
    drain(receiver, 100_000)
    assert _sockets.payload_sent() - before == 100_000


def test_payload_that_waits_in_the_socket_is_counted(pair: tuple[socket.socket, socket.socket]) -> None:
    sender, _ = pair
    before = _sockets.payload_sent()
    sender.setblocking(False)
    given = 0
    with contextlib.suppress(BlockingIOError):
        while given < 1 << 30:
            given += sender.send(bytes(1 << 20))
    assert _sockets.payload_sent() - before == given


def test_a_nic_is_counted_and_an_unknown_one_refused() -> None:
    assert _sockets.nic_bytes_sent("lo") >= 0
    with pytest.raises(KeyError):
        _sockets.nic_bytes_sent("no-such-nic")
