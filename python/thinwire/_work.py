"""What a collective that was started looks like to its caller."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from thinwire import _core
from thinwire.errors import Error, InvalidArgument, error_of_number

_WAKE_SECONDS = 0.2
"""How often a waiting thread looks for signals, as Ctrl-C."""


class Work:
    """A collective that was started. `wait()` returns its result."""

    def __init__(
        self,
        operation: _core.Operation,
        result: Any,
        keep: list[Any],
        restore: Callable[[], None] | None,
    ) -> None:
        self._operation, self._result, self._keep, self._restore = operation, result, keep, restore
        self._pid = os.getpid()

    def done(self) -> bool:
        """Say whether it is over. InvalidArgument in a forked child, which never hears of it."""
        self._check_process()
        return self._operation.is_over()

    def wait(self) -> Any:
        """Wait until it is over, and return the result.

        Raises what ended it: PeerLost, Timeout (its deadline), InvalidArgument (ranks disagreed),
        TransportError (closed or aborted). In a forked child, which never hears of it, InvalidArgument.
        """
        self._check_process()
        while not self._operation.wait(_WAKE_SECONDS):
            pass
        try:
            self._operation.check()
            for _, _, number, reason in self._operation.slice_failures:
                raise error_of_number(number)(reason)
        except Error:
            if self._restore is not None:
                self._restore()
            raise
        self._keep.clear()
        return self._result

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise InvalidArgument(
                "this operation was begun before a fork; wait for it in the process that did"
            )
