"""The catalogue is data: every entry is complete, fits its recipe, and says where its address was published."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from x2kit.errors import WeightsError
from x2kit.hub.catalogue import SHIPPED, PublishedModel, catalogue, read_catalogue
from x2kit.recipe.catalogue import shipped
from x2kit.recipe.reading import read_recipe

MODELS = catalogue()
COPIED = [f"{address}{path}" for address, path in (("https://lf-robot", "-opensource.bytetos.com/"),)]


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_each_entry_names_its_source_and_no_invented_fact(model: PublishedModel) -> None:
    assert model.source is not None
    assert re.match(
        r"https://github\.com/zengyan-97/(X2-VLM|X-VLM|CCLM)/blob/[0-9a-f]{40}/README\.md$", model.source
    )
    assert (model.size, model.sha256) == (None, None)  # the READMEs publish neither
    assert model.languages
    assert model.tasks
    if model.address is not None:
        assert model.address.startswith(tuple(COPIED))
        assert model.address.endswith(f"/{model.download}")
    else:
        assert str(model.page).startswith("https://drive.google.com/")


@pytest.mark.parametrize("model", [m for m in MODELS.values() if m.recipe], ids=lambda model: model.name)
def test_the_recipe_of_each_entry_exists_and_has_its_image_size(model: PublishedModel) -> None:
    known = [file.name for file in shipped()]
    assert {model.recipe, *model.overlays} <= set(known)
    recipe = read_recipe([str(model.recipe), *model.overlays], checks="none").recipe
    assert recipe.model.vision.describe().image.size == model.image_size
    assert recipe.model.text.usual_tokenizer() is not None
    multilingual = len(model.languages) > 1
    assert (recipe.model.text.component_name() == "XLMRoberta") is multilingual
    assert str(model.tokenizer).startswith("xlm-roberta" if multilingual else "bert")


def test_the_published_models_of_all_three_papers_are_there() -> None:
    names = {"x2vlm-base-4m", "x2vlm-large-4m", "x2vlm-base-1b", "x2vlm-large-1b"}
    names |= {"cclm-x2vlm-base", "cclm-x2vlm-large", "xvlm-4m", "xvlm-16m", "cclm-3m", "cclm-4m"}
    assert names <= set(MODELS)
    assert len({(model.address or model.page, model.member) for model in MODELS.values()}) == len(MODELS)


def test_the_file_is_shipped_beside_its_module() -> None:
    assert SHIPPED.is_file()
    assert SHIPPED.parent == Path(sys.modules[PublishedModel.__module__].__file__ or "").parent


def test_the_catalogue_is_read_without_torch() -> None:
    program = "import sys, x2kit.hub.catalogue as c; c.catalogue(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_entries_of_the_user_are_added_and_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "models:\n"
        "  x2vlm-base-4m: {title: a mirror, address: 'https://mirror.example.org/a.th', file: a.th}\n"
        "  ours: {title: our own, page: 'https://example.org', file: ours.th}\n"
    )
    monkeypatch.setenv("X2KIT_CATALOGUE", str(own))
    assert catalogue()["x2vlm-base-4m"].title == "a mirror"
    assert catalogue()["ours"].languages == ()
    assert len(catalogue()) == len(MODELS) + 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("models: [", "where: not YAML"),
        ("a: 1", "where: expected one key, models"),
        ("models: {a: 1}", "where: models.a: expected a mapping"),
        ("models: {a: {title: t, file: f}}", "models.a: Value error, give one of address and page"),
        ("models: {a: {title: t, file: ../f, page: p}}", "models.a.file: String should match pattern"),
        ("models: {A b: {title: t, file: f, page: p}}", "models.A b.name: String should match pattern"),
        (
            "models: {a: {title: t, file: f, page: p, code: x}}",
            "models.a.code: Extra inputs are not permitted",
        ),
        (
            "models: {a: {title: t, file: f, page: p, sha256: 12}}",
            "models.a.sha256: Input should be a valid string",
        ),
        ("models: {a: {title: t, file: f, page: p, member: m}}", "member: has no effect without archive"),
        ("models: {a: {title: t, file: f, page: p, recipe: !!python/name:os.system }}", "where: not YAML"),
    ],
)
def test_a_wrong_catalogue_says_where_and_what(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(WeightsError) as error:
        read_catalogue(tmp_path / "own.yaml", "where")
    assert fault in str(error.value)


def test_a_missing_catalogue_names_the_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("X2KIT_CATALOGUE", str(tmp_path / "none.yaml"))
    with pytest.raises(WeightsError, match=r"^X2KIT_CATALOGUE=.*none\.yaml: cannot be read: No such file"):
        catalogue()
