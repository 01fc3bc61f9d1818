"""The hook's options: one table of names and defaults, checked in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import nn

from thinwire import _core
from thinwire._codecs import codec as make_codec
from thinwire._membership import Options as Network
from thinwire.ddp import accuracy, powersgd
from thinwire.ddp.policy import (
    DEFAULT_RANKS,
    DEFAULT_SHARES,
    SIGN1_BLOCK_WITH_BASIS,
    WARMUP_CODEC,
    WARMUP_STEPS_WHILE_LEARNING,
    Policy,
    check_rank,
    check_share,
    default_warmup,
    protected_parameters,
)
from thinwire.errors import InvalidArgument

RESIDUAL_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
NONFINITE = ("propagate", "raise")
TRANSPORTS = ("auto", "native", "c10d")
_MOST_SEED = 2**64 - 1
_MOST_SECONDS = 1e9  # what clocks take; some thirty years


@dataclass(frozen=True)
class Options:
    """What a HookState can be told. All ranks must be told the same.

    Attributes:
        codec: "int8", "int4", "sign1", "topk", "bf16", ... with parameters as in "int4:block=32"; see
            `thinwire.codecs()`. "auto-accuracy:1%" stands for the smallest that promises so small a gap to
            uncompressed training (`docs/accuracy.md`), with its own basis and warm-up. "powersgd:rank=4"
            sends low-rank factors (`docs/powersgd.md`).
        transport: "native" (thinwire's own links), "c10d" (Gloo, or NCCL for a model on a CUDA device), or
            "auto", which takes native.
        small: matrices with fewer values than this go in 16 bit, as all one-dimensional parameters do.
        basis: vectors of the basis that ranks share for each matrix (`docs/basis.md`); 0 for none. None: 8
            for sign1 and topk, 4 for int2 and ternary, else 0.
        share: of what arrives beside a basis, the part that a step hands to the optimizer; the rest comes
            with the next steps. 1 for all at once. None: 0.25 for topk, else 1. Without a basis always 1.
        warmup: steps of int4 at the start. None: 10 with a basis and for powersgd, 40 for int2, ternary,
            sign1 and topk without a basis, else 0.
        feedback: keep what a codec loses and send it with the next step (codecs under 16 bit).
        residual_dtype: "float32", or "bfloat16" for half the memory.
        nonfinite: "propagate" lets NaN and infinity arrive as NaN on all ranks; "raise" raises NonFinite on
            all ranks as well.
        verify_every: compare the parameters and bases of all ranks before every so many steps; 0 for never.
        seed: of stochastic rounding.
        force: run everything on a single rank too, where the bucket is otherwise left alone.
        timeout: seconds that a collective call of HookState waits for the other ranks.
        deadline: seconds that one transfer of gradients may take.
    """

    codec: str = "int8"
    transport: str = "auto"
    small: int = 4096
    basis: int | None = None
    share: float | None = None
    warmup: int | None = None
    feedback: bool = True
    residual_dtype: str = "float32"
    nonfinite: str = "propagate"
    verify_every: int = 0
    seed: int = 0
    force: bool = False
    timeout: float = 30.0
    deadline: float = 1800.0

    @staticmethod
    def parse(given: dict[str, Any]) -> Options:
        """Return the options of a call. Raises InvalidArgument saying what would be right."""
        names = [field.name for field in fields(Options)]
        for name in given:
            if name not in names:
                raise InvalidArgument(f"there is no option {name!r}; there are {', '.join(names)}")
        options = Options(**given)._resolved()
        options._check()
        return options

    def _resolved(self) -> Options:
        """Name the codec where only an accuracy was asked for."""
        if not accuracy.is_request(self.codec):
            return self
        for name in ("basis", "share", "warmup", "feedback", "small", "residual_dtype"):
            if getattr(self, name) != getattr(Options, name):
                raise InvalidArgument(
                    f"{name} is part of what codec={self.codec!r} chooses; leave it out, or name a codec"
                )
        return replace(self, codec=accuracy.codec_for(self.codec))

    def _check(self) -> None:
        if self.reducer is None:
            make_codec(self.codec)
        elif self.basis or self.share is not None:
            raise InvalidArgument(f"codec={self.codec!r} has no basis; leave basis and share out")
        _one_of("residual_dtype", self.residual_dtype, tuple(RESIDUAL_DTYPES))
        _one_of("nonfinite", self.nonfinite, NONFINITE)
        _one_of("transport", self.transport, TRANSPORTS)
        for name in ("small", "verify_every", "seed"):
            _at_least(name, getattr(self, name), int, 0)
        if self.seed > _MOST_SEED:
            raise InvalidArgument(f"seed is {self.seed}; it must be at most {_MOST_SEED}")
        if self.basis is not None:
            check_rank(self.basis)
        if self.share is not None:
            check_share(self.share)
        if self.warmup is not None:
            _at_least("warmup", self.warmup, int, 0)
        for name in ("timeout", "deadline"):
            _at_least(name, getattr(self, name), (int, float), 0.001)
            if getattr(self, name) > _MOST_SECONDS:
                raise InvalidArgument(
                    f"{name} is {getattr(self, name)!r} seconds; it must be at most {_MOST_SECONDS:g}"
                )
        for name in ("feedback", "force"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidArgument(f"{name} is {getattr(self, name)!r}; it must be True or False")

    @property
    def is_native(self) -> bool:
        """Whether gradients travel over thinwire's own links."""
        return self.transport != "c10d"

    @property
    def reducer(self) -> powersgd.PowerSGD | None:
        """PowerSGD, if that was asked for in the place of a codec."""
        return powersgd.parse(self.codec) if powersgd.is_request(self.codec) else None

    @property
    def spec(self) -> _core.CodecSpec:
        """The codec with its parameters; that of the warm-up, if factors are sent after it."""
        if self.reducer is not None:
            return WARMUP_CODEC
        spec = make_codec(self.codec).spec
        if spec.name == "sign1" and self.rank and "block" not in self.codec:
            return _core.CodecSpec("sign1", block=SIGN1_BLOCK_WITH_BASIS)
        return spec

    @property
    def rank(self) -> int:
        """The vectors of the matrices' bases."""
        if self.reducer is not None:
            return 0
        return DEFAULT_RANKS.get(make_codec(self.codec).spec.name, 0) if self.basis is None else self.basis

    def policy(self, modules: Iterable[nn.Module]) -> Policy:
        """Return the codec policy of a model with these modules."""
        spec, rank = self.spec, self.rank
        protected = frozenset() if rank else protected_parameters(spec, modules)
        default = WARMUP_STEPS_WHILE_LEARNING if self.reducer else default_warmup(spec, rank)
        warmup = default if self.warmup is None else self.warmup
        share = DEFAULT_SHARES.get(spec.name, 1.0) if self.share is None else float(self.share)
        return Policy(
            spec,
            self.small,
            warmup,
            self.feedback,
            protected,
            rank,
            is_rank_given=self.basis is not None,
            share=share if rank else 1.0,
            reducer=self.reducer,
        )

    def description(self) -> dict[str, Any]:
        """Return what all ranks must have in common."""
        return {**asdict(self), "codec": str(self.reducer or self.spec), "wire version": _core.WIRE_VERSION}


def check_network(network: Mapping[str, Any], options: Options) -> None:
    """Raise InvalidArgument unless a communicator takes these options, and the hook makes one."""
    if not options.is_native:
        raise InvalidArgument("network is for thinwire's own links; leave it out with transport='c10d'")
    names = [field.name for field in fields(Network)]
    if unknown := [name for name in network if name not in names]:
        raise InvalidArgument(f"network has {', '.join(map(repr, unknown))}; it takes {', '.join(names)}")


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidArgument(f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")


def _at_least(name: str, value: Any, kind: Any, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not value >= least:
        raise InvalidArgument(f"{name} is {value!r}; it must be a number of {least:g} or more")
