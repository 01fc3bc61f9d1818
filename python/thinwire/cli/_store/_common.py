"""What the actions share: the options that open a store, exit statuses, and how results are printed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinwire import _core
from thinwire.cli._progress import Bar
from thinwire.errors import InvalidArgument, NotBuilt

if TYPE_CHECKING:
    from thinwire.store import Store

DAMAGED, IN_THE_WAY, DIFFERENT = 3, 5, 6
"""Exit statuses, as `thinwire store --help` lists them."""


def add_store(parser: argparse.ArgumentParser) -> None:
    """The positional STORE, and the options of every action on one."""
    parser.add_argument("store", metavar="STORE", help="a folder, or an fsspec URL")
    keys = parser.add_mutually_exclusive_group()
    keys.add_argument("--passphrase-file", type=Path, metavar="FILE", help="its first line is the passphrase")
    keys.add_argument("--key-file", type=Path, metavar="FILE", help="its bytes, 16 or more, are the key")
    parser.add_argument("--threads", type=int, metavar="N", help="default: every core")
    parser.add_argument(
        "--location",
        action="append",
        default=[],
        metavar="URL",
        help="where a location of the store is now, if it has moved; put adds it where there is none",
    )
    add_json(parser)


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of text")


def add_replicas(parser: argparse.ArgumentParser) -> None:
    """The option --replica."""
    parser.add_argument(
        "--replica",
        action="append",
        default=[],
        metavar="STORE",
        help="a copy that sync made; what is damaged here is taken from there",
    )


def open_store(args: argparse.Namespace, create: bool = False) -> Store:
    """The store of the command line. Raises NotFound where there is none (unless `create`), NotBuilt."""
    from thinwire.store import Store

    try:
        return Store(
            args.store,
            **_key(args),
            create=create,
            threads=args.threads,
            replicas=getattr(args, "replica", ()),
            locations=args.location,
        )
    except ImportError as error:  # which says what to install
        raise NotBuilt(str(error)) from error


def _key(args: argparse.Namespace) -> dict[str, Any]:
    """The key or passphrase of the options, or else of the environment."""
    environment = _core.environment()
    key_file = args.key_file
    if args.passphrase_file:
        return {"passphrase": _first_line(args.passphrase_file)}
    if not key_file and environment["store_passphrase"]:
        return {"passphrase": environment["store_passphrase"]}
    key_file = key_file or environment["store_key_file"]
    return {"key": _read(Path(key_file))} if key_file else {}


def _first_line(path: Path) -> str:
    line = _read(path).partition(b"\n")[0].rstrip(b"\r")
    if not line:
        raise InvalidArgument(f"the first line of {path} is empty; it has to be the passphrase")
    return line.decode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None


def bar(args: argparse.Namespace, label: str) -> Bar:
    """A progress bar, for people who look at a terminal."""
    return Bar(label, wanted=not args.json)


def report(args: argparse.Namespace, facts: Mapping[str, Any], text: str) -> None:
    """Print the facts as JSON, or else the text."""
    print(json.dumps(facts, indent=2) if args.json else text)


def moment(seconds: float) -> str:
    """A time since 1970, as people of this place write it."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def version_number(text: str) -> int:
    """A number of a version, or 0, for `type=`."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of a version")
    return int(text)
