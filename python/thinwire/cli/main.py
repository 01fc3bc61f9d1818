"""The entry point of the `thinwire` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from thinwire._version import __version__
from thinwire.cli._commands import register
from thinwire.errors import Error

COMMANDS = ("demo", "doctor", "bench", "store")

_EXAMPLES = """\
examples:
  thinwire doctor                            what this machine has, and what to do where something lacks
  thinwire demo                              real training over a 100 Mbit/s link, with and without thinwire
  thinwire demo --rate 1gbit --codecs int8   the same over 1 Gbit/s, for one codec
  thinwire bench codec --quick               speed of every codec on every CPU target, beside memcpy
  thinwire store put backup model model.pt   keep versions of files, each distinct part once
  thinwire COMMAND --help                    the options of one command
"""


def make_parser() -> argparse.ArgumentParser:
    """The whole command line, every subcommand included."""
    parser = argparse.ArgumentParser(
        prog="thinwire",
        description="Distributed PyTorch training that does not need a fast network.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"thinwire {__version__}")
    register(parser, "command", "thinwire.cli", COMMANDS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line `argv` (default: this process's) and returns the exit status.

    An error that thinwire raised on purpose is one line on standard error and status 1; anything else is a
    bug and keeps its traceback. Ctrl-C gives 130, as in a shell.
    """
    args = make_parser().parse_args(argv)
    try:
        status: int = args.command.run(args)
        sys.stdout.flush()
    except Error as error:
        print(f"thinwire: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader (head, less) went away; without this, Python's last flush would complain about it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


if __name__ == "__main__":
    raise SystemExit(main())
