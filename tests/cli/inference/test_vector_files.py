from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from x2kit.cli.inference.vector_files import check_output, vector_file
from x2kit.errors import X2KitError

VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def write(path: Path, dtype: str = "float32") -> None:
    with vector_file(path, 4, dtype, {"x2kit.model": "m"}) as file:
        file.add("image", ["a.jpg", "caf\udce9.jpg"], VECTORS[:2])
        file.add("text", ["a dog"], VECTORS[2:])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numpy_maps_the_vectors_and_a_file_has_the_names(tmp_path: Path, dtype: str) -> None:
    write(tmp_path / "v.npy", dtype)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy", mmap_mode="r"), VECTORS.astype(dtype))
    names = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert names == [{"image": "a.jpg"}, {"image": "caf\udce9.jpg"}, {"text": "a dog"}]
    assert len(list(tmp_path.iterdir())) == 2


def test_more_digits_need_no_longer_header(tmp_path: Path) -> None:
    with vector_file(tmp_path / "v.npy", 1, "float16", {}) as file:
        for _ in range(100):
            file.add("text", [""] * 101, np.ones((101, 1), np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), np.ones((10_100, 1)))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_parquet_has_names_vectors_and_the_model(tmp_path: Path, dtype: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write(tmp_path / "v.parquet", dtype)
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table["image"].to_pylist() == ["a.jpg", "caf\\udce9.jpg", None]
    assert table["text"].to_pylist() == [None, None, "a dog"]
    np.testing.assert_array_equal(
        np.array(table["vector"].to_pylist(), np.float32), VECTORS.astype(dtype).astype(np.float32)
    )
    assert table.schema.metadata[b"x2kit.model"] == b"m"


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_command_that_fails_leaves_no_file(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("pyarrow")
    with suppress(KeyboardInterrupt), vector_file(tmp_path / f"v{suffix}", 4, "float32", {}) as file:
        file.add("image", ["a.jpg"], VECTORS[:1])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_another_suffix_is_refused() -> None:
    with pytest.raises(X2KitError, match=r"^--output: v\.csv: should end in \.npy or \.parquet$"):
        check_output("v.csv")


@pytest.mark.parametrize("name", ["v.npy", "v.jsonl"])
def test_files_that_exist_are_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(X2KitError, match=rf"{name}: exists; delete it or choose another name$"):
        check_output(str(tmp_path / "v.npy"))


def test_parquet_without_pyarrow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(X2KitError, match=r"needs pyarrow; pip install pyarrow, or write \.npy$"):
        check_output("v.parquet")
