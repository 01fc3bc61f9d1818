"""Who may read a store: a random key, wrapped for a passphrase or given bytes, and what comes of it."""

from __future__ import annotations

import os
from typing import Any

from thinwire.errors import CorruptChunk, FormatVersion, InvalidArgument, WrongKey
from thinwire.store.sealing import SALT_BYTES, decrypt, fresh_salt, nonce

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
except ImportError as error:
    raise ImportError(
        "an encrypted store needs the cryptography package: pip install 'thinwire[store]'"
    ) from error

CIPHER = "AES-256-GCM"
KEY_BYTES = 32
_LEAST_SECRET_BYTES = 16
_SEAL = "thinwire seal"
_SCRYPT = {"n": 2**15, "r": 8, "p": 1}
_MOST_SCRYPT = {"n": 2**20, "r": 16, "p": 8}  # a forged store.json must not cost gigabytes


def derive(secret: bytes, salt: bytes, purpose: str) -> bytes:
    """HKDF-SHA256 (RFC 5869): 32 bytes for one salt and one purpose."""
    return HKDF(SHA256(), KEY_BYTES, salt, purpose.encode()).derive(secret)


class StoreKeys:
    """Everything that comes from a store's key. `thinwire.store.sealing.Plain` is its match without one."""

    encrypted = True

    def __init__(self, store_key: bytes) -> None:
        self._store_key = store_key
        self.id_key: bytes | None = derive(store_key, b"", "thinwire chunk id")
        """Keys the BLAKE3 of chunk ids, so that they tell a stranger nothing of the content."""

    def cipher(self, salt: bytes, purpose: str) -> AESGCM:
        """AES-256-GCM under a key of its own for this salt."""
        return AESGCM(derive(self._store_key, salt, purpose))

    def seal(self, path: str, plain: bytes) -> bytes:
        """A fresh salt, then `plain` encrypted under it; opens only at the same `path`."""
        salt = fresh_salt()
        return salt + self.cipher(salt, _SEAL).encrypt(nonce(0), plain, path.encode())

    def open(self, path: str, stored: bytes) -> bytes:
        """Undo `seal`. Raises CorruptChunk where the bytes were changed or belong to another path."""
        salt, body = stored[:SALT_BYTES], stored[SALT_BYTES:]
        return decrypt(self.cipher(salt, _SEAL), 0, body, path.encode(), path)


def create(store_id: str, key: bytes | None, passphrase: str | None) -> tuple[dict[str, Any], StoreKeys]:
    """A new store key, and the "encryption" entry of store.json that wraps it."""
    salt, store_key = fresh_salt(), os.urandom(KEY_BYTES)
    entry: dict[str, Any] = {"cipher": CIPHER, "salt": salt.hex()}
    entry |= {"wrap": "hkdf"} if passphrase is None else {"wrap": "scrypt", **_SCRYPT}
    wrapping = AESGCM(_wrapping_key(entry, key, passphrase))
    entry["wrapped"] = wrapping.encrypt(nonce(0), store_key, store_id.encode()).hex()
    return entry, StoreKeys(store_key)


def unwrap(store_id: str, entry: dict[str, Any], key: bytes | None, passphrase: str | None) -> StoreKeys:
    """The store key out of store.json. Raises WrongKey where `key` or `passphrase` is not the one."""
    if entry.get("cipher") != CIPHER or entry.get("wrap") not in ("hkdf", "scrypt"):
        raise FormatVersion(
            f"store.json: encryption {entry.get('cipher')!r} with {entry.get('wrap')!r} is not known to this "
            "release; upgrade thinwire"
        )
    try:
        wrapping = AESGCM(_wrapping_key(entry, key, passphrase))
        return StoreKeys(wrapping.decrypt(nonce(0), bytes.fromhex(entry["wrapped"]), store_id.encode()))
    except InvalidTag:
        what = "passphrase" if entry["wrap"] == "scrypt" else "key"
        raise WrongKey(f"the {what} does not open this store (or its store.json is damaged)") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InvalidArgument):
            raise
        raise CorruptChunk(
            f"store.json: the encryption entry is damaged ({error!r}); restore it from a copy"
        ) from None


def _wrapping_key(entry: dict[str, Any], key: bytes | None, passphrase: str | None) -> bytes:
    salt = bytes.fromhex(entry["salt"])
    if entry["wrap"] == "hkdf":
        if key is None:
            raise WrongKey("this store is encrypted with key bytes: pass key=")
        if len(key) < _LEAST_SECRET_BYTES:
            raise InvalidArgument(
                f"key has {len(key)} bytes; pass at least {_LEAST_SECRET_BYTES} random ones"
            )
        return derive(bytes(key), salt, "thinwire wrap")
    if passphrase is None:
        raise WrongKey("this store is encrypted with a passphrase: pass passphrase=")
    costs = {name: int(entry[name]) for name in _SCRYPT}
    if any(not 0 < costs[name] <= most for name, most in _MOST_SCRYPT.items()):
        raise FormatVersion(f"store.json: scrypt costs {costs} are beyond what this release accepts")
    return Scrypt(salt, KEY_BYTES, **costs).derive(passphrase.encode())
