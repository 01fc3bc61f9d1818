"""Saves in the background: what was staged is what is stored, whatever happens meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

torch = pytest.importorskip("torch")

from faulty_backend import FaultyBackend  # noqa: E402
from thinwire.errors import Conflict, StoreError, Timeout  # noqa: E402
from thinwire.store.checkpoint import Checkpointer  # noqa: E402
from thinwire.store.store import Store  # noqa: E402


class HeldBackend(FaultyBackend):
    """Creating anything under `held` waits for `go`; creating anything under `broken` fails."""

    def __init__(self) -> None:
        super().__init__()
        self.held, self.broken = "-", "-"
        self.go = threading.Event()
        self.created: list[str] = []
        self.before = self._check

    def _check(self, operation: str, path: str) -> None:
        if operation == "created":
            self.created.append(path)
        if operation == "create" and path.startswith(self.held):
            assert self.go.wait(60)
        if operation == "create" and path.startswith(self.broken):
            raise StoreError(f"writing {path}: no space left on device; free some")


@pytest.fixture
def backend() -> HeldBackend:
    return HeldBackend()


@pytest.fixture
def store(backend: HeldBackend) -> Iterator[Store]:
    with Store(backend) as store:
        yield store


def state_of(value: float) -> dict[str, torch.Tensor]:
    return {
        "large": torch.full((3 << 18,), value),
        "small": torch.full((10,), value),
        "gaps": torch.full((400, 400), value)[::2],
    }


def check(saver: Checkpointer, value: float, step: int | str = "latest") -> None:
    for name, tensor in saver.load(step=step).items():
        assert (tensor == value).all(), name


@pytest.mark.parametrize("earlier", [0, 1, 2])
def test_later_changes_never_leak_in(store: Store, backend: HeldBackend, earlier: int) -> None:
    saver = Checkpointer(store)
    state = state_of(0)
    for step in range(earlier):  # unknown; known and volatile; known and compared
        saver.save(state, step)
    for tensor in state.values():
        tensor.fill_(7)
    backend.held = "leases/"
    save = saver.save(state, 10, blocking=False)
    for tensor in state.values():
        tensor.fill_(8)
    assert not save.done()
    with pytest.raises(Timeout, match="step 10"):
        save.wait_durable(0.01)
    backend.go.set()
    assert save.wait_durable().version == earlier + 1
    check(saver, 7)


def test_the_next_save_waits_for_the_one_in_flight(store: Store, backend: HeldBackend) -> None:
    saver = Checkpointer(store)
    backend.held = "packs/"
    first = saver.save(state_of(1), 1, blocking=False)
    threading.Timer(0.2, backend.go.set).start()
    second = saver.save(state_of(2), 2, blocking=False)
    assert first.done()
    second.wait_durable()
    check(saver, 1, 1)
    check(saver, 2, 2)


def test_the_next_save_is_refused_by_option(store: Store, backend: HeldBackend) -> None:
    saver = Checkpointer(store, wait=False)
    backend.held = "packs/"
    first = saver.save(state_of(1), 1, blocking=False)
    with pytest.raises(Conflict, match="step 1 is still being stored"):
        saver.save(state_of(2), 2)
    backend.go.set()
    first.wait_durable()
    saver.save(state_of(3), 3)
    assert saver.steps() == [1, 3]


@pytest.mark.parametrize("broken", ["leases/", "packs/", "index/", "manifests/", "refs/", "ends/"])
def test_a_save_that_fails_changes_nothing_and_is_told_once(
    store: Store, backend: HeldBackend, broken: str
) -> None:
    saver = Checkpointer(store, keep_last=1)
    saver.save(state_of(1), 1)
    backend.broken = broken
    failing = saver.save(state_of(2), 2, blocking=False)
    with pytest.raises(StoreError, match="no space left"):
        saver.save(state_of(3), 3)  # the next save tells of it
    check(saver, 1)
    assert saver.steps() == [1]
    with pytest.raises(StoreError, match="no space left"):
        failing.wait_durable()
    backend.broken = "-"
    saver.save(state_of(4), 4)
    check(saver, 4)
    assert saver.steps() == [4]

    backend.broken = broken
    heard = saver.save(state_of(5), 5, blocking=False)
    with pytest.raises(StoreError, match="no space left"):
        heard.wait_durable()
    backend.broken = "-"
    saver.save(state_of(6), 6)  # nobody needs to hear it again
    check(saver, 6)


def test_closing_tells_of_a_failure_that_nobody_heard_of(store: Store, backend: HeldBackend) -> None:
    saver = Checkpointer(store)
    backend.broken = "packs/"
    saver.save(state_of(2), 2, blocking=False)
    with pytest.raises(StoreError, match="no space left"):
        saver.close()


def test_nothing_older_goes_before_the_newer_is_durable(store: Store, backend: HeldBackend) -> None:
    saver = Checkpointer(store, keep_last=1)
    saver.save(state_of(1), 1)
    backend.created.clear()
    saver.save(state_of(2), 2)
    order = [path.partition("/")[0] for path in backend.created]
    assert order.index("ends") < next(
        i for i, path in enumerate(backend.created) if path.endswith(".deleted")
    )
    assert saver.steps() == [2]


def test_when_the_last_checkpoint_was_deleted_nothing_of_it_is_relied_on(store: Store) -> None:
    saver = Checkpointer(store)
    state = state_of(1)
    state["frozen"] = torch.randn(2 << 20)

    def lose() -> None:
        saver.delete(1)
        Checkpointer(store, "other").save({"x": 1}, 1)
        for _ in range(2):
            store.gc(wait_s=5)

    saver.save(state, 1)
    saver.save(state, 1)
    lose()
    state["small"] += 1
    saver.save(state, 1)  # the tensors are still there: it is stored whole
    assert torch.equal(saver.load()["frozen"], state["frozen"])
    saver.save(state, 1)
    lose()
    state["small"] += 1
    with pytest.raises(StoreError, match="deleted"):
        saver.save(state, 1, blocking=False).wait_durable()
    saver.save(state, 1, blocking=False).wait_durable()
    assert torch.equal(saver.load()["frozen"], state["frozen"])
