"""What a store does with secrets, said once for stores with a key and without."""

from __future__ import annotations

import secrets
from typing import Any, Protocol

from thinwire.errors import CorruptChunk, FormatVersion, InvalidArgument, WrongKey

SALT_BYTES = 32
TAG_BYTES = 16  # what encryption adds
_NONCE_BYTES = 12


class Cipher(Protocol):
    """An AEAD, as `cryptography` spells it."""

    def encrypt(self, nonce: bytes, data: Any, associated_data: Any) -> bytes: ...
    def decrypt(self, nonce: bytes, data: Any, associated_data: Any) -> bytes: ...


class Keys(Protocol):
    """How a store names and hides what it keeps."""

    @property
    def encrypted(self) -> bool: ...
    @property
    def id_key(self) -> bytes | None: ...
    def cipher(self, salt: bytes, purpose: str) -> Cipher: ...
    def seal(self, path: str, plain: bytes) -> bytes: ...
    def open(self, path: str, stored: bytes) -> bytes: ...


class Plain:
    """The keys of a store without encryption: there are none."""

    encrypted = False
    id_key: bytes | None = None

    def cipher(self, salt: bytes, purpose: str) -> Cipher:
        raise FormatVersion("an object says that it is encrypted, in a store that is not: it was put there")

    def seal(self, path: str, plain: bytes) -> bytes:
        return plain

    def open(self, path: str, stored: bytes) -> bytes:
        return stored


def create_keys(
    store_id: str, key: bytes | None, passphrase: str | None
) -> tuple[dict[str, Any] | None, Keys]:
    """The "encryption" entry of a new store's store.json, None for a plain store, and its keys."""
    _check_one(key, passphrase)
    if key is None and passphrase is None:
        return None, Plain()
    from thinwire.store import keys  # an optional package is behind it

    return keys.create(store_id, key, passphrase)


def open_keys(store_id: str, entry: Any, key: bytes | None, passphrase: str | None) -> Keys:
    """The keys of a store that exists. Raises WrongKey, also where a plain store is given a key."""
    _check_one(key, passphrase)
    if entry is None:
        if key is not None or passphrase is not None:
            raise WrongKey("this store is not encrypted; open it without key and passphrase")
        return Plain()
    from thinwire.store import keys

    if not isinstance(entry, dict):
        raise FormatVersion(f"store.json: encryption is {entry!r}; upgrade thinwire")
    return keys.unwrap(store_id, entry, key, passphrase)


def fresh_salt() -> bytes:
    """What makes an object's id, and the key it is encrypted under, its own for ever."""
    return secrets.token_bytes(SALT_BYTES)


def nonce(number: int) -> bytes:
    """The nonce of the `number`th message under a key that a fresh salt made."""
    return number.to_bytes(_NONCE_BYTES, "little")


def decrypt(cipher: Cipher, number: int, data: Any, context: bytes, what: str) -> bytes:
    """Undo `cipher.encrypt`. Raises CorruptChunk where `data` or `context` is not what it was."""
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(nonce(number), data, context)
    except (InvalidTag, ValueError):
        raise CorruptChunk(
            f"{what} does not decrypt: it is damaged, or was moved here from elsewhere; run repair"
        ) from None


def _check_one(key: bytes | None, passphrase: str | None) -> None:
    if key is not None and passphrase is not None:
        raise InvalidArgument("pass key or passphrase, not both")
