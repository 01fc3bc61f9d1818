"""Each rule of the protocol is needed: without it, schedules find a version that has lost something."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any
from unittest import mock

import pytest

from store_schedules import random_schedule, repeatable, run, two_switches, unguarded
from store_world import PlainContents, Violation
from thinwire.errors import Conflict, StoreError
from thinwire.store import collector, leases
from thinwire.store.backend import Backend
from thinwire.store.leases import Lease

Break = Callable[[], AbstractContextManager[Any]]

_Collection = collector._Collection


def nobody_is_waited_for() -> AbstractContextManager[Any]:
    return mock.patch.object(_Collection, "_wait_for_writers", return_value=[])


def condemned_is_read_last() -> AbstractContextManager[Any]:
    """The writer lists packs, reads the index, and only then what is condemned."""
    places, seen = PlainContents.places, {}

    def usable(backend: Backend) -> set[bytes]:
        present = set(leases.present_packs(backend))
        seen[id(backend)] = places(PlainContents(backend))
        return present - leases.condemned_packs(backend)

    stack = ExitStack()
    stack.enter_context(mock.patch.object(leases, "usable_packs", usable))
    stack.enter_context(
        mock.patch.object(
            PlainContents, "places", lambda self: seen.pop(id(self.backend), None) or places(self)
        )
    )
    return stack


def writers_build_on_condemned_packs() -> AbstractContextManager[Any]:
    return mock.patch.object(leases, "usable_packs", lambda backend: set(leases.present_packs(backend)))


def nothing_is_condemned() -> AbstractContextManager[Any]:
    return mock.patch.object(leases, "condemn", lambda backend, collector, packs: f"condemned/{collector}")


def the_lease_is_opened_last() -> AbstractContextManager[Any]:
    """The writer looks at the store, then opens its lease."""
    opened, looked, seen = Lease.open, leases.usable_packs, {}

    def open_after_looking(backend: Backend, *args: Any, **options: Any) -> Lease:
        seen[id(backend)] = looked(backend)
        return opened(backend, *args, **options)

    stack = ExitStack()
    stack.enter_context(mock.patch("store_world.Lease.open", open_after_looking))
    stack.enter_context(mock.patch.object(leases, "usable_packs", lambda backend: seen[id(backend)]))
    return stack


def collectors_look_only_once() -> AbstractContextManager[Any]:
    look = _Collection._look

    def first(self: Any) -> Any:
        if not hasattr(self, "seen"):
            self.seen = look(self)
        return self.seen

    return mock.patch.object(_Collection, "_look", first)


def collectors_count_on_what_others_condemned() -> AbstractContextManager[Any]:
    condemned = leases.condemned_packs
    return mock.patch.object(
        leases, "condemned_packs", lambda backend, but=None: set() if but else condemned(backend)
    )


def _clear_up_also(more: Callable[[Any, Any], None]) -> AbstractContextManager[Any]:
    clear_up = _Collection._clear_up

    def broken(self: Any, look: Any) -> None:
        more(self, look)
        clear_up(self, look)

    return mock.patch.object(_Collection, "_clear_up", broken)


def revoked_ends_are_removed() -> AbstractContextManager[Any]:
    def remove(self: Any, look: Any) -> None:
        for lease in look.ended - {ref.lease for ref in look.living}:
            collector._remove_heartbeats(self._backend, {lease})
            self._backend.delete(leases.ENDS + lease)

    return _clear_up_also(remove)


def what_others_condemned_is_pardoned() -> AbstractContextManager[Any]:
    def pardon(self: Any, look: Any) -> None:
        for entry in list(self._backend.list(leases.CONDEMNED)):
            self._backend.delete(entry.path)

    return _clear_up_also(pardon)


def ends_are_listed_after_the_versions() -> AbstractContextManager[Any]:
    look = _Collection._look
    return mock.patch.object(
        _Collection, "_look", lambda self: look(self)._replace(ended=set(leases.ended_leases(self._backend)))
    )


def the_greatest_number_is_removed() -> AbstractContextManager[Any]:
    versions = _Collection._versions

    def broken(self: Any) -> Any:
        living, _ = versions(self)
        every = {
            (name, number, attempt)
            for name, found in self._refs.numbers().items()
            for number, attempt in found.attempts.items()
        }
        counting = {(ref.name, ref.version) for ref in living}
        return living, sorted(each for each in every if each[:2] not in counting)

    return mock.patch.object(_Collection, "_versions", broken)


def a_revoked_commit_is_believed() -> AbstractContextManager[Any]:
    commit = Lease.commit

    def deaf(self: Lease) -> None:
        with suppress(StoreError):
            commit(self)

    return mock.patch.object(Lease, "commit", deaf)


def _named_by_content(self: PlainContents, folder: str, content: Any) -> str:
    data = json.dumps(content).encode()
    name = hashlib.sha256(data).hexdigest()
    with suppress(Conflict):
        self.backend.create(folder + name, [data])
    return name


def manifests_come_again() -> AbstractContextManager[Any]:
    return mock.patch.object(
        PlainContents,
        "write_manifest",
        lambda self, chunks: _named_by_content(self, collector.MANIFESTS, sorted(chunks)),
    )


def segments_come_again() -> AbstractContextManager[Any]:
    return mock.patch.object(
        PlainContents, "write_segment", lambda self, packs: _named_by_content(self, "index/", packs)
    )


EASY: list[Break] = [
    nobody_is_waited_for,
    writers_build_on_condemned_packs,
    nothing_is_condemned,
    the_lease_is_opened_last,
    collectors_look_only_once,
    collectors_count_on_what_others_condemned,
    revoked_ends_are_removed,
    ends_are_listed_after_the_versions,
    the_greatest_number_is_removed,
    a_revoked_commit_is_believed,
    manifests_come_again,
    segments_come_again,
]


@pytest.mark.parametrize("broken", EASY, ids=lambda broken: broken.__name__)
def test_random_schedules_find_a_broken_rule(broken: Break) -> None:
    assert find(broken, range(1000)) is not None


@pytest.mark.torture
def test_many_random_schedules_find_a_rarer_one() -> None:
    assert find(what_others_condemned_is_pardoned, range(10_000)) is not None


@pytest.mark.torture
def test_two_switches_find_that_condemned_is_read_last() -> None:
    assert find_systematically(condemned_is_read_last)


def find(broken: Break, seeds: Iterable[int]) -> int | None:
    """The first seed whose schedule shows the harm."""
    for seed in seeds:
        with repeatable(seed), unguarded(), broken():
            try:
                run(random_schedule(seed))
            except Violation:
                return seed
    return None


def find_systematically(broken: Break) -> bool:
    """Whether a writer and a collector come to harm."""
    with repeatable(), broken():
        try:
            for first in ("collector", "writer"):
                for _ in two_switches(first):
                    pass
        except Violation:
            return True
    return False
