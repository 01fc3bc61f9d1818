"""`thinwire store gc`: the space of what no version needs."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from thinwire._sizes import format_size
from thinwire.cli._store import _common

HELP = """\
Delete what no version needs, while others read and write.

It waits for the writers at work: each until it has finished, or was silent for its grace time, an hour. With
--wait it gives up after so many seconds, having deleted nothing, with status 5.

examples:
  thinwire store gc backup
  thinwire store gc backup --wait 60
  thinwire store gc backup --live-share 0.9    also rewrite packs of which 90 %% is needed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    _common.add_store(parser)
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="default: as long as it takes")
    parser.add_argument(
        "--live-share",
        type=float,
        default=0.5,
        metavar="SHARE",
        help="packs of which less is needed are rewritten; default 0.5",
    )


def run(args: argparse.Namespace) -> int:
    """Collects, and says what became free."""
    with _common.open_store(args) as store:
        done = store.gc(live_share=args.live_share, wait_s=args.wait)
    lines = [
        f"{format_size(done.bytes)} freed: {done.packs} packs, {done.manifests} manifests",
        *(f"waiting for {writer}; nothing was deleted" for writer in done.waiting_for),
    ]
    if done.missing:
        lines.append(f"{done.missing} chunks that versions need are in no index; run repair")
    _common.report(args, asdict(done), "\n".join(lines))
    if done.missing:
        return _common.DAMAGED
    return _common.IN_THE_WAY if done.waiting_for else 0
