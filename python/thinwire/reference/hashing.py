"""XXH3-64 by the `xxhash` package, which only the extra `test` installs."""

from __future__ import annotations


def xxh3_64(data: bytes, seed: int = 0) -> int:
    """Return XXH3-64 of `data`. Raises ImportError where the `xxhash` package is missing."""
    try:
        import xxhash
    except ImportError as missing:
        raise ImportError("thinwire.reference needs xxhash: pip install 'thinwire[test]'") from missing
    return int(xxhash.xxh3_64_intdigest(data, seed=seed))
