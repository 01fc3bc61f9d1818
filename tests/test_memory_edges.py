"""No codec reads or writes past its buffers: they end, or begin, at a page that may not be touched."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
PROT_NONE = 0


class Fenced:
    """`size` bytes of memory right before, or right behind, a page without access."""

    def __init__(self, size: int, at_end: bool) -> None:
        page = mmap.PAGESIZE
        room = -(-size // page) * page + page
        self.map = mmap.mmap(-1, room + page)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        fence = base + room if at_end else base
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mprotect(ctypes.c_void_p(fence), ctypes.c_size_t(page), PROT_NONE) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
        self.ptr = fence - size if at_end else fence + page
        self.array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.ptr)) if size else None

    def fill(self, content: np.ndarray[Any, Any]) -> Fenced:
        if self.array is not None:
            self.array[:] = np.frombuffer(content.tobytes(), dtype=np.uint8)
        return self


def run_all(target: str) -> None:
    """Encode, fold and decode with every codec, every dtype and lengths around all edges."""
    from support import BF16, DTYPES, FP32, store
    from thinwire import _core
    from vectors.formula import values
    from vectors.parameters import PARAMETERS

    _core.force_target(target)
    for at_end, (name, choices) in itertools.product([True, False], PARAMETERS.items()):
        longest = 4096
        x, old, out = (Fenced(4 * longest, at_end) for _ in range(3))
        frame = Fenced(4 * longest + 4096, at_end)
        for params, n in itertools.product(
            choices, [*range(1, 50), 255, 256, 257, 300, 1023, 1024, 1025, 2085]
        ):
            layout = _core.Layout([(n, _core.CodecSpec(name, **params))])
            for dtype, residual_dtype in itertools.product(DTYPES, [FP32, BF16]):
                source = place(x, store(values("cubes", n), dtype), at_end)
                residual = place(old, store(values("cubes", n), residual_dtype), at_end)
                encoded = place(frame, np.zeros(layout.frame_bytes, np.uint8), at_end)
                call = (layout, _core.Header(), source, dtype, 0.5, [residual], [residual], residual_dtype)
                _core.encode_frame(*call, None, 1, encoded, layout.frame_bytes)
                folded = place(out, np.zeros(n, np.float32), at_end)
                _core.fold(layout, source, dtype, 0.5, [residual], residual_dtype, None, folded)
                for accumulate in (False, True):
                    result = place(out, store(values("cubes", n), dtype), at_end)
                    _core.decode_frame(layout, encoded, layout.frame_bytes, result, dtype, accumulate)
                _core.is_zero(source, n, dtype)
                _core.nonfinite_count(source, n, dtype)


def place(memory: Fenced, content: np.ndarray[Any, Any], at_end: bool) -> int:
    """Put an array against the fence; return its address."""
    data = np.frombuffer(content.tobytes(), dtype=np.uint8)
    assert memory.array is not None
    start = memory.array.size - data.size if at_end else 0
    memory.array[start : start + data.size] = data
    return memory.ptr + start


def test_codecs_stay_inside_their_buffers(target):
    done = subprocess.run([sys.executable, __file__, target], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    run_all(sys.argv[1])
