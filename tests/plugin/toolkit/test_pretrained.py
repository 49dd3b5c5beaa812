"""Where pretrained weights lie: paths, names in the local cache, and what is said otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.plugin import Published, SettingError
from x2kit.plugin.toolkit.pretrained import (
    local_path,
    pretrained_file,
    pretrained_weights,
    published_model,
    read_json,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache with the layout of the real one, holding acme/vit with a config.json."""
    snapshot = tmp_path / "hub" / "models--acme--vit" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"width": 16}')
    refs = tmp_path / "hub" / "models--acme--vit" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    import huggingface_hub.file_download

    monkeypatch.setattr(huggingface_hub.file_download.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


def test_a_path_is_a_path_and_a_name_is_none(tmp_path: Path) -> None:
    assert local_path("pretrained", str(tmp_path)) == tmp_path
    assert local_path("pretrained", "acme/vit") is None
    with pytest.raises(SettingError, match=r"pretrained: .*/nothing does not exist"):
        local_path("pretrained", str(tmp_path / "nothing"))


def test_files_lie_in_a_directory_or_beside_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    (tmp_path / "weights.pth").touch()
    for value in (tmp_path, tmp_path / "weights.pth"):
        assert pretrained_file("pretrained", str(value), "config.json") == tmp_path / "config.json"
        assert pretrained_file("pretrained", str(value), "other.json") is None


def test_names_are_looked_up_in_the_local_cache(cache: Path) -> None:
    assert pretrained_file("pretrained", "acme/vit", "config.json") == cache / "config.json"
    assert pretrained_file("pretrained", "acme/vit", "other.json") is None
    with pytest.raises(SettingError, match='pretrained: "acme/vit" is in the local cache without weights'):
        pretrained_weights("pretrained", "acme/vit", ("model.safetensors",))
    (cache / "model.safetensors").touch()
    found = pretrained_weights("pretrained", "acme/vit", ("model.safetensors",))
    assert found == cache / "model.safetensors"


def test_an_absent_name_says_how_to_get_it(cache: Path) -> None:
    with pytest.raises(SettingError, match="hf download acme/other"):
        pretrained_file("pretrained", "acme/other", "config.json")
    with pytest.raises(SettingError, match="neither a path nor a name"):
        pretrained_file("pretrained", "no name", "config.json")


def test_a_directory_holds_one_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="has no file of weights"):
        pretrained_weights("pretrained", str(tmp_path), ("model.safetensors",))
    (tmp_path / "beit.pth").touch()
    assert pretrained_weights("pretrained", str(tmp_path), ("model.safetensors",)).name == "beit.pth"
    (tmp_path / "other.pth").touch()
    with pytest.raises(
        SettingError, match=r"several files of weights; set one of them: beit\.pth, other\.pth"
    ):
        pretrained_weights("pretrained", str(tmp_path), ("model.safetensors",))
    (tmp_path / "model.safetensors").touch()
    assert pretrained_weights("pretrained", str(tmp_path), ("model.safetensors",)).name == "model.safetensors"


def test_damaged_json_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text("[1]")
    with pytest.raises(SettingError, match="expected a JSON object, found list"):
        read_json("pretrained", file)
    file.write_text("{")
    with pytest.raises(SettingError, match=r"config\.json is not JSON"):
        read_json("pretrained", file)


def test_a_cached_model_is_described_by_its_snapshot_and_card(cache: Path) -> None:
    assert published_model("acme/vit") == Published("acme/vit", True, "abc", None)
    (cache / "README.md").write_text("---\nlicense: mit\n---\n# ViT\n")
    assert published_model("acme/vit") == Published("acme/vit", True, "abc", "mit")


def test_a_downloaded_folder_is_described_by_the_note_of_the_download(tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    notes = folder / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (notes / "config.json.metadata").write_text(f"{'b' * 40}\netag\n123.4\n")
    assert published_model(str(folder)) == Published("bert", False, "b" * 40, None)


@pytest.mark.parametrize("value", ["unknown/model", "/nowhere/bert", "not a name"])
def test_facts_of_files_that_are_gone_are_unknown(cache: Path, value: str) -> None:
    found = published_model(value)
    assert found is not None
    assert (found.revision, found.licence) == (None, None)
    assert "/nowhere" not in found.name


@pytest.mark.parametrize("card", ["no front matter", "---\n: [\n---\n", "---\nlicense: [mit]\n---\n"])
def test_a_card_without_a_readable_licence_states_none(tmp_path: Path, card: str) -> None:
    (tmp_path / "README.md").write_text(card)
    found = published_model(str(tmp_path))
    assert found is not None
    assert found.licence is None


def test_no_pretrained_weights_have_no_facts() -> None:
    assert published_model(None) is None
