"""Plugins that a saved recipe names are imported only with consent."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from x2kit.errors import PluginError
from x2kit.plugin.loading.file_modules import import_file
from x2kit.plugin.loading.trust import remember, trusted


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory that brings plugins/enc.py."""
    directory = tmp_path / "run"
    (directory / "plugins").mkdir(parents=True)
    (directory / "plugins" / "enc.py").write_text(f"where = {str(tmp_path)!r}\n")
    return directory


def ask(run: Path, *saved: str, given: tuple[str, ...] = (), everything: bool = False) -> list[str]:
    return trusted(saved, given, run / "recipe.yaml", everything)


def test_the_refusal_says_what_to_type_for_every_plugin(run: Path) -> None:
    copy = str(run / "plugins" / "enc.py")
    with pytest.raises(PluginError) as error:
        ask(run, "plugins/enc.py", "acme.encoders")
    message = str(error.value)
    assert f"{run}/recipe.yaml: plugins: the file {copy} is not installed" in message
    assert f"--plugin {copy}, or x2kit.load(…, plugins=['{copy}'])" in message
    assert "--plugin acme.encoders, or" in message
    assert "trust_plugins=True" in message


def test_installed_plugins_need_no_consent(run: Path) -> None:
    assert ask(run, "x2kit_fusion") == ["x2kit_fusion"]


def test_consent_to_all_takes_what_is_there(run: Path) -> None:
    copy = str(run / "plugins" / "enc.py")
    assert ask(run, "plugins/enc.py", "acme", everything=True) == [copy, "acme"]


@pytest.mark.parametrize("given", ["mine/enc.py", "run/plugins/enc.py", "/elsewhere/enc.py"])
def test_a_file_of_the_same_name_takes_the_place_of_the_copy(run: Path, given: str) -> None:
    assert ask(run, "plugins/enc.py", given=(given,)) == []
    with pytest.raises(PluginError):
        ask(run, "plugins/enc.py", given=("other.py",))


def test_a_file_of_the_same_content_takes_the_place_of_the_copy(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(run / "plugins" / "enc.py", tmp_path / "other.py"))
    assert ask(run, "plugins/enc.py", given=(str(other),)) == []


def test_a_missing_file_is_asked_for_by_its_name(run: Path) -> None:
    with pytest.raises(PluginError, match=r"there is no file /gone/enc\.py\n  pass a file of the same name"):
        ask(run, "/gone/enc.py", everything=False)


def test_code_that_runs_in_this_process_needs_no_consent(run: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(run / "plugins" / "enc.py", tmp_path / "own.py"))
    import_file(own)
    assert ask(run, "plugins/enc.py") == [str(own)]
    (run / "plugins" / "enc.py").write_text("changed = 1\n")
    with pytest.raises(PluginError):
        ask(run, "plugins/enc.py")


def test_the_plugins_of_a_run_that_began_here_are_known_until_they_change(run: Path, tmp_path: Path) -> None:
    assert remember([str(run / "plugins" / "enc.py")], run) is None
    assert ask(run, "plugins/enc.py") == [str(run / "plugins" / "enc.py")]
    weights = run / "weights"
    shutil.copytree(run / "plugins", weights / "plugins")
    assert ask(weights, "plugins/enc.py") == [str(weights / "plugins" / "enc.py")]

    moved = shutil.copytree(run, tmp_path / "moved")
    with pytest.raises(PluginError):
        ask(moved, "plugins/enc.py")
    (run / "plugins" / "enc.py").write_text("changed = 1\n")
    with pytest.raises(PluginError):
        ask(run, "plugins/enc.py")


def test_a_module_is_known_by_name_and_content_and_not_imported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "acme_trusted"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (package / "encoders.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    remember(["acme_trusted.encoders"], run)
    assert ask(run, "acme_trusted.encoders") == ["acme_trusted.encoders"]
    assert "acme_trusted" not in sys.modules
    (package / "encoders.py").write_text("x = 2\n")
    with pytest.raises(PluginError):
        ask(run, "acme_trusted.encoders")


def test_hashes_that_cannot_be_kept_are_said(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("X2KIT_STATE", str(tmp_path / "file"))
    warning = remember([str(run / "plugins" / "enc.py")], run)
    assert warning is not None
    assert "will need --plugin" in warning


def test_a_damaged_record_is_no_consent(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X2KIT_STATE", str(tmp_path / "state"))
    remember([str(run / "plugins" / "enc.py")], run)
    (record,) = (tmp_path / "state" / "plugins-of-runs").iterdir()
    record.write_text("[]")
    with pytest.raises(PluginError):
        ask(run, "plugins/enc.py")
