"""Packs spread over several places; everything else stays in the first, where the store is.

The id of a pack chooses among the places by rendezvous hashing (Thaler and Ravishankar, "Using name-based
mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998), with weights as in Schindler
and Schomaker, "Weighted distributed hash tables", SPAA 2005. A place that is added takes its share of the new
packs; the old ones stay where they are, and are looked for in the order in which their ids rank the places.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from thinwire import _core
from thinwire.errors import Conflict, InvalidArgument, NotFound, StoreError
from thinwire.store import checked
from thinwire.store.backend import CONFIG, Backend, Buffer, Entry, backend_at, backend_for
from thinwire.store.leases import PACKS
from thinwire.store.refs import Seal

LOCATIONS = "locations/"
MARKER = "location.json"
"""Says in a place whose packs lie there, so that an empty mount point is not taken for an empty place."""
HOME = ""
"""The id of the place where the store itself is."""

_Result = TypeVar("_Result")


class Location(NamedTuple):
    """A place for packs. New ones are spread in proportion to the weights."""

    id: str
    url: str
    weight: float


class Holding(NamedTuple):
    """What lies in a location, or why that cannot be said."""

    location: Location
    packs: list[Entry]
    error: StoreError | None


class _Place:
    """A location and its backend, which is made when it is needed first."""

    def __init__(self, location: Location, marker: bytes, backend: Backend | None = None) -> None:
        self.location, self.marker, self._backend = location, marker, backend

    def changed(self, url: str, weight: float) -> _Place:
        """The same place as another record has it; home is where it was opened."""
        stays = self.location.id == HOME or url == self.location.url
        location = Location(self.location.id, self.location.url if stays else url, weight)
        return _Place(location, self.marker, self._backend if stays else None)

    def do(self, work: Callable[[Backend], _Result]) -> _Result:
        """Do something there. A StoreError names the location."""
        try:
            return work(self.opened())
        except StoreError as error:
            if self.location.id == HOME:
                raise
            named = type(error)(f"{error} (location {self.location.url})")
            named.errno = error.errno
            raise named from error

    def entries(self, prefix: str) -> list[Entry]:
        """The packs there whose path begins with `prefix`."""
        self.check()
        return self.do(lambda backend: list(backend.list(prefix)))

    def check(self) -> None:
        """Raise StoreError where the place is not there, or is another's."""
        if self.location.id == HOME:
            return
        try:
            found = self.do(lambda backend: backend.read(MARKER))
        except NotFound:
            found = b""
        if found != self.marker:
            why = "is not ours" if found else "is gone"
            raise StoreError(
                f"location {self.location.url} is missing, as its {MARKER} {why}: mount it, or open the "
                "store with locations=[where it is now]; if it is lost, remove_location"
            )

    def opened(self) -> Backend:
        """Its backend. Raises StoreError where none can be made."""
        if self._backend is None:
            try:
                self._backend = backend_for(self.location.url)
            except ImportError as error:
                raise StoreError(str(error)) from error
        return self._backend


class SpreadBackend:
    """A store's backend: `home`, and the locations for packs that its record names.

    The record is `locations/1`, `locations/2`, ...: each adds a location, gives it another url or weight, or
    removes it. What is new in it is read before packs are listed, and when a pack is not found.
    """

    def __init__(self, home: Backend, store_id: str, seal: Seal) -> None:
        self.home = home
        self._store_id, self._seal = store_id, seal
        self._places = {HOME: _Place(Location(HOME, str(home), 1.0), b"", home)}
        self._known: set[str] = set()  # ids in the record, also of what was removed
        self._read = 0  # objects of the record
        self._elsewhere: dict[str, str] = {}  # packs that are not where they would go now
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return str(self.home)

    def read(self, path: str, offset: int = 0, size: int | None = None) -> bytes:
        return self._find(path, lambda backend: backend.read(path, offset, size))

    def read_into(self, path: str, offset: int, buffer: Any) -> None:
        self._find(path, lambda backend: backend.read_into(path, offset, buffer))

    def create(self, path: str, parts: Sequence[Buffer]) -> None:
        place = self._ranked(path)[0]
        place.check()  # writing to where nothing is mounted would fill the disk below
        place.do(lambda backend: backend.create(path, parts))
        if not self._takes_packs(place):  # any more: whoever removes it may have looked before
            self.create(path, parts)
            with contextlib.suppress(StoreError):  # it is the other one that counts
                place.do(lambda backend: backend.delete(path))

    def list(self, prefix: str) -> Iterator[Entry]:
        yield from self.home.list(prefix)
        if not prefix or prefix.startswith(PACKS):
            self._refresh()
            for place in self._places.values():
                if place.location.id != HOME:
                    yield from place.entries(prefix or PACKS)

    def delete(self, path: str) -> None:
        for place in self._ranked(path):
            place.check()  # where nothing is mounted all seems to be deleted
            place.do(lambda backend: backend.delete(path))

    def exists(self, path: str) -> bool:
        return any(place.do(lambda backend: backend.exists(path)) for place in self._candidates(path))

    def age(self, path: str) -> float:
        return self._find(path, lambda backend: backend.age(path))

    def map(self, path: str) -> memoryview | None:
        return self._find(path, lambda backend: backend.map(path))

    def tidy(self, older_than_s: float) -> None:
        for place in self._places.values():
            place.do(lambda backend: backend.tidy(older_than_s))

    def holdings(self) -> Sequence[Holding]:
        """What lies in each location, the first being the store's own place."""
        self._refresh()
        return [_holding(place) for place in self._places.values()]

    def use(self, at: str | os.PathLike[str] | Backend, *, add: bool) -> None:
        """Take a location to be there from now on, in this process; `add` one where none is yet.

        Raises NotFound where none is and none is to be added, otherwise as `set`.
        """
        backend = backend_at(at)
        location_id = self._identify(backend)
        if location_id in self._places:
            known = self._places[location_id]
            self._put(_Place(known.location, known.marker, backend))
        elif add:
            self.set(backend, 1.0)
        else:
            raise NotFound(f"{backend} is no location of this store; add_location makes it one")

    def set(self, at: str | os.PathLike[str] | Backend, weight: float) -> Location:
        """Add a location, or say that one has another weight or url. Raises InvalidArgument."""
        if not 0 <= weight < math.inf:
            raise InvalidArgument(f"weight is {weight}; pass a number of 0 or more")
        backend = backend_at(at)
        location = Location(self._identify(backend), str(backend), float(weight))
        others = (place.location for place in self._places.values() if place.location.id != location.id)
        if not weight and not any(other.weight for other in others):
            raise InvalidArgument("weight is 0, which would leave no location for new packs")
        marker = self._marker(location.id)
        if location.id != HOME and not backend.exists(MARKER):
            backend.create(MARKER, [marker])
        self._record(location.id, location.url, location.weight)
        self._put(_Place(location, marker, backend))
        return location

    def retire(self, url: str) -> Backend:
        """Let a location take no new packs; its backend. Raises NotFound, InvalidArgument, StoreError."""
        place = self._at(url)
        place.check()
        backend = place.opened()
        self.set(backend, 0.0)
        return backend

    def remove(self, url: str) -> None:
        """Forget a location that is lost, or empty. Raises NotFound, InvalidArgument."""
        found = self._at(url)
        if found.location.id == HOME:
            raise InvalidArgument(f"{url} is the store's own place, which it cannot do without")
        location = found.location
        self._refuse_packs(found)
        self._record(location.id, url, 0.0)  # first: who creates a pack there from now on learns of it
        try:
            self._refuse_packs(found)
        except InvalidArgument:
            self._record(*location)
            raise
        self._record(location.id, url, None)

    def _refuse_packs(self, place: _Place) -> None:
        if packs := _holding(place).packs:
            url = place.location.url
            raise InvalidArgument(
                f"location {url} holds {len(packs)} packs; empty_location moves what is needed of them"
            )

    def _takes_packs(self, place: _Place) -> bool:
        """Whether the record, as it is now, gives a location a weight. The own place is always fine."""
        if place.location.id == HOME:
            return True
        self._refresh()
        now = self._places.get(place.location.id)
        return now is not None and now.location.weight > 0

    def _at(self, url: str) -> _Place:
        self._refresh()
        for place in self._places.values():
            if place.location.url == url:
                return place
        raise NotFound(f"the store has no location {url}; locations() lists them")

    def _ranked(self, path: str) -> Sequence[_Place]:
        """The places where an object may be, that first where a new one goes."""
        if not path.startswith(PACKS):
            return [self._places[HOME]]
        return sorted(self._places.values(), key=lambda place: _score(place.location, path), reverse=True)

    def _find(self, path: str, work: Callable[[Backend], _Result]) -> _Result:
        """Work with an object, wherever it is. Raises NotFound, and StoreError where a place is missing."""
        if not path.startswith(PACKS):
            return work(self.home)
        failures: list[StoreError] = []
        for place in self._candidates(path):
            try:
                result = place.do(work)
            except StoreError as error:
                failures.append(error)
            else:
                if failures:
                    self._elsewhere[path] = place.location.id
                return result
        for failure in failures:
            if not isinstance(failure, NotFound):
                raise failure
        for place in self._places.values():
            place.check()
        raise failures[0]

    def _candidates(self, path: str) -> Iterator[_Place]:
        """The places of an object: where it was last time, the others, those that were added meanwhile."""
        ranked = self._ranked(path)
        known = self._elsewhere.get(path)
        yield from sorted(ranked, key=lambda place: place.location.id != known)
        if path.startswith(PACKS) and self._refresh():
            yield from (place for place in self._ranked(path) if place not in ranked)

    def _refresh(self) -> bool:
        """Read what is new in the record; whether anything is."""
        with self._lock:
            before = self._read
            for _ in range(sum(1 for _ in self.home.list(LOCATIONS)) - before):
                path = f"{LOCATIONS}{self._read + 1}"
                plain = self._seal.open(path, self.home.read(path))
                self._apply(**checked.decode(path, plain, "take it from a copy of the store"))
                self._read += 1
            return self._read > before

    def _apply(self, location: str, url: str, weight: float | None) -> None:
        self._known.add(location)
        if weight is None:
            self._places = {each: place for each, place in self._places.items() if each != location}
        elif location in self._places:
            self._put(self._places[location].changed(url, weight))
        else:
            self._put(_Place(Location(location, url, weight), self._marker(location)))

    def _put(self, place: _Place) -> None:
        self._places = self._places | {place.location.id: place}  # others may be walking through the old one

    def _record(self, location: str, url: str, weight: float | None) -> None:
        """Make it durable for all who open the store, and apply it. Weight None removes."""
        said = {"location": location, "url": url, "weight": weight}
        written = False
        while not written:
            self._refresh()
            path = f"{LOCATIONS}{self._read + 1}"
            try:
                self.home.create(path, [self._seal.seal(path, checked.encode(path, said))])
                written = True
            except Conflict:
                continue  # another process recorded something just now
        self._refresh()

    def _identify(self, backend: Backend) -> str:
        """The id of the location at a place, a new one where there is nothing. Raises InvalidArgument."""
        self._refresh()
        if str(backend) == str(self.home):
            return HOME
        if backend.exists(CONFIG):
            raise InvalidArgument(f"{backend} is a store; a location needs a place of its own")
        try:
            found = backend.read(MARKER)
        except NotFound:
            for place in self._places.values():
                if place.location.url == str(backend):
                    place.check()  # which says that it is missing
            return secrets.token_hex(16)
        for location_id in self._known:
            if found == self._marker(location_id):
                return location_id
        raise InvalidArgument(
            f"{backend} has the packs of another store, or of another copy of this one; choose another "
            f"place, or delete {MARKER} there if nobody needs them"
        )

    def _marker(self, location_id: str) -> bytes:
        return json.dumps({"store": self._store_id, "location": location_id}).encode()


def _holding(place: _Place) -> Holding:
    try:
        return Holding(place.location, place.entries(PACKS), None)
    except StoreError as error:
        return Holding(place.location, [], error)


def _score(location: Location, path: str) -> float:
    """The greater, the better a location suits a pack; over many packs in proportion to the weights."""
    digest = _core.blake3(f"{location.id} {path}".encode())
    share = ((int.from_bytes(digest[:8], "little") >> 12) + 0.5) / 2**52  # above 0, below 1
    return location.weight / -math.log(share)
