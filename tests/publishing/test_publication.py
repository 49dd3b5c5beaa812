from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from x2kit.errors import X2KitError
from x2kit.publishing import publish

pytestmark = pytest.mark.usefixtures("examples")


def files_of(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_the_folder_has_weights_recipe_results_and_card_but_no_code(run: Path, tmp_path: Path) -> None:
    done = publish(run, tmp_path / "card")
    assert (
        files_of(tmp_path / "card")
        == set(done.files)
        == {
            ".eval_results/evaluation.yaml",
            "README.md",
            "evaluation.json",
            "model.safetensors",
            "plugins.json",
            "preprocessing.json",
            "published.json",
            "recipe.yaml",
            "tokenizer/words.json",
        }
    )
    assert (tmp_path / "card" / "model.safetensors").read_bytes() == (
        run / "weights" / "model.safetensors"
    ).read_bytes()


def test_nothing_of_the_machine_is_in_any_text_and_the_person_is_told(run: Path, tmp_path: Path) -> None:
    done = publish(run, tmp_path / "card")
    for file in files_of(tmp_path / "card") - {"model.safetensors"}:
        text = (tmp_path / "card" / file).read_text()
        for private in ("/home", "anna/", "secret", str(tmp_path), str(Path.home())):
            assert private not in text, (file, private)
    recipe = yaml.safe_load((tmp_path / "card" / "recipe.yaml").read_text())
    assert recipe["data"]["streams"]["photos"]["source"]["init_args"]["files"] == ["coco/train.jsonl"]
    assert recipe["training"]["reporters"] == {}
    assert recipe["plugins"] == ["plugins/tiny.py"]
    assert "shortened: /home/anna/coco/test.jsonl -> coco/test.jsonl" in done.messages
    assert any(
        "file tiny.py (SHA-256" in message and "plugins are code" in message for message in done.messages
    )


def test_code_and_pickles_of_an_encoder_are_left_out(run: Path, tmp_path: Path) -> None:
    for name in ("model.py", "state.pt", "settings.json"):
        (run / "weights" / "vision" / name).write_text("{}")
    done = publish(run, tmp_path / "card")
    assert {name for name in done.files if name.startswith("vision")} == {"vision/settings.json"}
    assert "not published: vision/model.py: code" in done.messages
    assert any(
        message.startswith("not published: vision/state.pt: a pickled file") for message in done.messages
    )


def test_paths_that_libraries_note_in_their_settings_are_shortened(run: Path, tmp_path: Path) -> None:
    noted = {"_name_or_path": "/home/anna/models/xlmr", "unk_token": "/x", "dirs": [str(run)]}
    (run / "weights" / "text" / "config.json").write_text(json.dumps(noted))
    publish(run, tmp_path / "card")
    found = json.loads((tmp_path / "card" / "text" / "config.json").read_text())
    assert found["_name_or_path"] == "models/xlmr"
    assert found["unk_token"] == "/x"
    assert str(run) not in found["dirs"]


def test_a_run_without_results_is_refused_with_the_command_that_measures_it(
    run: Path, tmp_path: Path
) -> None:
    (run / "evaluation.json").unlink()
    with pytest.raises(X2KitError, match=rf"measure it: x2kit evaluate {run}\n.*--without-results"):
        publish(run, tmp_path / "card")
    assert not (tmp_path / "card").exists()
    publish(run, tmp_path / "card", without_results=True)
    assert "Not measured." in (tmp_path / "card" / "README.md").read_text()


def test_a_directory_with_other_files_is_not_touched(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(X2KitError, match=r"is not empty and has no published\.json"):
        publish(run, folder)
    assert files_of(folder) == {"thesis.tex"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thesis.tex", "not written by x2kit publish: thesis.tex"),
        ("recipe.yaml", "changed since: recipe.yaml"),
    ],
)
def test_files_added_or_changed_after_publishing_are_not_lost(
    run: Path, tmp_path: Path, name: str, message: str
) -> None:
    folder = tmp_path / "card"
    publish(run, folder)
    (folder / name).write_text("years of work")
    with pytest.raises(X2KitError, match=message):
        publish(run, folder)
    assert (folder / name).read_text() == "years of work"


def test_a_published_folder_is_replaced_with_its_card(run: Path, tmp_path: Path) -> None:
    publish(run, tmp_path / "card")
    done = publish(run, tmp_path / "card", licence="apache-2.0")
    assert not done.card_kept
    assert "license: apache-2.0" in (tmp_path / "card" / "README.md").read_text()


def test_a_card_that_a_person_changed_is_kept_beside_the_new_one(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "card"
    publish(run, folder)
    (folder / "README.md").write_text("# My model")
    for _ in range(2):
        done = publish(run, folder, licence="apache-2.0")
        assert done.card_kept
        assert (folder / "README.md").read_text() == "# My model"
        assert "license: apache-2.0" in (folder / "README.generated.md").read_text()
    shutil.copyfile(folder / "README.generated.md", folder / "README.md")
    assert not publish(run, folder).card_kept
    assert not (folder / "README.generated.md").exists()


def test_a_failing_example_leaves_the_old_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(run, tmp_path / "card")
    before = (tmp_path / "card" / "README.md").read_bytes()

    def fail(*arguments: Any) -> None:
        raise X2KitError("the example of the card failed")

    monkeypatch.setattr("x2kit.publishing.publication.execute", fail)
    with pytest.raises(X2KitError, match="the example of the card failed"):
        publish(run, tmp_path / "card", licence="mit")
    assert (tmp_path / "card" / "README.md").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_a_card_edited_while_the_folder_is_made_is_not_lost(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = tmp_path / "card" / "README.md"
    publish(run, tmp_path / "card")

    def edit(snippet: Any, *others: Any) -> Any:
        card.write_text("# edited meanwhile")
        return snippet

    monkeypatch.setattr("x2kit.publishing.publication.execute", edit)
    with pytest.raises(X2KitError, match="has changed since it was read; publish again"):
        publish(run, tmp_path / "card")
    assert card.read_text() == "# edited meanwhile"


def test_a_dry_run_writes_nothing(run: Path, tmp_path: Path, examples: list[Path]) -> None:
    done = publish(run, tmp_path / "card", dry_run=True)
    assert not (tmp_path / "card").exists()
    assert "README.md" in done.files
    assert [folder.exists() for folder in examples] == [False]


def test_a_shipped_image_is_upright_and_has_no_metadata(run: Path, tmp_path: Path) -> None:
    note, exif = PngInfo(), Image.Exif()
    note.add_text("GPS", "at home")
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (1000, 2000), "red").save(tmp_path / "photo.png", pnginfo=note, exif=exif)
    publish(run, tmp_path / "card", image=tmp_path / "photo.png", texts=["a red dog"])
    with Image.open(tmp_path / "card" / "example.png") as shipped:
        assert shipped.info == {}
        assert shipped.size == (1024, 512)
    assert 'model.match("card/example.png", texts)' in (tmp_path / "card" / "README.md").read_text()


def test_options_of_a_repository_are_refused_for_a_directory(run: Path, tmp_path: Path) -> None:
    with pytest.raises(X2KitError, match="--private, --pr: only with --to hf-hub:"):
        publish(run, tmp_path / "card", private=True, pull_request=True)
