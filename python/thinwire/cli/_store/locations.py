"""`thinwire store locations`: the places where the packs of a store lie."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from thinwire._sizes import format_size
from thinwire._table import columns
from thinwire.cli._store import _common
from thinwire.errors import InvalidArgument

if TYPE_CHECKING:
    from thinwire.store.locations import Holding

HELP = """\
List the places where packs lie, with what lies there; add one, empty one, or forget one.

New packs are spread over the store's own place and the others in proportion to their weights; what is there
already stays where it is. All else lies in the store's own place. Status 3: a place is missing.

examples:
  thinwire store locations backup
  thinwire store locations backup --add /mnt/second/packs --weight 2
  thinwire store locations backup --add backup --weight 0     only the other places take new packs
  thinwire store locations backup --empty /mnt/second/packs   move what is needed of it to the others
  thinwire store locations backup --remove /mnt/second/packs  it is lost, or empty; then run repair
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    change = parser.add_mutually_exclusive_group()
    change.add_argument("--add", metavar="URL", help="let new packs lie there, too, or change its weight")
    change.add_argument(
        "--empty", metavar="URL", help="move what is needed of the packs of a place to the others"
    )
    change.add_argument("--remove", metavar="URL", help="forget a place that is lost, or empty")
    parser.add_argument(
        "--weight", type=float, metavar="W", help="its share, compared with others; default 1"
    )


def run(args: argparse.Namespace) -> int:
    """Changes the list, and prints it."""
    if args.weight is not None and not args.add:
        raise InvalidArgument("--weight says how much goes to the place of --add; give both")
    with _common.open_store(args) as store:
        if args.add:
            store.add_location(args.add, weight=1.0 if args.weight is None else args.weight)
        if args.empty:
            store.empty_location(args.empty)
        if args.remove:
            store.remove_location(args.remove)
        found = store.locations()
    rows = [[one.location.url, f"{one.location.weight:g}", *_cells(one)] for one in found]
    text = columns([["location", "weight", "packs", "stored"], *rows])
    errors = [str(one.error) for one in found if one.error]
    facts = {"locations": [_facts(one) for one in found]}
    _common.report(args, facts, "\n".join([text, *errors]))
    return _common.DAMAGED if errors else 0


def _cells(found: Holding) -> tuple[str, str]:
    if found.error:
        return "missing", "missing"
    return str(len(found.packs)), format_size(_stored(found))


def _facts(found: Holding) -> dict[str, Any]:
    return {
        "url": found.location.url,
        "weight": found.location.weight,
        "packs": len(found.packs),
        "stored": _stored(found),
        "error": str(found.error) if found.error else None,
    }


def _stored(found: Holding) -> int:
    return sum(entry.size for entry in found.packs)
