"""A download is resumed, checked, and never leaves a wrong file under its name."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.web import Site, serving
from x2kit.errors import StorageError, WeightsError
from x2kit.hub import fetching
from x2kit.hub.fetching import Expected, download, part_of

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_sleep", lambda seconds: None)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({"model.th": CONTENT})) as site:
        yield site


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.th"


def only_file(target: Path) -> None:
    assert [file.name for file in target.parent.iterdir()] == [target.name]


def test_a_file_is_downloaded_with_progress(site: Site, target: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    found = download(
        site.of("model.th"), target, Expected(len(CONTENT), SHA), lambda *told: seen.append(told)
    )
    assert found == SHA
    assert target.read_bytes() == CONTENT
    assert ("downloading model.th", len(CONTENT), len(CONTENT)) in seen
    received = [done for stage, done, _ in seen if stage.startswith("downloading")]
    assert received == sorted(received)
    only_file(target)


def test_a_cut_connection_is_resumed_where_it_ended(site: Site, target: Path) -> None:
    site.cut = [100_000, 50_000]
    assert download(site.of("model.th"), target) == SHA
    assert [asked for _, asked, _ in site.asked] == [None, "bytes=100000-", "bytes=150000-"]
    assert site.asked[1][2] is not None  # If-Range: another version would be sent whole
    only_file(target)


def test_a_server_that_answers_short_parts_is_asked_again(site: Site, target: Path) -> None:
    site.cut, site.piece = [200_000], 40_000
    assert download(site.of("model.th"), target) == SHA
    assert [asked for _, asked, _ in site.asked][-1] == "bytes=280000-"


def test_a_server_that_ignores_ranges_sends_the_whole_again(site: Site, target: Path) -> None:
    site.cut, site.ranges = [100_000], False
    assert download(site.of("model.th"), target) == SHA


def test_a_file_that_changes_between_attempts_is_never_a_mixture(site: Site, target: Path) -> None:
    part, address = part_of(target), site.of("model.th")
    target.parent.mkdir()
    part.write_bytes(OTHER[:100_000])
    part.with_name("model.th.part.json").write_text(
        json.dumps({"address": address, "size": len(OTHER), "version": '"of another"'})
    )
    assert download(address, target) == SHA


@pytest.mark.parametrize("state", [None, "{", '{"address": "https://elsewhere"}', "[]"])
def test_bytes_of_an_unknown_origin_are_discarded(site: Site, target: Path, state: str | None) -> None:
    target.parent.mkdir()
    part_of(target).write_bytes(OTHER[:100_000])
    if state is not None:
        part_of(target).with_name("model.th.part.json").write_text(state)
    assert download(site.of("model.th"), target) == SHA
    assert site.asked[0][1] is None


def test_without_a_version_nothing_is_resumed(site: Site, target: Path) -> None:
    site.cut, site.tag = [100_000], False
    assert download(site.of("model.th"), target) == SHA
    assert [asked for _, asked, _ in site.asked] == [None, None]


def test_a_complete_part_is_only_checked(site: Site, target: Path) -> None:
    site.cut = [len(CONTENT) - 1]
    download(site.of("model.th"), target)
    part = part_of(target)
    target.rename(part)
    tag = site.asked[1][2]
    part.with_name("model.th.part.json").write_text(
        json.dumps({"address": site.of("model.th"), "size": len(CONTENT), "version": tag})
    )
    assert download(site.of("model.th"), target) == SHA


def test_busy_answers_are_retried_and_the_rest_is_an_error(site: Site, target: Path) -> None:
    site.status = [503, 429, 500]
    assert download(site.of("model.th"), target) == SHA
    target.unlink()
    site.status = [503] * fetching.ATTEMPTS
    with pytest.raises(WeightsError, match=r"cannot be fetched, tried 5 times: the server answered 503"):
        download(site.of("model.th"), target)
    with pytest.raises(WeightsError, match=r"gone\.th: the server answered 404 Not Found"):
        download(site.of("gone.th"), target)
    assert not target.exists()


def test_connections_that_deliver_bytes_are_resumed_without_a_limit(site: Site, target: Path) -> None:
    site.cut = [20_000] * 12
    assert download(site.of("model.th"), target) == SHA
    assert len(site.asked) == 13


def test_a_wrong_hash_is_refused_and_deleted(site: Site, target: Path) -> None:
    with pytest.raises(WeightsError, match=rf"SHA-256 {SHA}, expected {'0' * 64}; the file was changed"):
        download(site.of("model.th"), target, Expected(sha256="0" * 64))
    assert list(target.parent.iterdir()) == []


def test_a_wrong_size_is_refused_before_the_download(site: Site, target: Path) -> None:
    seen: list[Any] = []
    with pytest.raises(WeightsError, match=r"has 300000 bytes, expected 12"):
        download(site.of("model.th"), target, Expected(size=12), lambda *told: seen.append(told))
    assert seen == []


def test_a_page_in_place_of_the_file_is_refused(site: Site, target: Path) -> None:
    site.kind = "text/html; charset=utf-8"
    with pytest.raises(WeightsError, match="answered a web page instead of the file"):
        download(site.of("model.th"), target)


def test_redirects_are_followed_to_allowed_addresses_only(site: Site, target: Path) -> None:
    site.redirects = {"a": "/b", "b": site.of("model.th"), "out": "http://example.org/x", "loop": "/loop"}
    assert download(site.of("a"), target) == SHA
    with pytest.raises(WeightsError, match=r"http://example\.org/x: refused; expected an https address"):
        download(site.of("out"), target)
    with pytest.raises(WeightsError, match="more than 10 redirects"):
        download(site.of("loop"), target)


@pytest.mark.parametrize("address", ["http://example.org/a", "ftp://a/b", "file:///etc/passwd", "https:///x"])
def test_only_https_is_fetched(address: str, target: Path) -> None:
    with pytest.raises(WeightsError, match="refused; expected an https address"):
        download(address, target)


def test_a_full_disk_is_found_before_the_download(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StorageError, match=r"293\.0 KiB needed, 1000 bytes free .*X2KIT_CACHE"):
        download(site.of("model.th"), target)


def test_a_disk_that_fills_up_keeps_the_bytes(
    site: Site, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(stage: str, done: int, total: int | None) -> None:
        if done > 50_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="disk full"):
        download(site.of("model.th"), target, progress=full)
    assert part_of(target).stat().st_size > 50_000
    assert download(site.of("model.th"), target) == SHA
    assert site.asked[-1][1] is not None


def test_ctrl_c_keeps_the_bytes_and_says_so(site: Site, target: Path) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if done > 50_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"KiB of model\.th are kept; the same command resumes"):
        download(site.of("model.th"), target, progress=stop)
    assert download(site.of("model.th"), target) == SHA
    assert site.asked[-1][1] is not None


def test_a_killed_download_is_resumed(site: Site, target: Path) -> None:
    site.slow = 0.2
    program = (
        "import sys; from pathlib import Path; from x2kit.hub.fetching import download\n"
        "download(sys.argv[1], Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", program, site.of("model.th"), str(target)])
    part = part_of(target)
    while not (part.exists() and part.stat().st_size > 0):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = part.stat().st_size
    assert 0 < held < len(CONTENT)
    site.slow = 0.0
    assert download(site.of("model.th"), target) == SHA
    assert site.asked[-1][1] == f"bytes={held}-"
    only_file(target)
