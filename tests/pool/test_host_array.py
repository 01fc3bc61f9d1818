"""Arrays of a pool as other libraries see them: the same memory, which lives as long as the last view."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import thinwire as tw
from thinwire._buffers import view

DTYPES = ["bool", "uint8", "int16", "int64", "float16", "float32", "float64", "complex64", "complex128"]
SHAPES: list[Any] = [7, (), (3, 5), (2, 3, 4), (0,), (2, 0, 3)]


@pytest.fixture
def pool() -> tw.HostPool:
    return tw.HostPool(limit="256MiB")


def live(pool: tw.HostPool) -> int:
    return int(pool.stats().as_dict()["live"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numpy_sees_shape_and_dtype(pool, shape, dtype):
    a = pool.empty(shape, dtype)
    x = np.asarray(a)
    assert x.dtype == np.dtype(dtype)
    assert x.shape == a.shape == (shape if isinstance(shape, tuple) else (shape,))
    assert (x.nbytes, x.size) == (a.nbytes, a.size)
    assert x.flags.c_contiguous
    assert x.flags.writeable
    if a.nbytes:
        assert x.ctypes.data == a.address
        assert a.address % 64 == 0


def test_all_views_are_of_the_same_memory(pool):
    torch = pytest.importorskip("torch")
    a = pool.empty((4, 6), "float32")
    views = [a.numpy(), np.asarray(a), np.from_dlpack(a), a.torch().numpy(), torch.from_dlpack(a).numpy()]
    views.append(np.asarray(memoryview(a)))
    for number, written in enumerate(views):
        if written.flags.writeable:  # of DLPack NumPy has made read-only views for long
            written[...] = number
            assert all((seen == number).all() for seen in views)
        assert written.ctypes.data == a.address


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_sees_shape_and_dtype(pool, shape, dtype):
    torch = pytest.importorskip("torch")
    a = pool.empty(shape, dtype)
    for tensor in (a.torch(), torch.from_dlpack(a)):
        assert tensor.dtype == getattr(torch, dtype)
        assert tuple(tensor.shape) == a.shape
        if a.nbytes:
            assert tensor.data_ptr() == a.address


def test_bfloat16_is_bits_to_numpy_and_values_to_torch_and_codecs(pool):
    torch = pytest.importorskip("torch")
    a = pool.empty(3, "bfloat16")
    a.torch()[:] = torch.tensor([1.0, -2.0, 0.5])
    assert a.dtype == "bfloat16"
    assert np.asarray(a).dtype == np.uint16
    assert np.asarray(a).tolist() == [0x3F80, 0xC000, 0x3F00]
    assert tw.codec("raw").encode(a).tobytes() == tw.codec("raw").encode(a.torch()).tobytes()
    with pytest.raises((BufferError, RuntimeError, TypeError)):
        np.from_dlpack(a)


def test_dtypes_of_numpy_and_torch_are_taken(pool):
    torch = pytest.importorskip("torch")
    for dtype in (np.float32, np.dtype("float32"), "<f4", "f4", torch.float32, "torch.float32"):
        assert pool.empty(1, dtype).dtype == "float32"
    assert pool.empty(1, torch.bfloat16).dtype == "bfloat16"


def test_codecs_take_and_fill_arrays_of_a_pool(pool):
    x, out = pool.empty(1000, "float32"), pool.empty(1000, "float32")
    x.numpy()[:] = np.linspace(-1, 1, 1000)
    codec = tw.codec("int8")
    codec.decode(codec.encode(x), out=out)
    assert np.abs(out.numpy() - x.numpy()).max() < 0.01
    assert view(x, "x", writable=True).dtype == "float32"


def test_memoryviews_have_the_format_that_was_asked_for(pool):
    whole = memoryview(pool.empty((2, 3), "float64"))
    assert (whole.format, whole.itemsize, whole.shape, whole.strides) == ("d", 8, (2, 3), (24, 8))
    assert not whole.readonly
    assert whole.cast("B").nbytes == 48
    assert bytes(pool.empty(0)) == b""


def test_buffers_of_other_kinds_are_served_or_refused(pool, tmp_path):
    a = pool.empty((2, 8))
    a.numpy()[...] = np.arange(16).reshape(2, 8)
    path = tmp_path / "bytes"
    path.write_bytes(a)  # a buffer without shape
    assert path.read_bytes() == bytes(range(16))
    with path.open("rb") as file:
        a.numpy()[...] = 0
        assert file.readinto(a) == 16
    assert a.numpy()[1, 7] == 15


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(memoryview, id="memoryview"),
        pytest.param(lambda a: memoryview(a)[1:], id="part of a memoryview"),
        pytest.param(np.asarray, id="asarray"),
        pytest.param(np.from_dlpack, id="from_dlpack"),
        pytest.param(lambda a: a.numpy()[1:][::2], id="slice"),
        pytest.param(lambda a: a.numpy().view(np.uint8).reshape(-1), id="bytes"),
        pytest.param(lambda a: a.torch(), id="tensor"),
        pytest.param(lambda a: a.torch()[2:].t(), id="part of a tensor"),
        pytest.param(lambda a: a.torch().untyped_storage(), id="storage"),
        pytest.param(lambda a: a.__dlpack__(), id="capsule"),
    ],
)
def test_any_view_keeps_the_memory(pool, make):
    pytest.importorskip("torch")
    a = pool.empty((8, 8), "float32")
    held = make(a)
    assert not a.free()
    del a
    gc.collect()
    assert live(pool) >= 256
    del held
    gc.collect()
    assert live(pool) == 0


def test_the_memory_goes_with_the_last_of_many_views(pool):
    a = pool.empty(1000, "int32")
    a.numpy()[:] = 7
    views: list[Any] = [a.numpy(), a.torch(), memoryview(a), np.from_dlpack(a)]
    del a
    while views:
        assert live(pool) > 0
        assert int(np.asarray(views[-1])[999]) == 7
        views.pop()
    gc.collect()
    assert live(pool) == 0


def test_the_pool_may_go_before_its_arrays(pool):
    x = tw.HostPool(limit="1MiB").empty(1000, "int32").numpy()
    gc.collect()
    x[:] = 5
    assert x.sum() == 5000


def test_cycles_are_collected(pool):
    class Node:
        pass

    node = Node()
    node.array, node.self = pool.empty(100), node  # type: ignore[attr-defined]
    del node
    gc.collect()
    assert live(pool) == 0


def test_free_says_whether_a_view_is_in_the_way(pool):
    a = pool.empty(100)
    x = a.numpy()
    assert not a.free()
    x[:] = 1
    del x
    assert a.free()
    assert live(pool) == 0
    assert a.free()  # it is free
    for use in (lambda a: a.numpy(), memoryview, lambda a: a.tier, lambda a: a.address, bytes):
        with pytest.raises((tw.InvalidArgument, BufferError), match="this array was freed"):
            use(a)


def test_another_thread_may_drop_the_last_view(pool):
    views = [pool.empty(1000, "float32").torch() for _ in range(100)]
    addresses = {x.data_ptr() for x in views}
    assert len(addresses) == 100
    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    assert live(pool) == 0


def test_arrays_pass_through_threads(pool):
    """One thread fills arrays, another checks and drops them."""
    queue: list[Any] = []
    ready, done = threading.Semaphore(0), threading.Semaphore(8)
    wrong: list[int] = []

    def check() -> None:
        for number in range(400):
            ready.acquire()
            x = np.asarray(queue.pop(0))
            if not (x == number % 251).all():
                wrong.append(number)
            del x
            done.release()

    thread = threading.Thread(target=check)
    thread.start()
    for number in range(400):
        done.acquire()
        a = pool.empty(1 + number * 37)
        a.numpy()[:] = number % 251
        queue.append(a)
        del a
        ready.release()
    thread.join()
    assert not wrong
    assert live(pool) == 0


def test_repr_and_len(pool):
    a = pool.empty((4, 6), "float32")
    assert repr(a) == "HostArray(shape=(4, 6), dtype='float32')"
    assert len(a) == 4
    with pytest.raises(TypeError, match="has no length"):
        len(pool.empty(()))


def test_it_does_not_pose_as_device_memory(pool):
    a = pool.empty(4)
    assert not hasattr(a, "__cuda_array_interface__")
    assert a.__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("alignment", [1, 64, 4096, 2 << 20])
def test_alignment(pool, alignment):
    arrays = [pool.empty(5000, alignment=alignment) for _ in range(3)]
    assert all(a.address % alignment == 0 for a in arrays)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((-1,),), "shape is (-1,); a size cannot be negative"),
        (((3, -2, 0),), "a size cannot be negative"),
        ((1.5,), "shape is 1.5; pass an integer, or a tuple of integers"),
        (("ab",), "shape is 'ab'"),
        ((None,), "shape is None"),
        (((2**30, 2**30),), "more than a machine can address"),
        (((0, 2**40, 2**40),), "more than a machine can address"),
        ((4, "float99"), "the dtype is float99; a pool's arrays hold"),
        ((4, None), "the dtype is None"),
        ((4, object), "the dtype is <class 'object'>"),
        ((4, ">f4"), "the dtype is >f4"),
        ((4, np.dtype(">f4")), "the dtype is >f4"),
        ((4, [("a", "<f4")]), "the dtype is [('a', '<f4')]"),
        ((4, np.dtype([("a", "<f4")])), "the dtype is [('a', '<f4')]"),
        ((4, "datetime64[s]"), "the dtype is datetime64[s]"),
        ((4, "U3"), "the dtype is U3"),
        ((4, "uint8", 3), "alignment is 3; pass a power of two"),
        ((4, "uint8", 0), "alignment is 0"),
        ((4, "uint8", -64), "alignment is -64"),
        ((4, "uint8", 64.0), "alignment is 64.0"),
        ((4, "uint8", 1 << 30), "alignment"),
    ],
)
def test_what_cannot_be_made(pool, arguments, message):
    with pytest.raises(tw.InvalidArgument) as caught:
        pool.empty(*arguments)
    assert message in str(caught.value)
    assert live(pool) == 0


def test_a_dtype_that_torch_lacks(pool):
    pytest.importorskip("torch")
    with pytest.raises(tw.InvalidArgument, match="torch has no dtype"):
        pool.empty(4, np.longdouble).torch()
