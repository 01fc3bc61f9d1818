"""`thinwire store ls`: names and versions."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from thinwire._sizes import format_size
from thinwire._table import columns
from thinwire.cli._store import _common

if TYPE_CHECKING:
    from thinwire.store import Store, Version

HELP = """\
List names, with the newest version of each, or with --versions all of them.

examples:
  thinwire store ls backup
  thinwire store ls backup run7/ --versions      every version of the names that begin with run7/
  thinwire store ls backup --json | jq -r '.versions[].name'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("prefix", nargs="?", default="", metavar="PREFIX", help="only names that begin so")
    parser.add_argument("--versions", action="store_true", help="every version, not only the newest")


def run(args: argparse.Namespace) -> int:
    """Prints the list."""
    with _common.open_store(args) as store:
        found = [
            describe(store, ref)
            for name in store.ls(args.prefix)
            for ref in store.versions(name)[0 if args.versions else -1 :]
        ]
    rows = [
        [f"{each['name']}@{each['version']}", format_size(each["size"]), _common.moment(each["created"])]
        for each in found
    ]
    text = columns([("name", "size", "created"), *rows], left=(0, 2))
    _common.report(args, {"versions": found}, text)
    return 0


def describe(store: Store, ref: Version) -> dict[str, Any]:
    """What is known of a version, ready for JSON."""
    manifest = store.catalog.manifest(ref)
    return {
        "name": ref.name,
        "version": ref.version,
        "size": manifest.size,
        "created": ref.created,
        "kind": manifest.metadata.get("kind"),
        "metadata": manifest.metadata.get("user", {}),
    }
