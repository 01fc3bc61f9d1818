"""Cases of `thinwire bench dedup`: how small real data becomes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import thinwire as tw
from thinwire.bench._cases import Case, Effort, LeftOut, Measured, need
from thinwire.bench._dedup_speed import AVERAGE, PROFILE, fastcdc

_RELEASES = ("django==5.0.8", "django==5.1.2", "django==5.2.1")
_DOWNLOAD_LIMIT_S = 120.0


def cases() -> list[Case]:
    """Shifting data, and weights."""
    return [
        Case("unique bytes, 3 releases as tar", "pyfastcdc, same average", 1.02, _releases, at_most=True),
        Case("stored bytes, trained bf16 weights", "the weights", 0.72, _weights, at_most=True),
    ]


def _releases(effort: Effort) -> Measured:
    chunker = fastcdc(AVERAGE)
    tars = [_as_tar(path) for path in _download()]
    own = unique_bytes(tars, lambda data: tw.cuts(data, PROFILE).tolist())
    base = unique_bytes(tars, lambda data: [c.offset + c.length for c in chunker.cut_buf(data)])
    return Measured([own], [base])


def unique_bytes(contents: Iterable[bytes], cut: Callable[[bytes], Iterable[int]]) -> int:
    """Bytes of the distinct chunks of all contents; `cut` gives the chunks' ends."""
    sizes: dict[bytes, int] = {}
    for content in contents:
        begin = 0
        for end in cut(content):
            sizes[tw.blake3(content[begin:end])] = end - begin
            begin = end
    return sum(sizes.values())


def _download() -> list[Path]:
    """Wheels of pure Python packages are their source trees; kept in the user's cache."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thinwire" / "releases"
    for release in _RELEASES:
        if _wheel(folder, release) is None:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            try:
                subprocess.run(
                    [*command, "--dest", str(folder), release],
                    check=True,
                    capture_output=True,
                    timeout=_DOWNLOAD_LIMIT_S,
                )
            except (OSError, subprocess.SubprocessError):
                raise LeftOut(f"pip could not download {release}: this needs the network once") from None
    return [wheel for release in _RELEASES if (wheel := _wheel(folder, release))]


def _wheel(folder: Path, release: str) -> Path | None:
    name, _, version = release.partition("==")
    return next(folder.glob(f"[{name[0]}{name[0].upper()}]{name[1:]}-{version}-*.whl"), None)


def _as_tar(wheel: Path) -> bytes:
    """The files of a wheel, in the order of their names, as tar writes them."""
    memory = io.BytesIO()
    with zipfile.ZipFile(wheel) as archive, tarfile.open(fileobj=memory, mode="w") as tar:
        for info in sorted(archive.infolist(), key=lambda each: each.filename):
            member = tarfile.TarInfo(info.filename)
            member.size = info.file_size
            tar.addfile(member, io.BytesIO(archive.read(info)))
    return memory.getvalue()


def _weights(effort: Effort) -> Measured:
    need("torch")
    need("zstandard")
    weights = list(_trained_in_bfloat16())
    with tempfile.TemporaryDirectory() as folder, tw.Store(Path(folder, "store")) as store:
        with store.writer("weights") as writer:
            chunks = [writer.add(each, "aligned", element_size=2) for each in weights]
            writer.commit({}, np.concatenate(chunks))
        stored = store.stats().stored
    return Measured([stored], [sum(each.nbytes for each in weights)])


def _trained_in_bfloat16() -> Iterator[Any]:
    """The weights of a transformer after 400 steps on the standard library's sources, uint8 arrays."""
    import torch

    from thinwire.bench._finetune_model import trained_model

    for weight in trained_model().state_dict().values():
        yield weight.to(torch.bfloat16).contiguous().view(torch.uint8).numpy().reshape(-1)
