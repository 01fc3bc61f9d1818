"""`thinwire bench NAME`: the benchmarks, which are the modules of the repository's `bench/` folder.

The wheel carries that folder as `thinwire.bench`. Each of its public modules is one benchmark and has the
shape of a subcommand, so that `thinwire bench codec` and `python bench/codec.py` run the same code.
"""

from __future__ import annotations

import argparse
import pkgutil
from importlib import import_module

from thinwire.cli._commands import register

HELP = """\
Measure thinwire beside its baselines.

Every benchmark runs today's tools in the same process or the same minute, because only ratios inside one run
mean something. bench/README.md says how to read the results.

examples:
  thinwire bench codec --quick              a first look, under a minute
  thinwire bench codec --json codec.json    the whole table, kept as a file
"""


_PACKAGE = "thinwire.bench"


def benchmarks() -> list[str]:
    """The names of the benchmarks, sorted."""
    folder = import_module(_PACKAGE).__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One subcommand a benchmark."""
    register(parser, "benchmark", _PACKAGE, benchmarks())


def run(args: argparse.Namespace) -> int:
    """Runs the chosen benchmark."""
    status: int = args.benchmark.run(args)
    return status
