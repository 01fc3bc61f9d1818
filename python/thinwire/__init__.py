"""thinwire: distributed PyTorch training that does not need a fast network.

This level needs NumPy alone. `thinwire.data` does too, `thinwire.ddp` needs torch, `thinwire.store` what the
extra "store" brings; these are imported at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinwire import _core, errors
from thinwire._chunking import Chunker, Profile, cuts, fingerprint
from thinwire._codecs import Codec, CodecInfo, codec, codecs, force_target, targets
from thinwire._comm import Communicator
from thinwire._core import blake3, xxh3_128
from thinwire._host_array import HostArray
from thinwire._lazy import lazy_names
from thinwire._pool import HostPool
from thinwire._registration import Registration, register_
from thinwire._version import __version__
from thinwire._work import Work
from thinwire.errors import (
    Conflict,
    CorruptChunk,
    CorruptFrame,
    CudaError,
    Error,
    FormatVersion,
    InvalidArgument,
    NonFinite,
    NotBuilt,
    NotFound,
    PeerLost,
    PoolExhausted,
    ReplicaMismatch,
    StoreError,
    Timeout,
    TransportError,
    WrongKey,
)

if TYPE_CHECKING:
    from thinwire import data, ddp, store
    from thinwire.store import Store

__all__ = [
    "Chunker",
    "Codec",
    "CodecInfo",
    "Communicator",
    "Conflict",
    "CorruptChunk",
    "CorruptFrame",
    "CudaError",
    "Error",
    "FormatVersion",
    "HostArray",
    "HostPool",
    "InvalidArgument",
    "NonFinite",
    "NotBuilt",
    "NotFound",
    "PeerLost",
    "PoolExhausted",
    "Profile",
    "Registration",
    "ReplicaMismatch",
    "Store",
    "StoreError",
    "Timeout",
    "TransportError",
    "Work",
    "WrongKey",
    "__version__",
    "blake3",
    "codec",
    "codecs",
    "cuts",
    "data",
    "ddp",
    "errors",
    "fingerprint",
    "force_target",
    "register_",
    "store",
    "targets",
    "xxh3_128",
]

if _core.__version__ != __version__:
    raise ImportError(
        f"thinwire {__version__} found a native module of version {_core.__version__}; "
        "build it again: pip install --force-reinstall thinwire, or pip install -e . in a checkout"
    )

__getattr__ = lazy_names(__name__, {"Store": "store"}, modules=("data", "ddp", "store"))


def __dir__() -> list[str]:
    return sorted(__all__)
