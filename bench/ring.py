"""`thinwire bench ring`: thinwire's all-reduce beside Gloo's and Open MPI's, over loopback and thin links."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thinwire.bench import _command, _report, _ring_mpi
from thinwire.bench import _ring_plan as plan
from thinwire.cli._progress import Progress
from thinwire.cli._shaped import Link, LinkError, RankFailed, Ranks, choose_link, format_rate, parse_rate

HELP = """\
All-reduce of thinwire beside Gloo and Open MPI, from 4 KiB to 256 MiB of fp32.

First on this machine alone: Gloo and thinwire over loopback TCP, thinwire over shared memory, Open MPI over
both if it is installed. Then over links of a given rate, each rank in a network namespace of its own. In
every round each method has its turn in the same processes, so 'x Gloo' (Gloo's time over the method's, of
the same round) stays true on a machine that drifts. Open MPI needs processes of its own.

The columns: median time of a call on the slowest rank, its quartiles, 'x Gloo' with its quartiles, bytes
that a rank sent, and for uncompressed methods on a link with a rate 'of link': the payload that a rank must
send, 2 (N-1) / N times the size, against what the link could carry in that time.

examples:
  thinwire bench ring --quick                        two ranks, loopback and 1 Gbit/s, under a minute
  thinwire bench ring --ranks 2 4 --rate 100mbit     what compression brings on a thin link
  thinwire bench ring --json ring.json --plot ring.png
"""

_READY_LIMIT_S = 120.0
_SIZE_LIMIT_S = 1800.0
_RANK_COMMAND = [sys.executable, "-m", "thinwire.bench._ring_rank"]
_RANK_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's options."""
    parser.add_argument("--ranks", nargs="+", type=_rank_count, metavar="N", help="default: 2 4; --quick: 2")
    parser.add_argument(
        "--rate", nargs="*", metavar="RATE", help="links to shape (default: 1gbit 100mbit; --quick: 1gbit)"
    )
    parser.add_argument("--codecs", nargs="+", metavar="CODEC", help=f"default: {' '.join(plan.CODECS)}")
    parser.add_argument("--bytes", nargs="+", type=_byte_count, metavar="N", help="sizes to use instead")
    parser.add_argument("--no-mpi", action="store_true", help="leave Open MPI out even if it is installed")
    _command.add_common(parser, quick="two ranks, one rate, fewer rounds, no 256 MiB")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw 'x Gloo' over size (PNG, SVG or PDF)")


def _rank_count(text: str) -> int:
    if not (text.isdigit() and 2 <= int(text) <= 16):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of ranks from 2 to 16")
    return int(text)


def _byte_count(text: str) -> int:
    if not (text.isdigit() and int(text) >= 4 and int(text) % 4 == 0):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of bytes of fp32: a multiple of 4")
    return int(text)


class Session:
    """Measures place after place; keeps what failed or was left out."""

    def __init__(self, codecs: list[str], sizes: tuple[int, ...], effort: plan.Effort) -> None:
        self.codecs, self.sizes, self.effort = codecs, sizes, effort
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.progress = Progress()

    def note(self, text: str) -> None:
        """Say once what is left out, and why."""
        if text not in self.notes:
            self.notes.append(text)
            self.progress.say(f"note: {text}")

    def measure(self, link: Link, ranks: int, with_mpi: bool) -> dict[str, Any] | None:
        """All methods and sizes in one place, None where nothing could be measured."""
        kinds = ("tcp", "shm") if link.kind == "loopback" else ("tcp",)
        methods = [plan.GLOO, *(f"{kind}/{codec}" for kind in kinds for codec in self.codecs)]
        place: dict[str, Any] = {"kind": link.kind, "rate_bits": link.rate_bits, "ranks": ranks}
        place |= {"description": link.describe(), "links": {}, "rows": []}
        try:
            self._measure_ranks(link, place, methods)
        except RankFailed as failure:
            self.failures.append(f"{title(place)}: {failure}")
        if with_mpi and link.kind == "loopback":
            for transport in _ring_mpi.TRANSPORTS:
                self._measure_mpi(transport, place)
        self.progress.clear()
        place["rows"].sort(key=lambda found: found["bytes"])  # stable: methods keep their order
        return place if place["rows"] else None

    def _measure_ranks(self, link: Link, place: dict[str, Any], methods: list[str]) -> None:
        count = place["ranks"]
        self.progress.show(f"{title(place)}: starting")
        with Ranks(_RANK_COMMAND, count, link, _RANK_ENVIRONMENT) as ranks:
            pace = link.rate_bits if link.kind == "pacing" else 0
            ranks.send({"methods": methods, "pace_bits": pace, "effort": asdict(self.effort)})
            place["links"] = dict(_answers(ranks, count, _READY_LIMIT_S)[0]["links"])
            for size in self.sizes:
                self.progress.show(f"{title(place)}: {plan.format_size(size)}")
                ranks.send({"bytes": size})
                place["rows"] += _rows(place, size, _answers(ranks, count, _SIZE_LIMIT_S))

    def _measure_mpi(self, transport: str, place: dict[str, Any]) -> None:
        self.progress.show(f"{title(place)}: Open MPI over {transport}")
        try:
            found = _ring_mpi.run(transport, place["ranks"], self.sizes, self.effort)
        except _ring_mpi.MpiFailed as failure:
            self.note(f"Open MPI over {transport} is left out: {failure}")
            return
        place["mpi"] = found["version"]
        for size in self.sizes:
            seconds = found["sizes"][str(size)]
            place["rows"].append(
                plan.row(place, size, f"mpi/{transport}", seconds, _gloo_median(place, size, seconds))
            )


def _answers(ranks: Ranks, count: int, limit_s: float) -> dict[int, dict[str, Any]]:
    return dict(ranks.receive(limit_s) for _ in range(count))


def _rows(place: dict[str, Any], size: int, answers: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    first = answers[0]
    samples = first["samples"]
    return [
        plan.row(
            place,
            size,
            method,
            seconds,
            samples[plan.GLOO],
            calls=first["calls"][method],
            sent_bytes=max(answer["sent_bytes"].get(method, 0) for answer in answers.values()) or None,
            relative_error=first["relative_error"][method],
        )
        for method, seconds in samples.items()
    ]


def _gloo_median(place: dict[str, Any], size: int, seconds: list[float]) -> list[float]:
    """Gloo's median as often as there are samples of another process, which has no rounds in common."""
    for found in place["rows"]:
        if found["method"] == plan.GLOO and found["bytes"] == size:
            return [found["seconds"]["median"]] * len(seconds)
    return []


def run(args: argparse.Namespace) -> int:
    """Measures, prints a table for each place, writes the files; 1 when something failed."""
    facts: dict[str, Any] = {"benchmark": "ring", "quick": args.quick, "machine": _report.machine()}
    print(_report.describe(facts["machine"]), flush=True)
    sizes = tuple(args.bytes or (plan.SIZES if args.quick else plan.FULL_SIZES))
    session = Session(args.codecs or list(plan.CODECS), sizes, plan.QUICK if args.quick else plan.FULL)
    try:
        links = _links(args)
    except (LinkError, ValueError) as error:
        print(f"thinwire bench ring: {error}", file=sys.stderr)
        return 1
    missing = None if args.no_mpi else _ring_mpi.missing()
    if missing:
        session.note(missing)
    facts["places"] = []
    for link in links:
        for ranks in args.ranks or ([2] if args.quick else [2, 4]):
            if link.kind == "pacing" and ranks > 2:
                session.note(
                    f"{format_rate(link.rate_bits)} with {ranks} ranks is left out: it needs namespaces"
                )
                continue
            place = session.measure(link, ranks, with_mpi=not (args.no_mpi or missing))
            if place:
                facts["places"].append(place)
                print(f"\n{format_place(place)}", flush=True)
    facts["notes"] = session.notes
    if args.json:
        _report.write_json(args.json, facts)
    if args.plot and facts["places"]:
        from thinwire.bench import _ring_chart  # only here: it needs matplotlib

        _ring_chart.draw(facts["places"], args.plot)
    for failure in session.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return int(bool(session.failures))


def _links(args: argparse.Namespace) -> list[Link]:
    rates = args.rate if args.rate is not None else (["1gbit"] if args.quick else ["1gbit", "100mbit"])
    return [choose_link(0, unshaped=True), *(choose_link(parse_rate(rate)) for rate in rates)]


def title(place: dict[str, Any]) -> str:
    """`2 ranks, 1 Gbit/s`."""
    where = format_rate(place["rate_bits"]) if place["rate_bits"] else "this machine alone"
    return f"{place['ranks']} ranks, {where}"


def format_place(place: dict[str, Any]) -> str:
    """The head with the links that were used, and the table."""
    lines = [f"{title(place)}. {place['description']}"]
    for kind, links in place["links"].items():
        if links:
            lines.append(f"thinwire's link {kind}: {links[0]['detail']}")
    if "mpi" in place:
        lines.append(f"{place['mpi']}, in processes of its own")
    return "\n".join([*lines, "", _table(place["rows"])])


def _table(rows: list[dict[str, Any]]) -> str:
    header = ["size", "method", "ms", "quartiles", "x Gloo", "quartiles", "sent"]
    shaped = any(found["of_link"] for found in rows)
    cells, last = [], None
    for found in rows:
        size = plan.format_size(found["bytes"])
        own, ratio, sent = found["seconds"], found["times_gloo"], found.get("sent_bytes")
        line = [
            "" if size == last else size,
            plan.label(found["method"]),
            f"{own['median'] * 1e3:.3f}",
            f"{own['low'] * 1e3:.3f}-{own['high'] * 1e3:.3f}",
            f"{ratio['median']:.2f}" if ratio else "",
            f"{ratio['low']:.2f}-{ratio['high']:.2f}" if ratio else "",
            _bytes(sent) if sent else "",
        ]
        of_link = found["of_link"]
        cells.append([*line, f"{of_link['median']:.0%}" if of_link else ""] if shaped else line)
        last = size
    text: str = _report.table([*header, "of link"] if shaped else header, cells)
    return text


def _bytes(count: float) -> str:
    for unit in ("B", "KB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} MB"


if __name__ == "__main__":
    sys.exit(_command.standalone(HELP, add_arguments, run))
