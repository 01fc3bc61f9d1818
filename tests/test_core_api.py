"""Codec specs, targets and small helpers of `thinwire._core`, and the arguments it refuses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xxhash

from core_calls import single, spec
from support import DTYPES, FP16, FP32, HEADER_BYTES, Guarded, junk, label, store
from thinwire import _core, reference
from thinwire.errors import InvalidArgument
from vectors.formula import values
from vectors.parameters import PARAMETERS


def test_the_registry_and_the_reference_know_the_same_codecs():
    assert [str(s) for s in _core.codec_list()] == list(reference.CODECS)
    assert list(PARAMETERS) == list(reference.CODECS)


@pytest.mark.parametrize(
    ("name", "params"), [pytest.param(n, p, id=label(n, p)) for n, every in PARAMETERS.items() for p in every]
)
def test_sizes_and_numbers_are_those_of_the_reference(name, params):
    native, codec = spec(name, params), reference.CODECS[name]
    assert (native.name, native.wire_id, native.param) == (name, codec.WIRE_ID, codec.wire_param(**params))
    assert native.params.items() >= params.items()
    assert spec(name, native.params) == native
    for n in itertools.chain(range(600), range(600, 20_000, 61), [2**20 + 1, 10**9 + 7]):
        assert native.payload_bytes(n) == codec.payload_bytes(n, **params), n
        resolved = native.resolve(n)
        assert resolved == spec(*reference.resolve(name, n, params)), n
        assert single(name, params, n).frame_bytes == HEADER_BYTES + resolved.payload_bytes(n), n
        assert resolved.payload_bytes(n) <= reference.CODECS["raw"].payload_bytes(n), n
    assert native.ratio == pytest.approx(4e9 / native.payload_bytes(10**9), rel=1e-4)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("int5", {}),
        ("int8", {"block": 16}),
        ("int8", {"block": 100}),
        ("int8", {"block": 8192}),
        ("int8", {"density": 0.1}),
        ("int4", {"rounding": "up"}),
        ("sign1", {"rounding": "stochastic"}),
        ("topk", {"block": 64}),
        ("topk", {"density": 0.6}),
        ("topk", {"density": -1.0}),
        ("topk", {"density": float("nan")}),
        ("topk", {"values": "fp32"}),
        ("raw", {"block": 64}),
    ],
)
def test_unknown_codecs_and_parameters_are_refused(name, params):
    with pytest.raises(InvalidArgument):
        spec(name, params)


def test_specs_compare_hash_and_print():
    default, explicit, other = spec("int4", {}), spec("int4", {"block": 64}), spec("int4", {"block": 32})
    assert default == explicit
    assert hash(default) == hash(explicit)
    assert default != other
    assert str(spec("int4", {"block": 32, "rounding": "stochastic"})) == "int4:block=32,rounding=stochastic"
    assert str(spec("topk", {"density": 0.01, "values": "fp16"})) == "topk:density=0.01,values=fp16"
    assert str(explicit) == "int4"


def test_a_layout_of_several_segments_needs_a_plan():
    with pytest.raises(InvalidArgument, match="plan_id"):
        _core.Layout([(1, spec("raw", {})), (2, spec("raw", {}))])


def test_too_small_a_buffer_is_refused_and_untouched():
    layout = single("int8", {}, 1000)
    y, out = values("uniform", 1000), Guarded(junk(layout.frame_bytes))
    call = (layout, _core.Header(), y.ctypes.data, FP32, 1.0, None, None, FP32, None, 0, out.ptr)
    with pytest.raises(InvalidArgument, match=f"{layout.frame_bytes}"):
        _core.encode_frame(*call, layout.frame_bytes - 1)
    assert out.unchanged()


@pytest.mark.parametrize(
    ("before", "after", "held"), [([1], None, None), (None, [1], None), (None, None, [True])]
)
def test_lists_must_have_an_item_a_segment(before, after, held):
    layout = _core.Layout([(10, spec("raw", {}))] * 4, 1)
    y, out = np.zeros(40, np.float32), np.zeros(layout.frame_bytes, np.uint8)
    source = (layout, _core.Header(), y.ctypes.data, FP32, 1.0)
    with pytest.raises(InvalidArgument, match="4 segments"):
        _core.encode_frame(*source, before, after, FP32, held, 0, out.ctypes.data, out.size)
    with pytest.raises(InvalidArgument, match="residual"):
        _core.encode_frame(*source, None, None, FP16, None, 0, out.ctypes.data, out.size)
    with pytest.raises(InvalidArgument, match="dtype"):
        _core.encode_frame(*source, None, None, 3, None, 0, out.ctypes.data, out.size)


@pytest.mark.parametrize("dtype", DTYPES, ids=["fp32", "fp16", "bf16"])
def test_zeros_and_nonfinite_values_are_found_anywhere(target, dtype):
    smallest = np.float32(2.0**-24 if dtype == FP16 else 2.0**-133 if dtype else 2.0**-149)
    for n in (0, 1, 15, 16, 17, 64, 65, 200):
        zeros = store(np.where(np.arange(n) % 2 == 0, np.float32(0), np.float32(-0.0)), dtype)
        guarded = Guarded(zeros)
        assert _core.is_zero(guarded.ptr, n, dtype)
        assert _core.nonfinite_count(guarded.ptr, n, dtype) == 0
        for at in range(n):
            guarded.array[at] = store(smallest[None], dtype)[0]
            assert not _core.is_zero(guarded.ptr, n, dtype)
            guarded.array[at] = zeros[at]
        x = values("nonfinite", n)
        x[::3] = np.inf
        guarded = Guarded(store(x, dtype))
        assert _core.nonfinite_count(guarded.ptr, n, dtype) == np.count_nonzero(~np.isfinite(x))
        assert not n or not _core.is_zero(guarded.ptr, n, dtype)


def test_hashes_are_those_of_the_xxhash_package():
    data = np.random.default_rng(0).bytes(5000)
    for n in [*range(300), 512, 1023, 1024, 1025, 2048, 5000]:
        for seed in (0, 1, 2**64 - 1):
            assert _core.xxh3_64(data[:n], seed) == xxhash.xxh3_64_intdigest(data[:n], seed), n


def test_many_hashes_are_chained():
    pieces = [np.frombuffer(bytes(range(n)), dtype=np.uint8) for n in (10, 0, 200)]
    want = 0
    for piece in pieces:
        want = xxhash.xxh3_64_intdigest(piece.tobytes(), want)
    assert _core.hash_many([p.ctypes.data for p in pieces], [p.size for p in pieces]) == want
    assert _core.hash_many([], []) == 0
    with pytest.raises(InvalidArgument):
        _core.hash_many([1], [])


def test_an_absent_target_is_refused():
    before = _core.active_target()
    with pytest.raises(InvalidArgument, match="mmx"):
        _core.force_target("mmx")
    assert _core.active_target() == before


def test_targets_can_be_forced_and_released():
    before = _core.active_target()
    for name in _core.targets():
        _core.force_target(name)
        assert _core.active_target() == name
    _core.force_target(None)
    assert _core.active_target() == _core.targets()[-1]
    _core.force_target(before)
    assert set(_core.build_info()) == {"cuda", "cuda_reason", "cuda_archs", "compiler", "targets"}
