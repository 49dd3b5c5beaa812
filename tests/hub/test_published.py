"""Published checkpoints: fetched once, checked by hash ever after, or put there by hand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest

from tests.hub.conftest import Catalogue
from tests.hub.web import Site
from x2kit.errors import WeightsError
from x2kit.hub import published
from x2kit.hub.published import RECORD, checkpoint_of, fetch_published, folder_of, is_cached, partial_bytes

CONTENT = b"weights " * 10_000
SHA = hashlib.sha256(CONTENT).hexdigest()


def tar(*members: tuple[str, bytes]) -> bytes:
    """A tar archive of files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))
    return stream.getvalue()


def test_a_checkpoint_is_fetched_once(cache: Path, site: Site, publish: Catalogue) -> None:
    site.files = {"model.th": CONTENT}
    model = publish("ours", address=site.of("model.th"))
    assert not is_cached(model)
    found = fetch_published(model)
    assert (found.file, found.sha256) == (cache / "models" / "ours" / "model.th", SHA)
    assert fetch_published(model) == found
    assert len(site.asked) == 1
    assert is_cached(model)


def test_the_published_hash_is_checked(cache: Path, site: Site, publish: Catalogue) -> None:
    site.files = {"model.th": CONTENT}
    model = publish("ours", address=site.of("model.th"), sha256="0" * 64)
    with pytest.raises(WeightsError) as error:
        fetch_published(model)
    assert f"SHA-256 {SHA}, expected {'0' * 64}" in str(error.value)
    assert f"save it as {checkpoint_of(model)}" in str(error.value)
    assert not is_cached(model)


def test_the_hash_of_the_first_download_is_checked_from_then_on(
    cache: Path, site: Site, publish: Catalogue
) -> None:
    site.files = {"model.th": CONTENT}
    model = publish("ours", address=site.of("model.th"))
    file = fetch_published(model).file
    file.unlink()
    site.files = {"model.th": CONTENT + b"changed"}
    with pytest.raises(WeightsError, match=f"expected {SHA}"):
        fetch_published(model)
    file.write_bytes(CONTENT + b"changed")
    with pytest.raises(
        WeightsError, match=rf"{SHA} was recorded in .*fetched\.json when it was first fetched; delete"
    ):
        fetch_published(model)
    (folder_of(model) / RECORD).unlink()
    assert fetch_published(model).sha256 != SHA


def test_an_unchanged_file_is_not_hashed_again(
    cache: Path, site: Site, publish: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files = {"model.th": CONTENT}
    model = publish("ours", address=site.of("model.th"))
    file = fetch_published(model).file
    monkeypatch.setattr(published, "sha256_of", lambda *arguments: pytest.fail("hashed again"))
    assert fetch_published(model).sha256 == SHA
    monkeypatch.undo()
    monkeypatch.setenv("X2KIT_CACHE", str(cache))
    os.utime(file, ns=(0, 0))
    assert fetch_published(model).sha256 == SHA  # another time, so hashed


def test_two_processes_download_once(cache: Path, site: Site, publish: Catalogue) -> None:
    site.files, site.slow = {"model.th": CONTENT}, 0.05
    model = publish("ours", address=site.of("model.th"))
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(fetch_published(model).sha256)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, len(site.asked)) == ([SHA] * 3, 1)


def test_without_a_plain_address_the_person_is_told_what_to_do(cache: Path, publish: Catalogue) -> None:
    model = publish("theirs", page="https://drive.google.com/file/d/1/view")
    with pytest.raises(WeightsError) as error:
        fetch_published(model)
    assert str(error.value).splitlines() == [
        "theirs: cannot be downloaded without a browser",
        "  by hand: download the checkpoint from https://drive.google.com/file/d/1/view",
        f"  and save it as {cache}/models/theirs/model.th",
    ]
    checkpoint_of(model).parent.mkdir(parents=True, exist_ok=True)
    checkpoint_of(model).write_bytes(CONTENT)
    assert fetch_published(model).sha256 == SHA
    assert json.loads((folder_of(model) / RECORD).read_text())["model.th"]["sha256"] == SHA


@pytest.mark.parametrize("variable", ["X2KIT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_only_the_cache_is_used(
    cache: Path, site: Site, publish: Catalogue, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    site.files = {"a": CONTENT, "b": CONTENT}
    here, absent = publish("here", address=site.of("a")), publish("absent", address=site.of("b"))
    fetch_published(here)
    monkeypatch.setenv(variable, "1")
    assert fetch_published(here).sha256 == SHA
    with pytest.raises(WeightsError) as error:
        fetch_published(absent)
    assert f"absent: not in the cache, and {variable} forbids downloads" in str(error.value)
    assert f"save it as {cache}/models/absent/model.th" in str(error.value)


def test_an_interrupted_download_is_counted(cache: Path, site: Site, publish: Catalogue) -> None:
    site.files, site.cut = {"model.th": CONTENT}, [len(CONTENT) // 2]
    model = publish("ours", address=site.of("model.th"))

    def stop(stage: str, done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_published(model, stop)
    assert 0 < partial_bytes(model) <= len(CONTENT) // 2
    assert not is_cached(model)


# Archives.


def test_the_checkpoint_of_an_archive_is_taken_out(cache: Path, site: Site, publish: Catalogue) -> None:
    site.files = {"all.tar": tar(("run/log.txt", b"log"), ("run/best.th", CONTENT))}
    model = publish("ours", address=site.of("all.tar"), archive="all.tar")
    found = fetch_published(model)
    assert (found.file.name, found.sha256) == ("model.th", SHA)
    assert sorted(file.name for file in folder_of(model).iterdir()) == [RECORD, "model.th"]
    assert fetch_published(model) == found


def test_a_member_is_chosen_by_the_end_of_its_path(cache: Path, publish: Catalogue) -> None:
    model = publish("ours", page="https://example.org", archive="all.tar", member="vqa/best.th")
    folder_of(model).mkdir(parents=True)
    archive = folder_of(model) / "all.tar"
    archive.write_bytes(
        tar(("x/vqa/best.th", CONTENT), ("x/nlvr/best.th", b"no"), ("x/myvqa/best.th", b"no"))
    )
    assert fetch_published(model).sha256 == SHA
    assert archive.is_file()  # the person's own


@pytest.mark.parametrize("name", ["../../outside.th", "/tmp/outside.th", "a/../../../outside.th"])
def test_a_path_outside_has_no_effect(cache: Path, site: Site, publish: Catalogue, name: str) -> None:
    site.files = {"all.tar": tar((name, CONTENT))}
    model = publish("ours", address=site.of("all.tar"), archive="all.tar")
    assert fetch_published(model).file == checkpoint_of(model)
    assert not [file for file in cache.parent.rglob("outside.th")]


def test_links_in_an_archive_are_not_followed(cache: Path, publish: Catalogue, tmp_path: Path) -> None:
    secret = tmp_path / "secret.th"
    secret.write_bytes(b"secret")
    model = publish("ours", page="https://example.org", archive="all.tar")
    folder_of(model).mkdir(parents=True)
    with tarfile.open(folder_of(model) / "all.tar", "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("best.th")
            link.type, link.linkname = kind, str(secret)
            archive.addfile(link)
    with pytest.raises(WeightsError, match="expected one checkpoint, found none"):
        fetch_published(model)


def test_several_checkpoints_are_listed(cache: Path, publish: Catalogue) -> None:
    model = publish("ours", page="https://example.org", archive="all.tar")
    folder_of(model).mkdir(parents=True)
    (folder_of(model) / "all.tar").write_bytes(tar(("a/1.th", b"1"), ("a/2.th", b"2")))
    with pytest.raises(
        WeightsError, match=r"expected one checkpoint, found a/1\.th, a/2\.th; take yours out and save"
    ):
        fetch_published(model)


def test_a_member_above_the_limit_is_not_unpacked(
    cache: Path, publish: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "MAX_CHECKPOINT", 10)
    model = publish("ours", page="https://example.org", archive="all.tar")
    folder_of(model).mkdir(parents=True)
    (folder_of(model) / "all.tar").write_bytes(tar(("a.th", CONTENT)))
    with pytest.raises(WeightsError, match=r"a\.th has 78\.1 KiB, more than the limit of 10 bytes"):
        fetch_published(model)
    assert not checkpoint_of(model).exists()


@pytest.mark.parametrize("content", [b"", b"no archive", tar(("a.th", CONTENT))[:5000]])
def test_a_damaged_archive_is_named(cache: Path, publish: Catalogue, content: bytes) -> None:
    model = publish("ours", page="https://example.org", archive="all.tar")
    folder_of(model).mkdir(parents=True)
    (folder_of(model) / "all.tar").write_bytes(content)
    with pytest.raises(WeightsError, match=r"all\.tar: damaged, or not a tar archive"):
        fetch_published(model)
    assert not checkpoint_of(model).exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"model.th": 3}'])
def test_a_damaged_record_says_what_to_delete(cache: Path, publish: Catalogue, text: str) -> None:
    model = publish("ours", page="https://example.org")
    folder_of(model).mkdir(parents=True)
    checkpoint_of(model).write_bytes(CONTENT)
    (folder_of(model) / RECORD).write_text(text)
    with pytest.raises(WeightsError, match=r"fetched\.json: damaged; delete it"):
        fetch_published(model)
