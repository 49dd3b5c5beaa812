"""`model.init_from` by every kind of name: a tiny training that begins from it, and what the run records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from tests.forked import run_ranks
from tests.hub.hub_cache import COMMIT, fill
from tests.hub.web import Site, serving
from tests.interop import made
from tests.interop.test_named_weights import XVLM, tokenizer_of
from tests.model import tiny
from tests.model.conftest import RECIPE, build
from tests.training.conftest import recipe_tree
from x2kit.cli import main
from x2kit.interop.named_weights import weights_of
from x2kit.model import save_weights

ALLOWED = ("--plugin", tiny.__file__, "--plugin", "scenes.py")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(init_from: str, model: dict[str, Any] | None = None) -> None:
    """Write tiny.yaml: one step from these weights."""
    tree = recipe_tree(Path())
    tree["model"] = {**(model or {**tree["model"], "fusion": "TinyFusion"}), "init_from": init_from}
    tree["training"] |= {"steps": 1, "checkpoint_every": 1}
    tree["data"]["streams"] = {"images": tree["data"]["streams"]["images"]}
    Path("tiny.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def began() -> dict[str, Any]:
    """The record of the initial weights, whose tensors were all kept."""
    record: dict[str, Any] = json.loads(Path("run/initialisation.json").read_text())
    assert {row["origin"] for row in record.pop("tensors").values()} == {"kept"}
    return record


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A repository in the cache of the Hub."""
    save_weights(build(), RECIPE, folder / "published")
    fill(folder / "hub", "acme/scenes", folder / "published", monkeypatch)
    return "hf-hub:acme/scenes"


def test_a_repository_of_the_hub(hub: str) -> None:
    write(hub)
    assert main(["train", "tiny.yaml", "--run-dir", "run"]) == 0
    assert began() == {"source": hub, "revision": COMMIT, "dropped": {}}
    assert yaml.safe_load(Path("run/recipe.yaml").read_text())["model"]["init_from"] == hub
    before, after = (load_file(f"{place}/model.safetensors") for place in ("published", "run/weights"))
    assert before["vision_proj.weight"].sub(after["vision_proj.weight"]).abs().max() < 0.1  # one step


def test_a_run_that_began_from_a_name_resumes(hub: str) -> None:
    write(hub)
    assert main(["train", "tiny.yaml", "--run-dir", "run"]) == 0
    assert main(["train", "--resume", "--run-dir", "run", *ALLOWED]) == 0


def test_a_name_that_cannot_be_fetched_is_a_fault_with_its_line(
    hub: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("hf-hub:acme/other")
    assert main(["train", "tiny.yaml", "--run-dir", "run"]) == 2
    line = Path("tiny.yaml").read_text().splitlines().index("  init_from: hf-hub:acme/other") + 1
    assert capsys.readouterr().err == (
        f"tiny.yaml:{line}: model.init_from: hf-hub:acme/other: not in the cache, and HF_HUB_OFFLINE forbids "
        "downloads; with a network: x2kit models fetch hf-hub:acme/other\n"
    )
    write("x2vlm-bse-4m")
    assert main(["recipes", "validate", "tiny.yaml"]) == 2
    assert "nearest published model: x2vlm-base-4m" in capsys.readouterr().err
    write("xvlm-4m")
    assert main(["recipes", "validate", "tiny.yaml"]) == 2
    assert f"and save it as {folder}/cache/models/xvlm-4m/" in capsys.readouterr().err
    assert not Path("run").exists()


def test_validation_announces_a_download_and_does_not_begin_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with serving(Site({"a.th": b""})) as site:
        catalogue(ours={"title": "t", "address": site.of("a.th"), "file": "a.th"}, patch=monkeypatch)
        write("ours")
        assert main(["recipes", "validate", "tiny.yaml"]) == 0
        assert (
            "model.init_from: ours is not in the cache; its first use downloads it, size not published; to do so now: "
            "x2kit models fetch ours" in capsys.readouterr().out
        )
        assert site.asked == []


def catalogue(patch: pytest.MonkeyPatch, **models: dict[str, str]) -> None:
    Path("own.yaml").write_text(yaml.safe_dump({"models": models}))
    patch.setenv("X2KIT_CATALOGUE", str(Path("own.yaml").absolute()))


def test_a_published_checkpoint_and_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = made.tensors_of(made.inventory(XVLM).scaled())
    words = tokenizer_of(dict(tensors), folder)
    content = made.write(tensors, folder / "xvlm.th", config=made.CONFIG).read_bytes()
    with serving(Site({"x.th": content})) as site:
        entry = {"title": "t", "address": site.of("x.th"), "file": "x.th", "tokenizer": words}
        catalogue(monkeypatch, ours=entry)
        assert main(["models", "fetch", "ours"]) == 0
    model = yaml.safe_load((weights_of("ours") / "recipe.yaml").read_text())["model"]
    write("ours", model)
    assert main(["train", "tiny.yaml", "--run-dir", "run"]) == 0
    record = began()
    assert (record["source"], len(record["sha256"])) == ("ours", 64)
    assert f"initial weights from ours (sha256 {record['sha256']})" in capsys.readouterr().out


@pytest.mark.slow
def test_two_ranks_fetch_and_convert_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = made.tensors_of(made.inventory(XVLM).scaled())
    words = tokenizer_of(dict(tensors), folder)
    content = made.write(tensors, folder / "xvlm.th", config=made.CONFIG).read_bytes()
    model = yaml.safe_load((weights_of("xvlm.th", tokenizer=words) / "recipe.yaml").read_text())["model"]
    monkeypatch.setenv("X2KIT_CACHE", str(folder / "other"))
    with serving(Site({"x.th": content})) as site:
        catalogue(
            monkeypatch, ours={"title": "t", "address": site.of("x.th"), "file": "x.th", "tokenizer": words}
        )
        write("ours", model)
        done = run_ranks(2, "train", "tiny.yaml", "--run-dir", "run", cwd=folder)
        assert done.returncode == 0, done.stderr
        assert len(site.asked) == 1
    assert began()["source"] == "ours"
    assert len([each for each in Path("other/converted").iterdir() if each.is_dir()]) == 1


# Evaluation by the same names.


def test_the_result_of_a_published_model_is_written_here(
    hub: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(hub)
    assert main(["train", "tiny.yaml", "--run-dir", "run"]) == 0
    fill(folder / "hub", "acme/trained", folder / "run" / "weights", monkeypatch)
    snapshot = folder / "hub" / "models--acme--trained" / "snapshots" / COMMIT
    before = sorted(snapshot.rglob("*"))
    capsys.readouterr()
    assert main(["evaluate", "hf-hub:acme/trained", *ALLOWED]) == 0
    assert capsys.readouterr().out.endswith("result: evaluation.json\n")
    result = json.loads(Path("evaluation.json").read_text())
    assert result["checkpoint"]["name"] == "hf-hub:acme/trained"
    assert sorted(snapshot.rglob("*")) == before
    assert main(["report", "hf-hub:acme/trained", *ALLOWED]) == 2
    assert "x2kit report writes into the directory of the model" in capsys.readouterr().err
