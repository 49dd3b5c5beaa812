"""Every kind of name becomes a weights directory; official checkpoints are converted once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.hub.web import Site, serving
from tests.interop import made
from tests.model import tiny
from tests.model.conftest import RECIPE, build
from x2kit.errors import WeightsError
from x2kit.hub.names import NamedWeights
from x2kit.interop import conversions
from x2kit.interop.named_weights import initial_weights, named_weights, weights_of
from x2kit.model import load, save_weights
from x2kit.model.config import ModelConfig
from x2kit.plugin.loading.manager import load_plugins

XVLM = "xvlm1_clipvit_pretrain_base_224"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a narrow official checkpoint, xvlm.th, and words/, a tokenizer of its size."""
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("official")
    tensors = made.tensors_of(made.inventory(XVLM).scaled())
    (rows,) = (len(value) for name, value in tensors.items() if name.endswith("word_embeddings.weight"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: id_ for id_, word in enumerate([*special, *(f"word{n}" for n in range(rows - 5))])}
    BertTokenizerFast(vocab=vocab).save_pretrained(folder / "words")
    made.write(tensors, folder / "xvlm.th", config=made.CONFIG)
    return folder


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are converted from here on."""
    files: list[str] = []
    convert = conversions.from_official

    def counting(file: Path, *arguments: object, **named: object) -> object:
        files.append(file.name)
        return convert(file, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(conversions, "from_official", counting)
    return files


def test_a_run_and_its_weights_are_one_directory(tmp_path: Path) -> None:
    save_weights(build(), RECIPE, tmp_path / "run" / "weights")
    found = named_weights("run")
    assert found == NamedWeights("run", Path("run/weights"), Path("run/weights/model.safetensors"), {})
    assert weights_of(tmp_path / "run" / "weights") == tmp_path / "run" / "weights"
    with pytest.raises(WeightsError, match="no weights; expected"):
        weights_of(tmp_path)


def test_an_official_checkpoint_is_converted_once(
    written: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = counted(monkeypatch)
    name, words = str(written / "xvlm.th"), str(written / "words")
    found = named_weights(name, tokenizer=words)
    assert found.directory.parent == cache / "converted"
    assert found.file == Path(name)
    assert set(found.origin) == {"sha256"}
    assert named_weights(name, tokenizer=words) == found
    shutil.copy(name, "renamed.th")
    assert named_weights("renamed.th", tokenizer=words).directory == found.directory  # keyed by content
    assert files == ["xvlm.th"]
    assert load(found.directory).tokenizer.encode(["word3"], 8)[0][1] == 8


def test_a_killed_conversion_is_cleared_away(written: Path, cache: Path) -> None:
    found = weights_of(written / "xvlm.th", tokenizer=str(written / "words"))
    killed = found.with_name(f".{found.name}.99.partial")
    found.rename(killed)
    weights_of(written / "xvlm.th", tokenizer=str(written / "words"))
    assert not killed.exists()
    assert (found / "model.safetensors").is_file()


def test_another_tokenizer_or_version_is_another_conversion(
    written: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name, words = str(written / "xvlm.th"), str(written / "words")
    first = weights_of(name, tokenizer=words)
    shutil.copytree(words, "copied")
    assert weights_of(name, tokenizer="copied") == first
    changed = Path("copied/tokenizer_config.json")
    changed.write_text(changed.read_text() + "\n")
    assert weights_of(name, tokenizer="copied") != first
    monkeypatch.setattr(conversions, "LAYOUT", conversions.LAYOUT + 1)
    assert weights_of(name, tokenizer=words) != first


def test_a_failed_conversion_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.th").write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match=r"bad\.th"):
        weights_of("bad.th", tokenizer="words")
    assert not [file for file in (cache / "converted").iterdir() if file.is_dir()]


def test_the_usual_tokenizer_of_a_vocabulary_is_asked_for_by_name(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bert = load_plugins().registry.get("text", "Bert")
    monkeypatch.setattr(bert, "usual_tokenizer", lambda self: "acme/words")
    monkeypatch.setenv("X2KIT_OFFLINE", "1")
    with pytest.raises(WeightsError) as error:
        weights_of(written / "xvlm.th")
    assert "xvlm.th: tokenizer acme/words: not in the cache" in str(error.value)
    assert "tokenizer=DIRECTORY" in str(error.value)
    monkeypatch.setattr(bert, "usual_tokenizer", lambda self: str(written / "words"))
    assert load(weights_of(written / "xvlm.th")).tokenizer.vocab_size > 5


def test_the_published_vocabularies_have_a_usual_tokenizer() -> None:
    registry = load_plugins().registry
    names = {}
    for component, size in (("Bert", 30522), ("Bert", 119547), ("XLMRoberta", 250002)):
        names[component, size] = registry.get("text", component)(vocab_size=size).usual_tokenizer()
    assert names == {
        ("Bert", 30522): "bert-base-uncased",
        ("Bert", 119547): None,  # of mBERT, which no official checkpoint has
        ("XLMRoberta", 250002): "xlm-roberta-base",
    }


def test_a_published_model_is_fetched_and_converted_with_its_tokenizer(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Site({"xvlm.th": (written / "xvlm.th").read_bytes()})) as site:
        entry = {
            "title": "t",
            "address": site.of("xvlm.th"),
            "file": "a.th",
            "tokenizer": str(written / "words"),
        }
        (tmp_path / "own.yaml").write_text(yaml.safe_dump({"models": {"ours": entry}}))
        monkeypatch.setenv("X2KIT_CATALOGUE", str(tmp_path / "own.yaml"))
        found = named_weights("ours")
    assert named_weights("ours") == found  # without the server
    assert load(found.directory).image_spec.size == 224
    assert json.loads((found.directory / "account.json").read_text())


def test_the_evaluation_of_the_file_follows_the_folder(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = counted(monkeypatch)
    tensors = made.tensors_of(made.inventory("xvlm_retrieval_base_384").scaled())
    config = {"image_root": "images", "test_file": ["data/coco_test.json"], "k_test": 256}
    made.write(tensors, tmp_path / "tuned.th", config={**made.CONFIG, **config})
    first = weights_of("tuned.th", tokenizer=tokenizer_of(tensors, tmp_path))
    assert str(tmp_path / "data") in (first / "recipe.yaml").read_text()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    second = weights_of(tmp_path / "tuned.th", tokenizer=str(tmp_path / "vocabulary"))
    assert str(tmp_path / "elsewhere" / "data") in (second / "recipe.yaml").read_text()
    assert (first / "model.safetensors").samefile(second / "model.safetensors")
    assert files == ["tuned.th"]


def tokenizer_of(tensors: dict[str, object], folder: Path) -> str:
    """A tokenizer with as many words as a checkpoint."""
    from transformers import BertTokenizerFast

    (rows,) = {len(value) for name, value in tensors.items() if name.endswith("word_embeddings.weight")}  # type: ignore[arg-type]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: id_ for id_, word in enumerate([*special, *(f"word{n}" for n in range(rows - 5))])}
    BertTokenizerFast(vocab=vocab).save_pretrained(folder / "vocabulary")
    return str(folder / "vocabulary")


class Recipe:
    """A recipe with initial weights."""

    def __init__(self, init_from: str | None) -> None:
        self.model = ModelConfig(
            vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=tiny.TinyFusion(), init_from=init_from
        )

    def to_yaml(self) -> str:
        return "plugins: []\n"


def test_initial_weights_are_named_as_the_recipe_does(tmp_path: Path) -> None:
    assert initial_weights(Recipe(None)) is None
    save_weights(build(), RECIPE, tmp_path / "run" / "weights")
    found = initial_weights(Recipe("run"))
    assert found is not None
    assert (found.name, found.origin) == ("run/weights", {})
