"""Starts ranks on this machine, joined by links of a chosen rate, without root.

`choose_link` picks how: network namespaces with shaped NICs; where those are refused, sockets that the kernel
paces; or unshaped loopback, when that was asked for. `Ranks` runs one command per rank and exchanges lines of
JSON with each. No torch here.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from thinwire.cli import _netns
from thinwire.cli._sockets import pacing_works

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0
_LOG_TAIL_LINES = 12


class LinkError(RuntimeError):
    """A shaped link cannot be made here; the text names the setting to change."""


class RankFailed(RuntimeError):
    """A rank ended, or said nothing within the time limit; the text holds the end of its log."""


@dataclass(frozen=True)
class Link:
    """How ranks are joined: `kind` is namespaces, pacing, loopback or network; `rate_bits` 0: unshaped."""

    kind: str
    rate_bits: int

    def describe(self) -> str:
        """One sentence for a table's head."""
        rate = format_rate(self.rate_bits)
        return {
            "namespaces": f"Each rank in its own network namespace, its NIC shaped to {rate} each way.",
            "pacing": f"Network namespaces are refused here; each rank's sockets are paced to {rate}.",
            "loopback": "Unshaped: the ranks share loopback, so communication costs next to nothing.",
            "network": "The ranks and the network that torchrun was given; nothing is shaped.",
        }[self.kind]


def parse_rate(text: str) -> int:
    """Bits a second from `100mbit`, `1gbit`, `250M` or a plain number; ValueError otherwise."""
    stripped = text.strip().lower()
    for suffix in ("bit/s", "bps", "bit"):
        stripped = stripped.removesuffix(suffix)
    unit = stripped[-1:] if stripped[-1:] in ("k", "m", "g") else ""
    try:
        rate = round(float(stripped.removesuffix(unit).strip()) * _UNITS[unit])
    except (ValueError, OverflowError):
        rate = 0
    if rate < 1000:
        raise ValueError(f"'{text}' is not a rate of at least 1 kbit/s; write 100mbit or 1gbit")
    return rate


def format_rate(rate_bits: int) -> str:
    """`100 Mbit/s` from 100000000."""
    for unit, size in (("Gbit/s", 10**9), ("Mbit/s", 10**6), ("kbit/s", 10**3)):
        if rate_bits >= size:
            return f"{rate_bits / size:g} {unit}"
    return f"{rate_bits} bit/s"


def choose_link(rate_bits: int, unshaped: bool = False) -> Link:
    """The best link this machine allows at `rate_bits`; LinkError says what to change where there is none."""
    if unshaped:
        return Link("loopback", 0)
    refusal = namespaces_refused()
    if refusal is None:
        return Link("namespaces", rate_bits)
    if pacing_works():
        return Link("pacing", rate_bits)
    raise LinkError(
        f"{refusal} Paced sockets do not work here either. To run without a thin link: --unshaped"
    )


def namespaces_refused() -> str | None:
    """None where ranks can have shaped network namespaces; else why not, and the setting to change."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return (
                f"'{tool}' is not installed; it comes with the package iproute2 (dnf: iproute, iproute-tc)."
            )
    try:
        with Ranks([sys.executable, "-I", "-c", "pass"], 1, Link("namespaces", 10**8)) as ranks:
            ranks.wait(_START_LIMIT_S)
    except RankFailed as failure:
        return f"Network namespaces are refused ({failure}). {_setting_to_change()}"
    return None


def _setting_to_change() -> str:
    """The sentence that names the kernel setting, or else the container's, that stands in the way."""
    for name, refusing in (
        ("kernel.unprivileged_userns_clone", "0"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1"),
        ("user.max_user_namespaces", "0"),
        ("user.max_net_namespaces", "0"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", *name.split(".")).read_text().strip() == refusing:
                allowing = {"0": "1", "1": "0"}[refusing] if name.startswith("kernel") else "1000"
                return f"Allow them with: sudo sysctl -w {name}={allowing}"
    return (
        "In a container, start it with a seccomp profile that allows 'unshare' (Docker: --cap-add SYS_ADMIN)."
    )


class Ranks:
    """`count` copies of one command, joined by `link`, that read and write lines of JSON on standard streams.

    A copy finds RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT and GLOO_SOCKET_IFNAME in its
    environment, as under torchrun, besides `environment`. Standard error goes to a file whose end is part of
    every RankFailed. Leaving the `with` block, or `close`, ends all processes and with them the namespaces.
    """

    def __init__(
        self, command: list[str], count: int, link: Link, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)
        self._pids: list[int] = []
        self._children: list[subprocess.Popen[bytes]] = []
        pairs = [socket.socketpair() for _ in range(count)]
        self._channels = [parent for parent, _ in pairs]
        self._readers: list[BinaryIO] = [channel.makefile("rb") for channel in self._channels]
        self._selector = selectors.DefaultSelector()
        for rank, channel in enumerate(self._channels):
            self._selector.register(channel, selectors.EVENT_READ, rank)
        ends = [child for _, child in pairs]
        variables = {**os.environ, **(environment or {}), "WORLD_SIZE": str(count), "LOCAL_RANK": "0"}
        try:
            if link.kind == "namespaces":
                self._start_namespaces(command, link, ends, variables)
            else:
                self._start_on_loopback(command, ends, variables)
        except BaseException:
            self.close()
            raise
        finally:
            for end in ends:
                end.close()

    def _start_namespaces(
        self, command: list[str], link: Link, ends: list[socket.socket], variables: dict[str, str]
    ) -> None:
        status_read, status_write = os.pipe()
        fds = [end.fileno() for end in ends]
        arguments = [str(link.rate_bits), str(status_write), ",".join(map(str, fds)), *command]
        variables |= {
            "MASTER_ADDR": _netns.address(0),
            "MASTER_PORT": "29500",
            "GLOO_SOCKET_IFNAME": _netns.NIC,
        }
        with os.fdopen(status_read, "rb", buffering=0) as status:
            try:
                self._spawn(
                    [sys.executable, "-I", _netns.__file__, *arguments], variables, (status_write, *fds)
                )
            finally:
                os.close(status_write)
            answer = _read_line(status, _START_LIMIT_S)
        message: dict[str, Any] = json.loads(answer) if answer else {"error": "no answer"}
        if "error" in message:
            raise self._failure(message["error"])
        self._pids = message["pids"]

    def _start_on_loopback(
        self, command: list[str], ends: list[socket.socket], variables: dict[str, str]
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
        for rank, end in enumerate(ends):
            self._spawn(command, {**variables, "RANK": str(rank)}, (), end)
        self._pids = [child.pid for child in self._children]

    def _spawn(
        self,
        command: list[str],
        variables: dict[str, str],
        pass_fds: tuple[int, ...],
        channel: socket.socket | None = None,
    ) -> None:
        """Start a child in a session of its own: Ctrl-C reaches this process only; `close` ends the child."""
        stream = subprocess.DEVNULL if channel is None else channel.fileno()
        child = subprocess.Popen(
            command,
            stdin=stream,
            stdout=stream,
            stderr=self._log,
            env=variables,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        self._children.append(child)

    @property
    def pids(self) -> list[int]:
        """Process numbers in rank order."""
        return list(self._pids)

    def send(self, message: Mapping[str, Any]) -> None:
        """One line of JSON to every rank; RankFailed when one is gone."""
        line = json.dumps(message).encode() + b"\n"
        for rank, channel in enumerate(self._channels):
            try:
                channel.sendall(line)
            except OSError:
                raise self._failure(f"rank {rank} ended") from None

    def receive(self, limit_s: float) -> tuple[int, dict[str, Any]]:
        """The next message of any rank, as (rank, message); RankFailed after `limit_s` seconds of silence."""
        ready = self._selector.select(limit_s)
        if not ready:
            raise self._failure(f"no rank said anything for {limit_s:g} s")
        rank: int = ready[0][0].data
        line = self._readers[rank].readline()
        if not line:
            raise self._failure(f"rank {rank} ended")
        return rank, json.loads(line)

    def wait(self, limit_s: float) -> None:
        """Wait until every process has ended ; RankFailed when one is late or its status is not 0."""
        deadline = time.monotonic() + limit_s
        for child in self._children:
            try:
                status = child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise self._failure(f"still running after {limit_s:g} s") from None
            if status != 0:
                raise self._failure(f"exit status {status}")

    def close(self) -> None:
        """End all processes, first gently: the switch then ends its ranks. Safe to call twice."""
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_LIMIT_S
        for child in self._children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for reader in self._readers:
            reader.close()
        for channel in self._channels:
            channel.close()
        self._selector.close()
        self._log.close()

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _failure(self, what: str) -> RankFailed:
        tail = self._tail()
        return RankFailed(f"{what}; the end of its log:\n{tail}" if tail else what)

    def _tail(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])


def _read_line(stream: BinaryIO, limit_s: float) -> bytes:
    """What `stream` says within `limit_s` seconds, up to its end."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(limit_s) else b""
