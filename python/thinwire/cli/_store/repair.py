"""`thinwire store repair`: a damaged store mended as far as it can be."""

from __future__ import annotations

import argparse

from thinwire.cli._store import _common, _damage

HELP = """\
Make the index again from the packs, and take what is damaged from replicas.

What is sound is never touched. Run one repair at a time. Status 3: some data is lost; it is named.

examples:
  thinwire store repair backup
  thinwire store repair backup --replica s3://bucket/backup
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    _common.add_replicas(parser)


def run(args: argparse.Namespace) -> int:
    """Repairs, and prints what is lost."""
    with _common.open_store(args) as store, _common.bar(args, "repair") as progress:
        found = store.repair(progress=progress)
        return _damage.show(args, store, found, "repaired")
