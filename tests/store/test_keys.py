"""Keys: wrapped and opened, and what is said where they do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from thinwire.errors import CorruptChunk, FormatVersion, InvalidArgument, WrongKey
from thinwire.store.sealing import create_keys, open_keys

KEY = b"0123456789abcdef"
ID = "00" * 16


@pytest.fixture
def entry() -> dict[str, Any]:
    made, _ = create_keys(ID, KEY, None)
    assert made is not None
    return made


@pytest.mark.parametrize("secret", [{"key": KEY, "passphrase": None}, {"key": None, "passphrase": "schön"}])
def test_the_same_keys_come_back(secret: dict[str, Any]) -> None:
    entry, made = create_keys(ID, **secret)
    opened = open_keys(ID, entry, **secret)
    assert opened.id_key == made.id_key
    assert opened.open("refs/a/1", made.seal("refs/a/1", b"content")) == b"content"
    assert KEY.hex() not in str(entry)


def test_two_stores_with_one_key_share_nothing() -> None:
    one, other = (create_keys(ID, KEY, None) for _ in range(2))
    assert one[1].id_key != other[1].id_key
    assert one[0] != other[0]


@pytest.mark.parametrize(
    ("key", "passphrase", "message"),
    [(b"another key of16", None, "does not open"), (None, None, "pass key="), (None, "x", "pass key=")],
)
def test_a_wrong_key_is_named(
    entry: dict[str, Any], key: bytes | None, passphrase: str | None, message: str
) -> None:
    with pytest.raises(WrongKey, match=message):
        open_keys(ID, entry, key, passphrase)


def test_a_wrong_passphrase_is_named() -> None:
    entry, _ = create_keys(ID, None, "right")
    with pytest.raises(WrongKey, match="passphrase does not open"):
        open_keys(ID, entry, None, "wrong")
    with pytest.raises(WrongKey, match="pass passphrase="):
        open_keys(ID, entry, KEY, None)


def test_a_plain_store_takes_no_key() -> None:
    assert create_keys(ID, None, None)[0] is None
    with pytest.raises(WrongKey, match="not encrypted"):
        open_keys(ID, None, KEY, None)


def test_the_entry_of_another_store_does_not_fit(entry: dict[str, Any]) -> None:
    with pytest.raises(WrongKey):
        open_keys("11" * 16, entry, KEY, None)


@pytest.mark.parametrize("key", ["salt", "wrapped"])
def test_a_damaged_entry_is_refused(entry: dict[str, Any], key: str) -> None:
    flipped = dict(entry, **{key: f"{int(entry[key][0], 16) ^ 1:x}" + entry[key][1:]})
    with pytest.raises(WrongKey):
        open_keys(ID, flipped, KEY, None)
    for bad in ({**entry, key: "no hex"}, {k: v for k, v in entry.items() if k != key}, {**entry, key: 3}):
        with pytest.raises(CorruptChunk, match=r"store\.json"):
            open_keys(ID, bad, KEY, None)


def test_other_ciphers_and_costs_that_are_too_high_are_named(entry: dict[str, Any]) -> None:
    with pytest.raises(FormatVersion, match="AES-512"):
        open_keys(ID, {**entry, "cipher": "AES-512"}, KEY, None)
    with pytest.raises(FormatVersion, match="upgrade"):
        open_keys(ID, "text", KEY, None)
    scrypt, _ = create_keys(ID, None, "x")
    assert scrypt is not None
    with pytest.raises(FormatVersion, match="costs"):
        open_keys(ID, {**scrypt, "n": 2**40}, None, "x")


def test_keys_that_cannot_serve_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="16"):
        create_keys(ID, b"short", None)
    with pytest.raises(InvalidArgument, match="not both"):
        create_keys(ID, KEY, "x")


def test_what_is_sealed_opens_at_its_own_place_only() -> None:
    _, keys = create_keys(ID, KEY, None)
    sealed = keys.seal("refs/a/1", b"content")
    assert sealed != keys.seal("refs/a/1", b"content")
    with pytest.raises(CorruptChunk, match="refs/a/2"):
        keys.open("refs/a/2", sealed)
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        for bad in (bytes(changed), sealed[:at]):
            with pytest.raises(CorruptChunk):
                keys.open("refs/a/1", bad)
