"""A store: named, versioned data, each distinct chunk kept once, compressed, verified on every read."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from thinwire._chunking import Profile
from thinwire.errors import Conflict, CorruptChunk, FormatVersion, InvalidArgument, NotFound
from thinwire.store import coding, collecting, collector, files, maintenance, repairing, syncing
from thinwire.store.backend import Backend, backend_for
from thinwire.store.caching import CachedBackend
from thinwire.store.catalog import Catalog
from thinwire.store.collector import Collected
from thinwire.store.leases import GRACE_S, Lease
from thinwire.store.memory import byte_view
from thinwire.store.metering import Meter, Progress
from thinwire.store.packer import Workers
from thinwire.store.reader import Fetcher, Reader
from thinwire.store.refs import Ref, Refs
from thinwire.store.sealing import Keys, create_keys, open_keys
from thinwire.store.writer import Writer

FORMAT = 1
CONFIG = "store.json"
DEFAULT_LEVEL = 3
DEFAULT_PROFILE = "native"
Version = Ref


class Store:
    """Open a store, or create it where `create` is true and there is none.

    `url` is a path, an fsspec URL or a backend. `key` (16 random bytes or more) or `passphrase` encrypts a
    new store and opens an encrypted one. `threads` code and hash (default: all cores). `replicas` are stores,
    or urls of copies that `sync` made: a chunk that is damaged here is read from there. `cache` is a folder
    on a fast disk for what was read from a slow place; it may be emptied at any time.

    Safe for several threads and processes. Raises WrongKey, FormatVersion, NotFound.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] | Backend,
        *,
        key: bytes | None = None,
        passphrase: str | None = None,
        create: bool = True,
        threads: int | None = None,
        replicas: Sequence[Store | str | os.PathLike[str]] = (),
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        coding.zstandard()
        backend = backend_for(url) if isinstance(url, (str, os.PathLike)) else url
        config = _read_config(backend) or _create_config(backend, create, key, passphrase)
        keys = open_keys(config["id"], config["encryption"], key, passphrase)
        self._begin(backend, config, keys, threads)
        if cache is not None:
            self.catalog = Catalog(CachedBackend(backend, backend_for(cache)), keys)
        for replica in replicas:
            self.replicas.append(
                replica if isinstance(replica, Store) else self.replica_at(replica, create=False)
            )
        self.fetcher = self._fetcher()

    def _begin(self, backend: Backend, config: dict[str, Any], keys: Keys, threads: int | None) -> None:
        self.backend, self.config = backend, config
        self.workers = Workers(threads)
        self.catalog = Catalog(backend, keys)
        self.refs = Refs(backend, keys)
        self.replicas: list[Store] = []
        self._opened: list[Store] = []  # replicas that this store closes
        self.fetcher = self._fetcher()

    def _fetcher(self) -> Fetcher:
        return Fetcher(self.catalog, self.workers, [replica.fetcher for replica in self.replicas])

    def replica_at(self, url: str | os.PathLike[str], *, create: bool = True) -> Store:
        """Open a copy of this store, with the same key; `create`: an empty one where there is none."""
        backend = backend_for(url)
        config = _read_config(backend)
        if config is None and create:
            config = _write_config(backend, self.config)
        if config is None:
            raise NotFound(f"there is no replica at {url}; sync makes one")
        if config["id"] != self.config["id"]:
            raise InvalidArgument(f"{url} holds another store; open it, and pass the Store")
        made = Store.__new__(Store)
        made._begin(backend, config, self.catalog.keys, self.workers.threads)
        self._opened.append(made)
        return made

    def put(
        self,
        name: str,
        data: Any,
        *,
        profile: Profile | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        expect: int | None = None,
        level: int = DEFAULT_LEVEL,
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

    def writer(self, name: str, *, expect: int | None = None, level: int = DEFAULT_LEVEL) -> Writer:
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
        for ref in found:
            self.refs.delete(ref.name, ref.version)

    def verify(self, *, deep: bool = True, progress: Progress | None = None) -> maintenance.Report:
        """Check that all is there, and with `deep` every byte. What is damaged, and whom it hits."""
        return maintenance.verify(self, deep, progress)

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
        return collector.collect(
            self.backend,
            self.refs,
            collecting.Contents(self),
            live_share=live_share,
            wait_s=wait_s,
            grace_s=grace_s,
        )

    def repair(self, *, progress: Progress | None = None) -> maintenance.Report:
        """Make the index again from the packs, take what is damaged from replicas; reports what is lost."""
        return repairing.repair(self, progress)

    def stats(self) -> maintenance.Stats:
        """Counts and sizes."""
        return maintenance.stats(self)

    def sync(
        self, other: Store | str | os.PathLike[str], *, progress: Progress | None = None
    ) -> syncing.SyncReport:
        """Copy to `other` every version that it lacks, and only the chunks that it lacks.

        An url that holds no store becomes a replica, which opens with the same key. Cut off and started
        again, it goes on where it was.
        """
        return syncing.sync(self, other, progress)

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
