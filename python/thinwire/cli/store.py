"""`thinwire store ACTION`: stores on the command line. Each action is a module of `_store/`."""

from __future__ import annotations

import argparse
import sys

from thinwire.cli._commands import register
from thinwire.errors import Conflict, CorruptChunk, CorruptRecord, Error, NotFound

HELP = """\
Keep versions of files, folders and checkpoints, each distinct part of them once.

A STORE is a folder, or an fsspec URL such as s3://bucket/backup. An encrypted store is opened by
--passphrase-file, --key-file, or the variables THINWIRE_STORE_PASSPHRASE and THINWIRE_STORE_KEY_FILE; the
first put with one of them makes an encrypted store. With --json every action prints one JSON object.

exit status:
  0  fine
  1  another error; standard error says which
  2  the command line is wrong
  3  damaged data was found
  4  there is no such store, name or version
  5  somebody else is in the way: a version that came first, a collector or writer at work
  6  diff: the versions differ

examples:
  thinwire store put backup run7/weights model.safetensors     a file as a new version of run7/weights
  thinwire store ls backup                                     the names, and the newest version of each
  thinwire store get backup run7/weights@3 old.safetensors     an older version
  thinwire store diff backup run7/weights@3 run7/weights@4     what changed
  thinwire store sync backup s3://bucket/backup                a copy elsewhere; sends what is missing there
  thinwire store ACTION --help                                 the options of one action
"""

ACTIONS = (
    "put",
    "get",
    "ls",
    "du",
    "diff",
    "delete",
    "gc",
    "verify",
    "repair",
    "sync",
    "locations",
    "dedup-records",
)

_STATUS: dict[type[Error], int] = {CorruptChunk: 3, CorruptRecord: 3, NotFound: 4, Conflict: 5}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand an action."""
    register(parser, "action", "thinwire.cli._store", ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen action; some errors have an exit status of their own."""
    try:
        status: int = args.action.run(args)
        return status
    except tuple(_STATUS) as error:
        print(f"thinwire: {error}", file=sys.stderr)
        return next(status for kind, status in _STATUS.items() if isinstance(error, kind))
