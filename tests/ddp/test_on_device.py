"""Buckets on a CUDA device, as far as that can be seen without one: stand-ins play streams, events and the
native operation. `tests/native/test_device_operation.cpp` has the rest, `tests/gpu/test_cuda_hook.py` a GPU.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from thinwire import CudaError, NotBuilt, _core
from thinwire.ddp import base_engine, group, native_engine
from thinwire.ddp.jobs import Job
from thinwire.ddp.model import check_device
from thinwire.ddp.native_engine import NativeEngine
from thinwire.ddp.on_device import after, future_of, mark
from thinwire.ddp.report import Metrics
from thinwire.ddp.step import Step

TIMEOUT_S = 20


class LateOperation:
    """A native operation that is over when the test says so."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.slice_failures: list[Any] = []
        self.nonfinite = False
        self.stage_seconds = dict.fromkeys(("encode", "add", "result", "decode"), 0.0)
        self.sent_bytes = self.sampled_error = (0, 0)

    def wait(self, seconds: float) -> bool:
        return self.over.wait(seconds)

    def check(self) -> None:
        assert self.over.is_set()


class Program:
    """A bucket of two parameters, of which the second has a residual."""

    dtype, native, slices, watched, stand_in = 0, "the plan", 3, [(1, 4, 6)], None

    def __init__(self, log: list[Any]) -> None:
        self._log = log

    def begin(self, buffer: torch.Tensor, step: Step) -> torch.Tensor:
        return buffer

    def end(self, buffer: torch.Tensor, step: Step) -> None:
        self._log.append("end")


class Planner:
    """Knows one program, which is new at first."""

    def __init__(self, program: Program) -> None:
        self.made, self._program = 0, program

    def program(self, *_: Any) -> Program:
        self.made = 1
        return self._program


class Flow:
    """An engine among stand-ins. `log` has what happened on which stream, `calls` those of run_plan."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[Any] = []
        self.calls: list[Any] = []
        self.aborted: list[str] = []
        self.operation = LateOperation()

        @contextmanager
        def stream(chosen: Any) -> Iterator[None]:
            self.log.append(("on", chosen))
            yield
            self.log.append(("off", chosen))

        def current_stream(_: Any) -> Any:
            return SimpleNamespace(synchronize=lambda: self.log.append("synchronize"))

        aside = SimpleNamespace(wait_event=lambda event: self.log.append(("wait", event.cuda_event)))
        self.queues = SimpleNamespace(
            native=lambda device: "its queue", stream=lambda device: "its stream", aside=lambda device: aside
        )
        monkeypatch.setattr(native_engine, "Queues", lambda: self.queues)
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: self.log.append(("stay on", device)))
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "current_stream", current_stream)
        monkeypatch.setattr(_core, "OnDevice", lambda *told: told)
        communicator = SimpleNamespace(run_plan=self._run_plan, abort=self.aborted.append)
        wire: Any = SimpleNamespace(communicator=communicator, size=2, close=lambda: None)
        verifier: Any = SimpleNamespace(is_due=lambda step: False)
        planner: Any = Planner(Program(self.log))
        self.engine = NativeEngine(wire, planner, verifier, Metrics())

    def _run_plan(self, *arguments: Any) -> LateOperation:
        self.calls.append(arguments)
        return self.operation

    def job(self, future: Any, on_device: bool = True) -> Job:
        step = Step(7, 0.5, 0, 1)
        ready: Any = SimpleNamespace(cuda_event=1234) if on_device else None
        return Job(step, 0, True, torch.zeros(10), [], future, ready=ready)


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    made = Flow(monkeypatch)
    yield made
    made.operation.over.set()
    made.engine.close()


class Future:
    """Notes what it is completed with. As torch's, it cannot be completed again, not even after a failure."""

    def __init__(self, log: list[Any]) -> None:
        self._log = log
        self.done = threading.Event()

    def set_result(self, value: torch.Tensor) -> None:
        self._complete("result")

    def set_exception(self, error: Exception) -> None:
        self._complete(str(error))

    def _complete(self, how: str) -> None:
        assert not self.done.is_set()
        self._log.append(how)
        self.done.set()


def test_the_engine_is_told_when_a_bucket_is_ready_and_what_to_watch(flow: Flow) -> None:
    future = Future(flow.log)
    job = flow.job(future)
    flow.engine.submit(job)
    assert not future.done.wait(0.05), "it completed before the device was done"
    plan, step, bucket, address, weight, residuals, held, _, where = flow.calls[0]
    assert (plan, step, bucket, weight, residuals) == ("the plan", 7, 0, 0.5, (0, 1))
    assert address == job.buffer.data_ptr()
    assert held == b"", "the zeros are looked for on the device"
    assert where == ("its queue", 1234, [(1, 4, 6)])
    flow.operation.over.set()
    assert future.done.wait(TIMEOUT_S)


def test_the_engine_is_told_when_what_stands_in_for_a_bucket_is_ready(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.zeros(3)

    def begin(program: Program, buffer: torch.Tensor, step: Step) -> torch.Tensor:
        flow.log.append("begin")
        return values

    monkeypatch.setattr(Program, "stand_in", "a stand-in")
    monkeypatch.setattr(Program, "begin", begin)
    monkeypatch.setattr(native_engine, "mark", lambda found: SimpleNamespace(cuda_event=5678))
    flow.operation.over.set()
    flow.engine.submit(flow.job(Future(flow.log)))
    flow.engine.close()
    aside = flow.queues.aside(None)
    begun = flow.log.index(("wait", 1234))
    assert flow.log[begun : begun + 4] == [("wait", 1234), ("on", aside), "begin", ("off", aside)]
    _, _, _, address, *_, where = flow.calls[0]
    assert address == values.data_ptr()
    assert where[:2] == ("its queue", 5678)


def test_a_future_completes_on_the_stream_of_the_engine(flow: Flow) -> None:
    future = Future(flow.log)
    flow.operation.over.set()
    flow.engine.submit(flow.job(future))
    flow.engine.close()
    on, off = ("on", "its stream"), ("off", "its stream")
    stay = ("stay on", torch.device("cpu"))  # in both threads
    assert flow.log == [stay, "synchronize", stay, on, "end", "result", off]


def test_only_a_new_program_is_waited_for(flow: Flow) -> None:
    flow.operation.over.set()
    for _ in range(3):
        flow.engine.submit(flow.job(Future(flow.log)))
    flow.engine.close()
    assert flow.log.count("synchronize") == 1
    assert flow.log.count("result") == 3


def test_futures_complete_even_where_cuda_is_gone(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    def record(buffer: torch.Tensor) -> None:
        raise RuntimeError("no event can be recorded")

    monkeypatch.setattr(base_engine, "mark", record)
    flow.operation.over.set()
    for _ in range(2):  # the thread lives on
        future = Future(flow.log)
        flow.engine.submit(flow.job(future))
        assert future.done.wait(TIMEOUT_S)
    assert "result" not in flow.log
    assert flow.aborted == ["RuntimeError: no event can be recorded"]


def test_a_device_that_fails_on_one_rank_releases_the_others(flow: Flow) -> None:
    def refuse(device: torch.device) -> None:
        raise CudaError("no memory")

    flow.queues.native = refuse
    job = flow.job(Future(flow.log))
    flow.engine.submit(job)
    flow.engine.close()
    assert flow.aborted == ["no memory"]
    error = job.step.error(raise_nonfinite=False)
    assert isinstance(error, CudaError)
    assert "result" in flow.log


def test_on_the_cpu_nothing_of_cuda_is_touched(flow: Flow, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stream", "current_stream", "set_device"):
        monkeypatch.delattr(torch.cuda, name)
    monkeypatch.setattr(Program, "zeros", lambda self, values: [], raising=False)
    monkeypatch.setattr(Program, "flags", lambda self, zeros: b"", raising=False)
    flow.operation.over.set()
    job = flow.job(Future(flow.log), on_device=False)
    flow.engine.submit(job)
    flow.engine.close()
    assert flow.log == ["end", "result"]
    assert job.step.error(raise_nonfinite=False) is None


def test_on_the_cpu_nothing_is_marked() -> None:
    buffer = torch.ones(3)
    assert mark(buffer) is None
    with after(None, buffer.device):
        pass
    future = future_of(buffer)
    future.set_result(buffer)
    assert future.wait() is buffer


@pytest.mark.parametrize(
    ("device", "types", "advice"),
    [
        ("meta", ("cpu", "cuda"), "on the CPU and on CUDA devices"),
        ("cuda", ("cpu",), "use transport='native'"),
        ("cpu", ("cuda",), "use transport='native'"),
    ],
)
def test_devices_that_are_not_served(device: str, types: tuple[str, ...], advice: str) -> None:
    tensor: Any = SimpleNamespace(device=torch.device(device))
    with pytest.raises(NotBuilt, match=f"a gradient is on {device}; .*{advice}"):
        check_device("a gradient", tensor, types)


@pytest.mark.parametrize(
    ("backend", "config", "model_on", "wanted"),
    [
        ("nccl", "cuda:nccl", None, "cuda"),
        ("undefined", "cpu:gloo,cuda:nccl", None, "cpu"),
        ("undefined", "cpu:gloo,cuda:nccl", "cuda", "cuda"),
        ("nccl", "cuda:nccl", "cpu", "cpu"),
        ("gloo", "cpu:gloo,cuda:gloo", "cuda", "use init_process_group('nccl'), or transport='native'"),
    ],
)
def test_c10d_reduces_where_the_model_is(
    monkeypatch: pytest.MonkeyPatch, backend: str, config: str, model_on: str | None, wanted: str
) -> None:
    monkeypatch.setattr(group.dist, "get_backend", lambda of: backend)
    monkeypatch.setattr(group.dist, "get_backend_config", lambda of: config)
    parameter = SimpleNamespace(is_cuda=model_on == "cuda")
    monkeypatch.setattr(group, "named_parameters", lambda of: {"weight": parameter})
    model: Any = model_on and "a model"
    with pytest.raises(NotBuilt) if " " in wanted else nullcontext() as refused:
        assert group.c10d_device_type(None, model) == wanted  # type: ignore[arg-type]
    assert refused is None or wanted in str(refused.value)


def test_a_build_without_cuda_says_so() -> None:
    tensor: Any = SimpleNamespace(device=torch.device("cuda:0"))
    if _core.build_info()["cuda"]:
        check_device("a gradient", tensor, ("cuda",))
        return
    with pytest.raises(NotBuilt, match="cuda:0, and this thinwire has no CUDA kernels"):
        check_device("a gradient", tensor, ("cuda",))
    with pytest.raises(NotBuilt, match="no CUDA kernels"):
        _core.Device(0)
