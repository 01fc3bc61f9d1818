"""Memory of somebody else's, pinned where it lies, for as long as it is there."""

from __future__ import annotations

import gc
import mmap
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from foreign_arrays import CudaArray, OnlyDlpack

PAGE = mmap.PAGESIZE
TIERS = ("plain", "mlocked", "registered")


def locked_bytes() -> int:
    """What the kernel counts as locked of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmLck"))


@pytest.fixture
def can_lock() -> None:
    """Skip where nothing may be locked, or a GPU's driver does it instead."""
    with tw.register_(np.ones(PAGE)) as found:
        if found.tier != "mlocked":
            pytest.skip(f"memory stays {found.tier}: {found.reason}")


def test_what_was_registered_is_known():
    x = np.ones((64, 64))
    found = tw.register_(x)
    assert (found.address, found.nbytes) == (x.ctypes.data, x.nbytes)
    assert found.tier in TIERS
    assert (found.tier == "registered") == (not found.reason) or found.tier == "mlocked"
    found.release()
    assert found.tier == "plain"
    found.release()
    assert (x == 1).all()


def test_memory_is_locked_and_let_go(can_lock):
    before = locked_bytes()
    x = np.ones(64 * PAGE, np.uint8)
    with tw.register_(x) as found:
        assert found.tier == "mlocked"
        assert 64 * PAGE <= locked_bytes() - before <= 65 * PAGE
    assert locked_bytes() == before


def test_it_ends_with_the_array(can_lock):
    before = locked_bytes()
    x = np.ones(64 * PAGE, np.uint8)
    tw.register_(x)
    gc.collect()
    assert locked_bytes() > before
    del x
    gc.collect()
    assert locked_bytes() == before


def test_a_view_may_go_before_the_memory(can_lock):
    before = locked_bytes()
    x = np.ones(64 * PAGE, np.uint8)
    tw.register_(x[PAGE:][1:])
    gc.collect()
    assert locked_bytes() > before
    del x
    gc.collect()
    assert locked_bytes() == before


def test_a_registration_keeps_the_array_until_it_is_released():
    x = np.ones(100)
    gone = weakref.ref(x)
    found = tw.register_(x)
    del x
    gc.collect()
    assert gone() is not None
    found.release()
    assert gone() is None


def test_a_block_keeps_an_array_that_has_no_name(can_lock):
    with tw.register_(np.ones(100)) as found:
        assert found.tier == "mlocked"
    assert found.tier == "plain"


def test_what_takes_no_weak_reference_ends_with_the_registration():
    x = bytearray(8192)
    found = tw.register_(x)
    with pytest.raises(BufferError):
        x.extend(b"more")  # its memory would move
    del found
    gc.collect()
    x.extend(b"more")


def test_registrations_that_share_pages_end_one_by_one(can_lock):
    before = locked_bytes()
    memory = np.ones(16 * PAGE, np.uint8)
    whole, part = tw.register_(memory[: 12 * PAGE + 9]), tw.register_(memory[4 * PAGE + 7 :])
    both = locked_bytes() - before
    whole.release()
    assert part.tier == "mlocked"
    assert locked_bytes() - before >= 11 * PAGE
    part.release()
    assert locked_bytes() == before
    assert both >= 16 * PAGE


@pytest.mark.parametrize("kind", ["torch", "mmap", "memoryview", "dlpack", "pool"])
def test_arrays_of_every_kind(kind, tmp_path):
    if kind == "torch":
        x: Any = pytest.importorskip("torch").ones(100)
        expected = x.data_ptr()
    elif kind == "mmap":
        (tmp_path / "file").write_bytes(b"x" * 10_000)
        x = np.memmap(tmp_path / "file", np.uint8, "r")
        expected = x.ctypes.data
    elif kind == "memoryview":
        inner = np.ones(100)
        x, expected = memoryview(inner), inner.ctypes.data
    elif kind == "dlpack":
        inner = np.ones(100)
        x, expected = OnlyDlpack(inner), inner.ctypes.data
    else:
        x = tw.HostPool(limit="1MiB").empty(100)
        expected = x.address
    with tw.register_(x) as found:
        assert found.address == expected
        assert found.tier in TIERS


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4))[:, 1], "array is not contiguous"),
        (np.zeros(0), "array has no bytes that could be pinned"),
        (b"", "array has no bytes"),
        (CudaArray(4), "array lies on CUDA device 0"),
        (np.array([None]), "array holds Python objects"),
        ([1, 2], "array is a list"),
    ],
)
def test_what_cannot_be_pinned(array, message):
    with pytest.raises(tw.InvalidArgument) as caught:
        tw.register_(array)
    assert message in str(caught.value)


def test_without_the_right_to_lock_it_stays_plain_and_says_why():
    program = """
        import logging, resource, sys
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        logging.basicConfig(stream=sys.stdout, format="%(name)s %(message)s")
        import numpy as np, thinwire as tw
        found = tw.register_(np.ones(1 << 17))
        assert found.tier == "plain", found.tier
        print(found.reason)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    logged, reason = done.stdout.splitlines()
    assert logged == f"thinwire.pool an array of 1 MiB stays plain: {reason}"
    assert "RLIMIT_MEMLOCK" in reason
