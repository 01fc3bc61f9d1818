"""One save: staged by the caller's thread, stored by one in the background."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as NotDone
from typing import Any

import numpy as np

from thinwire.errors import StoreError, Timeout
from thinwire.store.checkpoint.layout import BLOCK_BYTES, Layout
from thinwire.store.checkpoint.staging import Snapshot
from thinwire.store.checkpoint.tree import Json
from thinwire.store.refs import Ref
from thinwire.store.store import Store

Progress = Callable[[int, int], None]
"""Called with the bytes done and the bytes to do; on a thread of the store's, in the background."""

PROFILE = f"aligned:average={BLOCK_BYTES}"
LEVEL = 1
STATE, OWN = "state", "own"
"""The entries of what is saved: the state that all ranks share, and what is this rank's own."""


class Save:
    """A checkpoint on its way. `step` is the caller's number, `new_bytes` what the store did not have yet."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.new_bytes = 0
        self._heard = False  # somebody knows how it ended
        self._future: Future[Ref] = Future()

    def start(self, executor: Executor, work: Callable[[], Ref]) -> None:
        """Let the work begin in the background."""
        self._future = executor.submit(work)

    def done(self) -> bool:
        """Whether it is over, well or not."""
        return self._future.done()

    def wait_durable(self, timeout: float | None = None) -> Ref:
        """Wait until the checkpoint is durable and the latest; its version in the store.

        Raises what went wrong in the background, or Timeout after `timeout` seconds (it goes on then).
        """
        try:
            error = self._future.exception(timeout)
        except NotDone:
            raise Timeout(f"step {self.step} is not durable after {timeout:g} s; wait again") from None
        self._heard = True
        if error is not None:
            raise error
        return self._future.result()

    def settle(self) -> None:
        """Wait until it is over; raise what went wrong, if nobody heard of it yet."""
        error = self._future.exception()
        if error is not None and not self._heard:
            self.wait_durable()


def describe(tree: Json, layout: Layout, kind: str, step: int) -> dict[str, Any]:
    """What a manifest says of a checkpoint."""
    return {
        "kind": kind,
        "step": step,
        "profile": PROFILE,
        "size": layout.extents.size,
        "extents": layout.extents.sizes,
        "leaves": [place.as_json() for place in layout.places],
        "tree": tree,
    }


def store_snapshot(
    store: Store,
    name: str,
    snapshot: Snapshot,
    metadata: dict[str, Any],
    level: int,
    progress: Progress | None,
    before_commit: Callable[[], dict[str, Any]] = dict,
) -> tuple[Ref, int]:
    """Store what changed and commit a version of `name`; that version, and the bytes that were new.

    `before_commit` is called when all chunks are durable and gives further metadata.
    """
    snapshot.compare(store.workers.coders)
    with store.writer(name, level=level) as writer:
        reused = [piece.chunks["id"][~piece.stale] for piece in snapshot.pieces]
        if not writer.known(np.concatenate(reused)).all():
            _store_all(snapshot)
        total = sum(len(run.memory) for piece in snapshot.pieces for run in piece.runs())
        done = 0
        for piece in snapshot.pieces:
            for run in piece.runs():
                piece.chunks[run.blocks] = writer.add(run.memory, run.ends, element_size=piece.element_size)
                done += len(run.memory)
                if progress is not None:
                    progress(done, total)
        writer.flush()
        ref = writer.commit(metadata | before_commit(), snapshot.chunks)
        return ref, writer.new_bytes


def _store_all(snapshot: Snapshot) -> None:
    """The last durable save is gone from the store: somebody deleted it. Rely on nothing of it."""
    if not snapshot.whole:
        raise StoreError(
            "the last checkpoint of this process was deleted from the store, and this one relied on blocks "
            "of it; save again: the next one will be stored whole"
        )
    for piece in snapshot.pieces:
        piece.stale[:] = True
