"""Filesystems behind URLs, which fsspec knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from thinwire.errors import Error


def open_filesystem(url: str, options: dict[str, Any], failure: Callable[[str], Error]) -> tuple[Any, str]:
    """Return a filesystem of the caller's own, and the path of `url` in it; `options` go to its constructor.

    One that is shared would bring a cache of listings with it. Raises ImportError without fsspec, and what
    `failure` makes of the reason where fsspec cannot serve the URL.
    """
    try:
        import fsspec
    except ImportError as error:
        raise ImportError(f"{url}: URLs need fsspec: pip install 'thinwire[store]'") from error
    try:
        fs, path = fsspec.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False, **options)
    except (ImportError, ValueError) as error:
        raise failure(f"{url}: {error}") from error
    return fs, path
