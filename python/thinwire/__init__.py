"""thinwire: distributed PyTorch training that does not need a fast network.

This level needs NumPy alone. `thinwire.ddp` needs torch and is imported at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from thinwire import _core, errors
from thinwire._codecs import Codec, CodecInfo, codec, codecs, force_target, targets
from thinwire._comm import Communicator
from thinwire._core import blake3
from thinwire._version import __version__
from thinwire._work import Work
from thinwire.errors import (
    CorruptFrame,
    CudaError,
    Error,
    InvalidArgument,
    NonFinite,
    NotBuilt,
    PeerLost,
    ReplicaMismatch,
    Timeout,
    TransportError,
)

if TYPE_CHECKING:
    from thinwire import ddp

__all__ = [
    "Codec",
    "CodecInfo",
    "Communicator",
    "CorruptFrame",
    "CudaError",
    "Error",
    "InvalidArgument",
    "NonFinite",
    "NotBuilt",
    "PeerLost",
    "ReplicaMismatch",
    "Timeout",
    "TransportError",
    "Work",
    "__version__",
    "blake3",
    "codec",
    "codecs",
    "ddp",
    "errors",
    "force_target",
    "targets",
]

if _core.__version__ != __version__:
    raise ImportError(
        f"thinwire {__version__} found a native module of version {_core.__version__}; "
        "build it again: pip install --force-reinstall thinwire, or pip install -e . in a checkout"
    )

_NEEDS_TORCH = {"ddp"}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'thinwire' has no attribute {name!r}")
    try:
        return importlib.import_module(f"thinwire.{name}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"thinwire.{name} needs PyTorch, which is not installed: pip install 'thinwire[torch]'",
            name="torch",
        ) from error


def __dir__() -> list[str]:
    return sorted(__all__)
