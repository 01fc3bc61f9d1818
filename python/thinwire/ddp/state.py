"""HookState: everything one rank's hook knows from one step to the next."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import nn

from thinwire._rendezvous import require_equal
from thinwire.ddp.base_engine import BaseEngine
from thinwire.ddp.base_program import DTYPE_CODES, Identity
from thinwire.ddp.base_wire import BaseWire
from thinwire.ddp.bases import Bases
from thinwire.ddp.checkpoint import SHARED, SavedState, digest, merge_states
from thinwire.ddp.device_program import DeviceProgram
from thinwire.ddp.engine import Engine
from thinwire.ddp.factors import Factors
from thinwire.ddp.feedback import Residuals
from thinwire.ddp.group import c10d_device_type, member_of
from thinwire.ddp.group_wire import GroupWire
from thinwire.ddp.meeting import Meeting
from thinwire.ddp.memory import Memory
from thinwire.ddp.model import check_model, named_parameters, real_view, unwrap
from thinwire.ddp.names import Names
from thinwire.ddp.native_engine import NativeEngine
from thinwire.ddp.native_program import NativeProgram
from thinwire.ddp.native_wire import NativeWire
from thinwire.ddp.options import RESIDUAL_DTYPES, Options, check_network
from thinwire.ddp.pending import Pendings
from thinwire.ddp.pipeline import Place
from thinwire.ddp.plan import C10D_LIMITS, native_limits
from thinwire.ddp.planner import Planner
from thinwire.ddp.program import Program
from thinwire.ddp.report import Metrics, Report
from thinwire.ddp.stepper import Stepper
from thinwire.ddp.stream_engine import StreamEngine
from thinwire.ddp.verify import Verifier
from thinwire.ddp.wire import Wire
from thinwire.errors import InvalidArgument, NotBuilt

AnyWire = Wire | GroupWire | NativeWire

_log = logging.getLogger("thinwire.ddp")


class HookState:
    """The state of `comm_hook` on one rank. The constructor is collective over the process group.

    Args:
        codec: how gradients are sent; "int8", "int4", "sign1", "topk:density=0.01", ... see
            `thinwire.codecs()`. "auto-accuracy:1%" takes the smallest that promises so small a gap.
        model: the model, or its DDP wrapper: gives parameters their names in `state_dict`, and finds
            embeddings and output head for codecs below int4. `attach` passes it.
        process_group: that of the DDP module; None for the default group.
        transport: "auto", "native" or "c10d".
        scaler: the torch.amp.GradScaler in use, if any: a step it skips leaves the residuals alone, and they
            follow its scale.
        network: how the native transport connects the ranks, as `thinwire.Communicator` takes it: links,
            secret, tls, interface, ports, sockets, congestion, pacing, site. What is left out follows the
            environment variables. Not with transport="c10d".
        **options: see `thinwire.ddp.Options`.

    Raises InvalidArgument (on all ranks if they were told different things), NotBuilt, Timeout (naming the
    ranks that did not come).
    """

    def __init__(
        self,
        codec: str = "int8",
        model: nn.Module | None = None,
        process_group: dist.ProcessGroup | None = None,
        transport: str = "auto",
        scaler: Any = None,
        network: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        group = member_of(process_group)
        self._rank, self._world_size = group.rank(), group.size()
        meeting = Meeting(group)
        with meeting.telling():
            self.options = Options.parse({"codec": str(codec), "transport": transport, **options})
            if network is not None:
                check_network(network, self.options)
            scaler = _enabled(scaler)
            inner = None if model is None else unwrap(model)
            types: tuple[str, ...] = NativeEngine.device_types
            if not self.options.is_native:
                types = (c10d_device_type(group, inner),)
            if inner is not None:
                check_model(inner, types)
            self._policy = self.options.policy(inner.modules() if inner else ())
            if types == StreamEngine.device_types and self._policy.reducer is not None:
                raise NotBuilt(f"{self._policy.reducer} is not reduced over NCCL: use transport='native'")
            self._memory = self._make_memory(inner, scaler is not None)
        self._metrics = Metrics()
        self._wire: BaseWire | None = None
        self._engine: BaseEngine | None = None
        if self._world_size > 1 or self.options.force:
            told = {**self.options.description(), "scaler": scaler is not None, "model": inner is not None}
            make_wire: Callable[..., AnyWire] = Wire
            if self.options.is_native:
                make_wire = partial(NativeWire, network=network or {})
            elif types == StreamEngine.device_types:
                make_wire = GroupWire
            told["devices"] = list(types)
            wire = make_wire(meeting, told, self.options.timeout, self.options.deadline)
            self._wire, self._engine = wire, self._make_engine(wire, inner)
            weakref.finalize(self, self._engine.close)
        strict = self.options.nonfinite == "raise"
        self.stepper = Stepper(self._engine, self._memory, self._metrics, self._world_size, scaler, strict)
        """Used by `comm_hook`."""

    def set_weight(self, weight: float) -> None:
        """Set this rank's weight in the mean from the next step on. Default 1 / ranks.

        The mean is the sum of weight times gradient. The weights of all ranks must add up to 1 in every step;
        if not, backward raises InvalidArgument on all of them.
        """
        if (
            isinstance(weight, bool)
            or not isinstance(weight, (int, float))
            or not (math.isfinite(weight) and weight >= 0)
        ):
            raise InvalidArgument(f"a weight is a finite number of 0 or more, not {weight!r}")
        if self._engine is None and weight != 1:
            raise InvalidArgument(f"a single rank has weight 1, not {weight!r}")
        self.stepper.weight = float(weight)

    def state_dict(self) -> dict[str, Any]:
        """Return this rank's state between two steps: its number, and copies of what is kept for parameters.

        These are residuals, bases, pending parts and factors, named after their parameters. Residuals and
        pending parts have the shape of their parameter, and every rank's residuals differ; a basis is
        (vectors, *shape of a row), a factor pair flat, and like the pending parts the same on all ranks. To
        resume bit by bit, save and load each rank's own. Waits for the device, so that any stream may be the
        current one.
        """
        stepper = self.stepper
        with stepper.apart():
            kept = self._memory.state()
        saved = SavedState(stepper.number, self._rank, self._world_size, stepper.loss_scale, kept)
        return saved.as_dict()

    def load_state_dict(self, state_dict: Any) -> None:
        """Take up a state that `state_dict` returned. Collective.

        `state_dict` is this rank's own, or a list of those of several former ranks, whose number may differ:
        old rank i goes to rank i mod the number of ranks, and residuals that meet are added. Another rank's
        alone gives the step number and what ranks share; residuals then start from zero, which is logged.
        Where this hook hands over all at once, pending parts are added to the residuals of rank 0.

        Raises InvalidArgument on all ranks, and changes nothing, if names or shapes do not fit or ranks load
        different steps; Timeout naming the ranks that did not call it.
        """
        with self.stepper.apart():
            self._load(state_dict)

    def report(self) -> Report:
        """Return what the hook did since the last change of plan. Raises what no backward could raise."""
        self.stepper.close_books()
        self.stepper.raise_pending()
        values = {"codec": self._policy.name, "world_size": self._world_size, **self._metrics.summary()}
        values["residual_bytes"] = self._memory.residuals.nbytes
        values["basis_bytes"] = self._memory.shared_bytes
        values["buffer_bytes"] = self._engine.buffer_bytes if self._engine is not None else 0
        values["ways"] = self._engine.ways if self._engine is not None else {}
        return Report(values)

    def close(self) -> None:
        """End threads and connections; later buckets are refused. Raises what no backward could raise.

        Happens by itself when the state is no longer used, and when Python ends.
        """
        self.stepper.close_books()
        if self._engine is not None:
            self._engine.close()
        self.stepper.raise_pending()

    def _make_memory(self, model: nn.Module | None, transactional: bool) -> Memory:
        kept, names = None, Names(None)
        if model is not None:
            named = named_parameters(model) if self._world_size > 1 or self.options.force else {}
            names = Names({parameter: name for name, parameter in named.items()})
            coded = {name: p for name, p in named.items() if real_view(p).dtype in DTYPE_CODES}
            for name, parameter in coded.items():
                self._policy.check_fit(name, parameter)
            kept = [p for p in coded.values() if self._policy.keeps_residual(p)]
        residuals = Residuals(RESIDUAL_DTYPES[self.options.residual_dtype], transactional, names, kept)
        seed = self.options.seed
        return Memory(residuals, Bases(names, seed), Pendings(names), Factors(names, seed))

    def _make_engine(self, wire: AnyWire, model: nn.Module | None) -> BaseEngine:
        named = list(named_parameters(model).items()) if model is not None else None
        identity = Identity(wire.nonce, self._rank, self._world_size, self.options.seed)
        memory = self._memory  # nothing the engine holds may hold this state

        def verifier(planner: Planner[Any]) -> Verifier:
            parameters = planner.parameters if named is None else lambda: named
            return Verifier(self.options.verify_every, wire, lambda: [*parameters(), *memory.shared()])

        if isinstance(wire, NativeWire):
            rank, limits = wire.communicator.native, native_limits(self._world_size)
            bind_native = partial(NativeProgram, rank, memory=memory, me=identity)
            native = Planner(self._policy, wire, limits, bind_native)
            return NativeEngine(wire, native, verifier(native), self._metrics)
        if isinstance(wire, GroupWire):
            place = Place()
            bind_device = partial(DeviceProgram, place.of, memory=memory, me=identity)
            device = Planner(self._policy, wire, C10D_LIMITS, bind_device)
            return StreamEngine(wire, device, verifier(device), self._metrics, place)
        c10d = Planner(self._policy, wire, C10D_LIMITS, partial(Program, memory=memory, me=identity))
        return Engine(wire, c10d, verifier(c10d), self._metrics)

    def _load(self, state_dict: Any) -> None:
        failure, merged = None, None
        try:
            merged = merge_states(state_dict, self._rank, self._world_size)
            if self._engine is not None:
                self._memory.check(merged.kept)
        except InvalidArgument as error:
            failure = str(error)
        self._agree_to_load(merged, failure)
        if merged is not None:
            self._apply(merged)

    def _agree_to_load(self, merged: SavedState | None, failure: str | None) -> None:
        """Raise InvalidArgument if a rank cannot load, or if they would go on at different steps."""
        answer = {
            "failure": failure,
            "step": merged and merged.step,
            "loss scale": merged and merged.loss_scale,
            **{what: merged and digest(getattr(merged.kept, what)) for what in SHARED},
        }
        answers = [answer] if self._wire is None else self._wire.meet(answer, "called load_state_dict")
        for rank, other in enumerate(answers):
            if other["failure"] is not None:
                raise InvalidArgument(f"rank {rank}: {other['failure']}")
        require_equal("the state to load", answers)
        if self._wire is not None:  # who comes when the others have given up does not load alone
            self._wire.meet({}, "gone on to load the state")

    def _apply(self, merged: SavedState) -> None:
        self.stepper.number, self.stepper.loss_scale = merged.step, merged.loss_scale
        kept = merged.kept
        if self._engine is not None and self._policy.share == 1:
            self._memory.load(replace(kept, pending={}))
            self._memory.residuals.take_in(kept.pending if self._rank == 0 else {})
        elif self._engine is not None:
            self._memory.load(kept)
        elif kept.residuals or kept.pending:
            _log.warning("a single rank sends nothing: what the loaded state keeps for later is dropped")


def _enabled(scaler: Any) -> Any:
    """Return the scaler; None where it does nothing. Raises InvalidArgument for what is none."""
    if scaler is None:
        return None
    if not (hasattr(scaler, "is_enabled") and hasattr(scaler, "get_scale")):
        raise InvalidArgument(f"scaler is a {type(scaler).__name__}; pass a torch.amp.GradScaler, or None")
    return scaler if scaler.is_enabled() else None
