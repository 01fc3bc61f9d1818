"""What the command and `thinwire bench` share: parsers made from modules."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from importlib import import_module
from typing import Protocol, cast


class Command(Protocol):
    """The shape of a subcommand's module."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declares the options."""

    def run(self, args: argparse.Namespace) -> int:
        """Does the work and returns the exit status."""


def register(parser: argparse.ArgumentParser, dest: str, package: str, names: Iterable[str]) -> None:
    """Adds modules of `package` as subcommands of `parser`; `args.<dest>` becomes the chosen module."""
    choices = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name in names:
        command = cast(Command, import_module(f"{package}.{name.replace('-', '_')}"))
        summary = command.HELP.strip().splitlines()[0]
        child = choices.add_parser(
            name, help=summary, description=command.HELP, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        child.set_defaults(**{dest: command})
        command.add_arguments(child)
