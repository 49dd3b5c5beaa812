"""Fill the cache of the Hugging Face Hub, with nothing else reachable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill(
    folder: Path, repository: str, content: Path, patch: pytest.MonkeyPatch, commit: str = COMMIT
) -> str:
    """Copy a folder to the cache in `folder` as the main branch of a repository; return the commit."""
    from huggingface_hub import constants

    place = folder / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(content, place / "snapshots" / commit)
    patch.setattr(constants, "HF_HUB_CACHE", str(folder))
    patch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch.setenv("HF_HUB_CACHE", str(folder))  # of processes that the test starts
    patch.setenv("HF_HUB_OFFLINE", "1")
    return commit
