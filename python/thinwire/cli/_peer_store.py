"""A small store over TCP by which two doctors find each other: set, get and wait, one line of JSON a request.

Each request is a connection of its own: `{"do": "set", "key": "k", "value": "v"}`, answered by
`{"value": ...}` or `{"error": "..."}`. The first request is a greeting with the version of both sides.
"""

from __future__ import annotations

import errno
import json
import socket
import socketserver
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from thinwire import _core
from thinwire._version import __version__
from thinwire.errors import InvalidArgument, Timeout, TransportError

DEFAULT_PORT = 29555
_LINE_LIMIT = 1 << 16
_CONNECT_LIMIT_S = 10.0


def greeting() -> dict[str, Any]:
    """What both sides must have in common."""
    return {"thinwire": __version__, "wire version": _core.WIRE_VERSION}


class Shelf:
    """The values, in the process that listens. It is a store itself, for that process."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._changed = threading.Condition()

    def set(self, key: str, value: str) -> None:
        """Keep a value."""
        with self._changed:
            self._values[key] = value
            self._changed.notify_all()

    def get(self, key: str) -> str:
        """Return a value that is there."""
        with self._changed:
            return self._values[key]

    def wait(self, keys: Sequence[str], limit: timedelta) -> None:
        """Wait until all keys are there. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._values.keys() >= set(keys), limit.total_seconds()):
                raise TimeoutError(f"timeout: no value for {', '.join(keys)}")


class Listener:
    """Serves a shelf on a port of all addresses, in a thread, until it is closed."""

    def __init__(self, port: int) -> None:
        self.shelf = Shelf()
        self.refusal = ""
        """Why the one who called is not taken, if so."""
        self._came = threading.Event()
        owner = self

        class Request(socketserver.StreamRequestHandler):
            timeout = _CONNECT_LIMIT_S

            def handle(self) -> None:
                line = self.rfile.readline(_LINE_LIMIT)
                try:
                    answer = owner._answer(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, TimeoutError) as error:
                    answer = {"error": str(error)}
                self.wfile.write(json.dumps(answer).encode() + b"\n")

        try:
            self._server = _Server(("", port), Request)
        except OSError as error:
            raise TransportError(
                f"cannot listen on port {port}: {error.strerror}; choose another one with --port"
            ) from error
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def wait_for_peer(self, limit_s: float | None = None) -> None:
        """Wait until the other doctor has called. Raises InvalidArgument if it is of another version."""
        if not self._came.wait(limit_s):
            raise Timeout(f"nobody called within {limit_s:g} s")
        if self.refusal:
            raise InvalidArgument(self.refusal)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "greet":
            self.refusal = difference(greeting(), request["greeting"])
            self._came.set()
            return {"value": greeting()}
        if request["do"] == "set":
            self.shelf.set(request["key"], request["value"])
            return {"value": None}
        if request["do"] == "wait":
            self.shelf.wait(request["keys"], timedelta(seconds=request["seconds"]))
            return {"value": None}
        return {"value": self.shelf.get(request["key"])}


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


class RemoteShelf:
    """The store of a listening doctor, seen from the other machine. Every error says what to do."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        theirs = self._ask({"do": "greet", "greeting": greeting()}, _CONNECT_LIMIT_S)
        if unlike := difference(greeting(), theirs):
            raise InvalidArgument(unlike)

    def set(self, key: str, value: str) -> None:
        """Keep a value over there."""
        self._ask({"do": "set", "key": key, "value": value}, _CONNECT_LIMIT_S)

    def get(self, key: str) -> Any:
        """Return a value that is there."""
        return self._ask({"do": "get", "key": key}, _CONNECT_LIMIT_S)

    def wait(self, keys: Sequence[str], limit: timedelta) -> None:
        """Wait until all keys are there."""
        seconds = limit.total_seconds()
        self._ask({"do": "wait", "keys": list(keys), "seconds": seconds}, seconds + _CONNECT_LIMIT_S)

    def _ask(self, request: dict[str, Any], limit_s: float) -> Any:
        try:
            with socket.create_connection((self._host, self._port), _CONNECT_LIMIT_S) as connection:
                connection.settimeout(limit_s)
                connection.sendall(json.dumps(request).encode() + b"\n")
                with connection.makefile("rb") as stream:
                    line = stream.readline(_LINE_LIMIT)
        except OSError as error:
            raise TransportError(_advice(error, self._host, self._port)) from error
        try:
            answer = json.loads(line)
            if "error" in answer:
                raise TransportError(f"the other doctor says: {answer['error']}")
            return answer["value"]
        except (ValueError, KeyError, TypeError) as error:
            raise TransportError(
                f"what listens on {self._host}:{self._port} is no `thinwire doctor --listen`; check the port"
            ) from error


def difference(mine: Any, theirs: Any) -> str:
    """Say in what two greetings differ, or return nothing."""
    for name, value in mine.items():
        other = theirs.get(name) if isinstance(theirs, dict) else None
        if other != value:
            return f"{name} is {value} here, {other} on the other machine; install the same version on both"
    return ""


def _advice(error: OSError, host: str, port: int) -> str:
    """What went wrong with a connection, and what to do about it."""
    where = f"{host}:{port}"
    if isinstance(error, socket.gaierror):
        return (
            f"{host} has no address: check the spelling, or give the IP address (`thinwire doctor` shows it)"
        )
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused: start `thinwire doctor --listen --port {port}` there first"
    if isinstance(error, TimeoutError):
        return (
            f"no answer from {where} within {_CONNECT_LIMIT_S:g} s: check the address, and let the firewall "
            f"there pass TCP port {port} (sudo ufw allow {port}/tcp)"
        )
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"no way to {where}: check the address, and that both machines are on one network or VPN"
    return f"the connection to {where} failed: {error}; is the other doctor still running?"
