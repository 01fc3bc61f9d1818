"""Small messages between ranks over a store: how they find each other before they are connected.

A store is anything with `set(key, value)`, `get(key)` and `wait([key], timedelta)`, as torch's TCPStore and
FileStore have them. Values are JSON.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from thinwire.errors import InvalidArgument, Timeout, TransportError


class Rendezvous:
    """Exchanges messages between the ranks of one group, each within `timeout` seconds.

    `group` keeps groups apart that use one store: a group's name can be used once.
    """

    def __init__(self, store: Any, group: str, rank: int, world_size: int, timeout: float) -> None:
        for method in ("set", "get", "wait"):
            if not callable(getattr(store, method, None)):
                raise InvalidArgument(
                    f"the store is a {type(store).__name__} without {method}(); pass torch's TCPStore or "
                    "FileStore, or an object with set, get and wait"
                )
        self._store, self._rank, self._size, self._timeout = store, rank, world_size, timeout
        self._prefix = f"thinwire/{group}"
        self._round = 0

    def meet(self, message: dict[str, Any], doing: str) -> list[dict[str, Any]]:
        """Return the messages of all ranks in order, and be sure that none is left from an earlier group.

        `doing` completes "rank 1 has not ..." in the Timeout that names who did not come.
        """
        nonce = secrets.token_hex(8)
        messages = self.exchange({"nonce": nonce, "message": message}, doing)
        nonces = [entry.get("nonce") for entry in messages]
        for rank, seen in enumerate(self.exchange({"seen": nonces}, doing)):
            if seen.get("seen") != nonces:
                raise InvalidArgument(
                    f"the group {self._prefix!r} was used before in this store: rank {rank} found other "
                    "messages there; give the new communicator a name of its own (group=)"
                )
        return [entry["message"] for entry in messages]

    def exchange(self, message: dict[str, Any], doing: str) -> list[dict[str, Any]]:
        """Return the messages of all ranks in order."""
        self._round += 1
        keys = [f"{self._prefix}/{self._round}/{rank}" for rank in range(self._size)]
        end = time.monotonic() + self._timeout
        text = json.dumps(message, sort_keys=True)
        self._call(lambda: self._store.set(keys[self._rank], text), keys[self._rank], end)
        found = []
        for rank, key in enumerate(keys):
            try:
                self._call(partial(self._wait, key, end), key, end)
                found.append(_parsed(self._call(partial(self._store.get, key), key, end), key))
            except Timeout as error:
                raise Timeout(
                    f"rank {rank} has not {doing} within {self._timeout:g} s (timeout): the store has no key "
                    f"{key!r}"
                ) from error
        return found

    def _wait(self, key: str, end: float) -> None:
        self._store.wait([key], timedelta(seconds=max(0.001, end - time.monotonic())))

    def _call(self, act: Callable[[], Any], key: str, end: float) -> Any:
        """Return what `act` returns. A store that does not answer is left behind in its thread."""
        answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()

        def run() -> None:
            try:
                answers.put((act(), None))
            except BaseException as error:
                answers.put((None, error))

        threading.Thread(target=run, name="thinwire-store", daemon=True).start()
        try:
            answer, error = answers.get(timeout=max(0.001, end - time.monotonic()) + 0.5)
        except Empty:
            raise Timeout(
                f"the store did not answer within {self._timeout:g} s (timeout) for the key {key!r}"
            ) from None
        if error is None:
            return answer
        if time.monotonic() >= end or "timeout" in str(error).lower() or "timed out" in str(error).lower():
            raise Timeout(
                f"the store had no answer within {self._timeout:g} s (timeout) for the key {key!r}: {error}"
            ) from error
        raise TransportError(f"the store failed at the key {key!r}: {error}") from error


def _parsed(text: str | bytes, key: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except ValueError:
        message = None
    if not isinstance(message, dict):
        raise TransportError(f"the store's value for the key {key!r} was not written by a communicator")
    return message


def require_equal(subject: str, descriptions: Sequence[Any]) -> None:
    """Raise InvalidArgument that names the first difference between ranks, if there is one."""
    for rank, other in enumerate(descriptions):
        found = _first_difference(descriptions[0], other, "")
        if found:
            where, here, there = found
            values = f"{_short(here)} on rank 0, {_short(there)} on rank {rank}"
            raise InvalidArgument(f"ranks disagree on {subject}: {where} is {values}")


def _first_difference(one: Any, other: Any, path: str) -> tuple[str, Any, Any] | None:
    if one == other:
        return None
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(str(key), one.get(key), other.get(key)) for key in sorted({*one, *other})]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(i), a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        return path, one, other
    deeper = (_first_difference(a, b, f"{path} {key}".strip()) for key, a, b in pairs)
    return next(found for found in deeper if found)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
