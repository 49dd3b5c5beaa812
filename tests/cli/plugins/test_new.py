"""`x2kit plugins new`: what it writes, and which names it takes. That it works: tests/plugin/test_new.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from x2kit.cli import main
from x2kit.cli.plugins.new import MAX_LENGTH, SCAFFOLDS, Names, Scaffold
from x2kit.errors import X2KitError


def written(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("kind", SCAFFOLDS)
def test_it_writes_a_distribution_with_an_entry_point_tests_and_places_to_write(
    kind: Scaffold, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "deep" / "my-own"
    assert main(["plugins", "new", "my-own", "--kind", kind, "--directory", str(folder)]) == 0
    files = written(folder)
    assert {
        "pyproject.toml", "README.md", ".gitignore", "my_own/__init__.py", "tests/test_conformance.py"
    } <= set(files)  # fmt: skip
    assert '[project.entry-points.x2kit]\nmy_own = "my_own"' in files["pyproject.toml"]
    assert "registry.add(MyOwn)" in files["my_own/__init__.py"]
    assert "@pytest.mark.conformance(MyOwn(" in files["tests/test_conformance.py"]
    assert not [name for name, text in files.items() if re.search(r"\$\{?[a-z_]+|MODULE", text)]
    places = re.findall(r"^- `(.+)`$", files["README.md"], re.MULTILINE)
    assert set(places) == {name for name, text in files.items() if "TODO" in text}
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == f"next: pip install -e {folder} && x2kit plugins check my_own"
    assert all(str(folder / name) in said for name in files)


@pytest.mark.parametrize("name", ["my-own", f"abcdefghij-klmnopqrst.{'u' * (MAX_LENGTH - 22)}"])
@pytest.mark.parametrize("kind", SCAFFOLDS)
def test_it_passes_lint_and_has_the_form_of_the_formatter(kind: Scaffold, name: str, tmp_path: Path) -> None:
    assert main(["plugins", "new", name, "--kind", kind, "--directory", str(tmp_path / "new")]) == 0
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", str(tmp_path / "new")]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_without_a_place_it_is_written_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugins", "new", "my-own", "--kind", "task"]) == 0
    assert (tmp_path / "my-own" / "my_own" / "task.py").is_file()


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").write_text("mine")
    assert main(["plugins", "new", "my-own", "--kind", "vision", "--directory", str(tmp_path)]) == 2
    assert f"{tmp_path} exists; choose another --directory or name" in capsys.readouterr().err
    assert written(tmp_path) == {"kept": "mine"}


@pytest.mark.parametrize(
    ("name", "module", "class_name"),
    [
        ("my-encoder", "my_encoder", "MyEncoder"),
        ("acme.Rontgen_ViT2", "acme_rontgen_vit2", "AcmeRontgenViT2"),
        ("one--two", "one_two", "OneTwo"),
        ("radiographs", "radiographs", "Radiographs"),
    ],
)
def test_module_and_class_follow_from_the_name(name: str, module: str, class_name: str) -> None:
    assert Names.of(name, "vision") == Names(name, module, class_name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my encoder", "use letters, digits, and single - _ ."),
        ("-mine", "letters, digits"),
        ("encodér", "letters, digits"),
        ("", "letters, digits"),
        ("3d-vit", "3d_vit is not a valid module name; begin with a letter"),
        ("a" * (MAX_LENGTH + 1), f"it has {MAX_LENGTH + 1} characters, at most {MAX_LENGTH} are allowed"),
        ("class", "class is a module or keyword of Python"),
        ("random", "random is a module or keyword of Python"),
        ("x2kit", "a module x2kit is already installed"),
        ("Torch", "a module torch is already installed"),
        (
            "vision-encoder",
            "its class would be VisionEncoder, a reserved name; choose another name",
        ),
        ("layer", "its class would be Layer"),
        ("beit-v2", "its class would be BeitV2, and plugin x2kit_timm"),
    ],
)
def test_a_name_that_cannot_be_is_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(X2KitError, match=re.escape(f"invalid plugin name {name!r}: ")) as refused:
        Names.of(name, "vision")
    assert said in str(refused.value)


def test_the_templates_are_in_the_wheel(tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    root = Path(__file__).parents[3]
    packed = {file.distribution_path for file in WheelBuilder(str(root)).recurse_included_files()}
    templates = [file.relative_to(root).as_posix() for file in (root / "x2kit/templates").rglob("*.tmpl")]
    assert templates
    assert set(templates) <= packed
