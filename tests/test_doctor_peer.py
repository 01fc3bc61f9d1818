"""`thinwire doctor --listen` and `--peer`: two processes, the prediction, and what goes wrong."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from thinwire.cli import _doctor_peer, _peer, _peer_store, _prediction
from thinwire.cli._prediction import Prediction, choose, parse_count, predict
from thinwire.cli.main import main
from thinwire.errors import InvalidArgument, Timeout, TransportError

DOCTOR = [sys.executable, "-m", "thinwire", "doctor"]


def start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*DOCTOR, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def test_two_doctors_measure_the_link_between_them() -> None:
    listening = start("--listen", "--port", "0", "--links", "tcp")
    assert listening.stderr is not None
    port = listening.stderr.readline().strip().rpartition(":")[2]
    calling = start(
        *("--peer", f"127.0.0.1:{port}", "--links", "tcp"),
        *("--params", "124M", "--backward-ms", "300", "--json"),
    )
    report, complaints = calling.communicate(timeout=60)
    table, _ = listening.communicate(timeout=60)
    assert (calling.returncode, listening.returncode) == (0, 0), complaints
    found = json.loads(report)
    (link,) = found["links"]
    assert (found["world_size"], link["kind"]) == (2, "tcp")
    assert link["retransmits"] >= 0
    assert link["rtt_seconds"] > 0
    assert link["idle_rtt_seconds"] > 0
    assert found["bytes_per_second"] > 1e6
    assert 0 < found["latency_seconds"] < 1
    assert [each["codec"] for each in found["predictions"]] == list(_prediction.CODECS)
    assert found["take"] in {"none", *_prediction.CODECS}
    for text in ("rank 0 of 2", "each way, both ways at once", "TCP retransmits", "--params 124M"):
        assert text in table


def test_communication_is_what_was_measured_scaled_to_the_model() -> None:
    raw, int8 = predict({"raw": 1e-8, "int8": 3e-9}, 0.002, 10**8, None)
    assert raw.communication == pytest.approx(4.002)
    assert int8.communication == pytest.approx(1.202)
    assert raw.step is raw.wait is None


def test_backward_hides_what_is_sent_meanwhile() -> None:
    (raw,) = predict({"raw": 1e-8}, 0.0, 10**6, 1.0)
    assert raw.wait is not None
    assert raw.step == 1.0 + raw.wait
    assert 0 < raw.wait < raw.communication
    (slow,) = predict({"raw": 1e-6}, 0.0, 10**6, 1.0)
    assert slow.wait == pytest.approx(slow.communication - 1.0, rel=0.3)


@pytest.mark.parametrize(
    ("seconds", "taken"),
    [
        ({"raw": 1.0, "int8": 1.1, "int4": 1.2, "sign1": 1.0, "topk": 0.9}, "none"),
        ({"raw": 1.0, "int8": 0.97}, "none"),
        ({"raw": 1.0, "int8": 0.3, "int4": 0.29, "sign1": 0.25, "topk": 0.25}, "int8"),
        ({"raw": 1.0, "int8": 0.3, "int4": 0.15, "sign1": 0.12, "topk": 0.12}, "int4"),
        ({"raw": 8.0, "int8": 2.0, "int4": 1.0, "sign1": 0.3, "topk": 0.25}, "sign1"),
    ],
)
def test_a_codec_must_be_worth_what_it_loses(seconds: dict[str, float], taken: str) -> None:
    predictions = [Prediction(codec, time) for codec, time in seconds.items()]
    assert _peer.codec_to_take(predictions) == taken
    verdict = _peer._verdict(predictions)
    assert verdict.startswith(f"take: {taken}.")
    assert ("times shorter" in verdict) == (choose(predictions).codec != "raw")


@pytest.mark.parametrize(("text", "count"), [("124M", 124_000_000), ("1.5b", 1_500_000_000), ("7", 7)])
def test_counts(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("option", ["--params=0", "--params=many", "--backward-ms=-1", "--port=x"])
def test_options_that_mean_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["doctor", "--listen", option])
    assert "is not a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("node1", ("node1", 29555)),
        ("node1:80", ("node1", 80)),
        ("fe80::1", ("fe80::1", 29555)),
        ("[fe80::1]:80", ("fe80::1", 80)),
        ("[fe80::1]", ("fe80::1", 29555)),
    ],
)
def test_hosts(text: str, found: tuple[str, int]) -> None:
    assert _doctor_peer.split_host(text, 29555) == found


@pytest.mark.parametrize("text", [":80", "node1:", "node1:x", "node1:70000"])
def test_no_hosts(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is not HOST"):
        _doctor_peer.split_host(text, 29555)


def complaint(capsys: pytest.CaptureFixture[str], host: str) -> str:
    assert main(["doctor", "--peer", host]) == 1
    return capsys.readouterr().err


def test_each_failure_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert f"thinwire doctor --listen --port {port}" in complaint(capsys, f"127.0.0.1:{port}")
    assert "check the spelling" in complaint(capsys, "nosuchhost.invalid")

    def fail(error: OSError) -> Any:
        def connect(*args: object) -> None:
            raise error

        return connect

    monkeypatch.setattr(_peer_store.socket, "create_connection", fail(TimeoutError("timed out")))
    assert "firewall" in complaint(capsys, "192.0.2.1")
    monkeypatch.setattr(_peer_store.socket, "create_connection", fail(OSError(113, "No route to host")))
    assert "one network or VPN" in complaint(capsys, "192.0.2.1")


def test_without_a_host_and_without_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert main(["doctor", "--peer"]) == 1
    assert "--peer HOST" in capsys.readouterr().err


@pytest.fixture
def listener() -> Iterator[_peer_store.Listener]:
    with _peer_store.Listener(0) as found:
        yield found


def test_the_store_keeps_and_waits(listener: _peer_store.Listener) -> None:
    remote = _peer_store.RemoteShelf("127.0.0.1", listener.port)
    listener.wait_for_peer(5.0)
    remote.set("one", "1")
    assert listener.shelf.get("one") == remote.get("one") == "1"
    later = threading.Timer(0.05, listener.shelf.set, ("two", "2"))
    later.start()
    remote.wait(["one", "two"], timedelta(seconds=5))
    later.join()
    with pytest.raises(TransportError, match="timeout: no value for three"):
        remote.wait(["three"], timedelta(seconds=0.01))


def test_other_versions_are_refused_on_both_sides(
    listener: _peer_store.Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = {**_peer_store.greeting(), "thinwire": "9.9.9"}
    assert "install the same version" in _peer_store.difference(_peer_store.greeting(), theirs)
    listener._answer({"do": "greet", "greeting": theirs})
    with pytest.raises(InvalidArgument, match=r"thinwire is .* here, 9\.9\.9 on the other machine"):
        listener.wait_for_peer(1.0)
    monkeypatch.setattr(_peer_store, "difference", lambda mine, other: "unlike")
    with pytest.raises(InvalidArgument, match="unlike"):
        _peer_store.RemoteShelf("127.0.0.1", listener.port)


def test_a_stranger_does_not_disturb_the_listener(listener: _peer_store.Listener) -> None:
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"do": "get", "key": "none"}\n', b"\n"):
        with socket.create_connection(("127.0.0.1", listener.port)) as connection:
            connection.sendall(nonsense)
            assert b"error" in connection.makefile("rb").readline()
    with pytest.raises(Timeout, match="nobody called"):
        listener.wait_for_peer(0.01)


def test_what_is_no_doctor_is_told_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet_like_ssh() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")

        stranger = threading.Thread(target=greet_like_ssh)
        stranger.start()
        with pytest.raises(TransportError, match="check the port"):
            _peer_store.RemoteShelf("127.0.0.1", server.getsockname()[1])
        stranger.join()


def test_a_port_in_use_is_told_so(listener: _peer_store.Listener) -> None:
    with pytest.raises(TransportError, match="--port"):
        _peer_store.Listener(listener.port)
