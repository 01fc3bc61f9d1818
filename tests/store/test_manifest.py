"""Manifests: what comes back, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard

from thinwire import _core
from thinwire.errors import CorruptChunk, FormatVersion, InvalidArgument
from thinwire.store import manifest as manifests
from thinwire.store.manifest import CHUNK, Manifest
from thinwire.store.sealing import Keys, Plain, create_keys


@pytest.fixture(params=["plain", "encrypted"])
def keys(request: pytest.FixtureRequest) -> Keys:
    return Plain() if request.param == "plain" else create_keys("store", b"0123456789abcdef", None)[1]


def example(count: int = 3) -> Manifest:
    chunks = np.zeros(count, CHUNK)
    chunks["id"] = np.arange(32 * count, dtype=np.uint8).reshape(-1, 32)
    chunks["size"] = np.arange(1, count + 1)
    return Manifest({"kind": "bytes", "user": {"öffentlich": [1, None, True]}}, chunks)


def test_it_comes_back(keys: Keys) -> None:
    for made in (example(), example(0)):
        manifest_id, data = manifests.encode(made, keys, "a/b", 7)
        read = manifests.decode(data, manifest_id, keys, "a/b", 7)
        assert read.metadata == made.metadata
        assert np.array_equal(read.chunks, made.chunks)
        assert read.size == made.size


def test_what_is_too_long_to_be_read_again_is_not_written(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "_MOST_BYTES", 10_000)
    manifests.encode(example(200), keys, "a", 1)
    with pytest.raises(InvalidArgument, match="a@1 has 400 chunks, more than"):
        manifests.encode(example(400), keys, "a", 1)


def test_no_two_are_alike(keys: Keys) -> None:
    assert manifests.encode(example(), keys, "a", 1)[0] != manifests.encode(example(), keys, "a", 1)[0]


def test_every_changed_byte_and_every_truncation_is_found(keys: Keys) -> None:
    manifest_id, data = manifests.encode(example(), keys, "a", 1)
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1 << (at % 8)
        for bad in (bytes(changed), data[:at]):
            with pytest.raises(CorruptChunk, match=f"{manifest_id}.*a@1"):
                manifests.decode(bad, manifest_id, keys, "a", 1)


def test_an_encrypted_one_opens_only_as_its_own_version() -> None:
    keys = create_keys("store", b"0123456789abcdef", None)[1]
    manifest_id, data = manifests.encode(example(), keys, "a", 1)
    assert b"kind" not in data
    for name, version in (("a", 2), ("b", 1)):
        with pytest.raises(CorruptChunk, match="does not decrypt"):
            manifests.decode(data, manifest_id, keys, name, version)


def test_a_plain_one_does_not_pass_in_an_encrypted_store() -> None:
    keys = create_keys("store", b"0123456789abcdef", None)[1]
    manifest_id, data = manifests.encode(example(), Plain(), "a", 1)
    with pytest.raises(CorruptChunk, match="unlike its store"):
        manifests.decode(data, manifest_id, keys, "a", 1)


@pytest.mark.parametrize("place", [4, 6])
def test_unknown_versions_and_flags_are_named(place: int) -> None:
    _, data = manifests.encode(example(), Plain(), "a", 1)
    later = bytearray(data)
    later[place] = 8
    with pytest.raises(FormatVersion, match="a@1"):
        manifests.decode(bytes(later), _core.blake3(later).hex(), Plain(), "a", 1)


@pytest.mark.parametrize(
    "plain", [b"", b"\xff" * 20, b"\x02\0\0\0{}" + b"\xff" * 8, b"\x02\0\0\0[]" + bytes(8)]
)
def test_what_is_no_manifest_inside_is_refused(plain: bytes) -> None:
    _, data = manifests.encode(example(), Plain(), "a", 1)
    header = data[:40] + len(plain).to_bytes(8, "little") + data[48:64]
    forged = header + zstandard.ZstdCompressor().compress(plain)
    with pytest.raises(CorruptChunk):
        manifests.decode(forged, _core.blake3(forged).hex(), Plain(), "a", 1)


def test_a_bomb_is_not_decompressed() -> None:
    _, data = manifests.encode(example(), Plain(), "a", 1)
    forged = data[:64] + zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with pytest.raises(CorruptChunk, match="size"):
        manifests.decode(forged, _core.blake3(forged).hex(), Plain(), "a", 1)


@pytest.mark.parametrize("metadata", [{"a": object()}, {"a": float("nan")}])
def test_metadata_must_be_json(metadata: dict[str, object]) -> None:
    with pytest.raises(InvalidArgument, match="JSON"):
        manifests.encode(Manifest(metadata, example().chunks), Plain(), "a", 1)
