"""`thinwire bench ddp --equal-steps`: its names, arithmetic, resuming and table, and a tiny run."""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from thinwire.bench import _ddp_clock, _ddp_methods, _report, ddp
from thinwire.bench import _ddp_gaps as gaps
from thinwire.bench import _ddp_losses as losses
from thinwire.bench._ddp_clock import Case
from thinwire.bench._ddp_losses import Matrix, Results, Run
from thinwire.bench._ddp_plan import MODELS, OPTIMIZERS, PLAIN, Job, check_method, hook_options, label
from thinwire.bench._tasks import task
from thinwire.cli.main import main

MODELS_HERE = [name for name in MODELS if name != "conv" or importlib.util.find_spec("sklearn")]


def entry(method: str, loss: float, seed: int = 0, ranks: int = 2, **more: Any) -> dict[str, Any]:
    """A run as the file has it."""
    known = {"seed": seed, "ranks": ranks, "model": "char", "optimizer": "adamw", "method": method}
    figures = {
        "loss": loss,
        "held_out_loss": 2 * loss,
        "bits": 1.5,
        "bits_from_start": 2.0,
        "accuracy_percent": None,
    }
    return {**known, **figures, "replicas_equal": True, "seconds": 10.0, "cpu": "one", **more}


def outcome(loss: float, sent: float = 250.0) -> dict[str, Any]:
    """What `_ddp_job` makes of ten steps of a model of a thousand parameters."""
    return {
        "losses": [9.0] * 9 + [loss],
        "held_out_losses": [9.0, 3.0],
        "accuracy_percent": None,
        "parameters": 1000,
        "wire_bytes_per_step": sent,
        "wire_bytes_per_step_from_start": 2 * sent,
        "replicas_equal": True,
    }


def test_options_of_the_hook_follow_the_codec() -> None:
    assert hook_options("topk:density=0.03,values=sign") == ("topk:density=0.03,values=sign", {})
    assert hook_options("sign1;basis=0;feedback=False;residual_dtype=bfloat16") == (
        "sign1",
        {"basis": 0, "feedback": False, "residual_dtype": "bfloat16"},
    )
    assert label("thinwire/int2;basis=4;warmup=10") == "thinwire int2, basis=4, warmup=10"
    check_method("thinwire/powersgd:rank=4")
    assert hook_options("powersgd:rank=4;warmup=2") == ("powersgd:rank=4", {"warmup": 2})
    assert label("thinwire/powersgd:rank=4") == "thinwire powersgd:rank=4"


@pytest.mark.parametrize(
    "method", ["torch/powersgd", "torch/int8", "thinwire/", "thinwire/int2;basis", "mpi/int8", "int8"]
)
def test_a_name_of_no_method_is_refused(method: str) -> None:
    with pytest.raises(ValueError, match=r"unknown method|is no option"):
        check_method(method)


def test_every_method_of_the_matrix_has_a_name_that_is_one() -> None:
    for method in losses.METHODS:
        check_method(method)
    assert len(set(map(label, losses.METHODS))) == len(losses.METHODS) == 14


def test_plain_runs_once_for_all_numbers_of_ranks_and_before_the_others() -> None:
    runs = Matrix(models=["char"], optimizers=["sgd"], methods=["thinwire/int4"], seeds=2).runs()
    assert [(run.seed, run.ranks, run.method) for run in runs] == [
        (0, 2, PLAIN),
        (0, 2, "thinwire/int4"),
        (0, 4, "thinwire/int4"),
        (1, 2, PLAIN),
        (1, 2, "thinwire/int4"),
        (1, 4, "thinwire/int4"),
    ]
    assert len(Matrix().runs()) == 3 * 4 * 2 * (1 + 2 * 13)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": ["rnn"]}, "no model 'rnn'; there are char"),
        ({"optimizers": ["adam"]}, "no optimizer 'adam'"),
        ({"ranks": [2, 3]}, "3 ranks cannot share"),
        ({"ranks": [1]}, "1 ranks cannot share"),
        ({"methods": ["fp16"]}, "unknown method 'fp16'"),
        ({"steps": 0}, "--steps"),
    ],
)
def test_a_wrong_matrix_is_refused_before_any_run(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Matrix(**wrong).check()


def test_without_scikit_learn_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install scikit-learn"):
        Matrix().check()
    Matrix(models=["char"]).check()


def test_a_final_loss_is_the_mean_of_the_last_tenth() -> None:
    assert gaps.final_loss([9.0] * 18 + [1.0, 2.0]) == 1.5
    assert gaps.final_loss([3.0, 1.0]) == 1.0


def test_a_curve_covers_all_steps() -> None:
    assert gaps.curve([4.0, 2.0]) == [4.0, 2.0]
    long = gaps.curve([float(step) for step in range(2001)])
    assert len(long) == gaps.CURVE_POINTS
    assert (long[0], long[-1]) == (49.5, 1950.0)


@pytest.mark.parametrize("ranks", [2, 4])
def test_plain_ddp_has_32_bits_a_value(ranks: int) -> None:
    sent = 2 * (ranks - 1) / ranks * 1000 * 4
    assert gaps.bits_per_value(sent, 1000, ranks) == pytest.approx(32)


def test_a_gap_is_to_the_plain_run_of_the_same_seed() -> None:
    runs = [
        entry(PLAIN, 2.0, seed=0),
        entry(PLAIN, 4.0, seed=1),
        entry("thinwire/int4", 2.1, seed=0, ranks=4),
        entry("thinwire/int4", 4.0, seed=1, ranks=4),
        entry("thinwire/int4", 9.0, seed=2, ranks=4),
        entry("thinwire/int4", 9.0, optimizer="sgd"),
    ]
    plain, int4, lone = gaps.summarise(runs)
    assert plain["gap_percent"] == {"mean": 0, "low": 0, "high": 0}
    assert int4["gap_percent"] == pytest.approx({"mean": 2.5, "low": 0, "high": 5})
    assert int4["held_out_gap_percent"] == pytest.approx(int4["gap_percent"])
    assert (int4["seeds"], int4["ranks"], int4["loss"]) == (3, 4, pytest.approx(15.1 / 3))
    assert lone["gap_percent"] is None


def test_the_table_has_a_row_a_method_and_a_column_a_number_of_ranks() -> None:
    runs = [
        entry(PLAIN, 2.0),
        entry("thinwire/int4", 2.01),
        entry("thinwire/int4", 2.02, ranks=4),
        entry("thinwire/sign1", 2.5, ranks=4, replicas_equal=False),
        entry("thinwire/sign1", 2.5, optimizer="sgd"),
        entry(PLAIN, 0.5, model="conv", accuracy_percent=98.0),
        entry("thinwire/int4", 0.6, model="conv", accuracy_percent=97.0),
    ]
    text = gaps.format_tables(gaps.summarise(runs))
    lines = text.splitlines()
    assert lines[2].split()[1:] == ["char,", "2", "ranks", "char,", "4", "ranks", "conv,", "2", "ranks"]
    assert lines[4].split() == ["DDP,", "plain", "loss", "2.0000", "loss", "2.0000", "loss", "0.5000"]
    assert lines[5].split() == ["thinwire", "int4", "+0.50", "+1.00", "+20.00"]
    assert lines[6].split() == ["thinwire", "sign1", "-", "replicas", "DIFFER", "-"]
    assert "1.50 / 2.00" in text
    assert "98.0" in text
    assert "no plain run" in text


def test_cpus_are_counted_over_the_runs() -> None:
    runs = [entry(PLAIN, 1.0), entry(PLAIN, 1.0, seed=1, cpu="another"), entry(PLAIN, 1.0, seed=2)]
    assert gaps.format_cpus(runs) == "2 runs on one, 1 runs on another"
    assert gaps.format_cpus([]) == ""


def test_a_file_is_taken_up_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    first = Results(path, {"benchmark": "ddp"}, 10)
    first.add(Run(0, 2, "char", "adamw", PLAIN), outcome(2.0, sent=4000.0), 1.0)
    first.add(Run(0, 2, "char", "adamw", "thinwire/int4"), outcome(2.1), 1.0)
    again = Results(path, {"benchmark": "ddp"}, 10)
    matrix = Matrix(models=["char"], optimizers=["adamw"], methods=["thinwire/int4"], seeds=1)
    assert [run for run in matrix.runs() if run not in again] == [Run(0, 4, "char", "adamw", "thinwire/int4")]
    content = json.loads(path.read_text())
    assert content["methods"][1]["gap_percent"]["mean"] == pytest.approx(5)
    assert [run["bits"] for run in content["runs"]] == [32, 2]
    assert [run["bits_from_start"] for run in content["runs"]] == [64, 4]
    assert content["runs"][0]["held_out_loss"] == 3.0
    assert content["runs"][0]["cpu"] == _report.cpu_model()


def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "losses.json"
    Results(path, {}, 10).write()
    with pytest.raises(ValueError, match="has runs of 10 steps, these have 20"):
        Results(path, {}, 20)
    path.write_text('{"mode": "step times"}')
    with pytest.raises(ValueError, match="not of `bench ddp --equal-steps`"):
        Results(path, {}, 10)


def test_the_time_left_is_that_of_runs_alike() -> None:
    todo = [Run(0, 2, "char", "adamw", "x"), Run(0, 4, "conv", "adamw", "x")]
    assert losses.left_s(todo, []) is None
    done = [entry(PLAIN, 1.0, seconds=10.0), entry("y", 1.0, model="gru", seconds=40.0)]
    assert losses.left_s(todo, done) == 10 + 25
    assert losses.format_left(None) == ""
    assert losses.format_left(61) == ", 2 min left"
    assert losses.format_left(3600) == ", 1 h 0 min left"


def test_options_of_the_other_comparison_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ddp", "--equal-steps", "--codecs", "int8"]) == 1
    assert main(["bench", "ddp", "--models", "char"]) == 1
    errors = capsys.readouterr().err
    assert "--codecs goes without --equal-steps" in errors
    assert "--models goes with --equal-steps" in errors


def test_what_is_not_given_is_the_default() -> None:
    parser = argparse.ArgumentParser()
    ddp.add_arguments(parser)
    chosen = ddp.chosen_matrix(parser.parse_args(["--equal-steps", "--quick", "--seeds", "2"]))
    assert (chosen.seeds, chosen.ranks, chosen.optimizers) == (2, (2,), ("adamw",))
    assert ddp.chosen_matrix(parser.parse_args(["--equal-steps"])) == Matrix()


@pytest.mark.parametrize("name", MODELS_HERE)
def test_the_parts_of_all_ranks_are_the_global_batch(name: str) -> None:
    chosen = task(name)

    def part(rank: int, ranks: int) -> torch.Tensor:
        batch = chosen.batch(torch.Generator().manual_seed(5), rank, ranks)
        return batch[0] if isinstance(batch, tuple) else batch

    whole = part(0, 1)
    for ranks in (2, 4):
        for rank in range(ranks):
            assert torch.equal(part(rank, ranks), whole[rank::ranks])
    assert set(chosen.rates) == set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "millions"), [("char", 0.63), ("gru", 0.36), ("conv", 0.51), ("demo", 3.23)]
)
def test_models_are_as_large_as_the_documentation_says(name: str, millions: float) -> None:
    if name not in ("demo", *MODELS_HERE):
        pytest.skip("needs scikit-learn")
    parameters = sum(parameter.numel() for parameter in task(name).model().parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.005)


def test_fine_tuning_begins_with_what_was_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from thinwire.bench import _finetune_model

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(_finetune_model, "_STEPS", 2)
    _finetune_model._weights.cache_clear()
    model = _finetune_model.trained_model()
    (path,) = (tmp_path / "thinwire").iterdir()
    kept = torch.load(path, weights_only=True)
    _finetune_model._weights.cache_clear()
    again = _finetune_model.trained_model()
    for name, value in model.state_dict().items():
        assert torch.equal(value, kept[name])
        assert torch.equal(value, again.state_dict()[name])
    _finetune_model._weights.cache_clear()


def test_a_tiny_run_is_written_drawn_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    figures, picture = tmp_path / "losses.json", tmp_path / "losses.png"
    asked = ["bench", "ddp", "--equal-steps", "--models", "gru", "--optimizers", "sgd", "--seeds", "1"]
    asked += ["--steps", "6", "--json", str(figures), "--plot", str(picture), "--ranks"]
    methods = ["--methods", "thinwire/sign1;warmup=2;basis=2", "torch/powersgd1:start=2"]
    assert main([*asked, "2", *methods]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    facts = json.loads(figures.read_text())
    assert [run["method"] for run in facts["runs"]] == [PLAIN, *methods[1:]]
    plain, sign1, powersgd = facts["runs"]
    assert plain["bits"] == pytest.approx(32, rel=0.01)
    assert 1.0 < sign1["bits"] < 2.5
    assert sign1["bits_from_start"] < 4
    assert powersgd["bits"] < 2.5
    assert all(run["replicas_equal"] and run["parameters"] == 362_724 for run in facts["runs"])
    assert "[3/3]" in capsys.readouterr().err
    assert main([*asked, "2", "4", "--methods", methods[1]]) == 0
    printed = capsys.readouterr()
    assert "[1/1] thinwire sign1, warmup=2, basis=2, gru, sgd, 4 ranks, seed 0" in printed.err
    assert "gru, 4 ranks" in printed.out
    facts = json.loads(figures.read_text())
    assert [run["ranks"] for run in facts["runs"]] == [2, 2, 2, 4]
    assert facts["runs"][3]["bits"] == pytest.approx(sign1["bits"], rel=0.5)


@pytest.mark.parametrize("kind", ["loopback", "pacing"])
def test_ranks_that_share_a_network_talk_over_sockets(kind: str) -> None:
    """Shared memory would be neither paced nor counted."""
    job = Job(number=0, method="thinwire/int8", link_kind=kind, rate_bits=0)
    assert _ddp_methods._links("thinwire", job) == {"network": {"links": "tcp"}}


def test_steps_are_timed_once_for_each_rate(tmp_path: Path) -> None:
    results = Results(tmp_path / "losses.json", {}, 10)
    case = Case("char", 2, PLAIN)
    assert case in Matrix(models=["char"], ranks=[2], methods=["thinwire/int4"]).cases()
    timed = {**case._asdict(), "rate_bits": 10**8, "kind": "pacing", "step_s": {"median": 0.25}}
    results.add_step_time(timed)
    again = Results(tmp_path / "losses.json", {}, 10)
    assert again.has_step_time(case, 10**8)
    assert not again.has_step_time(case, 10**9)
    assert not again.has_step_time(case._replace(ranks=4), 10**8)
    assert _ddp_clock.format_table(again.step_times).splitlines()[2].split() == ["DDP,", "plain", "250", "ms"]


def test_losses_are_drawn_against_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from thinwire.bench import _clock_chart

    runs = [entry(method, 2.0, curve=[3.0, 2.5, 2.0]) for method in (PLAIN, "thinwire/sign1")]
    times = [
        {"model": "char", "ranks": ranks, "method": PLAIN, "rate_bits": 10**8, "step_s": {"median": 0.25}}
        for ranks in (2, 4)
    ]
    picture = tmp_path / "clock.png"
    _clock_chart.draw(runs, times, 10, "adamw", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_picture_against_time_needs_a_rate(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ddp", "--equal-steps", "--plot-clock", "x.png"]) == 1
    assert main(["bench", "ddp", "--wall-clock", "100mbit"]) == 1
    errors = capsys.readouterr().err
    assert "--plot-clock needs --wall-clock" in errors
    assert "--wall-clock goes with --equal-steps" in errors
