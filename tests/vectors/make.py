"""Writes the test vectors beside this file from `thinwire.reference`. After a change of the wire format:

python tests/vectors/make.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from thinwire.reference import CODECS, frame  # noqa: E402
from vectors import cut_cases, permutation_cases  # noqa: E402
from vectors.formula import HASH_TEXT, KINDS, values  # noqa: E402
from vectors.parameters import PARAMETERS  # noqa: E402

ABOUT = (
    "Test vectors of the codec {name}, docs/wire/{name}.md, written by tests/vectors/make.py. The input y of "
    "a case is n fp32 values by the formula of its kind. input, payload, decoded and residual are XXH3-64 "
    "(seed 0, 16 hex digits) of the fp32 input, the payload, the fp32 values decoded from it and the fp32 "
    "residual, all little-endian. examples holds small cases in full, as hex bytes."
)
FRAME_ABOUT = (
    "Whole frames, docs/wire/frame.md, written by tests/vectors/make.py: the header's fields, and payload "
    "and frame as hex bytes."
)

LONG = {"topk": [65536, 65537, 65536 + 1000, 200_000]}
"""Lengths beyond the common ones: around the point from which the threshold is sampled."""

# exponents: ordinary gradients, one, around the smallest scale base 2^-100, overflow of fp16
SHAPES = [
    ("uniform", -10), ("cubes", 0), ("positive", -20), ("negative", 3), ("zeros", 0), ("negative_zeros", 0),
    ("ties7", -5), ("ties127", 4), ("sparse", -1), ("denormal", 0), ("huge", 0), ("finite", 0),
    ("anything", 0), ("nonfinite", -3), ("uniform", -99), ("uniform", -100), ("uniform", -101),
    ("uniform", 17), ("uniform", 127), ("positive", 127),
]  # fmt: skip
EXAMPLES = [("uniform", 5, -6), ("ties7", 3, 0), ("nonfinite", 9, 0)]


def lengths(name: str, params: dict[str, Any]) -> list[int]:
    """Lengths around the edges of a block, or of topk's rows and groups."""
    edges = {"topk": [256, 1024, 4096]}.get(name, [max(16, CODECS[name].unit(**params))])
    around = {n for edge in edges for n in (edge - 1, edge, edge + 1)}
    return sorted({0, 1, 31, 33, 1000} | around)


def case(name: str, params: dict[str, Any], kind: str, n: int, exponent: int, number: int) -> dict[str, Any]:
    """What names a case. `number` varies seed, step and key."""
    fixed = {"kind": kind, "n": n, "exponent": exponent, "seed": number}
    varied = {"step": number % 7, "key": number * 0x9E3779B97F4A7C15 % 2**64}
    return {"params": params} | fixed | varied


def all_cases(name: str) -> Iterator[dict[str, Any]]:
    number = 0
    for params in PARAMETERS[name]:
        sizes = lengths(name, params)
        middle = 2 * sizes[-1] + 5
        for n in sizes + LONG.get(name, []):
            number += 1
            yield case(name, params, "cubes" if n > 1024 else "uniform", n, -10, number)
        for kind, exponent in SHAPES:
            number += 1
            yield case(name, params, kind, middle, exponent, number)


def outcome(name: str, c: dict[str, Any]) -> dict[str, bytes]:
    """The bytes of input, payload, decoded values and residual of a case."""
    y = values(c["kind"], c["n"], c["exponent"], c["seed"])
    codec = CODECS[name]
    payload, residual = codec.encode(y, step=c["step"], key=c["key"], **c["params"])
    decoded = codec.decode(payload, c["n"], **c["params"])
    arrays = {"input": y, "decoded": decoded, "residual": residual}
    return {"payload": payload} | {k: v.astype("<f4").tobytes() for k, v in arrays.items()}


def digest(data: bytes) -> str:
    return f"{xxhash.xxh3_64_intdigest(data):016x}"


def codec_vectors(name: str) -> dict[str, Any]:
    cases = [c | {k: digest(v) for k, v in outcome(name, c).items()} for c in all_cases(name)]
    tiny = [case(name, {}, kind, n, e, i) for i, (kind, n, e) in enumerate(EXAMPLES)]
    examples = [c | {k: v.hex() for k, v in outcome(name, c).items()} for c in tiny]
    kinds = {kind: KINDS[kind].text for kind in sorted({c["kind"] for c in cases + examples})}
    about = {"about": ABOUT.format(name=name), "formula": HASH_TEXT, "kinds": kinds}
    return about | {"examples": examples, "cases": cases}


def frame_vectors() -> dict[str, Any]:
    payload, _ = CODECS["int4"].encode(values("uniform", 70, -3))
    every = frame.Header(
        group=0x0102030405060708,
        step=0x1112131415161718,
        bucket=0x21222324,
        slice=0x31323334,
        sender=0x41424344,
        param=0x51525354,
        codec=frame.PLAN,
        dtype=2,
        phase=1,
        flags=frame.NONFINITE,
        weight=0.125,
        control=0x6162636465666768,
        count=70,
    )
    contents = [(frame.Header(), b""), (frame.Header(codec=5, param=64, count=70), payload), (every, payload)]
    frames = [
        {"header": vars(header), "payload": body.hex(), "frame": frame.pack(header, body).hex()}
        for header, body in contents
    ]
    header = frame.Header(group=5, step=9, bucket=2, sender=3, codec=4, phase=1)
    aborted = {"number": 3, "reason": "rank 3 lost its link", "header": vars(header)}
    aborted["frame"] = frame.abort(header, 3, "rank 3 lost its link").hex()
    return {"about": FRAME_ABOUT, "frames": frames, "aborted": [aborted]}


def text(vectors: dict[str, Any]) -> str:
    """JSON with one line a case, so that a change shows as a change of lines."""
    rows = []
    for key, value in vectors.items():
        if isinstance(value, list):
            lines = ",\n".join("  " + json.dumps(item) for item in value)
            rows.append(f"{json.dumps(key)}: [\n{lines}\n]")
        else:
            rows.append(f"{json.dumps(key)}: {json.dumps(value, indent=2)}")
    return "{\n" + ",\n".join(rows) + "\n}\n"


def files() -> dict[str, str]:
    """All files by name."""
    made = {f"{name}.json": text(codec_vectors(name)) for name in CODECS}
    made |= {"frame.json": text(frame_vectors()), "cuts.json": text(cut_cases.vectors())}
    return made | {"permutation.json": text(permutation_cases.vectors())}


if __name__ == "__main__":
    for file, content in files().items():
        (HERE / file).write_text(content)
        print(f"{file}: {len(content)} bytes")
