"""`x2kit models`: a table of what is published, the facts of one name, and its download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done
from tests.hub.hub_cache import COMMIT, fill
from tests.hub.web import Site, serving
from tests.model.conftest import RECIPE, build
from x2kit.model import save_weights

Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("X2KIT_CACHE", str(folder / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return folder / "cache"


def test_the_table_has_a_line_for_each_model(x2kit: Run, cache: Path) -> None:
    place = cache / "models" / "xvlm-4m" / "4m_base_model_state_step_199999.th"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    done = x2kit("models", "list")
    rows = {line.split()[0]: line for line in done.out.splitlines()}
    assert rows["NAME"].split() == [
        "NAME",
        "PARAMETERS",
        "DOWNLOAD",
        "LANGUAGES",
        "TASKS",
        "LICENCE",
        "CACHED",
    ]
    assert rows["x2vlm-large-4m"].split()[1:4] == ["593M", "unknown", "en"]
    assert rows["cclm-4m"].split()[-2:] == ["by", "hand"]
    assert "unknown" in rows["cclm-4m"]  # CCLM has no licence
    assert rows["xvlm-4m"].split()[-1] == "yes"
    assert rows["x2vlm-large-4m"].split()[-1] == "no"
    assert (done.status, done.err) == (0, "")


def test_the_json_has_every_fact(x2kit: Run) -> None:
    models = {model["name"]: model for model in json.loads(x2kit("models", "list", "--json").out)}
    model = models["cclm-x2vlm-large"]
    assert model["languages"] == ["en", "de", "fr", "cs", "ja", "zh"]
    assert (model["sha256"], model["cached"]) == (None, False)
    assert model["recipe"] == "official/cclm-large"
    assert "page" not in model


def test_show_says_unknown_and_what_to_do(x2kit: Run, cache: Path) -> None:
    lines = x2kit("models", "show", "xvlm-16m").out.splitlines()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    assert (facts["size"], facts["sha256"], facts["cached"]) == ("unknown", "unknown", "no")
    assert facts["save as"] == f"{cache}/models/xvlm-16m/xvlm_16m.th"
    assert lines[-1].strip() == f"and save it as {cache}/models/xvlm-16m/xvlm_16m.th"
    assert "x2kit models fetch x2vlm-base-1b" in x2kit("models", "show", "x2vlm-base-1b").out


def test_show_describes_a_directory_without_its_plugins(x2kit: Run, folder: Path) -> None:
    save_weights(build(), RECIPE, folder / "run" / "weights")
    copy = folder / "run/weights/plugins/tiny.py"
    copy.write_text("raise RuntimeError('was imported')\n")
    facts = json.loads(x2kit("models", "show", "run", "--json").out)
    assert (facts["kind"], facts["weights"]) == ("run directory", "run/weights")
    assert (facts["vision"], facts["text"], facts["fusion"]) == ("TinyVision", "TinyText", "TinyFusion")
    assert facts["plugins"] == ["plugins/tiny.py"]
    (folder / "run/weights/recipe.yaml").write_text("model: [")
    done = x2kit("models", "show", "run")
    assert (done.status, done.out) == (2, "")
    assert "recipe.yaml: missing, damaged, or not a recipe" in done.err


def test_show_names_the_commit_of_a_cached_repository(
    x2kit: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_weights(build(), RECIPE, folder / "model")
    fill(folder / "hub", "acme/scenes", folder / "model", monkeypatch)
    facts = json.loads(x2kit("models", "show", "hf-hub:acme/scenes", "--json").out)
    assert (facts["revision"], facts["cached"], facts["vision"]) == (COMMIT, True, "TinyVision")
    fetched = json.loads(x2kit("models", "fetch", "hf-hub:acme/scenes", "--json").out)
    assert (fetched["revision"], Path(fetched["directory"]).name) == (COMMIT, COMMIT)
    assert "forbids downloads" in x2kit("models", "show", "hf-hub:acme/other").out


def test_a_failed_fetch_says_what_to_do_by_hand(
    x2kit: Run, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Site({})) as site:
        (folder / "own.yaml").write_text(
            f"models: {{ours: {{title: t, address: '{site.of('gone.th')}', file: a.th}}}}\n"
        )
        monkeypatch.setenv("X2KIT_CATALOGUE", "own.yaml")
        done = x2kit("models", "fetch", "ours")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines() == [
        f"ours: {site.of('gone.th')}: the server answered 404 Not Found",
        f"  by hand: download the checkpoint from {site.of('gone.th')}",
        f"  and save it as {cache}/models/ours/a.th",
    ]


def test_an_unknown_name_gives_the_nearest(x2kit: Run) -> None:
    done = x2kit("models", "show", "x2vlm-base4m")
    assert done.status == 2
    assert "nearest published model: x2vlm-base-4m" in done.err
