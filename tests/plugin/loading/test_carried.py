"""Copies of file plugins and their hashes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from x2kit.errors import PluginError
from x2kit.plugin.loading import carried
from x2kit.plugin.loading.carried import carry, digest, files_of


def package(folder: Path) -> Path:
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__init__.py").write_text("from .layers import width\n")
    (folder / "layers.py").write_text("width = 8\n")
    (folder / "__pycache__" / "layers.cpython-311.pyc").write_bytes(b"\0")
    return folder


def test_files_and_folders_are_copied_and_modules_left_alone(tmp_path: Path) -> None:
    file, folder = tmp_path / "enc.py", package(tmp_path / "acme")
    file.write_text("x = 1\n")
    (tmp_path / "copies").mkdir()
    copies = carry([str(file), "some.module", str(folder)], tmp_path / "copies")
    assert copies == {str(file): "enc.py", str(folder): "acme"}
    written = {
        path.relative_to(tmp_path / "copies").as_posix() for path in (tmp_path / "copies").rglob("*.*")
    }
    assert written == {"enc.py", "acme/__init__.py", "acme/layers.py"}
    assert digest(tmp_path / "copies" / "acme") == digest(folder)
    assert digest(tmp_path / "copies" / "enc.py") == hashlib.sha256(b"x = 1\n").hexdigest()


def test_two_files_of_one_name_get_two_copies(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "enc.py").write_text(f"x = '{name}'\n")
    copies = carry([str(tmp_path / name / "enc.py") for name in ("a", "b")], tmp_path)
    assert list(copies.values()) == ["enc.py", "enc-2.py"]
    assert (tmp_path / "enc-2.py").read_text() == "x = 'b'\n"


def test_another_name_or_content_in_a_folder_is_another_hash(tmp_path: Path) -> None:
    folder = package(tmp_path / "acme")
    before = digest(folder)
    (folder / "layers.py").rename(folder / "layer.py")
    renamed = digest(folder)
    (folder / "layer.py").write_text("width = 9\n")
    assert len({before, renamed, digest(folder)}) == 3


def test_links_out_of_a_folder_and_to_folders_are_refused(tmp_path: Path) -> None:
    folder = package(tmp_path / "acme")
    (tmp_path / "secret").write_text("key")
    (folder / "data").symlink_to(tmp_path / "secret")
    with pytest.raises(PluginError, match=f"acme: data is a link to {tmp_path}/secret"):
        files_of(folder)
    (folder / "data").unlink()
    (folder / "loop").symlink_to(folder)
    with pytest.raises(PluginError, match="acme: loop is a link to"):
        files_of(folder)


def test_a_plugin_beyond_the_limits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = package(tmp_path / "acme")
    monkeypatch.setattr(carried, "MAX_FILES", 1)
    with pytest.raises(PluginError, match=r"acme: 2 files of 0\.0 MiB; at most 1 files of 8 MiB"):
        files_of(folder)
