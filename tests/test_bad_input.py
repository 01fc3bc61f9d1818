"""What the NumPy-level API refuses: arrays that do not fit, frames that are damaged or of another codec.

Each error says what was wrong, and leaves the caller's arrays as they were.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from foreign_arrays import CudaArray, OnlyDlpack, OnlyDlpackElsewhere
from support import HEADER_BYTES, same_bits
from thinwire import _core
from thinwire._buffers import view
from thinwire.reference import frame as reference_frame
from vectors.formula import values

N = 1000
INT8 = tw.codec("int8")


def refused(message: str, call: Any, *arguments: Any, **options: Any) -> None:
    """Checks that a call raises InvalidArgument, and that its text has the message in it."""
    with pytest.raises(tw.InvalidArgument) as caught:
        call(*arguments, **options)
    assert message in str(caught.value)


# --- arrays


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(4), "the dtype is float64; codecs take float32, float16 and bfloat16"),
        (np.zeros(4, np.int32), "the dtype is int32"),
        (np.zeros(4, np.uint16), "the dtype is uint16"),
        (np.zeros(4, ">f4"), "the dtype is >f4"),
        (np.zeros(4, np.complex64), "the dtype is complex64"),
        (np.zeros(4, [("a", "<f4")]), "the dtype is "),
        (np.zeros(4, object), "the dtype is object"),
        (b"abcd", "the dtype is uint8"),
        (np.zeros((4, 4), np.float32)[:, :2], "x is not contiguous; pass numpy.ascontiguousarray(x)"),
        (np.zeros((4, 4), np.float32).T, "x is not contiguous"),
        (np.zeros(8, np.float32)[::-1], "x is not contiguous"),
        (memoryview(np.zeros(8, np.float32))[::2], "x is not contiguous"),
        (OnlyDlpack(np.zeros(8, np.float32)[::2]), "x is not contiguous"),
        (np.zeros(9, np.uint8)[1:].view(np.float32), "x starts between two addresses of float32 values"),
        ([1.0, 2.0], "x is a list; pass a NumPy array, a torch tensor, or an object with DLPack"),
        (1.5, "x is a float"),
        (None, "x is a NoneType"),
    ],
)
def test_what_cannot_be_encoded(x, message):
    refused(message, INT8.encode, x)


def test_torch_tensors_that_cannot_be_encoded():
    torch = pytest.importorskip("torch")
    for tensor, message in [
        (torch.zeros(4, dtype=torch.float64), "the dtype is float64"),
        (torch.zeros(4, 4)[:, 1], "x is not contiguous; pass x.contiguous()"),
        (torch.zeros(4, 4).to_sparse(), "x is a sparse tensor; pass x.to_dense()"),
        (torch.zeros(4, device="meta"), "x is on device 'meta'; thinwire works on cpu and cuda"),
        (torch._neg_view(torch.ones(4)), "x is a negated view of other memory; pass x.resolve_neg()"),
        (OnlyDlpack(torch.zeros(4, dtype=torch.bfloat16)), "x cannot be read by DLPack"),
    ]:
        refused(message, INT8.encode, tensor)


def test_a_tensor_without_memory():
    torch = pytest.importorskip("torch")

    class Wrapper(torch.Tensor):
        @staticmethod
        def __new__(cls):
            return torch.Tensor._make_wrapper_subclass(cls, (4,), dtype=torch.float32)

        @classmethod
        def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
            raise NotImplementedError

    refused("x is a Wrapper that has no memory of its own", INT8.encode, Wrapper())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": np.zeros(N - 1, np.float32)}, "x has 1000 values, the residual 999"),
        (
            {"residual": np.zeros(N, np.float16)},
            "the residual has dtype float16; it must be float32 or bfloat16",
        ),
        ({"residual": np.zeros(2 * N, np.float32)[::2]}, "residual is not contiguous"),
        ({"residual": np.broadcast_to(np.float32(0), N)}, "residual is not contiguous"),
        ({"residual": memoryview(bytes(4 * N)).cast("f")}, "residual is read-only"),
        ({"out": np.zeros(10, np.uint8)}, "the frame takes 1136 bytes, out has 10"),
        ({"out": np.zeros(2000, np.int8)}, "out has dtype int8; it must be uint8"),
        ({"out": np.zeros((2, 1000), np.uint8)}, "out must have one dimension"),
        ({"out": bytes(2000)}, "out is read-only"),
        ({"out": memoryview(bytearray(4000))[::2]}, "out is not contiguous"),
        ({"stream": 1}, "stream is for arrays on a GPU"),
    ],
)
def test_what_does_not_fit_the_input(options, message):
    refused(message, INT8.encode, np.zeros(N, np.float32), **options)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros(N - 1, np.float32), "out has 999 values, the frame 1000"),
        (np.zeros(N, np.float64), "the dtype is float64"),
        (np.zeros(2 * N, np.float32)[::2], "out is not contiguous"),
        (np.zeros(4 * N, np.uint8).data.toreadonly().cast("f"), "out is read-only"),
        ("text", "out is a str"),
    ],
)
def test_what_a_frame_cannot_be_decoded_into(out, message):
    refused(message, INT8.decode, INT8.encode(np.zeros(N, np.float32)), out=out)


@pytest.mark.parametrize(
    ("buf", "message"),
    [
        (np.zeros(200, np.int8), "buf has dtype int8; it must be uint8"),
        (np.zeros(400, np.uint8)[::2], "buf is not contiguous"),
        (memoryview(bytes(400))[::2], "buf is not contiguous"),
        ([1, 2], "buf is a list"),
    ],
)
def test_what_is_no_buffer_of_bytes(buf, message):
    refused(message, INT8.decode, buf)


def test_cuda_arrays_are_understood_before_anything_is_touched():
    found = view(CudaArray(4, 3, strides=(12, 4)), "x")
    assert (found.address, found.count, found.dtype, found.device) == (0xDEAD0000, 12, "float32", 0)
    assert view(CudaArray(4, typestr="<V2"), "x").dtype == "bfloat16"
    assert view(CudaArray(4, 1, strides=(4, 400)), "x").count == 4
    assert view(CudaArray(0, data=(0, False)), "x").count == 0
    refused("x is not contiguous", view, CudaArray(4, 3, strides=(4, 16)), "x")
    refused("out is read-only", view, CudaArray(4, data=(0xDEAD0000, True)), "out", writable=True)
    refused("the dtype is <f8", INT8.encode, CudaArray(4, typestr="<f8"))
    refused("x has 12 values, the residual 6", INT8.encode, CudaArray(4, 3), residual=CudaArray(6))


def test_other_devices_are_named():
    refused("x is on a device and has no __cuda_array_interface__", INT8.encode, OnlyDlpackElsewhere(2))
    refused("x is on a device and is of DLPack type 8", INT8.encode, OnlyDlpackElsewhere(8))


# --- frames


@pytest.fixture
def frame() -> Any:
    return INT8.encode(values("cubes", N))


def corrupt(message: str, buf: Any, codec: tw.Codec = INT8) -> None:
    """Checks that decoding raises CorruptFrame with the message, and does not touch `out`."""
    out = np.full(N, 99, np.float32)
    with pytest.raises(tw.CorruptFrame) as caught:
        codec.decode(buf, out=out)
    assert message in str(caught.value)
    assert (out == 99).all()


def test_a_truncated_frame(frame):
    corrupt("it has 0 bytes, a header alone takes 96", b"")
    corrupt("it has 95 bytes", frame[:95])
    for length in (96, 97, frame.size - 1):
        corrupt(f"cut off: {length - 96} bytes follow the header", frame[:length])


def test_bytes_behind_a_frame(frame):
    corrupt(
        f"{frame.size + 3} bytes were passed, the frame says {frame.size}",
        np.append(frame, np.zeros(3, np.uint8)),
    )


def test_a_flipped_bit_anywhere(frame):
    for bit in range(8 * frame.size):
        frame[bit // 8] ^= 1 << bit % 8
        if bit // 8 in (4, 5):
            refused("wire version", INT8.decode, frame)
        else:
            corrupt("corrupt frame: ", frame)
        frame[bit // 8] ^= 1 << bit % 8
    INT8.decode(frame)


def test_frames_of_another_codec():
    for other in ("int8:block=64", "int4", "raw", "topk"):
        frame = tw.codec(other).encode(values("cubes", N))
        corrupt("int8 writes codec 4 with param 256", frame)
    corrupt(
        "it has codec 4 with param 256; sign1 writes codec 7",
        INT8.encode(values("cubes", N)),
        tw.codec("sign1"),
    )


def sealed(payload: bytes, **fields: Any) -> bytes:
    """A frame with a right checksum, whatever its header says."""
    usual = {"codec": 4, "param": 256, "count": N}
    return reference_frame.pack(reference_frame.Header(**(usual | fields)), payload)


def test_frames_that_lie_behind_a_right_checksum(frame):
    payload = frame[HEADER_BYTES:].tobytes()
    assert same_bits(INT8.decode(sealed(payload)), INT8.decode(frame))
    corrupt("its dtype 3 does not exist", sealed(payload, dtype=3))
    corrupt("700 values of int8 take 784 bytes, its payload has 1040", sealed(payload, count=700))
    corrupt("its payload has", sealed(payload[:-16]))
    corrupt("codec 200", sealed(payload, codec=200))


@pytest.mark.parametrize(
    "codec", ["raw", "fp16", "fp8", "int8", "int4:rotate=true", "int2", "ternary", "sign1", "topk"]
)
@pytest.mark.parametrize("count", [2**38, 2**40 + 1, 2**61, 2**62, 2**63, 2**64 - 1])
def test_counts_that_would_need_more_memory_than_there_is(codec, count):
    spec = tw.codec(codec).spec
    for payload in (b"", bytes(1024)):
        with pytest.raises((tw.CorruptFrame, tw.InvalidArgument)):
            tw.codec(codec).decode(sealed(payload, codec=spec.wire_id, param=spec.param, count=count))


def test_a_byte_that_five_ternary_codes_do_not_make():
    codec = tw.codec("ternary")
    frame = bytearray(codec.encode(values("cubes", N)))
    payload, layout = frame[HEADER_BYTES:], {"codec": 9, "param": 160}
    codes = 16  # behind the scales
    for byte in (243, 255):
        changed = payload[: codes + 5] + bytes([byte]) + payload[codes + 6 :]
        corrupt(f"ternary has a byte {byte}, 242 is the most", sealed(changed, **layout), codec)


def test_topk_counts_and_offsets_that_point_elsewhere():
    codec = tw.codec("topk:density=0.01")
    good = bytearray(codec.encode(values("cubes", N)))
    payload, layout = good[HEADER_BYTES:], {"codec": 8, "param": codec.spec.param}
    too_many = bytes([255]) + payload[1:]
    corrupt("topk counts", sealed(too_many, **layout), codec)
    offsets = 16 + 16  # behind the counts of four rows and the scale of one group
    assert payload[0] >= 2
    for bad in (payload[offsets + 1], 255):
        changed = bytearray(payload)
        changed[offsets] = bad
        corrupt("is out of order or range", sealed(bytes(changed), **layout), codec)


def test_an_aborted_frame_gives_its_reason():
    out = np.zeros(200, np.uint8)
    length = _core.write_abort(_core.Header(), 3, "rank 3 lost its link", out.ctypes.data, out.size)
    corrupt("the sender aborted this frame: rank 3 lost its link", out[:length])


def test_another_wire_version_is_named(frame):
    frame[4:6] = np.frombuffer(struct.pack("<H", 7), np.uint8)
    refused("the frame has wire version 7, this thinwire speaks version 1", INT8.decode, frame)
