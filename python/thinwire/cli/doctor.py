"""`thinwire doctor`: what this machine has, and what to do where something lacks."""

from __future__ import annotations

import argparse
import json
import platform

from thinwire.cli import _checks

HELP = """\
Report what this machine has and what to do where something lacks.

Nothing is changed and nothing leaves the machine. A line that says 'note' names something optional that
lacks; 'wrong' is something installed or set in a way that will fail, and makes the exit status 1.

examples:
  thinwire doctor           a table
  thinwire doctor --json    the same for a program
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Prints the report; 1 when something is wrong."""
    checks = examine()
    print(as_json(checks) if args.json else as_table(checks))
    return int(any(check.status == "wrong" for check in checks))


def examine() -> list[_checks.Check]:
    """Every check, in the order of the report."""
    return [
        _checks.check_version(),
        _checks.check_cpu(),
        *_checks.check_cuda(),
        _checks.check_torch(),
        _checks.check_cupy(),
        _checks.check_namespaces(),
        _checks.check_memlock(),
        *_checks.check_interfaces(),
    ]


def as_table(checks: list[_checks.Check]) -> str:
    """One line a check: status, name, what was found, and after an arrow what to do."""
    width = max(len(check.name) for check in checks)
    lines = [f"Python {platform.python_version()}, {platform.platform()}", ""]
    for check in checks:
        advice = f"  -> {check.advice}" if check.advice else ""
        lines.append(f"{check.status:5}  {check.name:{width}}  {check.value}{advice}")
    return "\n".join(lines)


def as_json(checks: list[_checks.Check]) -> str:
    """The report for programs: the machine, and every check with its details."""
    machine = {"python": platform.python_version(), "platform": platform.platform()}
    return json.dumps({**machine, "checks": [vars(check) for check in checks]}, indent=2)
