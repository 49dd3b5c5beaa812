from __future__ import annotations

import py_compile
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from x2kit.errors import PluginError
from x2kit.plugin.loading.file_modules import WithFilePlugins, import_file, locate, module_name


def test_relative_paths_start_at_the_base_and_the_tilde_is_home(tmp_path: Path) -> None:
    assert locate("../enc.py", tmp_path / "recipes") == tmp_path / "enc.py"
    assert locate("/enc.py", tmp_path) == Path("/enc.py")
    assert locate("~/enc.py", tmp_path) == Path.home() / "enc.py"


def test_the_module_name_is_the_same_in_every_process(tmp_path: Path) -> None:
    path = tmp_path / "my-enc.py"
    code = "import sys; from pathlib import Path; from x2kit.plugin.loading.file_modules import module_name\n"
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
    with pytest.raises(PluginError, match=r"enc\.txt is not a Python file; its name must end in \.py"):
        import_file(tmp_path / "enc.txt")


def test_byte_code_beside_a_file_is_neither_run_nor_written(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    folder.mkdir()
    (folder / "__init__.py").write_text("from .part import value\n")
    (folder / "part.py").write_text("value = 'evil'\n")
    # byte code that claims to be current whatever the source says
    py_compile.compile(
        str(folder / "part.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    (folder / "part.py").write_text("value = 'read'\n")
    assert import_file(folder).value == "read"
    assert [path.name for path in tmp_path.rglob("*.pyc") if path.stem.startswith("__init__")] == []


PLUGIN = """\
from torch import tensor

class Numbers:
    def __getitem__(self, index):
        return tensor([index, index * 2])

    def __len__(self):
        return 4
"""


class Shipped(WithFilePlugins, Dataset[Tensor]):
    def __init__(self, numbers: Sequence[Tensor]) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Tensor:
        return self.numbers[index]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_find_the_classes_of_a_file_whatever_starts_them(tmp_path: Path, method: str) -> None:
    path = tmp_path / "numbers.py"
    path.write_text(PLUGIN)
    dataset = Shipped(import_file(path).Numbers())
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=method)
    assert [row.tolist() for row in loader] == [[0, 0], [1, 2], [2, 4], [3, 6]]
