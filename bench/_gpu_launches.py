"""Launches over device memory that stays where it is: nothing waits, and a CUDA graph can capture them."""

from __future__ import annotations

from typing import Any

from thinwire import _core

FP32 = 0


class Launches:
    """Kernels of one layout over fp32 values (n,) on a device, their residual (n,) and memory for frames."""

    def __init__(self, torch: Any, layout: _core.Layout, values: Any, frames: int = 1) -> None:
        self._torch = torch
        self.layout = layout
        self.values = values
        self.residual = torch.zeros_like(values)
        size = -(-layout.frame_bytes // 16) * 16
        self.frames = [self._bytes(size) for _ in range(frames)]
        self._work = self._bytes(_core.cuda_work_bytes(layout, frames))

    def encode(self, frame: int = 0, used: list[int] | None = None) -> None:
        """Encode the values with feedback into a frame.

        `used`: the address of a word on the device that is 0 if they are held.
        """
        residuals = [self.residual.data_ptr()]
        _core.cuda_launch_encode(
            self.layout,
            self.values.data_ptr(),
            FP32,
            1.0,
            residuals,
            residuals,
            FP32,
            None,
            0,
            0,
            self.frames[frame].data_ptr(),
            self._work.data_ptr(),
            self._stream(),
            used=used,
        )

    def decode(self, out: Any, accumulate: bool = True) -> None:
        """Decode all frames over `out` (n,), or add them to it."""
        frames = [frame.data_ptr() for frame in self.frames]
        _core.cuda_launch_decode(
            self.layout, frames, out.data_ptr(), FP32, accumulate, self._work.data_ptr(), self._stream()
        )

    def _bytes(self, size: int) -> Any:
        return self._torch.empty(size, dtype=self._torch.uint8, device=self.values.device)

    def _stream(self) -> int:
        return int(self._torch.cuda.current_stream().cuda_stream)
