"""Checkpointer: what is saved comes back, bit for bit, whatever a state is made of."""

from __future__ import annotations

import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from thinwire.errors import CorruptChunk, FormatVersion, InvalidArgument, NotFound  # noqa: E402
from thinwire.store.checkpoint import Checkpointer, Skipped  # noqa: E402
from thinwire.store.checkpoint.layout import BLOCK_BYTES  # noqa: E402
from thinwire.store.store import Store  # noqa: E402

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]


def bits(tensor: torch.Tensor) -> bytes:
    flat: torch.Tensor = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def saved_and_loaded(folder: Path, state: dict[str, Any]) -> Any:
    with Checkpointer(folder) as saver:
        saver.save(state, 1)
        return saver.load()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (7, 11, 3), (300, 1001)], ids=str)
def test_every_dense_dtype_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype, shape: Any) -> None:
    generator = torch.Generator().manual_seed(5)
    size = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (size,), dtype=torch.uint8, generator=generator)
    value = raw.view(dtype).reshape(shape) if size else torch.empty(shape, dtype=dtype)
    found = saved_and_loaded(tmp_path, {"x": value})["x"]
    assert (found.dtype, found.shape, bits(found)) == (dtype, value.shape, bits(value))


def test_layouts_come_back(tmp_path: Path) -> None:
    image = torch.randn(4, 8, 30, 90)
    state = {
        "channels_last": image.to(memory_format=torch.channels_last),
        "transposed": torch.randn(300, 200).t(),
        "gaps": torch.randn(600, 600)[::2, ::3],
        "expanded": torch.randn(5, 1).expand(5, 4000),
        "conjugate": torch.randn(60, dtype=torch.complex64).conj(),
        "negative": torch.randn(60, dtype=torch.complex64).conj().imag,
        "parameter": torch.nn.Parameter(torch.randn(30)),
        "view": torch.arange(50000)[1:],
    }
    found = saved_and_loaded(tmp_path, state)
    for name, value in state.items():
        assert torch.equal(found[name], value), name
    assert found["channels_last"].is_contiguous(memory_format=torch.channels_last)
    assert found["transposed"].stride() == (1, 200)


def test_values_come_back_as_they_were(tmp_path: Path) -> None:
    state = {
        "ints": [0, -1, 2**53, -(2**63), 10**5000],
        "floats": [0.1, -0.0, 5e-324, math.inf, -math.inf],
        "text": ["", "ä\n\x00", "\ud800"],
        "bytes": [b"", b"\x00\xff", b"x" * 200_000],
        "rest": (None, True, False, (), [], {}, ((1,), [2])),
        "keys": {1: "int", "1": "str", -7: None, "a.b": {"c": 0}},
    }
    found = saved_and_loaded(tmp_path, state)
    assert found == state
    assert [type(value) for value in found["rest"]] == [type(value) for value in state["rest"]]
    assert math.copysign(1, found["floats"][1]) == -1
    assert list(found["keys"]) == list(state["keys"])


def test_nan_keeps_its_bits(tmp_path: Path) -> None:
    (nan,) = struct.unpack(">d", bytes.fromhex("fff8000000000123"))
    found = saved_and_loaded(tmp_path, {"x": nan})["x"]
    assert struct.pack(">d", found).hex() == "fff8000000000123"


def test_tensors_that_share_memory_are_stored_once_and_share_it_again(tmp_path: Path) -> None:
    weight, small = torch.randn(1 << 20), torch.randn(10)
    with Checkpointer(tmp_path) as saver:
        save = saver.save({"a": weight, "b": weight, "c": small, "d": small, "e": weight.clone()}, 1)
        found = saver.load()
    assert save.new_bytes < 5 << 20, "e is equal, so its chunks are the same"
    assert found["a"].data_ptr() == found["b"].data_ptr() != found["e"].data_ptr()
    assert found["c"].data_ptr() == found["d"].data_ptr()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.ones(3).to_sparse(), "model.bad is of layout torch.sparse_coo"),
        (lambda: torch.empty(3, device="meta"), "model.bad is on the meta device"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "model.bad is quantized"),
        (lambda: np.zeros(3), "model.bad is a numpy.ndarray"),
        (lambda: np.float64(1), "model.bad is a numpy.float64"),
        (lambda: {1.5: 1}, "model.bad has the key 1.5"),
        (lambda: {True: 1}, "model.bad has the key True"),
        (lambda: [{"x": {1, 2}}], "model.bad.0.x is a builtins.set"),
        (lambda: torch.float32, "model.bad is a torch.dtype"),
    ],
    ids=["sparse", "meta", "quantized", "array", "numpy float", "float key", "bool key", "set", "dtype"],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_saved_is_named(tmp_path: Path, make: Callable[[], Any], message: str) -> None:
    with Checkpointer(tmp_path) as saver:
        with pytest.raises(InvalidArgument, match=message):
            saver.save({"model": {"bad": make()}}, 1)
        assert saver.steps() == []


def test_a_state_that_contains_itself_is_refused(tmp_path: Path) -> None:
    state: dict[str, Any] = {}
    state["self"] = state
    with Checkpointer(tmp_path) as saver, pytest.raises(InvalidArgument, match="contains itself"):
        saver.save(state, 1)


def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Sequential(torch.nn.Linear(300, 400), torch.nn.BatchNorm1d(400), torch.nn.Linear(400, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, amsgrad=True)
    model(torch.randn(8, 300)).sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("in_place", [True, False])
def test_a_fresh_adam_resumes(tmp_path: Path, in_place: bool) -> None:
    model, optimizer = trained()
    with Checkpointer(tmp_path) as saver:
        saver.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}, 7)

        other = torch.nn.Sequential(
            torch.nn.Linear(300, 400), torch.nn.BatchNorm1d(400), torch.nn.Linear(400, 3)
        )
        fresh = torch.optim.Adam(other.parameters())
        state = {"model": other.state_dict(), "optimizer": fresh.state_dict(), "epoch": 0}
        if in_place:
            assert saver.load(state) == Skipped([], [], [])
        else:
            state = saver.load()
            other.load_state_dict(state["model"])
    fresh.load_state_dict(state["optimizer"])
    assert state["epoch"] == 3
    for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(one, two)
    before, after = optimizer.state_dict(), fresh.state_dict()
    assert before["param_groups"] == after["param_groups"]
    for key, entry in before["state"].items():
        for name, value in entry.items():
            assert torch.equal(after["state"][key][name], value)


def test_loading_fills_the_given_memory(tmp_path: Path) -> None:
    state = {
        "large": torch.randn(700, 600),
        "small": torch.randn(3),
        "other_layout": torch.randn(500, 400),
        "pair": (torch.randn(5), 6),
    }
    with Checkpointer(tmp_path) as saver:
        saver.save(state, 1)
        given: dict[str, Any] = {
            "large": torch.zeros(700, 600),
            "small": torch.nn.Parameter(torch.zeros(3)),
            "other_layout": torch.zeros(400, 500).t(),
            "pair": (torch.zeros(5), 0),
        }
        before = {name: value.data_ptr() for name, value in given.items() if name != "pair"}
        inner = given["pair"][0]
        saver.load(given)
    for name, pointer in before.items():
        assert given[name].data_ptr() == pointer
        assert torch.equal(given[name], state[name])
    assert given["pair"][0] is inner
    assert torch.equal(inner, state["pair"][0])
    assert given["pair"][1] == 6


def test_all_that_does_not_fit_is_listed_and_nothing_is_touched(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as saver:
        saver.save({"a": torch.ones(3), "b": torch.ones(3), "c": torch.ones(3), "d": [1, 2], "e": 5}, 1)
        given = {
            "a": torch.zeros(4),
            "b": torch.zeros(3, dtype=torch.float16),
            "c": torch.zeros(3),
            "d": [1, 2, 3],
            "f": 1,
        }
        with pytest.raises(InvalidArgument) as caught:
            saver.load(given)
        for part in ("lacks d.2, f", "lacks e", "a (float32 [4], stored as float32 [3])", "b (float16"):
            assert part in str(caught.value)
        assert not given["c"].any()

        skipped = saver.load(given, strict=False)
        assert (skipped.missing, skipped.unexpected, len(skipped.unlike)) == (["d.2", "f"], ["e"], 2)
        assert given["c"].all()
        assert not given["a"].any()


def test_an_ordered_dict_is_a_dict(tmp_path: Path) -> None:
    found = saved_and_loaded(tmp_path, {"m": OrderedDict(b=1, a=2)})
    assert list(found["m"].items()) == [("b", 1), ("a", 2)]


def test_steps_latest_and_their_errors(tmp_path: Path) -> None:
    with Checkpointer(tmp_path) as saver:
        assert (saver.steps(), saver.latest()) == ([], None)
        with pytest.raises(NotFound, match="has no step latest"):
            saver.load()
        for step in (0, 10, 5):
            saver.save({"x": step}, step)
        assert saver.steps() == [0, 10, 5]
        assert saver.latest() == 5, "the one saved last: training went back to an earlier step"
        assert [saver.load(step=step)["x"] for step in (0, 10, 5)] == [0, 10, 5]
        with pytest.raises(NotFound, match="no step 7; it has 0, 10, 5"):
            saver.load(step=7)
        saver.save({"x": "again"}, 10)
        assert saver.load(step=10)["x"] == "again"
        saver.delete(10)
        assert saver.steps() == [0, 5]
        with pytest.raises(InvalidArgument, match="step is"):
            saver.load(step="newest")
        for bad in (-1, 1.0, True):
            with pytest.raises(InvalidArgument, match="step is"):
                saver.save({}, bad)


def test_keep_last_and_keep_every(tmp_path: Path) -> None:
    with Checkpointer(tmp_path, keep_last=2, keep_every=10) as saver:
        for step in range(0, 26, 5):
            saver.save({"x": torch.full((1000,), step)}, step)
        assert saver.steps() == [0, 10, 20, 25]
        saver.save({"x": torch.zeros(1000)}, 10)
        assert saver.steps() == [0, 20, 25, 10]
    with pytest.raises(InvalidArgument, match="keep_last is 0"):
        Checkpointer(tmp_path, keep_last=0)


def test_only_changed_blocks_are_stored(tmp_path: Path) -> None:
    state = {"x": torch.randn(4 << 20), "y": torch.randn(1000)}
    with Checkpointer(tmp_path) as saver:
        assert saver.save(state, 1).new_bytes > 16 << 20
        assert saver.save(state, 2).new_bytes == 0
        state["x"][3 << 18] += 1
        assert saver.save(state, 3).new_bytes == BLOCK_BYTES
        state["y"] += 1
        assert saver.save(state, 4, blocking=False).wait_durable().version == 4
        for tensor in state.values():
            tensor.add_(1)  # now everything is volatile, and compared in the background
        saver.save(state, 5)
        again = saver.save(state, 6, blocking=False)
        again.wait_durable()
        assert again.new_bytes == 0
        found = saver.load(step=6)
    assert torch.equal(found["x"], state["x"])


def test_another_process_finds_unchanged_blocks_by_their_content(tmp_path: Path) -> None:
    state = {"x": torch.randn(1 << 20)}
    for step in range(2):
        with Checkpointer(tmp_path) as saver:
            assert (saver.save(state, step).new_bytes == 0) == bool(step)


def test_damage_names_the_tensors_that_it_hits(tmp_path: Path) -> None:
    state = {"good": torch.randn(1 << 20), "bad": torch.randn(1 << 20), "tiny": torch.randn(4)}
    with Checkpointer(tmp_path) as saver:
        saver.save({"good": state["good"]}, 1)
        (intact,) = (tmp_path / "packs").rglob("*/*")
        saver.save({"bad": state["bad"]}, 2)
        (pack,) = {path for path in (tmp_path / "packs").rglob("*/*") if path.is_file()} - {intact}
        saver.save(state, 3)
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
    with Checkpointer(tmp_path) as saver:
        with pytest.raises(CorruptChunk, match=r"damaged in checkpoint@3: bad"):
            saver.load()
        assert torch.equal(
            saver.load({"good": torch.zeros(1 << 20)}, strict=False) and state["good"], state["good"]
        )


def test_a_version_that_is_no_checkpoint_is_told_apart(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.put("file", b"bytes")
        saver = Checkpointer(store, "file")
        assert saver.steps() == []
        with pytest.raises(NotFound):
            saver.load()


def test_a_dtype_that_this_torch_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpointer(tmp_path) as saver:
        saver.save({"x": torch.ones(3, dtype=torch.float8_e5m2)}, 1)
        monkeypatch.delattr(torch, "float8_e5m2")
        with pytest.raises(FormatVersion, match="float8_e5m2"):
            saver.load()


def test_encrypted(tmp_path: Path) -> None:
    state = {"secret-name": torch.full((1 << 18,), 7.0)}
    with Checkpointer(tmp_path, passphrase="correct horse") as saver:
        saver.save(state, 1)
        assert torch.equal(saver.load()["secret-name"], state["secret-name"])
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"secret-name" not in stored


def test_progress_counts_bytes(tmp_path: Path) -> None:
    state = {f"x{i}": torch.randn(6 << 20) for i in range(2)}
    with Checkpointer(tmp_path) as saver:
        for work in (
            lambda call: saver.save(state, 1, progress=call),
            lambda call: saver.load(progress=call),
        ):
            calls: list[tuple[int, int]] = []
            work(lambda done, total, calls=calls: calls.append((done, total)))
            assert calls == sorted(calls)
            assert calls[-1] == (48 << 20, 48 << 20)


def test_a_damaged_step_leaves_the_others(tmp_path: Path) -> None:
    with Checkpointer(tmp_path / "store") as saver:
        refs = [saver.save({"x": torch.full((4,), float(step))}, step).wait_durable() for step in range(1, 4)]
    (tmp_path / "store" / "manifests" / refs[1].manifest).write_bytes(b"damaged")
    with Checkpointer(tmp_path / "store", keep_last=2) as saver:
        assert saver.steps() == [1, 3]
        for step in (1, 3):
            assert saver.load(step=step)["x"][0] == step
        assert saver.load()["x"][0] == 3
        with pytest.raises(CorruptChunk, match="checkpoint@2"):
            saver.load(step=2)
        with pytest.raises(CorruptChunk, match="checkpoint@2"):
            saver.load(step=4)
        saver.save({"x": torch.full((4,), 4.0)}, 4)
        assert saver.steps() == [3, 4]
    (tmp_path / "store" / "manifests" / refs[2].manifest).write_bytes(b"damaged")
    with Checkpointer(tmp_path / "store") as saver:
        assert saver.load()["x"][0] == 4
        saver.delete(4)
        with pytest.raises(CorruptChunk, match="checkpoint@3"):  # an older one must not pass for the latest
            saver.load()


def test_tensors_that_share_memory_take_the_last_that_was_stored_apart(tmp_path: Path) -> None:
    one, two = torch.randn(4 * BLOCK_BYTES // 4), torch.randn(4 * BLOCK_BYTES // 4)
    with Checkpointer(tmp_path / "store") as saver:
        half = torch.randn(len(one)).to(torch.bfloat16)  # does not go straight into memory in fp32
        saver.save({"a": one, "b": two, "c": one.clone(), "half": half}, 1)
        cases = (("a", "b"), two), (("b", "a"), one), (("a", "b", "c"), one), (("half", "a"), one)
        for names, last in cases:
            tied = torch.zeros_like(one)
            saver.load(dict.fromkeys(names, tied), strict=False)
            assert torch.equal(tied, last)
