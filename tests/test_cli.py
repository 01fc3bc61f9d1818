"""The command's shell: help, exit statuses, and what is imported when."""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from thinwire import errors
from thinwire.cli import bench, main

ROOT = Path(__file__).parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thinwire", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_names_every_command_and_shows_examples() -> None:
    done = run("--help")
    assert done.returncode == 0
    for name in main.COMMANDS:
        assert f"\n    {name}" in done.stdout
    assert "examples:" in done.stdout


@pytest.mark.parametrize("command", main.COMMANDS)
def test_help_of_each_command_shows_examples(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert f"thinwire {command}" in done.stdout


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys\n"
        "from thinwire.cli.main import make_parser\n"
        "make_parser().format_help()\n"
        "print({'torch', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_version() -> None:
    from thinwire import __version__

    assert run("--version").stdout == f"thinwire {__version__}\n"


def test_wrong_usage_is_status_2() -> None:
    for arguments in ([], ["nosuch"], ["doctor", "--nosuch"], ["bench"], ["bench", "nosuch"]):
        done = run(*arguments)
        assert done.returncode == 2, arguments
        assert "usage: thinwire" in done.stderr


class Failing:
    """A subcommand that ends with an exception."""

    HELP = "fails"

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Takes none."""

    def run(self, args: argparse.Namespace) -> int:
        raise self.error


def status_of(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> int:
    parser = argparse.ArgumentParser()
    parser.set_defaults(command=Failing(error))
    monkeypatch.setattr(main, "make_parser", lambda: parser)
    return main.main([])


def test_our_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(errors.InvalidArgument("no codec 'int5'"), monkeypatch) == 1
    assert capsys.readouterr().err == "thinwire: no codec 'int5'\n"


def test_control_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    assert status_of(KeyboardInterrupt(), monkeypatch) == 130


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        status_of(ZeroDivisionError(), monkeypatch)


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m thinwire doctor --json | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_every_benchmark_is_listed() -> None:
    assert bench.benchmarks()
    done = run("bench", "--help")
    for name in bench.benchmarks():
        assert f"\n    {name}" in done.stdout


@pytest.mark.skipif(not (ROOT / "bench").exists(), reason="needs the source tree")
@pytest.mark.parametrize("name", bench.benchmarks())
def test_a_benchmark_is_one_with_its_file(name: str) -> None:
    script = [sys.executable, str(ROOT / "bench" / f"{name}.py"), "--help"]
    by_file = subprocess.run(script, capture_output=True, text=True, timeout=60, check=True).stdout
    by_command = run("bench", name, "--help").stdout
    summary = import_module(f"thinwire.bench.{name}").HELP.splitlines()[0]
    assert by_file.partition(summary)[2] == by_command.partition(summary)[2] != ""
