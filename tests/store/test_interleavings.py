"""Writers, collectors and users in every order, with crashes, pauses past the lease and lost answers."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from store_schedules import (
    COUNTS,
    KINDS,
    KINDS_WITH_COPIES,
    KINDS_WITH_EMPTYING,
    Decision,
    random_schedule,
    repeatable,
    run,
    two_switches,
    unguarded,
)
from store_world import GRACE_S, World
from thinwire.store import collector, leases


def tidy_up(world: World) -> None:
    """Collect when nobody is at work any more; nothing may be left over."""

    def sleep(seconds: float) -> None:
        world.store.now += seconds

    for _ in range(3):
        world.store.now += 2 * GRACE_S
        world.collect(world.store, sleep)
    world.check()
    if world.violation:
        raise world.violation
    world.check_promises()
    living = world.living()
    objects = set(world.store.objects)
    assert [path for path in objects if path.startswith((leases.LEASES, leases.CONDEMNED))] == []
    manifests = {path for path in objects if path.startswith(collector.MANIFESTS)}
    assert manifests == {collector.MANIFESTS + ref.manifest for ref in living}
    ends = {path.removeprefix(leases.ENDS) for path in objects if path.startswith(leases.ENDS)}
    ended = {end for end in ends if leases.state_of_lease(world.store, end) == leases.COMMITTED}
    assert ended == {ref.lease for ref in living}
    needed = {chunk.tobytes() for ref in living for chunk in world.contents.chunks_of(ref)}
    places = world.contents.places()
    packs = {pack.hex() for pack in leases.present_packs(world.store)}
    assert packs == set(places)
    for pack in packs:
        live = [chunk for chunk in places[pack] if chunk.to_bytes(32, "big") in needed]
        assert len(live) >= collector.LIVE_SHARE * len(places[pack]) > 0
    for found in world.refs.numbers().values():
        dead = set(found.all) - {ref.version for ref in living}
        assert dead <= {found.newest}


decisions = st.builds(
    Decision,
    st.sampled_from([kind for kind, weight in KINDS_WITH_EMPTYING.items() for _ in range(weight)]),
    st.integers(1, 63),
    st.sampled_from(COUNTS),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(decisions, max_size=80))
def test_any_schedule(schedule: list[Decision]) -> None:
    with repeatable():
        tidy_up(run(schedule))


def search(seeds: Iterable[int], among: dict[str, int]) -> None:
    for seed in seeds:
        try:
            with repeatable(seed):
                with unguarded():
                    world = run(random_schedule(seed, among))
                tidy_up(world)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_random_schedules() -> None:
    search(range(60), KINDS)
    search(range(30), KINDS_WITH_COPIES)
    search(range(30), KINDS_WITH_EMPTYING)


@pytest.mark.torture
@pytest.mark.parametrize("first", ["collector", "writer"])
def test_every_schedule_of_two_with_two_switches(first: str) -> None:
    with repeatable():
        for world in two_switches(first):
            world.check_promises()


@pytest.mark.torture
def test_many_random_schedules() -> None:
    search(range(1000, 21_000), KINDS)
    search(range(21_000, 41_000), KINDS_WITH_COPIES)
    search(range(41_000, 61_000), KINDS_WITH_EMPTYING)
