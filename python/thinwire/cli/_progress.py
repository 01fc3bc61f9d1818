"""What long work says on standard error while it runs: one line, rewritten in place on a terminal."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from thinwire._sizes import format_size

_EVERY_S = 0.1
_BAR = 24  # characters


class Progress:
    """One status line: rewritten in place on a terminal, else a plain line whenever a label is new."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._label = ""

    def show(self, label: str, detail: str = "") -> None:
        """Say what runs now; `detail` may change often and shows on a terminal only."""
        if self._terminal:
            print(f"\r\033[K{label}  {detail}"[: _terminal_width() + 4], end="", file=sys.stderr, flush=True)
        elif label != self._label:
            print(label, file=sys.stderr, flush=True)
        self._label = label

    def clear(self) -> None:
        """Leave the line empty, for what is printed next."""
        if self._terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self.clear()
        print(line, file=sys.stderr, flush=True)


def _terminal_width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns - 1
    except OSError:
        return 79


class Bar:
    """A progress bar of bytes: call it with those done and, where that is known, those there are to do.

    Says nothing where standard error is no terminal, so that logs stay short. A context manager: the line is
    empty again afterwards.
    """

    def __init__(self, label: str, wanted: bool = True) -> None:
        self._label, self._wanted = label, wanted and sys.stderr.isatty()
        self._progress = Progress()
        self._begun = self._shown = time.monotonic()

    def __call__(self, done: int, total: int | None = None) -> None:
        now = time.monotonic()
        if self._wanted and now - self._shown >= _EVERY_S:
            self._shown = now
            self._progress.show(self._label, bar_line(done, total, now - self._begun))

    def __enter__(self) -> Bar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._wanted:
            self._progress.clear()


def bar_line(done: int, total: int | None, seconds: float) -> str:
    """The bar, the sizes, the rate, and the time that is left."""
    rate = done / seconds if seconds > 0 else 0.0
    speed = f"{format_size(rate)}/s"
    if not total:
        return f"{format_size(done)}  {speed}"
    share = min(done / total, 1.0)
    bar = ("#" * int(share * _BAR)).ljust(_BAR, ".")
    left = f"{max(total - done, 0) / rate:.0f} s left" if rate else ""
    return f"[{bar}] {share:4.0%}  {format_size(done)} of {format_size(total)}  {speed}  {left}".rstrip()
