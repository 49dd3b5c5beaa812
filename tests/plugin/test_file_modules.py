from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from x2kit.errors import PluginError
from x2kit.plugin.file_modules import import_file, locate, module_name


def test_relative_paths_start_at_the_base_and_the_tilde_is_home(tmp_path: Path) -> None:
    assert locate("../enc.py", tmp_path / "recipes") == tmp_path / "enc.py"
    assert locate("/enc.py", tmp_path) == Path("/enc.py")
    assert locate("~/enc.py", tmp_path) == Path.home() / "enc.py"


def test_the_module_name_is_the_same_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "my-enc.py"
    code = "import sys; from pathlib import Path; from x2kit.plugin.file_modules import module_name\n"
    code += "print(module_name(Path(sys.argv[1])))"
    printed = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == module_name(path)
    assert module_name(path).startswith("x2kit_file_my_enc_")
    assert module_name(tmp_path / "other" / "my-enc.py") != module_name(path)


def test_a_file_runs_once_and_its_folder_is_not_on_the_path(tmp_path: Path) -> None:
    path = tmp_path / "enc.py"
    path.write_text("value = object()\n")
    module = import_file(path)
    assert import_file(path) is module
    assert sys.modules[module_name(path)] is module
    assert str(tmp_path) not in sys.path


def test_a_folder_may_import_its_own_parts(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .layers import width\n")
    (folder / "layers.py").write_text("width = 8\n")
    assert import_file(folder).width == 8


def test_a_file_that_fails_leaves_no_module_and_may_be_mended(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "part.py").write_text("")
    (folder / "__init__.py").write_text("from . import part\nraise RuntimeError('half way')\n")
    with pytest.raises(RuntimeError, match="half way"):
        import_file(folder)
    assert [name for name in sys.modules if name.startswith(module_name(folder))] == []
    (folder / "__init__.py").write_text("mended = True, 'and longer'\n")
    assert import_file(folder).mended


def test_a_folder_without_init_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"there is no file .*__init__\.py; relative paths start at"):
        import_file(tmp_path)
    (tmp_path / "enc.txt").write_text("")
    with pytest.raises(PluginError, match=r"enc\.txt is no Python file; its name must end in \.py"):
        import_file(tmp_path / "enc.txt")
