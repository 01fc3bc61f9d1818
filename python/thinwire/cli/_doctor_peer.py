"""`thinwire doctor --listen` and `--peer`: finds the other doctors, measures with them, prints the report."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator
from typing import Any

from thinwire import Communicator
from thinwire.cli import _peer, _peer_store
from thinwire.cli._prediction import parse_count
from thinwire.errors import InvalidArgument, Timeout

TORCHRUN = ""
"""The value of --peer without a host: the ranks are torchrun's."""
_JOIN_LIMIT_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of a look at a link."""
    group = parser.add_argument_group("the link to another machine")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--listen", action="store_true", help="wait for the other machine's --peer")
    which.add_argument(
        "--peer",
        nargs="?",
        const=TORCHRUN,
        metavar="HOST[:PORT]",
        help="measure the link to the machine that listens; without HOST: to all of torchrun's ranks",
    )
    group.add_argument(
        "--port", type=_port, default=_peer_store.DEFAULT_PORT, help="where to listen (default: %(default)s)"
    )
    group.add_argument(
        "--links",
        choices=("auto", "tcp", "shm"),
        default="auto",
        help="auto (the default) takes shared memory on one machine; both sides must say the same",
    )
    group.add_argument(
        "--params", type=_count, metavar="N", help="predict the step of a model, as 124M or 1.5B"
    )
    group.add_argument(
        "--backward-ms",
        type=_positive,
        metavar="MS",
        help="how long its backward pass takes, to be overlapped",
    )


def _count(text: str) -> int:
    try:
        return parse_count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of milliseconds above 0")
    return value


def _port(text: str) -> int:
    if not (text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"'{text}' is not a port: a number up to 65535")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Measures with the other ranks and prints the report."""
    with _meeting(args) as (store, rank, world_size, group):
        silent = args.peer == TORCHRUN and rank != 0
        try:
            communicator = Communicator(
                store, rank, world_size, args.links, timeout=_JOIN_LIMIT_S, group=group
            )
        except Timeout as error:
            raise Timeout(
                f"{error}. If a firewall is between them: set THINWIRE_PORTS=40000-40100 on all machines and "
                "let it pass these ports (sudo ufw allow 40000:40100/tcp). With several networks, set "
                "THINWIRE_IFACE"
            ) from error
        with communicator:
            found = _peer.measure(communicator, _say_nothing if silent else _say)
            communicator.barrier().wait()  # nobody leaves before all have measured
    if silent:
        return 0
    backward = args.backward_ms / 1e3 if args.backward_ms else None
    predictions = _peer.predictions_for(found, args.params, backward)
    report = _peer.as_dict(found, predictions)
    print(json.dumps(report, indent=2) if args.json else _peer.as_table(found, predictions))
    return 0


@contextlib.contextmanager
def _meeting(args: argparse.Namespace) -> Iterator[tuple[Any, int, int, str]]:
    """The store, this rank, the number of ranks, and a name for the group."""
    if args.peer == TORCHRUN:
        yield _torchrun_meeting()
    elif args.listen:
        with _peer_store.Listener(args.port) as listener:
            here = f"{socket.gethostname()}:{listener.port}"
            _say(f"waiting; on the other machine: thinwire doctor --peer {here}")
            listener.wait_for_peer()
            yield listener.shelf, 0, 2, "doctor"
    else:
        host, port = split_host(args.peer, args.port)
        yield _peer_store.RemoteShelf(host, port), 1, 2, "doctor"


def _torchrun_meeting() -> tuple[Any, int, int, str]:
    if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        raise InvalidArgument(
            "--peer without a host is for torchrun, which says who the ranks are; else give the machine "
            "where `thinwire doctor --listen` runs: --peer HOST"
        )
    try:
        from thinwire.ddp import torchrun  # only here: it needs torch
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            "under torchrun the doctor needs PyTorch: pip install 'thinwire[torch]'"
        ) from error
    store, rank, world_size = torchrun.join()
    if world_size < 2:
        raise InvalidArgument(
            "torchrun started one rank; a link needs two: --nnodes 2, or --nproc-per-node 2"
        )
    return store, rank, world_size, f"doctor-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def split_host(text: str, default_port: int) -> tuple[str, int]:
    """`(host, port)` of HOST, HOST:PORT or [ADDRESS]:PORT."""
    bracketed = text.startswith("[")
    host, colon, port = text.rpartition("]:" if bracketed else ":")
    if bracketed:
        host, port = (host[1:], port) if colon else (text.strip("[]"), "")
    elif not colon or ":" in host:  # a plain name, or an IPv6 address
        host, colon, port = text, "", ""
    if not host or (colon and not (port.isdigit() and 0 < int(port) < 65536)):
        raise InvalidArgument(f"'{text}' is not HOST or HOST:PORT, as 192.0.2.10:{default_port}")
    return host, int(port) if port else default_port


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _say_nothing(text: str) -> None:
    """What torchrun's other ranks do: one rank's progress and report are enough."""
