"""From a bucket to its program: the policy is asked, the bucket is cut, the ranks check that they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from thinwire import _core
from thinwire.ddp.base_program import BaseProgram, Bound
from thinwire.ddp.model import real_view
from thinwire.ddp.plan import Limits, Plan, make_plan
from thinwire.ddp.policy import Policy
from thinwire.errors import CudaError, Error, InvalidArgument

ProgramT = TypeVar("ProgramT", bound=BaseProgram)
Binder = Callable[[Plan, int, Bound], ProgramT]
"""Makes a program of a plan, a bucket's number, and what is bound to the plan."""


class Agreeing(Protocol):
    """The part of a transport by which ranks find out whether they agree."""

    size: int

    def agree(self, subject: str, description: dict[str, Any]) -> None:
        """Raise InvalidArgument on all ranks unless all came with the same description."""


@dataclass(frozen=True)
class _Known(Generic[ProgramT]):
    """The programs of a bucket, by whether left factors travel, and what they were made for."""

    parameters: tuple[int, ...]
    dtype: torch.dtype
    warm: bool
    programs: dict[bool | None, ProgramT]


class Planner(Generic[ProgramT]):
    """Makes the program of every bucket once, and again when DDP rebuilds its buckets or the warm-up ends.

    Under PowerSGD a bucket has two, made together, of which steps take one or the other.

    Used by one thread, in the order of buckets. `made` counts how often a bucket's were made.
    """

    def __init__(self, policy: Policy, wire: Agreeing, limits: Limits, bind: Binder[ProgramT]) -> None:
        self._policy = policy
        self._wire = wire
        self._limits = limits
        self._bind = bind
        self._known: dict[int, _Known[ProgramT]] = {}
        self.made = 0

    def program(
        self, bucket: int, buffer: torch.Tensor, parameters: Sequence[torch.Tensor], step: int
    ) -> ProgramT:
        """Return the program of a bucket. Collective where it is new.

        Raises InvalidArgument on all ranks if they differ in it, or if it cannot be made on one of them.
        """
        warm, is_left = self._policy.is_warm(step), self._policy.sends_left(step)
        wanted = (tuple(map(id, parameters)), buffer.dtype, warm)
        known = self._known.get(bucket)
        if known is None or (known.parameters, known.dtype, known.warm) != wanted:
            sides = (None,) if is_left is None else (True, False)
            made = {side: self._make(bucket, buffer, parameters, step, side) for side in sides}
            known = self._known[bucket] = _Known(*wanted, made)
            self.made += 1
        return known.programs[is_left]

    def programs(self) -> list[ProgramT]:
        """Return a program of every bucket so far, in order."""
        return [next(iter(known.programs.values())) for _, known in sorted(self._known.items())]

    def parameters(self) -> list[tuple[str, torch.Tensor]]:
        """Return the parameters of all buckets so far, in order, with their positions for names."""
        parameters = [parameter for program in self.programs() for parameter in program.parameters]
        return [(f"parameter {i} of shape {tuple(p.shape)}", p) for i, p in enumerate(parameters)]

    def _make(
        self,
        bucket: int,
        buffer: torch.Tensor,
        parameters: Sequence[torch.Tensor],
        step: int,
        is_left: bool | None,
    ) -> ProgramT:
        warm = self._policy.is_warm(step)
        description = {
            "bucket": bucket,
            "step": step,
            "left factors": is_left,
            "dtype": str(buffer.dtype),
            "shapes": [list(parameter.shape) for parameter in parameters],
            "wire version": _core.WIRE_VERSION,
            "failure": None,
        }
        failure, program = None, None
        plan = Plan((), description)
        try:
            bound = Bound(
                parameters,
                [self._policy.keeps_residual(parameter) for parameter in parameters],
                [self._policy.basis_of(parameter) for parameter in parameters],
                self._policy.share if warm else 1.0,
                [self._policy.factors_of(parameter) for parameter in parameters],
                is_left,
                buffer.dtype,
            )
            sizes = [real_view(parameter).numel() for parameter in parameters]
            codings = [self._policy.coding_of(parameter, buffer.dtype, warm) for parameter in parameters]
            plan = make_plan(bound.reduced(sizes), codings, self._wire.size, description, self._limits)
            if sum(sizes) != buffer.numel():
                found, wanted = buffer.numel(), sum(sizes)
                raise InvalidArgument(f"bucket {bucket} has {found} values, its parameters {wanted}")
            program = self._bind(plan, bucket, bound)
        except Error as error:
            failure = error
        except torch.cuda.OutOfMemoryError as error:
            failure = CudaError(f"no memory for bucket {bucket}: {error}")
        # A rank that failed still takes part: all ranks hear of it here, and none waits for its frames.
        told = {**plan.description, "failure": str(failure)} if failure else plan.description
        self._wire.agree(f"the plan of bucket {bucket}", told)
        if failure is not None or program is None:
            raise InvalidArgument(str(failure))
        return program
