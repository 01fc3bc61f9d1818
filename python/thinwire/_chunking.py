"""Cutting data into chunks, at places that its own bytes choose (docs/wire/chunking.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinwire import _core, _parameters
from thinwire._buffers import raw_bytes, raw_bytes_anywhere
from thinwire._streams import is_on_gpu, stream_for
from thinwire.errors import InvalidArgument

_SIZES = ("min", "average", "max")
_PARSERS: _parameters.Parsers = dict.fromkeys(_SIZES, (_parameters.integer, "an integer"))
_SIZE_LIMIT, _THREAD_LIMIT = 2**64, 2**16  # of what the native core can be asked for


@dataclass(frozen=True)
class Profile:
    """How data is cut: an algorithm and its sizes, in bytes. Two stores share chunks only under one profile.

    `name`: "native", "fastcdc2020" (the cuts of the package pyfastcdc), "fixed" or "aligned" (blocks of one
    size, from the start of the data or of each tensor).
    `average`: what is aimed at, by default 65536. `min`, `max`: no chunk is smaller, but the last, and none
    larger; by default a quarter of the average, and four times it. Blocks of one size have all three equal.
    A size of 0 stands for its default; the profile then holds the default itself.

    Raises InvalidArgument, which names the parameter, for sizes that the algorithm does not take.
    """

    name: str = "native"
    min: int = 0
    average: int = 0
    max: int = 0

    def __post_init__(self) -> None:
        _check_name(self.name)
        sizes = _read_sizes(self.name, [(size, getattr(self, size)) for size in _SIZES])
        for size, value in zip(_SIZES, _core.chunk_sizes(self.name, **sizes), strict=True):
            object.__setattr__(self, size, value)

    def __str__(self) -> str:
        """The text that `parse` takes, with every size."""
        return f"{self.name}:" + ",".join(f"{size}={getattr(self, size)}" for size in _SIZES)

    @classmethod
    def parse(cls, text: str) -> Profile:
        """The profile of a text such as "native" or "native:average=16384,max=32768".

        Raises InvalidArgument for text of another form, and as the constructor does.
        """
        _check_name(text)
        name, given = _parameters.split(text, "profile")
        sizes = _read_sizes(name, given)
        for size, value in sizes.items():
            if value == 0:
                raise InvalidArgument(f"{size} is 0, which profile {name} cannot have")
        return cls(name, **sizes)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise InvalidArgument(f"a profile is named by a string, not by a {type(name).__name__}")


def _read_sizes(name: str, given: Iterable[tuple[str, Any]]) -> dict[str, int]:
    sizes: dict[str, int] = _parameters.read(given, f"profile {name}", _PARSERS)
    for size, value in sizes.items():
        if not 0 <= value < _SIZE_LIMIT:
            raise InvalidArgument(f"{size} is {value}, which profile {name} cannot have")
    return sizes


class Chunker:
    """Cuts a stream that comes in pieces. However it is split, the ends are those of `cuts` over all of it.

    `profile`: a Profile or its text. `threads`: how many work on one piece (profile "native" only), None for
    every core; they change no cut. Raises InvalidArgument for a profile or a number that does not exist.
    """

    def __init__(self, profile: Profile | str = "native", threads: int | None = None) -> None:
        self._profile = profile if isinstance(profile, Profile) else Profile.parse(profile)
        p = self._profile
        self._chunker = _core.Chunker(p.name, p.min, p.average, p.max, _thread_count(threads))
        self._finished = False

    @property
    def profile(self) -> Profile:
        """The profile, with every size."""
        return self._profile

    def update(self, data: Any) -> NDArray[np.int64]:
        """Takes the next piece and returns the ends of the chunks that are certain now.

        `data`: a contiguous buffer, array or tensor in host memory, any dtype; its bytes are taken as they
        lie there. The ends, int64 of shape (count,), are counted in bytes from the start of the stream.

        Raises InvalidArgument for other data, and after `finish`.
        """
        self._check_open()
        piece = raw_bytes(data, "data")
        return self._chunker.update(piece.address, piece.count)

    def finish(self) -> NDArray[np.int64]:
        """Ends the stream and returns the last end: int64 of shape (1,), or (0,) where it is known already.

        Raises InvalidArgument the second time.
        """
        self._check_open()
        self._finished = True
        return self._chunker.finish()

    def _check_open(self) -> None:
        if self._finished:
            raise InvalidArgument("this chunker has finished its stream; make one for each stream")


def cuts(data: Any, profile: Profile | str = "native", threads: int | None = None) -> NDArray[np.int64]:
    """The ends of the chunks of `data`, int64 of shape (chunks,), in bytes; the last one is its size.

    Equal data gives equal ends on every CPU and for any number of threads. `data` as for `Chunker.update`,
    `profile` and `threads` as for `Chunker`; no data has no chunks. Raises InvalidArgument as both do.
    """
    chunker = Chunker(profile, threads)
    return np.concatenate([chunker.update(data), chunker.finish()])


def fingerprint(
    data: Any,
    profile: Profile | str = "native",
    threads: int | None = None,
    key: Any = None,
    stream: int | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The ends of the chunks of `data`, as `cuts` has them, and the BLAKE3 digest of each.

    Part by part, so that data that does not fit in memory (a memory-mapped file) is read once. The ends are
    int64 of shape (chunks,), the digests uint8 of shape (chunks, 32), keyed where `key`, 32 bytes, is given.
    `data` may also lie on a GPU: it is cut and hashed there, with the same result, and `stream` is as for
    `Codec.encode`. The threads are those of the CPU.

    Raises InvalidArgument as `cuts` does, for a key of another length, and for a stream where the data is not
    on a GPU; NotBuilt for data on a GPU with profile "fastcdc2020" or in a build without CUDA; CudaError.
    """
    p = profile if isinstance(profile, Profile) else Profile.parse(profile)
    whole, workers = raw_bytes_anywhere(data, "data"), _thread_count(threads)
    arguments = (whole.address, whole.count, p.name, p.min, p.average, p.max, key)
    if is_on_gpu(whole, stream):
        return _core.cuda_fingerprint(*arguments, stream_for(whole, stream))
    return _core.fingerprint(*arguments, workers)


def _thread_count(threads: int | None) -> int:
    """As the native core takes it: 0 stands for every core."""
    if threads is None:
        return 0
    if not isinstance(threads, int) or not 0 < threads < _THREAD_LIMIT:
        raise InvalidArgument(f"threads is {threads!r}; pass an integer of 1 or more, or None for every core")
    return threads


__all__ = ["Chunker", "Profile", "cuts", "fingerprint"]
