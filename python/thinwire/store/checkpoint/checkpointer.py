"""Checkpoints of a training job: only what changed is stored, and it is stored while training goes on."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from thinwire.errors import Conflict, InvalidArgument, StoreError
from thinwire.store.checkpoint import ranks as meeting
from thinwire.store.checkpoint import tree
from thinwire.store.checkpoint.filling import Filling, Skipped
from thinwire.store.checkpoint.layout import lay_out
from thinwire.store.checkpoint.loading import Stored, branch
from thinwire.store.checkpoint.ranks import Meeting, Ranks
from thinwire.store.checkpoint.saving import LEVEL, OWN, STATE, Progress, Save, describe, store_snapshot
from thinwire.store.checkpoint.staging import Key, Known, Snapshot, Staging
from thinwire.store.checkpoint.steps import KIND, LATEST, PART_KIND, Retention, Step, Steps
from thinwire.store.refs import Ref, check_name
from thinwire.store.store import Store

TIMEOUT_S = 1800.0
_log = logging.getLogger(__name__)


class Checkpointer:
    """Saves and loads a state under one name of a store; each step is a version of it.

    `store` is a Store, or a path or url of one, which `options` (as Store's) open. `keep_last` steps, and
    those that `keep_every` divides, stay; all others are deleted when a later one is durable (`store.gc()`
    frees their space). By default all stay. `wait=False`: a save while another is in flight raises Conflict
    instead of waiting.

    Several ranks save into one step when each has a Checkpointer that knows its rank: `process_group` of
    torch.distributed (the constructor is then collective), or `rank`, `world_size` and `session`, a text that
    is new with every start of the job. They wait for each other for `timeout` seconds.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        name: str = "checkpoint",
        *,
        keep_last: int | None = None,
        keep_every: int | None = None,
        wait: bool = True,
        process_group: Any = None,
        rank: int = 0,
        world_size: int = 1,
        session: str = "",
        timeout: float = TIMEOUT_S,
        level: int = LEVEL,
        **options: Any,
    ) -> None:
        self._retention = Retention(keep_last, keep_every)
        self._retention.check()
        self._ranks = (
            Ranks(rank, world_size, session) if process_group is None else meeting.of_group(process_group)
        )
        self._ranks.check()
        self._owns_store = not isinstance(store, Store)
        self.store = store if isinstance(store, Store) else Store(store, **options)
        self.name = check_name(name)
        self._steps = Steps(self.store, name)
        self._wait, self._timeout, self.level = wait, timeout, level
        self._staging = Staging()
        self._known: Mapping[Key, Known] = {}
        self._background = ThreadPoolExecutor(1, "thinwire-checkpoint")
        self._last: Save | None = None
        self._attempts: Counter[int] = Counter()

    def save(
        self,
        state_dict: Mapping[str, Any] | None,
        step: int,
        *,
        blocking: bool = True,
        rank_state: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Save:
        """Save a state: nested dicts, lists and tuples of tensors, numbers, str, bytes, bool and None.

        With `blocking=False` it returns when a copy is staged: what is written to the tensors afterwards does
        not get into the checkpoint. The rest goes on in the background; `wait_durable()` of what is returned
        waits for it, and raises what went wrong there; if nobody called it, the next save does. While
        blocking, tensors are read where they are: nothing may write to them.

        `rank_state` is this rank's own, as the state of the gradient hook. With several ranks all must call
        this; `state_dict` counts on rank 0 alone.

        Raises InvalidArgument, naming the key, for what a checkpoint does not take; Conflict where another
        save is in flight and `wait` is false.
        """
        if type(step) is not int or step < 0:
            raise InvalidArgument(f"step is {step!r}; pass an integer of 0 or more")
        self._attempts[step] += 1  # also where it fails below: the other ranks count theirs
        state = {OWN: None if rank_state is None else dict(rank_state)}
        if self._ranks.rank == 0:
            if state_dict is None:
                raise InvalidArgument("state_dict is None; rank 0 must pass the state")
            state[STATE] = dict(state_dict)
        described, leaves = tree.flatten(state)
        layout = lay_out(leaves)
        self._finish_last(wait=self._wait)
        snapshot = Snapshot(layout, self._staging, self._known, in_place=blocking)
        snapshot.take(self.store.workers.coders)
        kind = KIND if self._ranks.rank == 0 else PART_KIND
        metadata = describe(described, layout, kind, step)
        together = Meeting(self.store, self._steps, self._ranks, step, self._attempts[step], self._timeout)
        save = Save(step)
        save.start(self._background, lambda: self._store(save, snapshot, metadata, together, progress))
        self._last = save
        if blocking:
            save.wait_durable()
        return save

    def load(
        self,
        state_dict: dict[str, Any] | None = None,
        step: int | str = LATEST,
        strict: bool = True,
        *,
        progress: Progress | None = None,
    ) -> Any:
        """Load a step, verified.

        Without `state_dict`, everything as new objects on the host. A given one is filled: its tensors in
        place, on any device, everything else replaced; a dict in it that is empty takes all that is stored
        under it. Names, shapes and dtypes must fit: InvalidArgument lists those that do not, and nothing was
        touched. `strict=False` leaves them out. Returns what was left out, a Skipped.

        Raises NotFound for a step that is not there, CorruptChunk naming all tensors that are damaged.
        """
        stored = self.open(step)
        return _load(stored, branch(stored), state_dict, strict, progress)

    def open(self, step: int | str = LATEST) -> Stored:
        """A step, to be read in parts. Raises NotFound."""
        return self._steps.open(self._version(self._steps.find(step)))

    def load_rank_states(self, step: int | str = LATEST) -> list[Any]:
        """The `rank_state` of each rank that saved the step: None where it had none.

        As many as there were ranks then, for a job that goes on with more or fewer.
        """
        found = self._steps.find(step)
        versions = [self._version(found), *found.parts]
        return [self._own(self._steps.open(version)) for version in versions]

    def load_rank_state(self, step: int | str = LATEST, rank: int | None = None) -> Any:
        """The `rank_state` of one rank, by default this one's; None where it had none, or was not there."""
        found = self._steps.find(step)
        versions = [self._version(found), *found.parts]
        wanted = self._ranks.rank if rank is None else rank
        return self._own(self._steps.open(versions[wanted])) if wanted < len(versions) else None

    def steps(self) -> list[int]:
        """The steps that can be loaded, in the order they were saved."""
        return [step.step for step in self._steps.all()]

    def latest(self) -> int | None:
        """The step saved last, None where there is none."""
        newest = self._steps.newest()
        return None if newest is None else newest.step

    def delete(self, step: int) -> None:
        """Delete a step. Raises NotFound."""
        self._steps.find(step)
        self._steps.delete(found for found in self._steps.all() if found.step == step)

    def close(self) -> None:
        """Wait for the save in flight. Raises what went wrong there, if nobody heard of it."""
        self._background.shutdown()
        try:
            self.wait()
        finally:
            if self._owns_store:
                self.store.close()

    def __enter__(self) -> Checkpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self) -> None:
        """Wait for the save in flight. Raises what went wrong there, if nobody heard of it."""
        self._finish_last(wait=True)

    def _finish_last(self, *, wait: bool) -> None:
        last = self._last
        if last is None:
            return
        if not wait and not last.done():
            raise Conflict(f"step {last.step} is still being stored; wait_durable() waits for it")
        self._last = None
        last.settle()

    def _store(
        self,
        save: Save,
        snapshot: Snapshot,
        metadata: dict[str, Any],
        together: Meeting,
        progress: Progress | None,
    ) -> Ref:
        """The background part of a save."""
        self._known = {}  # after a failure, rely on nothing
        rank, name = self._ranks.rank, self.name
        before_commit: Callable[[], dict[str, Any]] = dict
        if rank:
            name = together.part_name(rank)
        elif self._ranks.world_size > 1:
            before_commit = together.gather_parts
        metadata |= together.said()
        ref, save.new_bytes = store_snapshot(
            self.store, name, snapshot, metadata, self.level, progress, before_commit
        )
        self._known = snapshot.known()
        if rank:
            return together.await_step()
        try:
            steps = self._steps.all()
            self._steps.delete(self._retention.surplus(steps))
            if steps and steps[-1].parts:
                self._steps.delete_orphans(steps[-1].parts)
        except StoreError as error:  # the save is good
            _log.warning("old steps of %s were not deleted: %s", self.name, error)
        return ref

    def _version(self, step: Step) -> str:
        return f"{self.name}@{step.ref.version}"

    def _own(self, stored: Stored) -> Any:
        return _load(stored, branch(stored, OWN), None, True, None)


def _load(
    stored: Stored,
    described: tree.Json,
    state: dict[str, Any] | None,
    strict: bool,
    progress: Progress | None,
) -> Any:
    if state is None:
        wanted = {leaf for _, leaf in tree.named_leaves(described)}
        return tree.build(described, stored.read([], wanted, progress).__getitem__)
    if not isinstance(state, dict):
        raise InvalidArgument(f"state_dict is a {type(state).__name__}; pass a dict")
    filling = Filling(state, described, stored.places)
    if strict:
        filling.check()
    filling.put(stored.read(filling.tensors, filling.fresh, progress).__getitem__)
    return filling.skipped


__all__ = ["Checkpointer", "Skipped"]
