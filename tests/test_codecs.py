"""The NumPy-level API: codecs by name, arrays of any library in and out, CPU targets."""

from __future__ import annotations

import array
import copy
import ctypes
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import thinwire as tw
from foreign_arrays import OnlyDlpack
from support import Array, label, same_bits
from thinwire import _core
from thinwire._buffers import bytes_view, view
from thinwire.reference import numerics
from vectors.formula import values
from vectors.parameters import PARAMETERS

N = 3000  # of whole blocks, rows and groups, and a rest

every_codec = pytest.mark.parametrize(
    ("name", "params"),
    [pytest.param(n, p, id=label(n, p)) for n, choices in PARAMETERS.items() for p in choices],
)


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in a fresh interpreter."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


# --- names and parameters


def test_the_registry_is_listed_with_its_defaults():
    infos = tw.codecs()
    assert [info.name for info in infos] == list(PARAMETERS)
    assert {info.wire_id for info in infos} == set(range(10))
    by_name = {info.name: info for info in infos}
    assert by_name["int4"].params == {"block": 64, "rounding": "nearest", "rotate": False}
    assert by_name["fp8"].params == {"block": 256, "rounding": "nearest", "format": "e4m3"}
    assert by_name["topk"].params == {"density": 0.03, "values": "sign"}
    assert by_name["raw"].ratio == 1
    assert by_name["int8"].ratio == pytest.approx(4 / (1 + 2 / 256), rel=1e-6)
    assert by_name["int8"].error_bound == pytest.approx(0.5 / 127, rel=0.01)
    assert (by_name["int8"].error_norm, by_name["sign1"].error_norm) == ("max", "l2")
    for info in infos:
        assert tw.codec(info.name).info == info
        assert tw.codec(info.name, **info.params) == tw.codec(info.name)


@every_codec
def test_a_codecs_text_names_it(name, params):
    codec = tw.codec(name, **params)
    assert tw.codec(str(codec)) == codec
    assert hash(tw.codec(str(codec))) == hash(codec)
    assert tw.codec(codec) is codec
    assert eval(repr(codec), {"thinwire": tw}) == codec
    assert pickle.loads(pickle.dumps(codec)) == copy.deepcopy(codec) == codec
    assert codec.info.params.items() >= params.items()


def test_parameters_stand_in_the_name_or_beside_it():
    assert tw.codec("int4:block=128") == tw.codec("int4", block=128) == tw.codec("int4", block="128")
    assert tw.codec("int4:block=128", rounding="stochastic") == tw.codec("int4:rounding=stochastic,block=128")
    assert tw.codec("int8:block=256") == tw.codec("int8") != tw.codec("int4")
    assert tw.codec("int4:rotate=true") == tw.codec("int4", rotate=True) != tw.codec("int4:rotate=false")
    assert str(tw.codec("int4:rotate=true,block=64")) == "int4:rotate=true"
    assert str(tw.codec("fp8", format="e5m2")) == "fp8:format=e5m2"
    assert str(tw.codec("topk:density=0.010,values=fp16")) == "topk:density=0.01,values=fp16"
    for millionths in (1, 2, 123_457, 333_333, 499_999, 500_000):
        codec = tw.codec("topk", density=millionths / 1e6)
        assert tw.codec(str(codec)).spec.param == codec.spec.param == millionths


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        (
            "int5",
            {},
            "unknown codec 'int5'; there are: raw, fp16, bf16, fp8, int8, int4, int2, ternary, sign1, topk",
        ),
        ("", {}, "unknown codec ''"),
        (8, {}, "named by a string, not by a int"),
        ("int8:", {}, "write name:parameter=value"),
        ("int8:block", {}, "write name:parameter=value"),
        ("int8:=64", {}, "write name:parameter=value"),
        ("int8:block=64,", {}, "write name:parameter=value"),
        ("int8:block=64,block=32", {}, "block is given twice"),
        ("int8:block=64", {"block": 64}, "block is given twice"),
        ("int8:blocks=64", {}, "codec int8 has no parameter 'blocks'"),
        ("int8", {"density": 0.1}, "codec int8 has no parameter 'density'"),
        (
            "sign1",
            {"rounding": "nearest"},
            "codec sign1 has no parameter 'rounding'; it is one of fp8, int8 and int4",
        ),
        ("int8", {"rotate": False}, "codec int8 has no parameter 'rotate'; it is one of int4 and int2"),
        ("int4", {"format": "e4m3"}, "codec int4 has no parameter 'format'; it is one of fp8"),
        ("int8:block=many", {}, "block is 'many'; it must be an integer"),
        ("int8", {"block": 64.5}, "block is 64.5; it must be an integer"),
        ("int8", {"block": 0}, "block is 0, which codec int8 cannot have"),
        ("int8", {"block": -64}, "block is -64"),
        ("int8", {"block": 2**32 + 64}, "block is 4294967360"),
        ("int8", {"block": 48}, "block is 48; it must be 32, 64, 128, 256, 512, 1024, 2048 or 4096"),
        ("int2", {"block": 32}, "block is 32; it must be 64, 128, 256, 512, 1024, 2048 or 4096"),
        ("ternary", {"block": 128}, "block is 128; it must be 80, 160, 320, 640, 1280 or 2560"),
        ("int8", {"rounding": ""}, "rounding is '', which codec int8 cannot have"),
        ("int8", {"rounding": "up"}, "rounding is 'up'; it must be nearest or stochastic"),
        ("int4:rotate=yes", {}, "rotate is 'yes'; it must be true or false"),
        ("int4", {"rotate": 1}, "rotate is 1; it must be true or false"),
        ("fp8", {"format": "e3m4"}, "format is 'e3m4'; it must be e4m3 or e5m2"),
        ("fp8", {"format": ""}, "format is '', which codec fp8 cannot have"),
        ("topk", {"density": None}, "density is None; it must be a number"),
        ("topk", {"density": 0}, "density is 0"),
        ("topk", {"density": 0.51}, "density is 0.51; it must be from 0.000001 to 0.5"),
        ("topk", {"density": 1e-7}, "density is 1e-07; it must be from 0.000001 to 0.5"),
        ("topk", {"density": float("nan")}, "density is nan"),
        ("topk", {"values": "bf16"}, "values is 'bf16'; it must be sign, int8 or fp16"),
    ],
)
def test_what_does_not_exist_is_named(name, params, message):
    with pytest.raises(tw.InvalidArgument) as caught:
        tw.codec(name, **params)
    assert message in str(caught.value)


def test_a_codec_takes_no_parameters_later():
    with pytest.raises(tw.InvalidArgument, match="is a codec already"):
        tw.codec(tw.codec("int8"), block=64)


# --- encode and decode


@every_codec
def test_a_frame_is_as_long_as_bound_says_and_comes_back(name, params):
    codec = tw.codec(name, **params)
    for n in (0, 1, 100, N):
        x = values("cubes", n)
        frame = codec.encode(x)
        assert (frame.dtype, frame.shape) == (np.uint8, (codec.bound(n),))
        back = codec.decode(frame)
        assert (back.dtype, back.shape) == (np.float32, (n,))
        if codec.info.error_norm == "max":
            assert (
                np.abs(back - x).max(initial=0) <= codec.info.error_bound * np.abs(x).max(initial=0) + 2**-25
            )
        else:
            assert np.linalg.norm(back - x) <= np.linalg.norm(x) * (1 + 1e-6)


def test_out_is_filled_and_returned():
    codec, x = tw.codec("int8"), values("cubes", N).reshape(3, 1000)
    out = np.full(codec.bound(N) + 7, 0xEE, np.uint8)
    frame = codec.encode(x, out=out)
    assert frame.ctypes.data == out.ctypes.data
    assert frame.size == codec.bound(N)
    assert (out[codec.bound(N) :] == 0xEE).all()
    assert same_bits(frame, codec.encode(x))
    y = np.empty_like(x)
    assert codec.decode(frame, out=y) is y
    assert same_bits(y.ravel(), codec.decode(frame))


def test_a_residual_is_added_and_replaced():
    codec, x, residual = tw.codec("int4"), values("cubes", N), values("cubes", N, -6, seed=2)
    y = x * np.float32(0.5) + residual
    back = codec.decode(codec.encode(x, residual=residual, scale=0.5))
    assert same_bits(residual, y - back)


def test_accumulating_adds():
    codec, x, start = tw.codec("int8"), values("cubes", N), values("uniform", N, seed=3)
    frame, total = codec.encode(x), start.copy()
    codec.decode(frame, out=total, accumulate=True)
    assert same_bits(total, start + codec.decode(frame))
    with pytest.raises(tw.InvalidArgument, match="accumulate=True adds to out; pass out"):
        codec.decode(frame, accumulate=True)


def test_seed_and_step_choose_the_random_numbers():
    codec, x = tw.codec("int4:rounding=stochastic"), values("uniform", N)
    frames = {
        (seed, step): codec.encode(x, seed=seed, step=step) for seed in (0, 1) for step in (0, 2**64 - 1)
    }
    assert len({frame[96:].tobytes() for frame in frames.values()}) == 4
    assert same_bits(frames[1, 0], codec.encode(x, seed=1))
    for bad in ({"seed": -1}, {"step": 2**64}, {"seed": 1.5}, {"step": "one"}):
        with pytest.raises(tw.InvalidArgument, match=r"integers from 0 to 2\^64 - 1"):
            codec.encode(x, **bad)


def test_float16_frames_decode_to_float16_and_to_what_is_asked_for():
    x = values("uniform", N).astype(np.float16)
    frame = tw.codec("int8").encode(x)
    assert tw.codec("int8").decode(frame).dtype == np.float16
    wide = tw.codec("int8").decode(frame, out=np.empty(N, np.float32))
    assert same_bits(wide.astype(np.float16), tw.codec("int8").decode(frame))


# --- arrays of other libraries


def test_views_are_of_the_memory_itself():
    x = np.ascontiguousarray(values("uniform", 12).reshape(3, 4))
    native = array.array("f", [1, 2, 3])
    for other, address, count in [
        (x, x.ctypes.data, 12),
        (OnlyDlpack(x), x.ctypes.data, 12),
        (memoryview(x), x.ctypes.data, 12),
        (native, native.buffer_info()[0], 3),
        ((ctypes.c_float * 3)(1, 2, 3), None, 3),
    ]:
        found = view(other, "x")
        assert (found.count, found.dtype, found.device) == (count, "float32", -1)
        assert found.address == (address or ctypes.addressof(other))
    buffer = bytearray(8)
    assert bytes_view(buffer, "buf", writable=True).address == ctypes.addressof(
        ctypes.c_char.from_buffer(buffer)
    )


def test_every_kind_of_array_gives_the_same_frame():
    codec, x = tw.codec("int8"), values("cubes", N)
    frame = codec.encode(x)
    for other in (OnlyDlpack(x), memoryview(x), array.array("f", x.tolist()), x.reshape(30, 100)):
        assert same_bits(codec.encode(other), frame)
    for buf in (frame.tobytes(), bytearray(frame), memoryview(frame), OnlyDlpack(frame)):
        assert same_bits(codec.decode(buf), codec.decode(frame))
    for out in (array.array("f", bytes(4 * N)), OnlyDlpack(np.empty(N, np.float32))):
        assert codec.decode(frame, out=out) is out
        assert view(out, "out").count == N
    room = bytearray(codec.bound(N) + 1)
    assert same_bits(codec.encode(x, out=room), frame)
    assert room[:-1] == frame.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_torch_tensors_go_in_and_out_without_a_copy(dtype):
    torch = pytest.importorskip("torch")
    codec = tw.codec("int4")
    x = torch.from_numpy(values("uniform", N)).to(getattr(torch, dtype))
    found = view(x, "x")
    assert (found.address, found.count, found.dtype) == (x.data_ptr(), N, dtype)
    residual, out = torch.zeros(N), torch.full((N,), 99.0, dtype=x.dtype)
    frame = codec.encode(x, residual=residual)
    wide = x.float().numpy()
    payload = codec.encode(wide)[96:]
    assert same_bits(frame[96:], payload)
    assert codec.decode(frame, out=out) is out
    expected = torch.from_numpy(codec.decode(codec.encode(wide)))
    assert torch.equal(out, expected.to(x.dtype))
    assert torch.equal(residual, torch.from_numpy(wide) - expected)
    kept = torch.zeros(N, dtype=torch.bfloat16)
    codec.encode(x, residual=kept)
    assert torch.equal(kept, residual.bfloat16())


def upper_halves(x: Array) -> Array:
    """The leading 16 bits of fp32 values: bfloat16, rounded towards zero."""
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def test_two_opaque_bytes_are_a_bfloat16():
    codec, half = tw.codec("int8"), upper_halves(values("uniform", N))
    frame = codec.encode(half.view("V2"))
    assert same_bits(frame[96:], codec.encode((half.astype(np.uint32) << 16).view(np.float32))[96:])
    assert _core.read_header(frame.ctypes.data, frame.size).dtype == 2
    out = np.zeros(N, "V2")
    codec.decode(frame, out=out)
    assert same_bits(out.view(np.uint16), numerics.to_bf16(codec.decode(frame)))


def test_ml_dtypes_bfloat16_is_known():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    codec, half = tw.codec("int8"), upper_halves(values("uniform", N))
    assert same_bits(codec.encode(half.view(ml_dtypes.bfloat16)), codec.encode(half.view("V2")))


# --- CPU targets


def test_a_target_is_forced_from_a_call_on_or_for_a_block():
    before = _core.active_target()
    assert tw.targets() == _core.targets()
    assert tw.targets()[0] == "scalar"
    try:
        with tw.force_target("scalar"):
            assert _core.active_target() == "scalar"
            with tw.force_target(None):
                assert _core.active_target() == tw.targets()[-1]
            assert _core.active_target() == "scalar"
        assert _core.active_target() == before
        tw.force_target("scalar")
        assert _core.active_target() == "scalar"
        with pytest.raises(tw.InvalidArgument, match="'sse2' cannot run here; this machine has: scalar"):
            tw.force_target("sse2")
        assert _core.active_target() == "scalar"
    finally:
        tw.force_target(before)


def test_the_environment_chooses_the_first_target():
    code = "from thinwire import _core; print(_core.active_target())"
    assert python(code, THINWIRE_FORCE_TARGET="scalar").stdout.strip() == "scalar"
    assert python(code, THINWIRE_FORCE_TARGET="").stdout.strip() == tw.targets()[-1]
    absent = python(
        "import thinwire, numpy; thinwire.codec('int8').encode(numpy.ones(9999, 'f'))",
        THINWIRE_FORCE_TARGET="mmx",
    )
    assert "InvalidArgument: CPU target 'mmx' cannot run here" in absent.stderr


def test_eight_threads_encode_the_same_bytes():
    x = values("cubes", 200_000)
    codecs = [tw.codec(name, **params) for name, choices in PARAMETERS.items() for params in choices]
    expected = [codec.encode(x).tobytes() for codec in codecs]

    def encode_all(first: int) -> bool:
        order = [(first + i) % len(codecs) for i in range(len(codecs))]
        return all(codecs[i].encode(x).tobytes() == expected[i] for i in order)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(encode_all, range(8)))


def test_thinwire_needs_numpy_alone():
    done = python(
        """
import sys
class OnlyNumpy:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "xxhash", "matplotlib", "cupy", "typing_extensions"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, OnlyNumpy())
import numpy, thinwire
x = numpy.linspace(-1, 1, 1000, dtype=numpy.float32)
for info in thinwire.codecs():
    codec = thinwire.codec(info.name)
    assert codec.decode(codec.encode(x)).shape == x.shape
try:
    thinwire.ddp
except ModuleNotFoundError as error:
    print(error)
"""
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip()
        == "thinwire.ddp needs PyTorch, which is not installed: pip install 'thinwire[torch]'"
    )
