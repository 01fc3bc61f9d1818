"""CUDA arrays where nothing can run on a GPU, and what is checked before it would."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import thinwire as tw
from foreign_arrays import CudaArray
from thinwire import _core
from thinwire._buffers import raw_bytes_anywhere, view
from thinwire._streams import stream_for
from thinwire.cli import _checks


@pytest.mark.parametrize("name", [info.name for info in tw.codecs()])
def test_one_clear_error(name):
    info, codec = _core.build_info(), tw.codec(name)
    # With kernels: CudaError without driver or device, InvalidArgument where a driver finds nothing there.
    expected = (tw.CudaError, tw.InvalidArgument) if info["cuda"] else tw.NotBuilt
    with pytest.raises(expected) as caught:
        codec.encode(CudaArray(1000), residual=CudaArray(1000))
    if not info["cuda"]:
        assert info["cuda_reason"] in str(caught.value)
    with pytest.raises(expected):
        codec.decode(codec.encode(np.ones(1000, np.float32)), out=CudaArray(1000))


@pytest.mark.skipif(not _core.build_info()["cuda"], reason="needs the CUDA kernels")
def test_without_a_driver_it_says_what_to_install():
    if not isinstance(_checks.find_driver(), str):
        pytest.skip("there is a driver")
    for call in (tw.codec("int8").encode, tw.fingerprint):
        with pytest.raises(tw.CudaError, match="there is no NVIDIA driver: install one that serves CUDA"):
            call(CudaArray(1000))


@pytest.mark.parametrize("profile", ["native", "fixed"])
def test_one_clear_error_of_fingerprint(profile):
    info = _core.build_info()
    with pytest.raises((tw.CudaError, tw.InvalidArgument) if info["cuda"] else tw.NotBuilt) as caught:
        tw.fingerprint(CudaArray(1000), profile)
    if not info["cuda"]:
        assert info["cuda_reason"] in str(caught.value)


def test_one_clear_error_of_shared_bases():
    info, basis, nowhere = _core.build_info(), _core.Basis(64, 4, 0), 1 << 12
    with pytest.raises((tw.CudaError, tw.InvalidArgument) if info["cuda"] else tw.NotBuilt) as caught:
        _core.cuda_learn([(basis, nowhere, 64, nowhere, 1.0, 0, 0)], 0, 0)
    if not info["cuda"]:
        assert info["cuda_reason"] in str(caught.value)


def test_fingerprint_checks_its_arguments_before_the_device():
    with pytest.raises(tw.InvalidArgument, match="a BLAKE3 key has 32 bytes"):
        tw.fingerprint(CudaArray(1000), key=b"short")
    with pytest.raises(tw.InvalidArgument, match="threads is 0"):
        tw.fingerprint(CudaArray(1000), threads=0)
    with pytest.raises(tw.InvalidArgument, match="address of a CUDA stream"):
        tw.fingerprint(CudaArray(1000), stream=-1)
    with pytest.raises(tw.InvalidArgument, match="data is not contiguous"):
        tw.fingerprint(CudaArray(10, 10, strides=(4, 40)))
    with pytest.raises(tw.InvalidArgument, match="data lies on CUDA device 0; pass a copy in host memory"):
        tw.cuts(CudaArray(1000))


@pytest.mark.parametrize(
    ("shape", "typestr", "size"), [((3, 5), "<f4", 60), ((7,), "<V2", 14), ((0,), "|u1", 0)]
)
def test_the_bytes_of_an_array(shape, typestr, size):
    found = raw_bytes_anywhere(CudaArray(*shape, typestr=typestr), "data")
    assert (found.count, found.device) == (size, 0)


def test_arrays_of_different_places_are_refused():
    codec, host = tw.codec("int8"), np.zeros(100, np.float32)
    with pytest.raises(tw.InvalidArgument, match="x lies on CUDA device 0, the residual in host memory"):
        codec.encode(CudaArray(100), residual=host)
    with pytest.raises(tw.InvalidArgument, match="x lies in host memory, the residual on CUDA device 0"):
        codec.encode(host, residual=CudaArray(100))
    with pytest.raises(tw.InvalidArgument, match="out lies on CUDA device 0"):
        codec.encode(host, out=CudaArray(1000, typestr="|u1"))
    with pytest.raises(tw.InvalidArgument, match="buf lies on CUDA device 0"):
        codec.decode(CudaArray(1000, typestr="|u1"))


def test_a_stream_is_for_arrays_on_a_gpu():
    codec, host = tw.codec("int8"), np.zeros(100, np.float32)
    with pytest.raises(tw.InvalidArgument, match="stream"):
        codec.encode(host, stream=0)
    with pytest.raises(tw.InvalidArgument, match="stream"):
        codec.decode(codec.encode(host), out=host, stream=0)
    with pytest.raises(tw.InvalidArgument, match="stream"):
        tw.fingerprint(host, stream=0)


@pytest.mark.parametrize("stream", ["0", -1, True, 1.0])
def test_a_stream_is_an_address(stream):
    with pytest.raises(tw.InvalidArgument, match="address of a CUDA stream"):
        stream_for(view(CudaArray(1), "x"), stream)


def test_the_stream_of_an_array():
    assert stream_for(view(CudaArray(1), "x"), 1234) == 1234
    assert stream_for(view(CudaArray(1), "x"), None) == 0
    assert stream_for(view(CudaArray(1, stream=None), "x"), None) == 0
    assert stream_for(view(CudaArray(1, stream=77), "x"), None) == 77


def test_the_stream_of_a_tensor_is_torchs_current_one(monkeypatch):
    class Tensor(CudaArray):
        pass

    streams = {0: SimpleNamespace(cuda_stream=55)}
    cuda = SimpleNamespace(current_stream=streams.__getitem__, _is_in_bad_fork=lambda: False)
    fake = SimpleNamespace(Tensor=Tensor, cuda=cuda)
    monkeypatch.setitem(sys.modules, "torch", fake)
    assert stream_for(view(Tensor(1, stream=77), "x"), None) == 55
    assert stream_for(view(CudaArray(1, stream=77), "x"), None) == 77
    cuda._is_in_bad_fork = lambda: True
    streams.clear()
    assert stream_for(view(Tensor(1, stream=77), "x"), None) == 0
