"""Stores, and places for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store_data import KEY
from thinwire.store.store import Store


@pytest.fixture(params=["plain", "encrypted"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A new store in the folder "store"."""
    with Store(tmp_path / "store", key=KEY if request.param == "encrypted" else None, threads=2) as made:
        yield made


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """Options that lead to a server with S3's semantics, with the bucket "bucket"."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'thinwire[test]'")
    server_module = pytest.importorskip(
        "moto.server", reason="moto is not installed: pip install 'thinwire[test]'"
    )
    boto3 = pytest.importorskip("boto3")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    key = {"key": "key", "secret": "secret"}
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id=key["key"],
        aws_secret_access_key=key["secret"],
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="bucket")
    client.close()
    yield {"endpoint_url": f"http://{host}:{port}", **key}
    server.stop()
