"""What tests of crashes share: content that tells its number, and what must hold of a store afterwards."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from thinwire.errors import StoreError
from thinwire.store import collector, leases, manifest, refs
from thinwire.store.backend import Backend
from thinwire.store.collector import Collected
from thinwire.store.local import LocalBackend
from thinwire.store.store import Store

BLOCK_BYTES = 4096
PROFILE = f"fixed:average={BLOCK_BYTES}"
BLOCKS = 10
LATER_S = 48 * 3600.0

_PASSING = (leases.LEASES, leases.CONDEMNED, "probes/")
_ATTEMPT = re.compile(r"(/\d{20})(\.\d+|\.deleted)$")
_POOL = 40  # blocks that versions share


class Later(LocalBackend):
    """The same folder, two days later: whoever was at work is gone, and what was left behind is old."""

    def age(self, path: str) -> float:
        return super().age(path) + LATER_S


@functools.cache
def _block(number: int) -> bytes:
    return np.random.default_rng(number).bytes(BLOCK_BYTES)


def content(number: int) -> bytes:
    """Data of that number: half of its blocks are its own, the others come again in some other data."""
    shared = np.random.default_rng(number).integers(0, _POOL, BLOCKS // 2)
    own = range(_POOL + number * BLOCKS, _POOL + number * BLOCKS + BLOCKS // 2)
    return b"".join(_block(int(i)) for i in [*shared, *own]) + b"%d" % number


def put(store: Store, name: str, number: int) -> int:
    """Put data of that number; the version."""
    return store.put(name, content(number), profile=PROFILE, metadata={"number": number}).version


def numbers_in(store: Store, names: list[str] | None = None) -> dict[tuple[str, int], int]:
    """The number of the data of every version, each of which is read and compared bit for bit."""
    found = {}
    for name in store.ls() if names is None else names:
        for ref in store.versions(name):
            reader = store.reader(f"{name}@{ref.version}")
            number = reader.metadata["user"]["number"]
            memory = bytearray(reader.size)
            reader.read_into([(slice(None), memory)])
            assert memory == content(number), f"{name}@{ref.version} is not what was put"
            found[name, ref.version] = number
    return found


def check_sound(store: Store, promised: Mapping[tuple[str, int], int]) -> None:
    """Every version reads, also one whose put was cut off after it counted; what was promised is there."""
    found = numbers_in(store)
    lost = {version for version, number in promised.items() if found.get(version) != number}
    assert not lost, f"{lost} were acknowledged and are gone"
    report = store.verify()
    assert report, [str(damage) for damage in report.damage]


def settle(store: Store) -> Collected:
    """Collect when nobody is at work any more."""
    store.gc(wait_s=0)
    return store.gc(wait_s=0)


def check_nothing_is_left(store: Store) -> None:
    """After `settle`: what no version needs is gone, but for what says that a writer never committed."""
    backend: Backend = store.backend
    paths = {entry.path for entry in backend.list("")}
    living = [ref for name in store.ls() for ref in store.versions(name)]
    _check_equal("at work", {path for path in paths if path.startswith(_PASSING)}, set())
    wanted = {manifest.path_of(ref.manifest) for ref in living}
    _check_equal("manifests", {path for path in paths if path.startswith(collector.MANIFESTS)}, wanted)
    ends = {path.removeprefix(leases.ENDS) for path in paths if path.startswith(leases.ENDS)}
    committed = {end for end in ends if leases.state_of_lease(backend, end) == leases.COMMITTED}
    _check_equal("ends", committed, {ref.lease for ref in living})
    numbers = {name: found.newest for name, found in store.refs.numbers().items()}
    kept = {(ref.name, ref.version) for ref in living} | set(numbers.items())
    versions = {_ATTEMPT.sub(r"\1", path) for path in paths if path.startswith(refs.REFS)}
    _check_equal("versions", versions, {refs.path_of(*version) for version in kept})
    _check_packs(store, living)
    home = store.backend.home
    if isinstance(home, LocalBackend):
        files = {path.relative_to(home.root).as_posix() for path in home.root.rglob("*") if path.is_file()}
        _check_equal("files", files, {entry.path for entry in home.list("")})


def _check_equal(what: str, found: set[str], wanted: set[str]) -> None:
    assert found == wanted, f"{what}: left over {found - wanted}, lost {wanted - found}"


def _check_packs(store: Store, living: list[refs.Ref]) -> None:
    index = store.catalog.refresh()
    present = leases.present_packs(store.backend)
    _check_equal("packs", {name.hex() for name in present}, {name.hex() for name in index.row_of})
    needed = {bytes(chunk) for ref in living for chunk in store.catalog.manifest(ref).chunks["id"]}
    for row, name in enumerate(index.row_of):
        entries = index.entries[index.entries["pack"] == row]
        live = sum(int(one["stored"]) for one in entries if bytes(one["id"]) in needed)
        share = live / int(entries["stored"].sum())
        assert share >= collector.LIVE_SHARE, (
            f"{share:.0%} of pack {name.hex()} is needed, and it is still there"
        )


def check_afterwards(root: Path, promised: Mapping[tuple[str, int], int]) -> None:
    """Days after a crash: all is there, a put and a collection work, and nothing is left over."""
    backend = Later(root)
    with Store(backend, threads=1) as store:
        check_sound(store, promised)
        version = put(store, "after", 0)
        settle(store)
        check_nothing_is_left(store)
        check_sound(store, {**promised, ("after", version): 0})
        store.delete("after")


def attempt(work: object) -> StoreError | None:
    """Call `work`; the StoreError that it raises. Any other error is a failure of the test."""
    try:
        work()  # type: ignore[operator]
        return None
    except StoreError as error:
        return error
