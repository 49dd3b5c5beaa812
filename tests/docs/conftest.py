"""A small quickstart run, for the pages that continue it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .shell import Page


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs/quickstart`, trained for a few steps and evaluated."""
    folder = tmp_path_factory.mktemp("quickstart")
    with pytest.MonkeyPatch.context() as patch:
        page = Page(folder, patch)
        for line in (
            "x2kit train quickstart/multilingual --run-dir runs/quickstart",
            "x2kit evaluate runs/quickstart",
        ):
            status, said = page.command(line)
            assert status == 0, said
    return folder


@pytest.fixture(autouse=True)
def _process_as_before() -> Iterator[None]:
    """A page sets the number of threads, and imports plugins from its folder."""
    threads, modules = torch.get_num_threads(), set(sys.modules)
    yield
    torch.set_num_threads(threads)
    for name in set(sys.modules) - modules:
        if "small_conv" in name or "my_encoder" in name:
            del sys.modules[name]
