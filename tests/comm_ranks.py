"""Ranks of a `Communicator` for tests: threads of this process, or processes of their own.

A process is forked by a nursery, which has NumPy and thinwire and only one thread, so that it takes
milliseconds to start and can be killed without regret.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import os
import pickle
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from thinwire._comm import Communicator
from thinwire.errors import Error

LIMIT = 60.0
"""Seconds after which a test takes a rank for hanging."""
QUICK = 3.0
"""Seconds within which a disagreement must be told."""

_FLAGS, _PF_EXITING = 6, 0x4  # in /proc/PID/stat, behind the name; see proc(5)


class MemoryStore:
    """A store for the threads of one process."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._changed = threading.Condition()

    def set(self, key: str, value: str) -> None:
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def wait(self, keys: Sequence[str], timeout: timedelta) -> None:
        with self._changed:
            if not self._changed.wait_for(
                lambda: all(key in self._values for key in keys), timeout.total_seconds()
            ):
                raise RuntimeError("timeout")

    def get(self, key: str) -> str:
        with self._changed:
            return self._values[key]


class FolderStore:
    """A store for processes of one host: a file for each key."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(exist_ok=True)

    def set(self, key: str, value: str) -> None:
        hidden = self._folder / f".{key.replace('/', '_')}.{os.getpid()}"
        hidden.write_text(value)
        hidden.rename(self._path(key))

    def wait(self, keys: Sequence[str], timeout: timedelta) -> None:
        end = time.monotonic() + timeout.total_seconds()
        while not all(self._path(key).exists() for key in keys):
            if time.monotonic() > end:
                raise RuntimeError("timeout")
            time.sleep(0.002)

    def get(self, key: str) -> str:
        return self._path(key).read_text()

    def _path(self, key: str) -> Path:
        return self._folder / key.replace("/", "_")


class Threads:
    """Ranks that are threads, each with a communicator. Call it with a function of a communicator.

    `each` are options of single ranks, by rank.
    """

    def __init__(self, size: int, *, each: Sequence[dict[str, Any]] = (), **options: Any) -> None:
        self.size = size
        self._pool = ThreadPoolExecutor(size)
        store = MemoryStore()
        merged = [{"timeout": 10.0, **options, **(each[rank] if each else {})} for rank in range(size)]
        started = [self._pool.submit(Communicator, store, rank, size, **merged[rank]) for rank in range(size)]
        self.comms = [each.result(LIMIT) for each in started]

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Run `function(comm, *args)` on all ranks; return the results in order."""
        running = [self._pool.submit(function, comm, *args) for comm in self.comms]
        return [each.result(LIMIT) for each in running]

    def outcomes(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """Run likewise; what a rank raised takes the place of its result."""
        running = [self._pool.submit(function, comm, *args) for comm in self.comms]
        return [each.exception(LIMIT) or each.result() for each in running]

    def close(self) -> None:
        list(self._pool.map(Communicator.close, self.comms))
        self._pool.shutdown()

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


Start = Callable[..., Threads]
"""Starts ranks: `start(size, **options)`."""


@contextmanager
def at_once(
    functions: Sequence[Callable[[], Any]],
) -> Iterator[list[Any]]:
    """Run functions in threads of their own; yield their results or what they raised, in order."""
    with ThreadPoolExecutor(len(functions)) as pool:
        running = [pool.submit(function) for function in functions]
        yield [each.exception(LIMIT) or each.result() for each in running]


def join(*ranks: dict[str, Any], store: Any = None, **common: Any) -> list[Any]:
    """Make a communicator in a thread for each rank; return them, or what they raised."""
    store = store or MemoryStore()
    calls = []
    for rank, own in enumerate(ranks):
        options = {"world_size": len(ranks), "timeout": 10.0, "links": "tcp", **common, **own}
        calls.append(lambda rank=rank, options=options: Communicator(store, rank, **options))
    with at_once(calls) as found:
        return found


def close_all(comms: Sequence[Any]) -> None:
    """Close those that were made, together."""
    made = [comm for comm in comms if isinstance(comm, Communicator)]
    with at_once([comm.close for comm in made] or [lambda: None]):
        pass


def all_raise(found: Sequence[Any], kind: type[Error], *words: str) -> None:
    """Check that every rank raised the same kind, with all the words."""
    close_all(found)
    for outcome in found:
        assert isinstance(outcome, kind), found
        for word in words:
            assert word in str(outcome), (word, str(outcome))


class Process:
    """A rank in a process of its own, which runs functions of test modules."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self._channel = pid, channel

    def start(self, function: Callable[..., Any], *args: Any) -> None:
        """Begin `function(say, *args)`; `say(value)` sends a value before the result."""
        task = (function.__code__.co_filename, function.__qualname__, args)
        _send(self._channel, task)

    def hear(self, limit: float = LIMIT) -> Any:
        """Return the next value that it says, or the result. Raises AssertionError with its traceback."""
        self._channel.settimeout(limit)
        try:
            kind, value = _receive(self._channel)
        except TimeoutError:
            raise AssertionError(f"process {self.pid} hangs: nothing came in {limit:g} s") from None
        except EOFError:
            raise AssertionError(f"process {self.pid} died") from None
        assert kind == "value", value
        return value

    def signal(self, number: int) -> float:
        """Send a signal; return when, by time.monotonic()."""
        now = time.monotonic()
        os.kill(self.pid, number)
        return now

    def stop(self) -> None:
        """End it, whatever it does."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._channel.close()


class Nursery:
    """A process that forks others."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        theirs.close()

    def fork(self) -> Process:
        ours, theirs = socket.socketpair()
        socket.send_fds(self._channel, [b"f"], [theirs.fileno()])
        theirs.close()
        self._channel.settimeout(LIMIT)
        return Process(*struct.unpack("<i", self._channel.recv(4)), ours)

    @contextmanager
    def processes(self, count: int) -> Iterator[list[Process]]:
        """Fork `count` processes, and end them."""
        forked = [self.fork() for _ in range(count)]
        try:
            yield forked
        finally:
            for each in forked:
                each.stop()

    def close(self) -> None:
        self._channel.close()
        self._process.wait(LIMIT)


def threads_named_thinwire() -> int:
    """Count this process's threads of the native core. One that was joined may be listed for a moment yet."""
    found = 0
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it has ended
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            found += name.startswith("thinwire") and not int(rest.split()[_FLAGS]) & _PF_EXITING
    return found


def descriptors() -> int:
    """Count this process's open descriptors."""
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    """Return the memory this process has touched."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def _send(channel: socket.socket, message: Any) -> None:
    data = pickle.dumps(message)
    channel.sendall(struct.pack("<q", len(data)) + data)


def _receive(channel: socket.socket) -> Any:
    (size,) = struct.unpack("<q", _exactly(channel, 8))
    return pickle.loads(_exactly(channel, size))


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = channel.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def serve(channel: socket.socket) -> None:
    """Run what `Process.start` asks for, until the other side closes."""
    modules: dict[str, ModuleType] = {}

    def say(value: Any) -> None:
        _send(channel, ("value", value))

    while True:
        try:
            path, name, args = _receive(channel)
        except (EOFError, ConnectionError):
            return
        try:
            if path not in modules:
                modules[path] = _load(path)
            say(getattr(modules[path], name)(say, *args))
        except BaseException:
            _send(channel, ("error", traceback.format_exc()))


def _load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def _nurse(orders: socket.socket) -> None:
    importlib.import_module("pytest")  # all test modules import it; here once, and not in every child
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, 1, 1)
        if not order:
            return
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            orders.close()
            try:
                serve(socket.socket(fileno=descriptors[0]))
            finally:
                os._exit(0)
        os.close(descriptors[0])
        orders.sendall(struct.pack("<i", pid))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    faulthandler.enable()
    channel = socket.socket(fileno=int(sys.argv[1]))
    if sys.argv[2:] == ["serve"]:
        serve(channel)
    else:
        _nurse(channel)
