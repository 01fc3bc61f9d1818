"""What a process may do to and learn from its own TCP connections without any privilege (Linux).

Libraries such as Gloo open their connections out of reach, but `/proc/self/fd` lists them, and a duplicate of
a descriptor sets and reads the options of the connection itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

SO_MAX_PACING_RATE = 47
"""Linux's socket option (bytes a second, one socket, one direction); the socket module does not name it."""

_NOT_SENT, _BYTES_SENT, _BYTES_RETRANSMITTED = 144, 200, 208
"""Offsets in `struct tcp_info` (Linux 4.19): what waits in the socket (u32), left it, left it again (u64)."""


def own_connections() -> Iterator[socket.socket]:
    """A duplicate of each of this process's connected TCP sockets; each is closed when the next is taken."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                if _is_connected_tcp(connection):
                    yield connection


def _is_connected_tcp(connection: socket.socket) -> bool:
    if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
        return False
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def connection_ids() -> set[int]:
    """The inode numbers of this process's connections, to tell later which are new."""
    return {os.fstat(connection.fileno()).st_ino for connection in own_connections()}


def pace(connection: socket.socket, rate_bits: int) -> None:
    """Let the kernel send at most `rate_bits` a second on this socket."""
    connection.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, max(1, rate_bits // 8))


def pace_connections(rate_bits: int, known: set[int]) -> None:
    """Pace this process's connections: those in `known` to `rate_bits` each, the others share `rate_bits`.

    A NIC's rate is one for all connections, but a socket's pace is its own. The sharing keeps a hook that
    opens several connections from sending more than one NIC would; it gets less while it uses only one.
    """
    added = len(connection_ids() - known)
    for connection in own_connections():
        is_known = os.fstat(connection.fileno()).st_ino in known
        pace(connection, rate_bits if is_known else rate_bits // added)


def payload_sent() -> int:
    """Bytes of TCP payload that this process has given to its connections so far."""
    total, size = 0, _BYTES_RETRANSMITTED + 8
    for connection in own_connections():
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size)
        if len(info) == size:
            sent, again = struct.unpack_from("=QQ", info, _BYTES_SENT)
            total += sent - again + struct.unpack_from("=I", info, _NOT_SENT)[0]
    return total


def nic_bytes_sent(nic: str) -> int:
    """Bytes, headers included, that `nic` has sent in this network namespace; KeyError for an unknown one."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, colon, counters = line.partition(":")
        if colon and name.strip() == nic:
            return int(counters.split()[8])
    raise KeyError(nic)


def pacing_works(rate_bits: int = 10**8) -> bool:
    """Whether this kernel delays a paced socket: sends an eighth of a second's bytes on loopback."""
    payload = bytes(rate_bits // 8 // 8)
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            sender = stack.enter_context(socket.create_connection(server.getsockname(), timeout=5.0))
            receiver = stack.enter_context(server.accept()[0])
            pace(sender, rate_bits)
            started = time.monotonic()
            _pass(sender, receiver, payload)
        except OSError:
            return False
        return time.monotonic() - started > 0.5 / 8


def _pass(sender: socket.socket, receiver: socket.socket, payload: bytes) -> None:
    """Send and receive `payload` in one thread; an error after five seconds without progress."""
    sender.setblocking(False)
    receiver.settimeout(5.0)
    rest = memoryview(payload)
    taken = 0
    while taken < len(payload):
        with contextlib.suppress(BlockingIOError):
            if rest:
                rest = rest[sender.send(rest) :]
        taken += len(receiver.recv(65536))
