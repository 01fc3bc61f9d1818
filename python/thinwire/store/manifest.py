"""Manifests: one version of one name. What is said about it, and which chunks it is made of, in order."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thinwire import _core
from thinwire.errors import CorruptChunk, FormatVersion, InvalidArgument
from thinwire.store.coding import zstandard
from thinwire.store.index import CHUNK, Chunks
from thinwire.store.sealing import Keys, decrypt, fresh_salt, nonce

VERSION = 1
ENCRYPTED = 1  # the only flag
_HEADER = struct.Struct("<4sHH32sQ16x")
_MAGIC = b"TWMF"
_PURPOSE = "thinwire manifest"
_ZSTD_LEVEL = 3
_MOST_BYTES = 4 << 30  # of a manifest before compression: chunks of some 7 TB
_ORIGIN = "thinwire:origin"  # the key, among those of the metadata, under which a manifest's `origin` lies


@dataclass(frozen=True)
class Manifest:
    """`metadata` is JSON; `chunks` has dtype CHUNK: the id and size in bytes of each chunk.

    `origin` is set where `sync` copied the version from a store of another key: that store, and its manifest
    there. What it is made of has other ids here; by this it is known again without being read.
    """

    metadata: Mapping[str, Any]
    chunks: Chunks
    origin: Mapping[str, str] | None = None

    @property
    def size(self) -> int:
        """Bytes of all chunks."""
        return int(self.chunks["size"].sum())


def path_of(manifest_id: str) -> str:
    """Where a manifest lies."""
    return f"manifests/{manifest_id}"


def encode(manifest: Manifest, keys: Keys, name: str, version: int) -> tuple[str, bytes]:
    """The id (64 hex digits) and the bytes. Encrypted, they open only as this version of this name.

    Raises InvalidArgument for metadata that is not JSON or has a key of the manifest's own, and above 4 GiB.
    """
    plain = _to_bytes(manifest)
    if len(plain) > _MOST_BYTES:
        raise InvalidArgument(
            f"{name}@{version} has {len(manifest.chunks)} chunks, more than a manifest takes: divide it, or "
            "take a profile of larger chunks"
        )
    salt = fresh_salt()
    header = _HEADER.pack(_MAGIC, VERSION, ENCRYPTED if keys.encrypted else 0, salt, len(plain))
    body: bytes = zstandard().ZstdCompressor(level=_ZSTD_LEVEL).compress(plain)
    if keys.encrypted:
        body = keys.cipher(salt, _PURPOSE).encrypt(nonce(0), body, _context(header, name, version))
    data = header + body
    return _core.blake3(data).hex(), data


def decode(data: bytes, manifest_id: str, keys: Keys, name: str, version: int) -> Manifest:
    """Read a manifest. Raises CorruptChunk, or FormatVersion for one of a later release."""
    what = f"{path_of(manifest_id)} ({name}@{version})"
    if _core.blake3(data).hex() != manifest_id:
        raise CorruptChunk(f"{what} is damaged; run repair, which takes it from a replica")
    magic, number, flags, salt, size = _HEADER.unpack_from(data.ljust(_HEADER.size, b"\0"))
    if magic != _MAGIC or number != VERSION or flags & ~ENCRYPTED:
        raise FormatVersion(f"{what} has version {number}, flags {flags:#x}; upgrade thinwire")
    header, body = data[: _HEADER.size], data[_HEADER.size :]
    if bool(flags & ENCRYPTED) != keys.encrypted:
        raise CorruptChunk(
            f"{what} is {'' if flags else 'not '}encrypted, unlike its store: it was put there"
        )
    if keys.encrypted:
        body = decrypt(keys.cipher(salt, _PURPOSE), 0, body, _context(header, name, version), what)
    return _from_bytes(_decompress(body, size, what), what)


def _context(header: bytes, name: str, version: int) -> bytes:
    return header + f"{name}@{version}".encode()


def _decompress(body: bytes, size: int, what: str) -> bytes:
    zstd = zstandard()
    try:
        if size > _MOST_BYTES or zstd.frame_content_size(body) != size:
            raise CorruptChunk(f"{what} does not have the size its header says")
        plain: bytes = zstd.ZstdDecompressor().decompress(body, max_output_size=size)
        return plain
    except zstd.ZstdError as error:
        raise CorruptChunk(f"{what}: zstd: {error}") from None


def _to_bytes(manifest: Manifest) -> bytes:
    if _ORIGIN in manifest.metadata:
        raise InvalidArgument(f"metadata has the key {_ORIGIN!r}, which is the store's own; take another")
    described = dict(manifest.metadata)
    if manifest.origin is not None:
        described[_ORIGIN] = dict(manifest.origin)
    try:
        text = json.dumps(described, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"metadata is not JSON: {error}") from None
    count = struct.pack("<Q", len(manifest.chunks))
    return b"".join([struct.pack("<I", len(text)), text, count, manifest.chunks.astype(CHUNK).tobytes()])


def _from_bytes(plain: bytes, what: str) -> Manifest:
    try:
        (length,) = struct.unpack_from("<I", plain)
        metadata = json.loads(plain[4 : 4 + length])
        (count,) = struct.unpack_from("<Q", plain, 4 + length)
        if len(plain) != 12 + length + count * CHUNK.itemsize or not isinstance(metadata, dict):
            raise ValueError("its parts do not add up")
        origin = metadata.pop(_ORIGIN, None)
        return Manifest(metadata, np.frombuffer(plain, CHUNK, count, 12 + length), origin)
    except (struct.error, ValueError) as error:
        raise CorruptChunk(f"{what} cannot be read: {error}") from None
