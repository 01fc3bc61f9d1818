"""A small world for the store's protocol: objects in memory, a clock that is told, actors that are
interleaved.

Every operation on the backend is a step; a schedule says whose step is next, who crashes, when time passes.
The writers and the contents here are as plain as the protocol allows.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

import numpy as np

from thinwire.errors import NotFound, StoreError
from thinwire.store import collector, leases
from thinwire.store.backend import Buffer, Entry, check_path, conflict, cut_off
from thinwire.store.leases import Lease
from thinwire.store.refs import Ref, Refs
from thinwire.store.survey import Census, Ids

GRACE_S = 100.0
POLL_S = 25.0
CHUNK_BYTES = 10
LOCATIONS = 2  # that packs lie in, by their ids


class MemoryBackend:
    """Objects in a dict. `now` is the store's clock."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.now = 0.0

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        try:
            data = self.objects[check_path(path)][0][offset:]
        except KeyError:
            raise NotFound(path) from None
        if size is not None and len(data) < size:
            raise cut_off(path, offset + len(data), size - len(data))
        return data if size is None else data[:size]

    def read_into(self, path: str, offset: int, buffer: Any) -> None:
        view = memoryview(buffer).cast("B")
        view[:] = self.read(path, offset, len(view))

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        if check_path(path) in self.objects:
            raise conflict(path)
        self.objects[path] = (b"".join(parts), self.now)

    def list(self, prefix: str) -> Iterator[Entry]:
        found = sorted((path, data) for path, (data, _) in self.objects.items() if path.startswith(prefix))
        return iter([Entry(path, len(data)) for path, data in found])

    def delete(self, path: str) -> None:
        self.objects.pop(check_path(path), None)

    def exists(self, path: str) -> bool:
        return path in self.objects

    def age(self, path: str) -> float:
        if path not in self.objects:
            raise NotFound(path)
        return self.now - self.objects[path][1]

    def map(self, path: str) -> memoryview | None:
        return None

    def tidy(self, older_than_s: float) -> None:
        pass


class Crash(BaseException):
    """The actor's process is gone."""


class Actor:
    """A thread that does one step on the backend each time it is told to."""

    def __init__(self, world: World, program: Callable[[SteppedBackend], None]) -> None:
        self.crashed = self.done = self.failing = False
        self.error: BaseException | None = None
        self._go, self._arrived = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, args=(world, program), daemon=True)
        self._thread.start()
        self._arrived.acquire()

    def step(self) -> None:
        """Let the actor go on to its next step, or to its end."""
        if not self.done:
            self._go.release()
            self._arrived.acquire()

    def crash(self) -> None:
        self.crashed = True
        while not self.done:
            self.step()

    def wait(self) -> None:
        """Called by the actor before each step."""
        self._arrived.release()
        self._go.acquire()
        if self.crashed:
            raise Crash

    def _run(self, world: World, program: Callable[[SteppedBackend], None]) -> None:
        try:
            self.wait()
            program(SteppedBackend(world, self))
        except Crash:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.done = True
            self._arrived.release()


class SteppedBackend(MemoryBackend):
    """The world's objects as one actor sees them: others may come between any two operations, and between the
    pages of a listing."""

    def __init__(self, world: World, actor: Actor) -> None:
        self.world, self.actor = world, actor

    @property
    def objects(self) -> dict[str, tuple[bytes, float]]:  # type: ignore[override]
        return self.world.store.objects

    @property
    def now(self) -> float:  # type: ignore[override]
        return self.world.store.now

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        self.actor.wait()
        return super().read(path, offset, size)

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        self.actor.wait()
        super().create(path, parts)
        if path.startswith(leases.ENDS):
            self.world.check()
        self._lose_answer(path)

    def list(self, prefix: str) -> Iterator[Entry]:
        last = ""
        while True:
            self.actor.wait()
            page = [entry for entry in super().list(prefix) if entry.path > last][:2]
            yield from page
            if len(page) < 2:
                return
            last = page[-1].path

    def delete(self, path: str) -> None:
        self.actor.wait()
        super().delete(path)
        self.world.check()
        self._lose_answer(path)

    def age(self, path: str) -> float:
        self.actor.wait()
        return super().age(path)

    def sleep(self, seconds: float) -> None:
        self.actor.wait()
        self.world.store.now += seconds

    def _lose_answer(self, path: str) -> None:
        if self.actor.failing:
            self.actor.failing = False
            raise StoreError(f"{path}: the answer was lost")


class PlainContents:
    """Packs, segments and manifests as JSON."""

    def __init__(self, backend: MemoryBackend) -> None:
        self.backend = backend

    def write_pack(self, chunks: Iterable[int]) -> bytes:
        pack = secrets.token_bytes(32)
        self.backend.create(f"packs/{pack.hex()[:2]}/{pack.hex()}", [json.dumps(sorted(chunks)).encode()])
        return pack

    def write_segment(self, packs: dict[str, list[int]]) -> str:
        path = f"index/{secrets.token_hex(16)}"
        self.backend.create(path, [json.dumps(packs).encode()])
        return path

    def write_manifest(self, chunks: Iterable[int]) -> str:
        manifest = secrets.token_hex(32)
        self.backend.create(collector.MANIFESTS + manifest, [json.dumps(sorted(chunks)).encode()])
        return manifest

    def segments(self) -> dict[str, dict[str, list[int]]]:
        while True:
            with suppress(NotFound):  # merged meanwhile: list again
                paths = [entry.path for entry in self.backend.list("index/")]
                return {path: json.loads(self.backend.read(path)) for path in paths}

    def places(self) -> dict[str, list[int]]:
        return {pack: chunks for segment in self.segments().values() for pack, chunks in segment.items()}

    def chunks_of(self, ref: Ref) -> Ids:
        return _ids(json.loads(self.backend.read(collector.MANIFESTS + ref.manifest)))

    def census(self) -> Census:
        places = self.places()
        rows = [(row, chunk) for row, chunks in enumerate(places.values()) for chunk in chunks]
        return Census(
            [bytes.fromhex(pack) for pack in places],
            _ids(chunk for _, chunk in rows),
            np.array([row for row, _ in rows], np.int64),
            np.full(len(rows), CHUNK_BYTES, np.int64),
        )

    def rewrite(self, chunks: Ids, packs: Sequence[bytes], heartbeat: Callable[[], None]) -> None:
        there: set[int] = set()
        for pack in packs:
            with suppress(NotFound):
                there |= set(json.loads(self.backend.read(f"packs/{pack.hex()[:2]}/{pack.hex()}")))
        copied = sorted(there & {int.from_bytes(chunk.tobytes(), "big") for chunk in chunks})
        if copied:
            self.write_segment({self.write_pack(copied).hex(): copied})

    def forget(self, packs: AbstractSet[bytes]) -> None:
        old = self.segments()
        gone = {pack.hex() for pack in packs}
        merged = {pack: chunks for each in old.values() for pack, chunks in each.items() if pack not in gone}
        if merged:
            self.write_segment(merged)
        for path in old:
            self.backend.delete(path)


class Violation(AssertionError):
    """A version that counts has lost something."""


class World:
    """A store, and what its users were told."""

    def __init__(self) -> None:
        self.store = MemoryBackend()
        self.contents, self.refs = PlainContents(self.store), Refs(self.store)
        self.promised: set[tuple[str, int]] = set()  # commits that returned
        self.finished: set[tuple[str, int]] = set()  # commits that another did for the writer
        self.refused: set[tuple[str, int]] = set()  # attempts that said they were revoked
        self.deleted: set[tuple[str, int]] = set()  # by users
        self.violation: Violation | None = None

    def clock(self) -> float:
        return self.store.now

    def writer(self, name: str, chunks: Iterable[int], expect: int | None = None) -> Actor:
        return Actor(self, lambda backend: self.write(backend, name, chunks, expect))

    def copier(self, name: str, version: int, chunks: Iterable[int]) -> Actor:
        return Actor(self, lambda backend: self.copy(backend, name, version, chunks))

    def copy(self, backend: MemoryBackend, name: str, version: int, chunks: Iterable[int]) -> None:
        """Write a version under that very number, or finish it for a writer that had come so far."""
        begun = Refs(backend).pending(name, version)
        if begun is None or leases.end_lease(backend, begun.lease, leases.COMMITTED) != leases.COMMITTED:
            self.write(backend, name, chunks, version=version)
        else:
            self.finished.add((name, version))

    def write(
        self,
        backend: MemoryBackend,
        name: str,
        chunks: Iterable[int],
        expect: int | None = None,
        version: int | None = None,
    ) -> None:
        """What docs/store/collecting.md asks of a writer, step by step."""
        contents, refs = PlainContents(backend), Refs(backend)
        lease = Lease.open(backend, grace_s=GRACE_S, background=False, clock=self.clock)
        usable = leases.usable_packs(backend)
        places = contents.places()
        known = {chunk for pack, has in places.items() if bytes.fromhex(pack) in usable for chunk in has}
        new = sorted(set(chunks) - known)
        if new:
            contents.write_segment({contents.write_pack(new).hex(): new})
        lease.heartbeat()
        ref = refs.publish(
            name, lease, lambda number: contents.write_manifest(chunks), expect=expect, version=version
        )
        try:
            lease.commit()
        except StoreError as error:
            if "revoked" in str(error):
                self.refused.add((name, ref.version))
            raise
        if (name, ref.version) in self.promised:
            self.violation = Violation(f"the number of {name}@{ref.version} came again")
        self.promised.add((name, ref.version))

    def deleter(self, name: str) -> Actor:
        def delete(backend: SteppedBackend) -> None:
            refs = Refs(backend)
            for ref in refs.versions(name):
                self.deleted.add((name, ref.version))
                with suppress(NotFound):  # another user was faster
                    refs.delete(name, ref.version)

        return Actor(self, delete)

    def collector(self, **options: Any) -> Actor:
        return Actor(self, lambda backend: self.collect(backend, backend.sleep, **options))

    def emptier(self, location: int) -> Actor:
        """Gives up all packs that lie in a location."""

        def empty(backend: SteppedBackend) -> None:
            given_up = {pack for pack in leases.present_packs(backend) if pack[0] % LOCATIONS == location}
            self.collect(backend, backend.sleep, given_up=given_up)

        return Actor(self, empty)

    def collect(self, backend: MemoryBackend, sleep: Callable[[float], None], **options: Any) -> None:
        collector.collect(
            backend,
            Refs(backend),
            PlainContents(backend),
            grace_s=GRACE_S,
            poll_s=POLL_S,
            background=False,
            sleep=sleep,
            clock=self.clock,
            **options,
        )

    def living(self) -> list[Ref]:
        """The versions that count."""
        found = self.refs.numbers()
        return [ref for name in found for ref in self.refs.versions(name)]

    def check(self) -> None:
        """Keep the first violation: every chunk of every version that counts is there, and in the index."""
        if self.violation is None:
            try:
                self._check()
            except Violation as violation:
                self.violation = violation

    def _check(self) -> None:
        places = {
            chunk
            for pack, chunks in self.contents.places().items()
            if self.store.exists(f"packs/{pack[:2]}/{pack}")
            for chunk in chunks
        }
        for ref in self.living():
            if not self.store.exists(collector.MANIFESTS + ref.manifest):
                raise Violation(f"{ref.name}@{ref.version} has lost its manifest")
            needed = {int.from_bytes(chunk.tobytes(), "big") for chunk in self.contents.chunks_of(ref)}
            if needed - places:
                raise Violation(f"{ref.name}@{ref.version} has lost the chunks {sorted(needed - places)}")

    def check_promises(self) -> None:
        """Commits count if and only if their writers were told so; but for those that users deleted."""
        counting = {(ref.name, ref.version) for ref in self.living()}
        promised = self.promised | self.finished
        if lost := promised - counting - self.deleted:
            raise Violation(f"{lost} were committed and are gone")
        if wrong := (self.refused - promised) & counting:
            raise Violation(f"{wrong} were refused and count")


def _ids(chunks: Iterable[int]) -> Ids:
    return np.frombuffer(b"".join(chunk.to_bytes(32, "big") for chunk in chunks), np.uint8).reshape(-1, 32)
