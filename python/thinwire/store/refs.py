"""Names and their versions. A version is an object that never changes, and its number never comes again."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from thinwire.errors import Conflict, InvalidArgument, NotFound, StoreError
from thinwire.store import checked
from thinwire.store.backend import Backend
from thinwire.store.leases import COMMITTED, REVOKED, Lease, state_of_lease

REFS = "refs/"
_DIGITS = 20
_DELETED = ".deleted"
_OBJECT = re.compile(rf"{REFS}(.+)/(\d{{{_DIGITS}}})(?:\.(\d+))?({re.escape(_DELETED)})?")
_PART = re.compile(rf"(?!\d{{{_DIGITS}}})[A-Za-z0-9._-]{{1,200}}")


class Ref(NamedTuple):
    """One version of a name. `created` is in seconds since 1970, by its writer's clock."""

    name: str
    version: int
    manifest: str
    lease: str
    created: float


class Seal(Protocol):
    """Hides small objects in a store with a key; bound to their path."""

    def seal(self, path: str, plain: bytes) -> bytes: ...
    def open(self, path: str, stored: bytes) -> bytes: ...


class _Plain:
    def seal(self, path: str, plain: bytes) -> bytes:
        return plain

    def open(self, path: str, stored: bytes) -> bytes:
        return stored


PLAIN: Seal = _Plain()


class Numbers(NamedTuple):
    """The version numbers of a name that have an object, and those of them that somebody deleted.

    `attempts` has the last attempt at each number; of the former ones none will ever count.
    """

    all: list[int]  # ascending
    deleted: set[int]
    attempts: dict[int, int]

    def has(self, version: int) -> bool:
        """Whether there is such a version, or was to be, that nobody deleted."""
        return version in self.attempts and version not in self.deleted

    @property
    def newest(self) -> int:
        """The greatest number, 0 where there is none."""
        return self.all[-1] if self.all else 0


class Refs:
    """The names of a store. A version counts when the lease it was published under was committed."""

    def __init__(self, backend: Backend, seal: Seal = PLAIN) -> None:
        self._backend, self._seal = backend, seal

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with `prefix` and have a version."""
        for name, numbers in self.numbers(_folder_of(prefix)).items():
            if name.startswith(prefix) and self._newest(name, numbers) is not None:
                yield name

    def versions(self, name: str) -> list[Ref]:
        """The versions of a name, oldest first; none where there is no such name."""
        numbers = self._numbers_of(check_name(name))
        found = (self._committed(name, number, numbers) for number in numbers.all if numbers.has(number))
        return [ref for ref in found if ref is not None]

    def pending(self, name: str, version: int) -> Ref | None:
        """A version whose writer has done everything but the commit; None where there is no such."""
        numbers = self._numbers_of(name)
        ref = self.find(name, version, numbers.attempts[version]) if numbers.has(version) else None
        return ref if ref and state_of_lease(self._backend, ref.lease) is None else None

    def resolve(self, name: str) -> Ref:
        """The version that "name@3" means, or the newest that "name" has. Raises NotFound."""
        plain, version = parse(name)
        numbers = self._numbers_of(plain)
        if version is None:
            ref = self._newest(plain, numbers)
        else:
            ref = self._committed(plain, version, numbers) if numbers.has(version) else None
        if ref is None:
            raise NotFound(f"there is no {name} in the store; ls() and versions() say what there is")
        return ref

    def publish(
        self,
        name: str,
        lease: Lease,
        write_manifest: Callable[[int], str],
        *,
        expect: int | None = None,
        version: int | None = None,
    ) -> Ref:
        """Take a version number for a manifest; it counts from `lease.commit()` on.

        `write_manifest(number)` writes the manifest of that version and returns its id; it is called again
        for the next number where another writer was faster. `expect` is the version that must still be the
        newest, 0 for none. `version` is the number to take, above all that were ever taken, or the greatest
        of them where every attempt at it failed. Raises Conflict.
        """
        check_name(name)
        while True:
            numbers = self._numbers_of(name)
            if expect is not None:
                self._check_newest(name, numbers, expect)
            attempt = 0 if version is None else self._next_attempt(name, version, numbers)
            number = version or numbers.newest + 1
            ref = Ref(name, number, write_manifest(number), lease.id, time.time())
            try:
                self._create(ref, attempt)
                return ref
            except Conflict:
                if expect is not None or version is not None:
                    raise Conflict(
                        f"{name}@{number} was just made by another writer; look at it first"
                    ) from None

    def check_free(self, name: str, version: int) -> None:
        """Raise the Conflict that `publish` would, were it to take that very number now."""
        self._next_attempt(name, version, self._numbers_of(name))

    def replace(self, ref: Ref, lease: Lease, write_manifest: Callable[[int], str]) -> Ref:
        """Give a version another manifest, its own being lost. Only one process may repair at a time.

        It counts at once, as the old one did; from `lease.commit()` on where nobody can say that of the old.
        """
        attempt = self._numbers_of(ref.name).attempts.get(ref.version, 0)
        kept = self._lease_of_committed(ref.name, ref.version, attempt)
        made = Ref(ref.name, ref.version, write_manifest(ref.version), kept or lease.id, ref.created)
        self._create(made, attempt + 1)
        return made

    def delete(self, name: str, *versions: int) -> None:
        """Delete those of these versions that there are. Their numbers stay taken.

        Raises NotFound where there is none of them.
        """
        numbers = self._numbers_of(check_name(name))
        there = [version for version in versions if numbers.has(version)]
        if not there:
            gone = ", ".join(f"{name}@{version}" for version in versions)
            raise NotFound(f"there is no {gone} in the store")
        for version in there:
            with contextlib.suppress(Conflict):  # by another, at the same moment
                self._backend.create(path_of(name, version) + _DELETED, [b""])

    def numbers(self, folder: str = "") -> dict[str, Numbers]:
        """The numbers of every name below a folder, also of versions that do not count."""
        found: dict[str, Numbers] = {}
        for entry in self._backend.list(REFS + folder):
            match = _OBJECT.fullmatch(entry.path)
            if match is None:
                raise StoreError(f"{entry.path} does not belong to the store; move it away")
            numbers = found.setdefault(match[1], _no_numbers())
            number, attempt = int(match[2]), int(match[3] or 0)
            if match[4]:
                numbers.deleted.add(number)
            else:
                numbers.attempts[number] = max(attempt, numbers.attempts.get(number, 0))
        for numbers in found.values():
            numbers.all.extend(sorted(numbers.attempts))
        return found

    def read(self, name: str, version: int, attempt: int) -> Ref:
        """What a version's object says. Raises NotFound, CorruptChunk."""
        path = path_of(name, version, attempt)
        plain = self._seal.open(path, self._backend.read(path))
        content = checked.decode(path, plain, f"run repair, or delete {name}@{version}")
        return Ref(name, version, **content)

    def find(self, name: str, version: int, attempt: int) -> Ref | None:
        """As `read`, but None where there is no such object."""
        try:
            return self.read(name, version, attempt)
        except NotFound:
            return None

    def is_living(self, ref: Ref) -> bool:
        """Whether a version that was read is still there, neither deleted nor of a revoked lease."""
        there = self._numbers_of(ref.name).has(ref.version)
        return there and state_of_lease(self._backend, ref.lease) != REVOKED

    def remove(self, name: str, version: int, attempt: int) -> None:
        """Remove the objects of a version up to that attempt. For collectors, and only while the name has a
        greater number."""
        for each in range(attempt + 1):
            self._backend.delete(path_of(name, version, each))
        self._backend.delete(path_of(name, version) + _DELETED)  # last: it must not come back to life

    def _create(self, ref: Ref, attempt: int) -> None:
        path = path_of(ref.name, ref.version, attempt)
        content = {"manifest": ref.manifest, "lease": ref.lease, "created": ref.created}
        self._backend.create(path, [self._seal.seal(path, checked.encode(path, content))])

    def _numbers_of(self, name: str) -> Numbers:
        return self.numbers(f"{name}/").get(name, _no_numbers())

    def _newest(self, name: str, numbers: Numbers) -> Ref | None:
        left = (number for number in reversed(numbers.all) if numbers.has(number))
        found = (self._committed(name, number, numbers) for number in left)
        return next((ref for ref in found if ref is not None), None)

    def _committed(self, name: str, number: int, numbers: Numbers) -> Ref | None:
        ref = self.find(name, number, numbers.attempts[number])
        return ref if ref and state_of_lease(self._backend, ref.lease) == COMMITTED else None

    def _lease_of_committed(self, name: str, version: int, attempt: int) -> str | None:
        """The lease of a version that counts; None where damage hides that."""
        with contextlib.suppress(StoreError):
            lease = self.read(name, version, attempt).lease
            return lease if state_of_lease(self._backend, lease) == COMMITTED else None
        return None

    def _next_attempt(self, name: str, version: int, numbers: Numbers) -> int:
        """The attempt to make at that very number. Raises Conflict."""
        if version > numbers.newest:
            return 0
        if version == numbers.newest and numbers.has(version):
            ref = self.find(name, version, numbers.attempts[version])
            if ref is not None and state_of_lease(self._backend, ref.lease) == REVOKED:
                return numbers.attempts[version] + 1
        raise Conflict(f"{name}@{version} cannot be made: {name} has come to version {numbers.newest}")

    def _check_newest(self, name: str, numbers: Numbers, expect: int) -> None:
        """Raise Conflict unless `expect` counts, and nothing after it ever will."""
        newest = self._newest(name, numbers)
        if expect != (newest.version if newest else 0):
            raise Conflict(
                f"{name} is at version {newest.version if newest else 0}, not at {expect}: look again"
            )
        for number in numbers.all:
            later = number > expect and numbers.has(number)
            ref = self.find(name, number, numbers.attempts[number]) if later else None
            # Committed, if it has been since the newest was looked for.
            if ref is not None and state_of_lease(self._backend, ref.lease) != REVOKED:
                raise Conflict(f"another writer is making {name}@{number}; look again when it is done")


def check_name(name: str) -> str:
    """Return a name that is one. Raises InvalidArgument."""
    if not all(_PART.fullmatch(part) and part not in (".", "..") for part in name.split("/")):
        raise InvalidArgument(
            f"{name!r} is no name: use parts of A-Z a-z 0-9 . _ - divided by /, none of them '.' or '..' or "
            f"longer than 200 or with {_DIGITS} digits in front"
        )
    return name


def parse(name: str) -> tuple[str, int | None]:
    """("name", 3) of "name@3", ("name", None) of "name". Raises InvalidArgument."""
    plain, at, number = name.partition("@")
    if at and not (number.isascii() and number.isdigit() and 0 < len(number) < _DIGITS):
        raise InvalidArgument(f"{name!r} names no version: write {plain}@3")
    return check_name(plain), int(number) if at else None


def path_of(name: str, version: int, attempt: int = 0) -> str:
    """Where a version lies that was made at that attempt, if the ones before failed."""
    return f"{REFS}{name}/{version:0{_DIGITS}}" + (f".{attempt}" if attempt else "")


def _no_numbers() -> Numbers:
    return Numbers([], set(), {})


def _folder_of(prefix: str) -> str:
    """The deepest folder that holds all names with this prefix."""
    return prefix[: prefix.rfind("/") + 1]
