"""`network=`: the hook's links with a secret, with TLS, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ddp.ranks import Ranks
from ddp.training import assert_replicas, attached, train
from thinwire import InvalidArgument, PeerLost, Timeout

SECRET = {"links": "tcp", "secret": "between us"}
TLS = {**SECRET, "tls": True}


def _train(rank: int, network: dict[str, Any]) -> list[dict[str, Any]]:
    """Train; return what became of the links."""
    ddp, state = attached("int8", network=network)
    train(ddp, rank, 3)
    assert_replicas(ddp)
    links = state._wire.communicator.stats()["links"]
    report = state.report()
    for link in links:
        assert report.as_dict()["ways"][str(link["peer"])] == link["kind"]
        assert f"way to rank {link['peer']}" in str(report)
    state.close()
    return links


@pytest.mark.parametrize("network", [SECRET, {**TLS, "sockets": 2}], ids=["secret", "tls"])
def test_training_over_authenticated_links(ranks: Callable[[int], Ranks], network: dict[str, Any]) -> None:
    for (link,) in ranks(2)(_train, network):
        assert link["kind"] == "tcp"
        assert f"{network.get('sockets', 1)} socket" in link["detail"]
        assert link["sent_bytes"] > 10_000


@pytest.mark.parametrize("network", [{}, {"cuda_ipc": False}], ids=str)
def test_ranks_of_one_host_share_memory(ranks: Callable[[int], Ranks], network: dict[str, Any]) -> None:
    for (link,) in ranks(2)(_train, network):
        assert link["kind"] == "shm"
        assert (link["cuda_ipc"], link["cuda_ipc_bytes"]) == ("", 0)  # nothing of it lies on a GPU


def _disagree(rank: int, networks: list[dict[str, Any]]) -> str:
    with pytest.raises((InvalidArgument, PeerLost, Timeout)) as raised:
        attached("int8", network=networks[rank], timeout=2.0)
    return f"{type(raised.value).__name__}: {raised.value}"


def test_who_has_no_secret_is_told(ranks: Callable[[int], Ranks]) -> None:
    for text in ranks(2)(_disagree, [SECRET, {"links": "tcp"}]):
        assert text.startswith("InvalidArgument")
        assert "secret is True on rank 0, False on rank 1" in text
        assert SECRET["secret"] not in text


def test_who_has_another_secret_is_no_member(ranks: Callable[[int], Ranks]) -> None:
    for text in ranks(2)(_disagree, [SECRET, {**SECRET, "secret": "another"}]):
        assert text.startswith(("PeerLost", "Timeout"))


def test_tls_on_one_rank_only(ranks: Callable[[int], Ranks]) -> None:
    for text in ranks(2)(_disagree, [TLS, SECRET]):
        assert text.startswith("InvalidArgument")
        assert "tls is True on rank 0, False on rank 1" in text


def _refused(rank: int) -> None:
    """What cannot be is refused before anything is sent."""
    with pytest.raises(
        InvalidArgument, match=r"network has 'secrets', 'timeout'; it takes links, secret, tls, "
    ):
        attached("int8", network={"secrets": "x", "sockets": 2, "timeout": 3})
    with pytest.raises(InvalidArgument, match="leave it out with transport='c10d'"):
        attached("int8", transport="c10d", network=SECRET)
    with pytest.raises(InvalidArgument, match="sockets is 65"):
        attached("int8", network={"sockets": 65})
    with pytest.raises(InvalidArgument, match="secret"):
        attached("int8", network={"links": "tcp", "tls": True})


def test_what_is_refused(ranks: Callable[[int], Ranks]) -> None:
    ranks(2)(_refused)
    ranks(2)(_train, SECRET)
