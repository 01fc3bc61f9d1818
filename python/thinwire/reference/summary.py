"""What is counted of the values of one field, and which bin each falls into (`docs/data/quality.md`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANTISSA_BITS = 4
LEAST_EXPONENT, MOST_EXPONENT = -126, 127
SIGN = 2 ** (8 + MANTISSA_BITS)


def bin_of(value: float) -> int:
    """Return the bin of a finite value: its sign, exponent and mantissa bits, rounded towards zero.

    What is beyond fp32's range counts as its greatest value. The denormals of fp32 have exponent field 0 and
    no leading 1; what lies nearer to zero than 2^-130 is in bin 0, of either sign.
    """
    magnitude = abs(value)
    steps = 2**MANTISSA_BITS
    if magnitude >= 2.0 ** (MOST_EXPONENT + 1):
        number = (MOST_EXPONENT + 128) * steps - 1
    elif magnitude < 2.0**LEAST_EXPONENT:
        number = math.floor(magnitude * 2.0**-LEAST_EXPONENT * steps)
    else:
        mantissa, exponent = math.frexp(magnitude)  # in [0.5, 1)
        number = (exponent + 126) * steps + math.floor((2 * mantissa - 1) * steps)
    return int(number) + (SIGN if value < 0 and number else 0)


def counters(values: NDArray[Any], missing: float | None = None) -> dict[str, Any]:
    """Return the counters of values of any shape, by the names of `thinwire.data`'s FieldSummary."""
    every = np.asarray(values).reshape(-1).astype(np.float64)
    given = every if missing is None else every[every != missing]
    finite = given[np.isfinite(given)]
    bins = np.zeros(2 * SIGN, np.uint64)
    for value in finite.tolist():
        bins[bin_of(value)] += np.uint64(1)
    return {
        "values": len(given),
        "missing": len(every) - len(given),
        "nan": int(np.isnan(given).sum()),
        "positive_infinity": int((given == np.inf).sum()),
        "negative_infinity": int((given == -np.inf).sum()),
        "zeros": int((given == 0).sum()),
        "finite": len(finite),
        "least": float(finite.min(initial=np.inf)),
        "greatest": float(finite.max(initial=-np.inf)),
        "mean": math.fsum(finite) / len(finite) if len(finite) else 0.0,
        "squares": float(np.var(finite) * len(finite)) if len(finite) else 0.0,
        "bins": bins,
    }
