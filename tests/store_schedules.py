"""Orders in which writers, copies, collectors and users do their steps: given, random, all of two.

Packs lie in two locations, which collectors may empty.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest import mock

from store_world import GRACE_S, LOCATIONS, Actor, World
from thinwire.errors import StoreError
from thinwire.store import collector

NAMES = ("a", "b/c")


class Decision(NamedTuple):
    """What happens next. `which`: an actor, or a set of chunks as bits. `count`: steps, or a name."""

    kind: str
    which: int
    count: int


COUNTS = (1, 2, 3, 5, 8, 13, 21, 34, 55)  # short and long turns alike
KINDS = {"step": 60, "write": 6, "collect": 3, "delete": 2, "time": 3, "crash": 1, "lose": 1}
KINDS_WITH_COPIES = KINDS | {"copy": 4}
KINDS_WITH_EMPTYING = KINDS_WITH_COPIES | {"empty": 4}


def run(decisions: Iterable[Decision]) -> World:
    """Play a schedule to its end, and collect what garbage is left when all is quiet."""
    world = World()
    actors: list[Actor] = []
    for decision in decisions:
        play(world, actors, decision)
        if world.violation:
            raise world.violation
    finish(world, actors)
    return world


def play(world: World, actors: list[Actor], decision: Decision) -> None:
    at_work = [actor for actor in actors if not actor.done]
    name = NAMES[decision.count % len(NAMES)]
    if decision.kind == "write":
        chunks = [bit for bit in range(6) if decision.which >> bit & 1]
        actors.append(world.writer(name, chunks))
    elif decision.kind == "copy":
        newest = world.refs.numbers().get(name)
        actors.append(world.copier(name, newest.newest if newest else 1, [decision.which % 6, 5]))
    elif decision.kind == "delete":
        actors.append(world.deleter(name))
    elif decision.kind == "collect":
        actors.append(world.collector())
    elif decision.kind == "empty":
        actors.append(world.emptier(decision.which % LOCATIONS))
    elif decision.kind == "time":
        world.store.now += GRACE_S * decision.count / 10
    elif at_work:
        actor = at_work[decision.which % len(at_work)]
        if decision.kind == "crash":
            actor.crash()
        elif decision.kind == "lose":
            actor.failing = True
        else:
            for _ in range(decision.count):
                actor.step()


def finish(world: World, actors: list[Actor]) -> None:
    """Let everybody come to an end, then check what they were told."""
    for _ in range(3000):
        for actor in actors:
            actor.step()
        if all(actor.done for actor in actors):
            break
    else:
        raise AssertionError("somebody waits for ever")
    if world.violation:
        raise world.violation
    for actor in actors:
        if actor.error is not None and not isinstance(actor.error, StoreError):
            raise actor.error
    world.check_promises()


def random_schedule(seed: int, among: dict[str, int] = KINDS) -> list[Decision]:
    """Two or three writers, deleters and collectors from the start on, then about 60 decisions."""
    chance = random.Random(seed)
    kinds, weights = list(among), list(among.values())
    start = ["write", "write", "collect", "collect", "delete", "write"]
    rest = chance.choices(kinds, weights, k=chance.randrange(20, 100))
    return [Decision(kind, chance.randrange(1, 64), chance.choice(COUNTS)) for kind in start + rest]


def repeatable(seed: int = 0) -> AbstractContextManager[Any]:
    """The same ids in every run."""
    chance = random.Random(seed)
    return mock.patch.multiple(
        secrets, token_hex=lambda size: chance.randbytes(size).hex(), token_bytes=chance.randbytes
    )


def unguarded() -> AbstractContextManager[Any]:
    """Collectors do not look out for each other: safety must not rest on that courtesy."""
    return mock.patch.object(collector, "_refuse_company")


def garbage_and_more() -> World:
    """A store with a version, and with the pack of another that was deleted."""
    world = World()
    world.write(world.store, "a", [0, 1, 2])
    world.write(world.store, "b/c", [3])
    world.refs.delete("a", 1)
    world.deleted.add(("a", 1))
    return world


def two_switches(first: str) -> Iterator[World]:
    """A writer that wants what a collector means to delete. One does some steps, the other does some, the
    first comes to its end, then the other; with every number of steps."""
    steps_of_first = 0
    while True:
        steps_of_first += 1
        steps_of_other = 0
        while True:
            steps_of_other += 1
            world = garbage_and_more()
            actors = [world.collector(), world.writer("a", [0, 1, 2, 3, 4])]
            actor, other = actors if first == "collector" else reversed(actors)
            for _ in range(steps_of_first):
                actor.step()
            for _ in range(steps_of_other):
                other.step()
            ended = actor.done, other.done
            for each in (actor, other):
                for _ in range(1000):
                    each.step()
            finish(world, actors)
            yield world
            if ended[1]:
                break
        if ended[0]:
            return
