"""XXH3-128 in plain Python, with a seed or a secret: the xxhash package takes no secret."""

from __future__ import annotations

import struct

MASK = 2**64 - 1
PRIME32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
PRIME64 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def words(data: bytes, start: int, count: int = 1) -> tuple[int, ...]:
    return struct.unpack_from(f"<{count}Q", data, start)


def fold(a: int, b: int) -> int:
    product = (a & MASK) * (b & MASK)
    return (product ^ product >> 64) & MASK


def swap(word: int, width: int) -> int:
    return int.from_bytes(word.to_bytes(width, "little"), "big")


def avalanche(h: int) -> int:
    h = (h ^ h >> 37) * 0x165667919E3779F9 & MASK
    return h ^ h >> 32


def avalanche64(h: int) -> int:
    h = (h ^ h >> 33) * PRIME64[1] & MASK
    h = (h ^ h >> 29) * PRIME64[2] & MASK
    return h ^ h >> 32


def mix16(data: bytes, at: int, secret: bytes, secret_at: int, seed: int) -> int:
    (a, b), (x, y) = words(data, at, 2), words(secret, secret_at, 2)
    return fold(a ^ (x + seed & MASK), b ^ (y - seed & MASK))


def hash_up_to_16(data: bytes, secret: bytes, seed: int) -> tuple[int, int]:
    n = len(data)
    key = [a ^ b for a, b in zip(words(secret, 0, 12)[::2], words(secret, 0, 12)[1::2], strict=True)]
    if n == 0:
        return avalanche64(seed ^ key[4]), avalanche64(seed ^ key[5])
    if n < 4:
        low = data[0] << 16 | data[n // 2] << 24 | data[-1] | n << 8
        high = swap(low, 4)
        high = (high << 13 | high >> 19) & 0xFFFFFFFF
        a, b, c, d = struct.unpack_from("<4I", secret)
        return avalanche64(low ^ (a ^ b) + seed & MASK), avalanche64(high ^ (c ^ d) - seed & MASK)
    if n < 9:
        seed ^= swap(seed & 0xFFFFFFFF, 4) << 32
        value = int.from_bytes(data[:4], "little") | int.from_bytes(data[-4:], "little") << 32
        product = (value ^ (key[1] + seed & MASK)) * (PRIME64[0] + 4 * n)
        low, high = product & MASK, product >> 64
        high = (high + (low << 1)) & MASK
        low ^= high >> 3
        low = (low ^ low >> 35) * 0x9FB21C651E98DF25 & MASK
        return low ^ low >> 28, avalanche(high)
    (first,), (last,) = words(data, 0), words(data, n - 8)
    product = (first ^ last ^ (key[2] - seed & MASK)) * PRIME64[0]
    low, high = (product & MASK) + ((n - 1) << 54) & MASK, product >> 64
    last ^= key[3] + seed & MASK
    high = high + last + (last & 0xFFFFFFFF) * (PRIME32[1] - 1) & MASK
    product = (low ^ swap(high, 8)) * PRIME64[1]
    return avalanche(product & MASK), avalanche((product >> 64) + high * PRIME64[1] & MASK)


def hash_up_to_240(data: bytes, secret: bytes, seed: int) -> tuple[int, int]:
    n, low, high = len(data), len(data) * PRIME64[0] & MASK, 0

    def mix(a: int, b: int, secret_at: int, seed: int) -> None:
        nonlocal low, high
        low = low + mix16(data, a, secret, secret_at, seed) & MASK
        low ^= sum(words(data, b, 2)) & MASK
        high = high + mix16(data, b, secret, secret_at + 16, seed) & MASK
        high ^= sum(words(data, a, 2)) & MASK

    if n <= 128:
        for i in reversed(range((n - 1) // 32 + 1)):
            mix(16 * i, n - 16 * (i + 1), 32 * i, seed)
    else:
        for at in range(0, 128, 32):
            mix(at, at + 16, at, seed)
        low, high = avalanche(low), avalanche(high)
        for at in range(128, n // 32 * 32, 32):
            mix(at, at + 16, at - 125, seed)
        mix(n - 16, n - 32, 103, -seed & MASK)
    mixed = low * PRIME64[0] + high * PRIME64[3] + (n - seed) * PRIME64[1] & MASK
    return avalanche(low + high & MASK), -avalanche(mixed) & MASK


def hash_long(data: bytes, secret: bytes) -> tuple[int, int]:
    n, last = len(data), len(secret) - 64
    lanes = [PRIME32[2], *PRIME64[:4], PRIME32[1], PRIME64[4], PRIME32[0]]

    def accumulate(at: int, secret_at: int) -> None:
        for i, (value, key) in enumerate(zip(words(data, at, 8), words(secret, secret_at, 8), strict=True)):
            keyed = value ^ key
            lanes[i ^ 1] = lanes[i ^ 1] + value & MASK
            lanes[i] = lanes[i] + (keyed & 0xFFFFFFFF) * (keyed >> 32) & MASK

    per_block = last // 8
    for stripe in range((n - 1) // 64):
        accumulate(64 * stripe, stripe % per_block * 8)
        if stripe % per_block == per_block - 1:
            keys = words(secret, last, 8)
            lanes = [(x ^ x >> 47 ^ key) * PRIME32[0] & MASK for x, key in zip(lanes, keys, strict=True)]
    accumulate(n - 64, last - 7)

    def merge(secret_at: int, start: int) -> int:
        keys = words(secret, secret_at, 8)
        folds = (fold(lanes[i] ^ keys[i], lanes[i + 1] ^ keys[i + 1]) for i in range(0, 8, 2))
        return avalanche(start + sum(folds) & MASK)

    return merge(11, n * PRIME64[0]), merge(last - 11, ~(n * PRIME64[1]))


def seeded(seed: int) -> bytes:
    """Return the secret that a seed stands for where data are long."""
    keys = [key + (-seed if i % 2 else seed) & MASK for i, key in enumerate(words(SECRET, 0, 24))]
    return struct.pack("<24Q", *keys)


def xxh3_128(data: bytes, seed: int = 0, secret: bytes | None = None) -> bytes:
    """Return the digest in its canonical form. A seed or a secret, not both."""
    if len(data) > 240:
        low, high = hash_long(data, secret or seeded(seed))
    else:
        short = hash_up_to_16 if len(data) <= 16 else hash_up_to_240
        low, high = short(data, secret or SECRET, seed)
    return struct.pack(">2Q", high, low)
