"""Ranks in network namespaces, each with its own full-duplex NIC. Run as a script; `shaped.py` starts it.

    python _netns.py RATE_BITS STATUS_FD RANK_FD,RANK_FD... COMMAND...

The process becomes root of a new user namespace (or, as root where those are off, only enters a new network
namespace), builds a bridge there, and starts one copy of COMMAND for each RANK_FD, which becomes its standard
input and output. Each copy runs in a network namespace of its own, joined to the bridge by a veth pair, and
finds its number in RANK. Both ends of the pair are shaped to RATE_BITS (0: not at all), so that a rank sends
and receives at that rate at the same time, like a machine on a switch. Nothing outside the namespaces
changes, and the kernel removes all of it with the last process.

This file uses the standard library only and is run by its path: `unshare` refuses a process with threads, and
importing NumPy starts some.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

SUBNET = "10.77.0"
NIC = "eth0"
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_COMMAND_LIMIT_S = 10.0


def address(rank: int) -> str:
    """The IPv4 address of a rank inside its namespace."""
    return f"{SUBNET}.{rank + 1}"


def burst_bytes(rate_bits: int) -> int:
    """How much a shaped NIC may send at once: one millisecond of its rate, and at least 16 KiB.

    A larger bucket fills up while a step computes and then lets a well compressed gradient pass unshaped.
    """
    return max(16 * 1024, rate_bits // 8000)


def _libc(call: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), call)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however the parent ends."""
    parent = os.getppid()
    _libc("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request
        sys.exit(1)


def _enter_namespaces() -> None:
    """Become root of a new user namespace with an empty network."""
    uid, gid = os.getuid(), os.getgid()
    try:
        _libc("unshare", _CLONE_NEWUSER | _CLONE_NEWNET)
    except OSError:
        if os.geteuid() != 0:
            raise
        _libc("unshare", _CLONE_NEWNET)
        return
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _run(command: str) -> None:
    words = command.split()
    done = subprocess.run(words, capture_output=True, text=True, timeout=_COMMAND_LIMIT_S, check=False)
    if done.returncode != 0:
        raise OSError(f"'{command}' failed: {done.stderr.strip() or done.stdout.strip()}")


def _shape(device: str, rate_bits: int) -> None:
    if rate_bits:
        burst = burst_bytes(rate_bits)
        _run(f"tc qdisc add dev {device} root tbf rate {rate_bits}bit burst {burst} latency 50ms")


def _become_rank(rank: int, rate_bits: int, ready: int, go: int, command: list[str]) -> NoReturn:
    """Enter an empty network, wait until the switch has plugged in the NIC, bring it up, become COMMAND."""
    _die_with_parent()
    _libc("unshare", _CLONE_NEWNET)
    os.write(ready, b"1")
    if os.read(go, 1) != b"1":
        sys.exit(1)
    _run("ip link set lo up")
    _run(f"ip addr add {address(rank)}/24 dev {NIC}")
    _run(f"ip link set {NIC} up")
    _shape(NIC, rate_bits)
    os.write(ready, b"2")
    os.execvpe(command[0], command, dict(os.environ, RANK=str(rank)))


class _Rank:
    """One rank as the switch sees it: its process and the two pipes of the start-up handshake."""

    def __init__(self, rank: int, rate_bits: int, rank_fds: list[int], command: list[str]) -> None:
        self.rank = rank
        ready_read, ready_write = os.pipe()
        go_read, go_write = os.pipe()
        self._ready, self._go = ready_read, go_write
        self._ended = False
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _use_channel(rank_fds[rank])
                _become_rank(rank, rate_bits, ready_write, go_read, command)
            except BaseException as error:
                print(f"rank {rank}: {error}", file=sys.stderr, flush=True)
                os._exit(1)
        for fd in (ready_write, go_read, rank_fds[rank]):
            os.close(fd)

    def expect(self, stage: bytes) -> None:
        """Wait for the rank's next step of the handshake; its commands have time limits, so this ends."""
        if os.read(self._ready, 1) != stage:
            raise OSError(f"rank {self.rank} ended before its network was up")

    def plug_in(self, rate_bits: int) -> None:
        port = f"port{self.rank}"
        _run(f"ip link add {port} type veth peer name {NIC} netns {self.pid}")
        _run(f"ip link set {port} master switch0 up")
        _shape(port, rate_bits)
        os.write(self._go, b"1")

    def wait(self) -> int:
        """Wait for the rank to end; its exit status."""
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self._ended = True
        return status

    def kill(self) -> None:
        """End and reap the rank, unless `wait` did."""
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()


def _use_channel(fd: int) -> None:
    """Make the rank's socket its standard input and output."""
    os.dup2(fd, 0)
    os.dup2(fd, 1)
    os.close(fd)


def _switch(rate_bits: int, rank_fds: list[int], command: list[str], status: int) -> int:
    """Build the network, run the ranks; returns 0 when all ended with status 0."""
    _enter_namespaces()
    _die_with_parent()  # only here: entering a user namespace clears the request
    _run("ip link set lo up")
    _run("ip link add switch0 type bridge")
    _run("ip link set switch0 up")
    ranks: list[_Rank] = []
    try:
        for rank in range(len(rank_fds)):
            ranks.append(_Rank(rank, rate_bits, rank_fds, command))
        for each in ranks:
            each.expect(b"1")
            each.plug_in(rate_bits)
        for each in ranks:
            each.expect(b"2")
        _report(status, {"pids": [each.pid for each in ranks]})
        statuses = [each.wait() for each in ranks]
        return int(any(statuses))
    finally:
        for each in ranks:
            each.kill()


def _report(status: int, message: dict[str, object]) -> None:
    os.write(status, json.dumps(message).encode() + b"\n")


def main(arguments: list[str]) -> int:
    """See the module's text. Says on STATUS_FD, as one line of JSON, `pids` or `error`."""
    rate_bits, status = int(arguments[0]), int(arguments[1])
    rank_fds = [int(fd) for fd in arguments[2].split(",")]
    for fd in (status, *rank_fds):
        os.set_inheritable(fd, False)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))
    try:
        return _switch(rate_bits, rank_fds, arguments[3:], status)
    except (OSError, subprocess.TimeoutExpired) as error:
        _report(status, {"error": str(error)})
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
