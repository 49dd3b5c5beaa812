from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.publishing.conftest import PLUGIN, environment, examples, run, trained  # noqa: F401  # fixtures
from tests.publishing.hub_server import serving
from x2kit.cli import main


@pytest.mark.usefixtures("examples")
def test_the_folder_is_listed_with_what_the_person_should_know(
    run: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["publish", str(run), "--to", str(tmp_path / "card"), "--license", "mit"]) == 0
    said = capsys.readouterr()
    assert "  README.md\n" in said.out
    assert "not published: file tiny.py" in said.out
    assert f"published: {tmp_path / 'card'}\n" in said.out
    assert "running the example" in said.err


@pytest.mark.usefixtures("examples")
def test_a_dry_run_needs_neither_token_nor_network(
    run: Path,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["publish", str(run), "--to", "hf-hub:me/tiny", "--dry-run"]) == 0
    assert "dry run: nothing was written to hf-hub:me/tiny" in capsys.readouterr().out


@pytest.mark.usefixtures("examples")
def test_json_has_files_and_messages(
    run: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["publish", str(run), "--to", str(tmp_path / "card"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"]["model.safetensors"] > 0
    assert found["card_kept"] is False


@pytest.mark.parametrize("value", ["data", "a/b/c", "retrieval=data"])
def test_a_data_set_needs_its_organisation(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "runs/x", "--to", "card", "--dataset", value]) == 2
    assert "expected ORG/NAME, or TASK=ORG/NAME" in capsys.readouterr().err


@pytest.mark.slow
def test_a_published_model_is_loaded_by_its_name_from_the_cache(
    run: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    def process(*arguments: str, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with serving() as hub:
        known = environment(hub, tmp_path)
        options = ["--text", "a red dog", "--plugin", str(PLUGIN), "--private"]
        said = process("-m", "x2kit", "publish", str(run), "--to", "hf-hub:me/tiny", *options, **known)
        assert f"published: {hub.url}/me/tiny/commit/" in said
        assert hub.repositories["me/tiny"].private
        process("-c", "from huggingface_hub import snapshot_download as load; load('me/tiny')", **known)
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": known["HF_HOME"]}
    code = (
        f"import x2kit; print(x2kit.load('hf-hub:me/tiny', plugins=[{str(PLUGIN)!r}]).embed_texts('a dog'))"
    )
    assert "Embeddings(1 x 6" in process("-c", code, **offline)
