"""How the ranks of a communicator become a group: options, addresses, which links join them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinwire import _core
from thinwire._rendezvous import Rendezvous, require_equal
from thinwire._version import __version__
from thinwire.errors import InvalidArgument, Timeout

LINKS = ("auto", "tcp", "shm", "inproc")
FULL_MESH = 8
"""Up to this many ranks every pair is connected at once; beyond, neighbours are, and others when needed."""


@dataclass(frozen=True)
class Options:
    """How a rank is connected. None stands for the environment variable, then for the default.

    See `thinwire.Communicator`, which documents each.
    """

    links: str = "auto"
    secret: str | bytes | None = None
    tls: bool | dict[str, str] = False
    interface: str | None = None
    ports: str | None = None
    sockets: int | None = None
    congestion: str = ""
    pacing: int = 0
    site: str | None = None
    cuda_ipc: bool = True

    def network(self, timeout: float) -> _core.NetworkOptions:
        """Return the native form. Raises InvalidArgument for what cannot be."""
        env = _core.environment()
        if self.links not in LINKS:
            raise InvalidArgument(f"links is {self.links!r}; it must be one of {', '.join(LINKS)}")
        files = self.tls if isinstance(self.tls, dict) else {}
        if unknown := set(files) - {"certificate", "key", "authority"}:
            raise InvalidArgument(
                f"tls has {sorted(unknown)}; it takes certificate, key and authority (PEM files)"
            )
        return _core.NetworkOptions(
            interfaces=[name for name in (self.interface or env["interface"]).split(",") if name],
            ports=_port_range(self.ports or env["ports"]),
            sockets=self.socket_count,
            congestion=self.congestion,
            pacing=self.pacing,
            secret=self.secret_bytes,
            tls=bool(self.tls),
            certificate=files.get("certificate", ""),
            key=files.get("key", ""),
            authority=files.get("authority", ""),
            timeout=timeout,
        )

    @property
    def secret_bytes(self) -> bytes:
        """The secret, or nothing."""
        secret = self.secret if self.secret is not None else _core.environment()["secret"]
        if not isinstance(secret, (str, bytes, bytearray)):
            raise InvalidArgument(f"secret is a {type(secret).__name__}; pass text or bytes")
        return secret.encode() if isinstance(secret, str) else bytes(secret)

    @property
    def socket_count(self) -> int:
        """How many TCP connections join two ranks."""
        return _positive("sockets", self.sockets or _core.environment()["sockets"] or 1)

    @property
    def site_label(self) -> str:
        """Where this rank is."""
        return self.site or _core.environment()["site"] or host_identity()


def join(
    rank: _core.Rank, store: Any, group: str, number: int, size: int, timeout: float, options: Options
) -> tuple[dict[str, Any], int]:
    """Find the other ranks and connect to them. Collective.

    Returns what was agreed on, and the group's number. Raises InvalidArgument on all ranks where they were
    told different things, Timeout naming who did not come.
    """
    meeting = Rendezvous(store, group, number, size, timeout)
    address = rank.address
    mine = {
        "told": {
            "world size": size,
            "thinwire": __version__,
            "wire version": _core.WIRE_VERSION,
            "links": options.links,
            "secret": bool(options.secret_bytes),
            "tls": bool(options.tls),
            "sockets": options.socket_count,
        },
        "hosts": address.hosts,
        "port": address.port,
        "local_name": address.local_name,
        "token": str(address.token),
        "host": host_identity(),
        "user": os.getuid(),
        "process": f"{os.getpid()}@{process_identity()}",
        "site": options.site_label,
    }
    all_ranks = meeting.meet(mine, "joined the communicator")
    require_equal("the communicator", [other["told"] for other in all_ranks])
    kinds = [link_kind(options.links, mine, other, number, peer) for peer, other in enumerate(all_ranks)]
    sites = [other["site"] for other in all_ranks]
    peers = [
        _core.PeerAddress(other["hosts"], other["port"], other["local_name"], int(other["token"]))
        for other in all_ranks
    ]
    number_of_group = group_number(all_ranks)
    rank.join(number_of_group, peers, kinds, neighbours(number, size), [sites.index(s) for s in sites])
    if not rank.wait_connected(timeout):
        missing = ", ".join(map(str, rank.unconnected()))
        raise Timeout(f"no connection to rank {missing} within {timeout:g} s (timeout)")
    return {"links": kinds, "sites": sites}, number_of_group


def neighbours(rank: int, size: int) -> list[int]:
    """Return the ranks that `rank` connects to at once."""
    if size <= FULL_MESH:
        return [peer for peer in range(size) if peer != rank]
    return sorted({(rank - 1) % size, (rank + 1) % size})


def link_kind(links: str, mine: dict[str, Any], other: dict[str, Any], rank: int, peer: int) -> str:
    """Return how two ranks reach each other: the same on both sides."""
    if links == "tcp" or rank == peer:
        return "tcp"
    same_process = mine["process"] == other["process"]
    same_host = (mine["host"], mine["user"]) == (other["host"], other["user"])
    if links == "inproc" and not same_process:
        raise InvalidArgument(f"links='inproc' is for ranks that are threads; rank {peer} is another process")
    if links == "shm" and not same_host:
        raise InvalidArgument(f"links='shm' is for ranks of one user on one host; rank {peer} is elsewhere")
    if links == "inproc" or (links == "auto" and same_process):
        return "inproc"
    return "shm" if same_host else "tcp"


def group_number(all_ranks: Sequence[dict[str, Any]]) -> int:
    """Return the number in every frame of the group, which no other group has."""
    text = json.dumps([[other["process"], other["token"]] for other in all_ranks])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def host_identity() -> str:
    """Return what two ranks share only if they run on one host, in one network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{_namespace('net')}"


def process_identity() -> str:
    """Return what tells processes of equal numbers apart."""
    return f"{host_identity()}/{_namespace('pid')}"


def _namespace(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")  # noqa: PTH115 (the target is no path)


def _port_range(text: str) -> tuple[int, int]:
    if not text:
        return 0, 0
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < low <= high < 65536:
        raise InvalidArgument(f"the ports are {text!r}; write first-last, as 40000-40100")
    return low, high


def _positive(name: str, value: Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if not 1 <= number <= 64:
        raise InvalidArgument(f"{name} is {value!r}; it must be a number from 1 to 64")
    return number
