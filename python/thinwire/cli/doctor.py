"""`thinwire doctor`: what this machine has, and with `--peer` what the link to another one carries."""

from __future__ import annotations

import argparse
import json
import platform

from thinwire.cli import _checks, _doctor_peer

HELP = """\
Report what this machine has and what to do where something lacks.

Nothing is changed and nothing leaves the machine. A line that says 'note' names something optional that
lacks; 'wrong' is something installed or set in a way that will fail, and makes the exit status 1.

With --listen on one machine and --peer on another it measures the link between them instead: rate, latency,
TCP retransmits, and the time of an all-reduce with each codec. --params adds what a training step will take,
and which codec to use; 'none' where compression does not pay.

examples:
  thinwire doctor           a table
  thinwire doctor --json    the same for a program
  thinwire doctor --listen                                          on 192.0.2.10
  thinwire doctor --peer 192.0.2.10 --params 124M --backward-ms 300 on the other machine
  torchrun --nnodes 2 ... -m thinwire doctor --peer                 on every machine of a job
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    _doctor_peer.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the report; 1 when something is wrong."""
    if args.listen or args.peer is not None:
        return _doctor_peer.run(args)
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
