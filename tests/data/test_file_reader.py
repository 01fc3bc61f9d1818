"""The native reader of records, as Python calls it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from thinwire import _core
from thinwire.errors import InvalidArgument

WAIT_S = 30.0
ENGINES = ("io_uring", "preadv")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if _core.FileReader([], engine="auto").engine != request.param != "preadv":
        pytest.skip("no io_uring here")
    return str(request.param)


@pytest.fixture
def contents() -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, size, dtype=np.uint8) for size in (100_000, 1, 65_536)]


@pytest.fixture
def paths(tmp_path: Path, contents: list[NDArray[np.uint8]]) -> list[str]:
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.bin").write_bytes(content.tobytes())
    return [str(tmp_path / f"{number}.bin") for number in range(len(contents))]


class Batch:
    """Records to be read, `record` bytes each, and where they go."""

    def __init__(self, places: list[tuple[int, int]], record: int, sums: list[int] | None = None) -> None:
        count = len(places)
        self.files = np.array([file for file, _ in places], dtype=np.uint32)
        self.offsets = np.array([offset for _, offset in places], dtype=np.uint64)
        self.sizes = np.full(count, record, dtype=np.uint64)
        self.data = np.zeros((count, record), dtype=np.uint8)
        self.targets = self.data.ctypes.data + np.arange(count, dtype=np.uint64) * np.uint64(record)
        self.sums = None if sums is None else np.array(sums, dtype=np.uint64)
        self.faults = np.full(count, 12345, dtype=np.int32)

    def submit(self, reader: _core.FileReader) -> _core.Reads:
        return reader.submit(
            len(self.files),
            *(array.ctypes.data for array in (self.files, self.offsets, self.sizes, self.targets)),
            0 if self.sums is None else self.sums.ctypes.data,
            self.faults.ctypes.data,
            (self.data, self.faults),
        )

    def ahead(self, reader: _core.FileReader) -> None:
        reader.ahead(
            len(self.files), *(array.ctypes.data for array in (self.files, self.offsets, self.sizes))
        )

    def read(self, reader: _core.FileReader) -> list[int]:
        """The faults."""
        assert self.submit(reader).wait(WAIT_S)
        return [int(fault) for fault in self.faults]


def test_shuffled_records_are_those_of_the_files(
    engine: str, paths: list[str], contents: list[NDArray[np.uint8]]
) -> None:
    reader = _core.FileReader(paths, engine=engine)
    random = np.random.default_rng(1)
    for _ in range(20):
        places = [(int(file), int(random.integers(0, 65_000))) for file in random.choice([0, 2], 64)]
        batch = Batch(places, 500)
        batch.ahead(reader)
        assert batch.read(reader) == [0] * 64
        for (file, offset), record in zip(places, batch.data, strict=True):
            np.testing.assert_array_equal(record, contents[file][offset : offset + 500])


def test_faults_are_those_of_their_records(engine: str, paths: list[str], tmp_path: Path) -> None:
    reader = _core.FileReader([*paths, str(tmp_path / "missing"), str(tmp_path)], engine=engine)
    batch = Batch([(0, 0), (1, 0), (3, 0), (4, 0), (0, 99_000), (0, 99_001)], 1000)
    assert batch.read(reader) == [0, -1, errno.ENOENT, errno.EISDIR, 0, -1]


def test_a_wrong_checksum_is_a_fault(
    engine: str, paths: list[str], contents: list[NDArray[np.uint8]]
) -> None:
    right = _core.xxh3_64(contents[0][:100])
    batch = Batch([(0, 0), (0, 0), (2, 0)], 100, [right, right ^ 1, right])
    assert batch.read(_core.FileReader(paths, engine=engine)) == [0, -2, -2]


def test_sizes_are_bytes_or_why_there_are_none(paths: list[str], tmp_path: Path) -> None:
    reader = _core.FileReader([*paths, os.fsencode(tmp_path / "missing"), str(tmp_path)])
    assert reader.sizes() == [100_000, 1, 65_536, -errno.ENOENT, -errno.EISDIR]


def test_stats_count_what_has_ended(engine: str, paths: list[str]) -> None:
    reader = _core.FileReader(paths, engine=engine)
    assert Batch([(0, i * 1000) for i in range(10)], 1000).read(reader) == [0] * 10
    stats = reader.stats()
    assert stats.pop("waits") <= 1
    assert stats == {"engine": engine, "bytes": 10_000, "reads": 1, "merged": 9, "direct": 0}


def test_a_direct_read_goes_around_the_page_cache(engine: str, tmp_path: Path) -> None:
    data = np.random.default_rng(2).integers(0, 256, (2 << 20) + 123, dtype=np.uint8)
    path = tmp_path / "large"
    path.write_bytes(data.tobytes())
    reader = _core.FileReader([str(path)], engine=engine, direct="always")
    memory = np.zeros(data.size + 4096, dtype=np.uint8)
    begin = -memory.ctypes.data % 4096
    batch = Batch([(0, 0)], data.size)
    batch.targets[0] = memory.ctypes.data + begin
    assert batch.read(reader) == [0]
    np.testing.assert_array_equal(memory[begin : begin + data.size], data)
    assert reader.stats()["direct"] == 1


def test_wait_says_whether_and_close_ends_everything(engine: str, paths: list[str]) -> None:
    reader = _core.FileReader(paths, engine=engine)
    batches = [Batch([(0, i)], 1000) for i in range(100)]
    under_way = [batch.submit(reader) for batch in batches]
    reader.close()
    reader.close()
    assert all(reads.wait(0.0) for reads in under_way)
    assert {int(batch.faults[0]) for batch in batches} <= {0, errno.ECANCELED}
    with pytest.raises(InvalidArgument, match="the reader is closed"):
        batches[0].submit(reader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "mmap"}, "engine is 'mmap'; it must be one of auto, io_uring, preadv"),
        ({"direct": "yes"}, "direct is 'yes'; it must be one of auto, never, always"),
        ({"depth": 0}, "depth is 0"),
        ({"threads": 100_000}, "threads is 100000"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        _core.FileReader([], **options)  # type: ignore[arg-type]


def test_unknown_files_are_refused(paths: list[str]) -> None:
    reader = _core.FileReader(paths)
    with pytest.raises(InvalidArgument, match="record 1 is in file 3; there are 3"):
        Batch([(0, 0), (3, 0)], 1).submit(reader)


@pytest.mark.parametrize("close", [True, False])
def test_memory_lives_as_long_as_it_is_written_to(engine: str, paths: list[str], close: bool) -> None:
    reader = _core.FileReader(paths, engine=engine, threads=1, depth=1)
    batch = Batch([(0, 2 * i) for i in range(30_000)], 1)
    batch.submit(reader)  # nobody keeps what it returns
    data, faults = weakref.ref(batch.data), weakref.ref(batch.faults)
    del batch
    assert data() is not None
    if close:
        del reader
    deadline = time.monotonic() + WAIT_S
    while (data() is not None or faults() is not None) and time.monotonic() < deadline:
        time.sleep(0.01)
        if not close:
            reader.stats()
    assert data() is None
    assert faults() is None


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(here)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )


def test_python_ends_while_reads_are_under_way(paths: list[str]) -> None:
    code = """
import sys
from test_file_reader import Batch
from thinwire import _core
reader = _core.FileReader(sys.argv[1:])
batches = [Batch([(0, i)], 50_000) for i in range(2000)]
under_way = [batch.submit(reader) for batch in batches]
"""
    done = run(code, *paths)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_child_of_a_fork_is_told_to_open_its_own(paths: list[str]) -> None:
    code = """
import os, sys
from test_file_reader import Batch
from thinwire import _core
from thinwire.errors import InvalidArgument
reader = _core.FileReader(sys.argv[1:])
assert Batch([(0, 0)], 10).read(reader) == [0]
child = os.fork()
if child == 0:
    try:
        Batch([(0, 0)], 10).submit(reader)
    except InvalidArgument as error:
        assert "open one in the process that reads" in str(error)
        assert Batch([(0, 0)], 10).read(_core.FileReader(sys.argv[1:])) == [0]
        sys.exit(0)  # closes what is open, which is the parent's
    sys.exit(1)
assert os.waitpid(child, 0)[1] == 0
assert Batch([(0, 0)], 10).read(reader) == [0]
"""
    done = run(code, *paths)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_io_uring_there_is_preadv(paths: list[str]) -> None:
    """As in a container whose rules forbid it; here by a limit on descriptors, which a ring needs one of."""
    code = """
import os, resource, sys
from thinwire import _core
from thinwire.errors import NotBuilt
resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1,) * 2)
assert _core.FileReader(sys.argv[1:]).engine == "preadv"
try:
    _core.FileReader(sys.argv[1:], engine="io_uring")
except NotBuilt as error:
    assert 'engine="preadv" works everywhere' in str(error)
    sys.exit(0)
sys.exit(1)
"""
    done = run(code, *paths)
    assert (done.returncode, done.stderr) == (0, "")
