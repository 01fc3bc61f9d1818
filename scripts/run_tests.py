"""Run the tests: first those that may run beside each other, one process a core, then those that must not.

Arguments go to pytest. The exit status is pytest's: of the first half that failed; 5 where neither found any.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

_PYTEST = (sys.executable, "-m", "pytest", "--ignore=tests/test_examples.py", "-m")


def main(arguments: Sequence[str]) -> int:
    """Return the exit status."""
    beside = [*_PYTEST, "not torture and not alone", "--numprocesses=auto", "--dist=loadfile", *arguments]
    first = subprocess.call(beside)
    if first not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return first
    second = subprocess.call([*_PYTEST, "not torture and alone", *arguments])
    return first if second == pytest.ExitCode.NO_TESTS_COLLECTED else second


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
