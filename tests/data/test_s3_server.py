"""Records come over the network from a server that speaks S3, a process of its own, as from local files."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.data.sources.test_tar_shards import pairs, shard
from x2kit.data.sources.config import JsonLines, TarShards
from x2kit.errors import DataError, Reason

START = 60.0
"""Seconds that the server may take to answer; it imports much."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a server with an empty store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the server does not answer, exit status {process.poll()}")


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An own bucket, reached as users reach a store of their own: by the environment."""
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    store = fsspec.filesystem("s3", skip_instance_cache=True)
    name = tmp_path.name.replace("_", "-").lower()
    store.mkdir(name)
    type(store).clear_instance_cache()
    yield f"s3://{name}"
    type(store).clear_instance_cache()


def put(location: str, content: bytes) -> None:
    with fsspec.open(location, "wb") as file:
        file.write(content)


def test_json_lines_and_their_images(bucket: str) -> None:
    for part in range(2):
        lines = [json.dumps({"image": f"{part}.png", "caption": f"part {part}, {n}"}) for n in range(5)]
        put(f"{bucket}/data/part-{part}.jsonl", "\n".join(lines).encode())
    source = JsonLines(files=(f"{bucket}/data/part-*.jsonl",)).open()
    assert len(source) == 10
    assert source[7] == {
        "id": "part-1.jsonl:3",
        "image": f"{bucket}/data/1.png",
        "caption": "part 1, 2",
    }


def test_tar_shards(bucket: str, tmp_path: Path) -> None:
    for number in range(2):
        local = shard(tmp_path / f"s-{number}.tar", *pairs(4, first=number * 4))
        put(f"{bucket}/s-{number}.tar", local.read_bytes())
    here = TarShards(files=(str(tmp_path / "s-*.tar"),)).open()
    there = TarShards(files=(f"{bucket}/s-*.tar",)).open()
    assert [there[index] for index in range(8)] == [here[index] for index in range(8)]
    assert there.place(5).file == f"{bucket}/s-1.tar"


def test_what_is_not_there_is_a_missing_file(bucket: str) -> None:
    put(f"{bucket}/a.jsonl", b'{"caption": "one"}\n')
    source = JsonLines(files=(f"{bucket}/a.jsonl",)).open()
    fsspec.filesystem("s3").rm(f"{bucket}/a.jsonl")
    with pytest.raises(DataError, match=r"a\.jsonl") as found:
        source[0]
    assert found.value.reason is Reason.FILE_MISSING
