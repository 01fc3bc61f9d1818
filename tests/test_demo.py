"""The demo: its presentation on made-up results, and short real runs of every kind."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from thinwire.bench import _report
from thinwire.bench._ddp_plan import Job, label
from thinwire.cli import _demo_results, demo
from thinwire.cli._demo_results import Result
from thinwire.cli._shaped import Link

LINK = Link("namespaces", 10**8)


def outcome(step_s: float, loss: float, replicas_equal: bool = True) -> dict[str, Any]:
    """What a run with even steps gives."""
    elapsed = [step_s * step for step in range(1, 11)]
    return {
        "step_s": [step_s] * 10,
        "elapsed_s": elapsed,
        "losses": [4 - 0.1 * step for step in range(10)],
        "held_out_s": [0.0, elapsed[-1]],
        "held_out_losses": [loss + 1, loss],
        "wire_bytes_per_step": 2_500_000.0,
        "replicas_equal": replicas_equal,
        "hook": None,
    }


RESULTS = [
    Result("none", outcome(0.1, 0.0, replicas_equal=False) | {"held_out_s": [], "held_out_losses": []}),
    Result("torch/plain", outcome(1.2, 2.9)),
    Result("thinwire/int8", outcome(0.3, 2.5)),
    Result("thinwire/sign1", outcome(0.15, 2.4, replicas_equal=False)),
    Result("thinwire/odd", None, "rank 1: InvalidArgument: no such codec"),
]


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    return parser.parse_args(words)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "thinwire", "demo", *words]


def test_plain_ddp_is_always_first_and_nothing_runs_twice() -> None:
    assert demo.methods(parse("--baselines", "fp16", "plain", "--codecs", "int8", "int8")) == [
        "torch/plain",
        "torch/fp16",
        "thinwire/int8",
    ]
    assert demo.methods(parse("--quick"))[:2] == ["torch/plain", "thinwire/int8"]
    assert len(demo.methods(parse())) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--codecs", "int88"), "unknown codec 'int88'"),
        (("--codecs", "int8:blok=3"), "blok"),
        (("--codecs", "sign1;bases=0"), "there is no option 'bases'"),
        (("--baselines", "foo"), "unknown method 'torch/foo'"),
        (("--budget", "0"), "--budget is 0; it must be above 0"),
        (("--bucket", "-1"), "--bucket is -1; it must be above 0"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_trained(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_make_runner", lambda args: pytest.fail("it began"))
    assert demo.run(parse(*words)) == 2
    assert message in capsys.readouterr().err


def test_the_budget_is_the_asked_one_or_the_form_s() -> None:
    assert [demo.budget_s(parse(*words)) for words in ((), ("--quick",), ("--quick", "--budget", "7"))] == [
        25.0,
        3.0,
        7.0,
    ]


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("none", "computation alone"),
        ("torch/plain", "DDP, plain"),
        ("torch/fp16", "DDP, fp16 hook"),
        ("torch/powersgd4", "DDP, PowerSGD rank 4"),
        ("torch/powersgd1:start=10", "DDP, PowerSGD rank 1 from step 10"),
        ("thinwire/topk:density=0.01", "thinwire topk:density=0.01"),
    ],
)
def test_methods_have_names_for_people(method: str, name: str) -> None:
    assert label(method) == name


def test_a_collective_may_take_longer_on_a_slower_link() -> None:
    assert Job(0, "none", "loopback", 0).timeout_s == 60
    assert Job(0, "none", "namespaces", 10**6).timeout_s > 60 + 10 * 13 * 8


def test_the_table_shows_speed_up_bytes_and_what_went_wrong() -> None:
    text = _demo_results.format_table(LINK, RESULTS, 25.0)
    lines = {line.split("  ")[0]: line for line in text.splitlines()}
    assert re.search(r"1200 ms +1\.0 x +2\.50 MB +10 +2\.900 +equal", lines["DDP, plain"])
    assert re.search(r"300 ms +4\.0 x .* 2\.500 +equal", lines["thinwire int8"])
    assert lines["thinwire sign1"].endswith("DIFFER")
    assert lines["computation alone"].split()[-4:] == ["-"] * 4
    assert "failed" in lines["thinwire odd"]
    assert "thinwire odd failed: rank 1: InvalidArgument: no such codec" in text
    assert "shaped to 100 Mbit/s" in text


def test_results_become_json(tmp_path: Path) -> None:
    facts = _demo_results.as_dict(LINK, 2, RESULTS, 25.0)
    facts["not a number"] = float("nan")
    _report.write_json(tmp_path / "demo.json", facts)
    read = json.loads((tmp_path / "demo.json").read_text())
    assert read["not a number"] is None
    assert read["methods"][1]["step_ms"] == pytest.approx(1200)
    assert read["methods"][4]["error"].endswith("no such codec")
    assert read["machine"]["packages"]["thinwire"]
    assert [path.name for path in tmp_path.iterdir()] == ["demo.json"]


def test_the_picture_is_drawn_even_of_failures_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from thinwire.cli import _chart

    for name, results in (("all", RESULTS), ("none", RESULTS[-1:])):
        path = tmp_path / f"{name}.png"
        _chart.draw(results, LINK, path)
        assert path.read_bytes().startswith(b"\x89PNG")


def test_labels_are_moved_apart_and_keep_their_order() -> None:
    pytest.importorskip("matplotlib")
    from thinwire.cli import _chart

    placed = _chart.spread_labels([2.0, 2.01, 5.0, 2.005], 0.1)
    assert placed[2] == 5.0
    near = [placed[0], placed[3], placed[1]]
    assert near == sorted(near)
    assert min(near[1] - near[0], near[2] - near[1]) > 0.099


def test_a_spread_is_median_and_quartiles() -> None:
    assert _report.spread([3.0]) == _report.Spread(3.0, 3.0, 3.0, 1)
    assert _report.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == _report.Spread(3.0, 2.0, 4.0, 5)
    with pytest.raises(ValueError, match="no samples"):
        _report.spread([])


def test_columns_are_aligned() -> None:
    assert _report.table(["a", "bb"], [["long", 1], ["x", 22]]).splitlines() == [
        "a     bb",
        "----  --",
        "long   1",
        "x     22",
    ]


def test_a_wrong_rate_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(command("--rate", "fast"), capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "thinwire demo: 'fast' is not a rate of at least 1 kbit/s; write 100mbit or 1gbit\n"


def test_a_short_run_and_a_method_that_fails(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = (
        "--unshaped",
        "--budget",
        "0.5",
        "--baselines",
        "--codecs",
        "int8;deadline=0.001",
        "int8",
        "--json",
        "demo.json",
    )
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 1, "one method failed"
    assert "thinwire int8, deadline=0.001 failed: rank" in done.stdout
    assert "Traceback" not in done.stderr
    methods = {each["method"]: each for each in json.loads((tmp_path / "demo.json").read_text())["methods"]}
    assert "Timeout" in methods["thinwire/int8;deadline=0.001"]["error"]
    for name in ("torch/plain", "thinwire/int8"):
        assert methods[name]["error"] is None
        assert methods[name]["replicas_equal"]
        assert methods[name]["elapsed_s"][-1] > 0.4
        assert methods[name]["held_out_s"] == [0.0, methods[name]["elapsed_s"][-1]]
        assert methods[name]["held_out_losses"][1] < methods[name]["held_out_losses"][0]
    assert (
        0
        < methods["thinwire/int8"]["wire_bytes_per_step"]
        < 0.3 * methods["torch/plain"]["wire_bytes_per_step"]
    )
    assert "DDP, plain: warm-up" not in done.stderr, "no terminal, no rewritten line"


def test_a_short_run_over_shaped_nics(namespaces_allowed: None, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    words = ("--rate", "1gbit", "--budget", "0.5", "--baselines", "--codecs", "--json", "demo.json")
    done = subprocess.run(command(*words), capture_output=True, text=True, timeout=200, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "demo.json").read_text())
    assert facts["link"]["kind"] == "namespaces"
    plain = facts["methods"][1]
    gradient = 3_227_236 * 4
    assert gradient < plain["wire_bytes_per_step"] < 1.1 * gradient, "each rank sends about the gradient once"
    assert plain["step_ms"] > 1e3 * gradient * 8 / 1e9


def test_under_torchrun_the_ranks_are_the_launcher_s(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    words = ["--budget", "0.3", "--baselines", "--codecs", "--json", "demo.json"]
    done = subprocess.run(
        [*launcher, "-m", "thinwire", "demo", *words],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=tmp_path,
        env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("computation alone") == 1, "rank 0 alone prints"
    facts = json.loads((tmp_path / "demo.json").read_text())
    assert facts["link"]["kind"] == "network"
    assert facts["methods"][1]["replicas_equal"]
    assert facts["methods"][1]["wire_bytes_per_step"] > 3_227_236 * 4


def children_of(pid: int) -> list[int]:
    """All descendants of a process."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *children_of(int(child))]
    return found


def hear_ctrl_c() -> None:
    """Undo what a shell does to commands it starts in the background, this test's run perhaps among them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with subprocess.Popen(
        command("--budget", "60", "--codecs"),
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        preexec_fn=hear_ctrl_c,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("DDP, plain"):
                break
        started = children_of(running.pid)
        assert len(started) >= 2
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < deadline, "a rank is left"
        time.sleep(0.05)
