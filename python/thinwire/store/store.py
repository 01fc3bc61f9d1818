"""A store: named, versioned data, each distinct chunk kept once, compressed, verified on every read."""

from __future__ import annotations

import copy
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from thinwire._chunking import Profile
from thinwire._memory import byte_view
from thinwire._sizes import parse_size
from thinwire.errors import Conflict, CorruptChunk, FormatVersion, InvalidArgument, NotFound
from thinwire.store import coding, collecting, collector, files, maintenance, repairing, syncing
from thinwire.store.backend import CONFIG, Backend, backend_at
from thinwire.store.caching import CachedBackend
from thinwire.store.catalog import Catalog
from thinwire.store.collector import Collected
from thinwire.store.leases import GRACE_S, Lease, present_packs
from thinwire.store.locations import MARKER, Holding, Location, SpreadBackend
from thinwire.store.metering import Meter, Progress
from thinwire.store.packer import Workers
from thinwire.store.reader import Fetcher, Reader
from thinwire.store.refs import Ref, Refs
from thinwire.store.sealing import Keys, create_keys, open_keys
from thinwire.store.writer import Writer

FORMAT = 1
DEFAULT_PROFILE = "native"
Version = Ref


class Store:
    """Open a store, or create it where `create` is true and there is none.

    `url` is a path, an fsspec URL or a backend. `key` (16 random bytes or more) or `passphrase` encrypts a
    new store and opens an encrypted one. `threads` code and hash (default: all cores). `replicas` are stores
    of the same key, or urls of copies that `sync` made: a chunk that is damaged here is read from there.
    `cache` is a folder of its own on a fast disk, for what was lately read from, or written to, a slow place;
    at most `cache_limit` bytes, or "50GiB". It may be emptied at any time.

    `locations` are further places for packs, which the store remembers: they are only needed once, or where
    one has moved or has a backend with options. With `create` those that are new are added, as by
    `add_location`.

    Safe for several threads and processes. Raises WrongKey, FormatVersion, NotFound, InvalidArgument.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Backend,
        *,
        key: bytes | None = None,
        passphrase: str | None = None,
        create: bool = True,
        threads: int | None = None,
        replicas: Sequence[Store | str | os.PathLike[str] | Backend] = (),
        cache: str | os.PathLike[str] | None = None,
        cache_limit: int | str | None = None,
        locations: Sequence[str | os.PathLike[str] | Backend] = (),
    ) -> None:
        coding.zstandard()
        backend = backend_at(url)
        config = _read_config(backend) or _create_config(backend, create, key, passphrase)
        keys = open_keys(config["id"], config["encryption"], key, passphrase)
        self._begin(backend, config, keys, threads)
        for location in locations:
            self.backend.use(location, add=create)
        if cache is not None:
            limit = None if cache_limit is None else parse_size(cache_limit, "cache_limit")
            self.catalog = Catalog(CachedBackend(self.backend, Path(cache), limit), keys)
        for replica in replicas:
            self.replicas.append(self._replica(replica))
        self.fetcher = self._fetcher()

    def _begin(self, backend: Backend, config: dict[str, Any], keys: Keys, threads: int | None) -> None:
        home = backend.home if isinstance(backend, SpreadBackend) else backend  # of a store that is open
        self.backend, self.config = SpreadBackend(home, config["id"], keys), config
        self.workers = Workers(threads)
        self.catalog = Catalog(self.backend, keys)
        self.refs = Refs(self.backend, keys)
        self.replicas: list[Store] = []
        self._opened: list[Store] = []  # replicas that this store closes
        self.fetcher = self._fetcher()

    def _fetcher(self) -> Fetcher:
        return Fetcher(self.catalog, self.workers, [replica.fetcher for replica in self.replicas])

    def _uncached(self) -> Store:
        """This store as it is itself, whatever its cache has."""
        made = copy.copy(self)
        made.catalog = Catalog(self.backend, self.catalog.keys)
        made.fetcher = made._fetcher()
        return made

    def _replica(self, given: Store | str | os.PathLike[str] | Backend) -> Store:
        if not isinstance(given, Store):
            return self.replica_at(given, create=False)
        if given.catalog.keys.id_key != self.catalog.keys.id_key:
            raise InvalidArgument(
                f"replicas has {given.backend.home}, a store of another key, whose chunks have other ids; "
                "pass a copy that sync made at an url"
            )
        return given

    def replica_at(self, url: str | os.PathLike[str] | Backend, *, create: bool = True) -> Store:
        """Open a copy of this store, with the same key; `create`: an empty one where there is none.

        It is closed with this store, if it was not before.
        """
        self._opened.append(self._copy_at(url, create))
        return self._opened[-1]

    def _copy_at(self, url: str | os.PathLike[str] | Backend, create: bool) -> Store:
        backend = backend_at(url)
        config = _read_config(backend)
        if config is None and create:
            config = _write_config(backend, self.config)
        if config is None:
            raise NotFound(f"there is no replica at {url}; sync makes one")
        if config["id"] != self.config["id"]:
            raise InvalidArgument(f"{url} holds another store; open it, and pass the Store")
        made = Store.__new__(Store)
        made._begin(backend, config, self.catalog.keys, self.workers.threads)
        return made

    def put(
        self,
        name: str,
        data: Any,
        *,
        profile: Profile | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expect: int | None = None,
        level: int = coding.DEFAULT_LEVEL,
        progress: Progress | None = None,
    ) -> Version:
        """Store data as a new version of `name`. It is durable, and visible, when this returns.

        `data` is a buffer, a binary file object, or a `pathlib.Path` of a file or a folder. A buffer must not
        change meanwhile. `metadata` is JSON. `expect` is the version that must be the newest (0: none):
        Conflict otherwise. `level` is zstd's; at 1 speed comes first. `progress` is called with the bytes
        done, and those there are to do or None.
        """
        chosen = profile if isinstance(profile, Profile) else Profile.parse(profile or DEFAULT_PROFILE)
        with self.writer(name, expect=expect, level=level) as writer:
            if progress:  # else nobody asks how much there is: a tree is not walked for that
                writer.meter = Meter(progress, files.size_of(data))
            chunks, described = files.add(writer, data, chosen)
            described |= {
                "profile": str(chosen),
                "size": int(chunks["size"].sum()),
                "user": dict(metadata or {}),
            }
            return writer.commit(described, chunks)

    def get(self, name: str, out: Any = None, *, progress: Progress | None = None) -> Any:
        """The data of "name" (its newest version) or "name@3".

        Without `out`, bytes. `out` is a writable buffer of the very size, or a `pathlib.Path` to write; a
        folder tree needs a Path. Returns `out`. `progress` as for `put`. Raises NotFound, CorruptChunk.
        """
        reader = self.reader(name)
        reader.meter = Meter(progress, reader.size)
        if isinstance(out, Path):
            files.write(reader, out)
            return out
        if reader.metadata.get("kind") == "tree":
            raise InvalidArgument(f"{name} is a folder tree; pass out=pathlib.Path(...)")
        memory = byte_view(np.empty(reader.size, np.uint8) if out is None else out, "out", writable=True)
        if len(memory) != reader.size:
            raise InvalidArgument(f"out has {len(memory)} bytes, {name} has {reader.size}")
        reader.read_into([(slice(None), memory)])
        return bytes(memory) if out is None else out

    def writer(self, name: str, *, expect: int | None = None, level: int = coding.DEFAULT_LEVEL) -> Writer:
        """For those who cut and describe themselves: `add` as often as needed, then `commit`."""
        lease = Lease.open(self.backend)
        try:
            return Writer(self.catalog, self.workers, self.refs, lease, name, level=level, expect=expect)
        except BaseException:
            lease.abandon()
            raise

    def reader(self, name: str) -> Reader:
        """Chunks and metadata of one version, and parts of it at a time."""
        ref = self.refs.resolve(name)
        return Reader(self.fetcher, ref, self.catalog.manifest(ref))

    def ls(self, prefix: str = "") -> list[str]:
        """The names that begin with `prefix`."""
        return sorted(self.refs.names(prefix))

    def versions(self, name: str) -> list[Version]:
        """The versions of a name, oldest first. Empty where there is none."""
        return list(self.refs.versions(name))

    def delete(self, name: str) -> None:
        """Delete "name@3", or "name" with all its versions. `gc` frees the space."""
        found = [self.refs.resolve(name)] if "@" in name else self.versions(name)
        if not found:
            raise NotFound(f"there is no {name} in the store")
        self.refs.delete(found[0].name, *(ref.version for ref in found))

    def verify(self, *, deep: bool = True, progress: Progress | None = None) -> maintenance.Report:
        """Check that all is there, and with `deep` every byte. What is damaged, and whom it hits."""
        return maintenance.verify(self._uncached(), deep, progress)

    def gc(
        self,
        *,
        live_share: float = collector.LIVE_SHARE,
        wait_s: float | None = None,
        grace_s: float = GRACE_S,
    ) -> Collected:
        """Delete what no version needs, beside whoever reads and writes.

        Packs with a smaller share of needed bytes than `live_share` are rewritten. Waits up to `wait_s`
        seconds (None: as long as it takes) for the writers at work; Conflict while another collector is.
        """
        return self._collect(live_share=live_share, wait_s=wait_s, grace_s=grace_s)

    def repair(self, *, progress: Progress | None = None) -> maintenance.Report:
        """Make the index again from the packs, take what is damaged from replicas; reports what is lost."""
        return repairing.repair(self._uncached(), progress)

    def add_location(self, url: str | os.PathLike[str] | Backend, *, weight: float = 1.0) -> Location:
        """Let packs that are written from now on lie there, too, in proportion to the weights.

        For a location that the store has: give it this weight (0: nothing new goes there), or this url, to
        which somebody has moved it. The store's own place is one, of weight 1. All who have the store open
        learn of it. Raises InvalidArgument.
        """
        return self.backend.set(url, weight)

    def empty_location(self, url: str, *, wait_s: float | None = None, grace_s: float = GRACE_S) -> Collected:
        """Let a location take no new packs, and move what versions need of those it has to the others.

        A garbage collection that gives up all packs of the location: safe beside readers and writers, and
        where it is cut off; `wait_s` as for `gc`. A writer in another process can put packs there until it
        learns of it: call it again then. Raises NotFound, InvalidArgument where no other location takes
        packs, and what `gc` does.
        """
        given_up = present_packs(self.backend.retire(url)).keys()
        return self._collect(given_up=given_up, wait_s=wait_s, grace_s=grace_s)

    def _collect(self, **options: Any) -> Collected:
        return collector.collect(self.catalog.backend, self.refs, collecting.Contents(self), **options)

    def remove_location(self, url: str) -> None:
        """Forget a location that is lost, or empty. `repair` takes what lay there from replicas.

        Raises NotFound, and InvalidArgument while packs are there, or where it is the store's own place.
        """
        self.backend.remove(url)

    def locations(self) -> Sequence[Holding]:
        """The locations and the packs that lie there, the store's own place first."""
        return self.backend.holdings()

    def stats(self) -> maintenance.Stats:
        """Counts and sizes."""
        return maintenance.stats(self)

    def sync(
        self, other: Store | str | os.PathLike[str] | Backend, *, progress: Progress | None = None
    ) -> syncing.SyncReport:
        """Copy to `other` every version that it lacks, and only the chunks that it lacks.

        An url that holds no store becomes a replica, which opens with the same key. Cut off and started
        again, it goes on where it was.
        """
        if isinstance(other, Store):
            return syncing.sync(self, other, progress)
        with self._copy_at(other, create=True) as target:
            return syncing.sync(self, target, progress)

    def close(self) -> None:
        """Wait for the threads and end them."""
        for replica in self._opened:
            replica.close()
        self.workers.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_config(backend: Backend) -> dict[str, Any] | None:
    try:
        data = backend.read(CONFIG)
    except NotFound:
        return None
    try:
        config = json.loads(data)
        number = config["format"]
        if number == FORMAT and not (isinstance(config["id"], str) and "encryption" in config):
            raise ValueError("it lacks an entry")
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptChunk(f"{CONFIG} is damaged ({error}); restore it from a copy or a replica") from None
    if number != FORMAT:
        raise FormatVersion(f"the store has format {number}, this release reads {FORMAT}; upgrade thinwire")
    return dict(config)


def _create_config(
    backend: Backend, create: bool, key: bytes | None, passphrase: str | None
) -> dict[str, Any]:
    if not create:
        raise NotFound("there is no store; pass create=True to make one")
    if backend.exists(MARKER):
        raise InvalidArgument(f"{backend} is a location of another store; choose another place")
    store_id = secrets.token_hex(16)
    encryption, _ = create_keys(store_id, key, passphrase)
    return _write_config(backend, {"format": FORMAT, "id": store_id, "encryption": encryption})


def _write_config(backend: Backend, config: dict[str, Any]) -> dict[str, Any]:
    """Create a store; the configuration that counts, which is another's where that was faster."""
    try:
        backend.create(CONFIG, [json.dumps(config).encode()])
        return config
    except Conflict:
        existing = _read_config(backend)
        assert existing is not None
        return existing
