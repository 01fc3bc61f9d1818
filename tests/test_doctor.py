"""`thinwire doctor`: its report on this machine, and its judgement of machines that are different."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import thinwire as tw
from thinwire.cli import _checks, doctor

NO_DRIVER = "none found (no libcuda.so.1)"


def driver(major: int, minor: int = 0, *capabilities: tuple[int, int]) -> _checks.Driver:
    return _checks.Driver((major, minor), [_checks.Device("H100", c) for c in capabilities])


@pytest.fixture(scope="module")
def report() -> list[_checks.Check]:
    return doctor.examine()


def test_whatever_lacks_comes_with_advice(report: list[_checks.Check]) -> None:
    for check in report:
        assert check.value
        if check.status != "ok":
            assert check.advice, check


def test_the_report_covers_what_it_promises(report: list[_checks.Check]) -> None:
    names = " ".join(check.name for check in report)
    for subject in ("thinwire", "CPU", "CUDA", "driver", "PyTorch", "CuPy", "shaped links", "locked", "Gloo"):
        assert subject in names


def test_table_has_one_line_a_check(report: list[_checks.Check]) -> None:
    head, _, *lines = doctor.as_table(report).splitlines()
    assert head.startswith("Python 3.")
    assert [line.split()[0] for line in lines] == [check.status for check in report]
    for line, check in zip(lines, report, strict=True):
        assert line.endswith(f"-> {check.advice}" if check.advice else check.value)


def test_json_in_a_fresh_process_and_without_importing_torch() -> None:
    code = (
        "import sys\n"
        "from thinwire.cli.main import main\n"
        "status = main(['doctor', '--json'])\n"
        "assert 'torch' not in sys.modules\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    found = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert found["CPU targets"]["details"]["targets"] == tw.targets()
    assert found["thinwire"]["details"]["version"] == tw.__version__
    assert done.returncode == int(any(check["status"] == "wrong" for check in found.values()))


def test_a_forced_target_is_noted() -> None:
    if len(tw.targets()) == 1:
        pytest.skip("this machine has one CPU target")
    with tw.force_target("scalar"):
        check = _checks.check_cpu()
    assert check.status == "note"
    assert "THINWIRE_FORCE_TARGET" in check.advice


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        ("90-real", (9, 0), True),
        ("80-real", (8, 6), True),  # machine code runs on later minors of its major
        ("86-real", (8, 0), False),
        ("80-real", (9, 0), False),
        ("80", (9, 0), True),  # PTX runs on anything newer
        ("80-virtual", (12, 0), True),
        ("90", (8, 0), False),
        ("90a-real", (9, 0), True),
        ("75-real 80-real 120", (12, 1), True),
        ("75-real 80-real 120", (10, 0), False),
        ("", (9, 0), False),
    ],
)
def test_runs_on(archs: str, capability: tuple[int, int], runs: bool) -> None:
    assert _checks.runs_on(archs, capability) is runs


def cuda(monkeypatch: pytest.MonkeyPatch, built: bool, found: _checks.Driver | str) -> list[str]:
    info = {"cuda": built, "cuda_reason": "built with CUDA 13.0.48", "cuda_archs": "90-real"}
    monkeypatch.setattr(_checks._core, "build_info", lambda: info)
    monkeypatch.setattr(_checks, "find_driver", lambda: found)
    return [check.status for check in _checks.check_cuda()]


def test_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cuda(monkeypatch, True, driver(13, 0, (9, 0))) == ["ok", "ok"]
    assert cuda(monkeypatch, True, driver(13, 0, (8, 0))) == ["ok", "wrong"]
    assert cuda(monkeypatch, True, driver(12, 9, (9, 0))) == ["ok", "wrong"]
    assert cuda(monkeypatch, True, NO_DRIVER) == ["ok", "note"]
    assert cuda(monkeypatch, False, driver(13, 0, (8, 0))) == ["note", "ok"]
    assert cuda(monkeypatch, False, NO_DRIVER) == ["note", "note"]


@pytest.mark.parametrize(
    ("installed", "found", "status", "advice"),
    [
        ([], NO_DRIVER, "note", ""),
        ([], driver(12, 4), "note", "thinwire[cupy-cuda12x]"),
        ([], driver(14), "note", "thinwire[cupy-cuda13x]"),
        (["cupy-cuda12x"], driver(13), "ok", ""),
        (["cupy-cuda13x"], driver(12, 9), "wrong", "install cupy-cuda12x"),
        (["cupy-cuda12x", "cupy-cuda13x"], driver(13), "wrong", "install cupy-cuda13x"),
        (["cupy"], driver(12), "ok", ""),
    ],
)
def test_cupy(
    installed: list[str],
    found: _checks.Driver | str,
    status: str,
    advice: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_checks, "_installed_cupy", lambda: installed)
    monkeypatch.setattr(_checks, "find_driver", lambda: found)
    check = _checks.check_cupy()
    assert check.status == status
    assert advice in check.advice


def torch_status(version: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    package = folder / "torch"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')")
    (package / "version.py").write_text(f"__version__ = {version!r}\ncuda = '12.9'")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    return _checks.check_torch().status


def test_torch_is_judged_by_the_extra_in_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    major, minor = map(int, _checks.torch_floor().split("."))
    assert torch_status(f"{major}.{minor}.0+cu129", tmp_path, monkeypatch) == "ok"
    assert torch_status(f"{major}.{minor - 1}.1", tmp_path, monkeypatch) == "wrong"
    assert torch_status(f"{major}.{minor + 20}.0a0+git1234", tmp_path, monkeypatch) == "ok"


def test_no_torch_is_only_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checks.importlib.util, "find_spec", lambda name: None)
    check = _checks.check_torch()
    assert (check.status, check.advice) == ("note", "pip install 'thinwire[torch]' for thinwire.ddp")


def test_refused_namespaces_are_a_note_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _checks, "namespaces_refused", lambda: "refused; sudo sysctl -w user.max_net_namespaces=1000"
    )
    check = _checks.check_namespaces()
    assert check.status == "note"
    assert "sysctl" in check.value


@pytest.mark.parametrize(
    ("limit", "status"), [(resource.RLIM_INFINITY, "ok"), (1 << 30, "ok"), (8 << 20, "note")]
)
def test_memlock(limit: int, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checks.resource, "getrlimit", lambda which: (limit, limit))
    assert _checks.check_memlock().status == status


def test_gloo_interface_that_is_not_up_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "nosuch0")
    check = _checks.check_interfaces()[-1]
    assert check.status == "wrong"
    assert "nosuch0" in check.value
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    assert _checks.check_interfaces()[-1].status == "ok"


@pytest.mark.parametrize(("address", "status"), [("127.0.1.1", "note"), ("192.0.2.7", "ok")])
def test_a_host_name_that_means_loopback_is_noted(
    address: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    monkeypatch.setattr(_checks.socket, "gethostbyname", lambda name: address)
    assert _checks.check_interfaces()[-1].status == status


def test_something_wrong_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = _checks.Check("torch", "wrong", "too old", "pip install a newer one")
    monkeypatch.setattr(doctor, "examine", lambda: [bad])
    from thinwire.cli.main import main

    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.endswith("wrong  torch  too old  -> pip install a newer one\n")
