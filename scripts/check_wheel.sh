#!/bin/sh
# check_wheel.sh WHEEL: uses the wheel in an empty environment, where NumPy is all that comes with it.
set -eu
wheel=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

.venv/bin/python -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "$wheel"
cd "$folder" # away from the source tree
venv/bin/python - <<'CHECK'
from importlib.metadata import distributions

import numpy as np
import thinwire as tw

installed = {d.metadata["Name"] for d in distributions()} - {"pip", "setuptools"}
assert installed == {"thinwire", "numpy"}, f"the wheel brings more than NumPy: {sorted(installed)}"
x = np.linspace(-1, 1, 10_000, dtype=np.float32)
for info in tw.codecs():
    codec = tw.codec(info.name)
    y = np.empty_like(x)
    codec.decode(codec.encode(x), out=y)
    assert np.isfinite(y).all(), info.name
try:
    tw.ddp
except ImportError as error:
    print("without torch, thinwire.ddp says:", error)
else:
    raise SystemExit("thinwire.ddp did not say that torch is missing")
CHECK
venv/bin/thinwire --help >/dev/null
venv/bin/thinwire doctor
