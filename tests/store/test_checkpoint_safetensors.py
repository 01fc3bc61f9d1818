"""safetensors files in and out, against the safetensors package."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors")
from safetensors.torch import load_file, save_file  # noqa: E402

from thinwire.errors import InvalidArgument  # noqa: E402
from thinwire.store.checkpoint import Checkpointer  # noqa: E402
from thinwire.store.checkpoint.safetensors import export_safetensors, import_safetensors  # noqa: E402


def tensors() -> dict[str, torch.Tensor]:
    return {
        "wide": torch.randn(700, 900),
        "half": torch.randn(200, 700).bfloat16(),
        "tiny": torch.tensor(3, dtype=torch.int64),
        "none": torch.empty(0, 4),
        "flags": torch.tensor([True, False, True]),
        "eight": torch.randn(100).to(torch.float8_e4m3fn),
    }


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        one[name].dtype == two[name].dtype and torch.equal(one[name].float(), two[name].float())
        for name in one
    )


def test_a_file_becomes_a_step_and_shares_its_blocks(tmp_path: Path) -> None:
    save_file(tensors() | {"x": torch.ones(5)}, tmp_path / "in", metadata={"format": "pt"})
    wanted = load_file(tmp_path / "in")
    with Checkpointer(tmp_path / "store") as saver:
        calls: list[tuple[int, int]] = []
        import_safetensors(tmp_path / "in", saver, 3, progress=lambda *call: calls.append(call))
        assert calls[-1][0] == calls[-1][1]
        assert same(saver.load(step=3), wanted)
        assert saver.save({"wide": wanted["wide"]}, 4).new_bytes == 0

        export_safetensors(tmp_path / "out", saver, 3)
    assert same(load_file(tmp_path / "out"), wanted)
    with safetensors.safe_open(tmp_path / "out", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_a_part_of_a_state_goes_out(tmp_path: Path) -> None:
    state = {"model": {"a": tensors(), "t": torch.randn(300, 200).t()}, "step": 4}
    with Checkpointer(tmp_path / "store") as saver:
        saver.save(state, 1)
        with pytest.raises(InvalidArgument, match="step is no tensor"):
            export_safetensors(tmp_path / "out", saver)
        assert not list(tmp_path.glob("*out*"))
        export_safetensors(tmp_path / "out", saver, of="model")
        with pytest.raises(InvalidArgument, match=r"has no model\.b"):
            export_safetensors(tmp_path / "none", saver, of="model.b")
    wanted = {f"a.{name}": tensor for name, tensor in state["model"]["a"].items()} | {
        "t": state["model"]["t"]
    }
    found = load_file(tmp_path / "out")
    assert same(found, wanted)


@pytest.mark.parametrize("damage", ["short", "header", "length", "empty"])
def test_a_bad_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "in"
    save_file({"x": torch.ones(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(
        {
            "short": data[:-8],
            "header": data[:20] + b"\0" + data[21:],
            "length": b"\xff" * 8 + data[8:],
            "empty": b"",
        }[damage]
    )
    with Checkpointer(tmp_path / "store") as saver:
        with pytest.raises(InvalidArgument, match=r"safetensors|header says"):
            import_safetensors(path, saver, 1)
        assert saver.steps() == []


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    """Keys are joined by dots, and the format's own entry has a name, too."""
    for state, name in (
        ({"a.b": torch.ones(3), "a": {"b": torch.zeros(3)}}, "a.b"),
        ({"__metadata__": torch.ones(3)}, "__metadata__"),
    ):
        with Checkpointer(tmp_path / name) as saver:
            saver.save(state, 1)
            with pytest.raises(InvalidArgument, match=name):
                export_safetensors(tmp_path / "out", saver)
    assert not (tmp_path / "out").exists()


def test_a_negative_size_is_refused(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"U8","shape":[-1,-4],"data_offsets":[0,4]}}'
    (tmp_path / "in").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with Checkpointer(tmp_path / "store") as saver:
        with pytest.raises(InvalidArgument, match="no safetensors file"):
            import_safetensors(tmp_path / "in", saver, 1)
        assert saver.steps() == []
