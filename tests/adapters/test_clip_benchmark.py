"""clip_benchmark evaluates a model of x2kit by its functions and its command line, with the recall of x2kit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from clip_benchmark.datasets.builder import image_captions_collate_fn
from clip_benchmark.metrics import zeroshot_classification, zeroshot_retrieval
from clip_benchmark.models import load_clip
from torch.utils.data import DataLoader

from tests.adapters.conftest import LANGUAGES, Scenes, own_recalls
from tests.inference.conftest import picture
from x2kit.adapters import clip_benchmark
from x2kit.adapters.clip_benchmark import load_x2kit, register
from x2kit.errors import X2KitError
from x2kit.inference import Model

RECALLS = (1, 5, 10)


LABELS = ["cat", "dog", "house", "tree", "sun"]


class Labelled(list[tuple[torch.Tensor, int]]):
    """Images with their classes, as clip_benchmark's data sets have them."""

    classes = LABELS


def named(own: dict[str, dict[str, float]]) -> dict[str, float]:
    """Recall as clip_benchmark names it: after what is retrieved, not after the query."""
    return {
        f"{retrieved}_retrieval_recall@{k}": own[direction][f"r{k}"]
        for retrieved, direction in (("image", "text_to_image"), ("text", "image_to_text"))
        for k in RECALLS
    }


def retrieval(model: Model, rows: list[tuple[torch.Tensor, list[str]]]) -> dict[str, float]:
    towers, _, tokenizer = load_x2kit(model)
    loader = DataLoader(rows, batch_size=16, collate_fn=image_captions_collate_fn)  # type: ignore[arg-type]
    found: dict[str, float] = zeroshot_retrieval.evaluate(
        towers, loader, tokenizer, "cpu", amp=False, recall_k_list=list(RECALLS)
    )
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_recall_is_that_of_x2kit(model: Model, scenes: Scenes, language: str) -> None:
    _, preprocess, _ = load_x2kit(model)
    captions = scenes.captions[language]
    rows = [(preprocess(image), [text]) for image, text in zip(scenes.images, captions, strict=True)]
    own = own_recalls(model, scenes.images, captions, list(range(len(captions))))
    assert retrieval(model, rows) == pytest.approx(named(own), abs=1e-6)


def test_recall_of_images_with_several_captions_is_that_of_x2kit(model: Model, scenes: Scenes) -> None:
    _, preprocess, _ = load_x2kit(model)
    pairs = list(zip(scenes.captions["en"], scenes.captions["de"], strict=True))
    rows = [(preprocess(image), list(texts)) for image, texts in zip(scenes.images, pairs, strict=True)]
    texts = [text for pair in pairs for text in pair]
    own = own_recalls(model, scenes.images, texts, [row // 2 for row in range(len(texts))])
    assert retrieval(model, rows) == pytest.approx(named(own), abs=1e-6)


def test_ties_count_for_the_first_candidate_there_and_as_misses_here(model: Model) -> None:
    """Two equal images with one text: x2kit gives none the first place, clip_benchmark one of them."""
    _, preprocess, _ = load_x2kit(model)
    images, texts = [picture(0), picture(0)], ["cat", "dog"]
    towers, _, tokenizer = load_x2kit(model)
    loader = DataLoader(
        [(preprocess(image), [text]) for image, text in zip(images, texts, strict=True)],  # type: ignore[arg-type]
        batch_size=2,
        collate_fn=image_captions_collate_fn,
    )
    theirs = zeroshot_retrieval.evaluate(towers, loader, tokenizer, "cpu", amp=False, recall_k_list=[1])
    assert own_recalls(model, images, texts, [0, 1])["text_to_image"]["r1"] == 0
    assert theirs["image_retrieval_recall@1"] == 0.5


def test_zero_shot_classification_is_that_of_classify(model: Model, scenes: Scenes) -> None:
    register()  # repairs the accuracy
    towers, preprocess, tokenizer = load_x2kit(model)
    labels, templates, images = LABELS, ["a photo of {c}", "{c}"], scenes.images[:30]
    ranked = model.classify(images, labels, ["a photo of {}", "{}"])
    own = [found.labels[0].text for found in ranked]
    targets = [labels.index(label) if row % 3 else row % len(labels) for row, label in enumerate(own)]
    rows = [(preprocess(image), target) for image, target in zip(images, targets, strict=True)]
    loader = DataLoader(Labelled(rows), batch_size=8)  # type: ignore[arg-type]
    found = zeroshot_classification.evaluate(towers, loader, tokenizer, labels, templates, "cpu", amp=False)
    right = [labels[target] == label for target, label in zip(targets, own, strict=True)]
    assert 0 < sum(right) < len(right)
    assert found["acc1"] == pytest.approx(sum(right) / len(right))
    assert found["acc5"] == 1


def test_its_command_line_evaluates_own_images_in_two_languages(
    model: Model, weights: Path, scenes: Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(len(scenes.images))]
    for path, image in zip(paths, scenes.images, strict=True):
        image.save(path)
    for language in LANGUAGES:  # the format of clip_benchmark's Crossmodal-3600
        file = tmp_path / f"crossmodal3600_captions-{language}.json"
        file.write_text(
            json.dumps({"image_paths": [*map(str, paths)], "annotations": scenes.captions[language]})
        )
    monkeypatch.chdir(tmp_path)
    options = f"--dataset crossmodal3600 --dataset_root {tmp_path} --recall_k 1 5 10 --no_amp --num_workers 0"
    options += f" --language {' '.join(LANGUAGES)} --output found-{{language}}.json --quiet"
    before = list(sys.argv)
    assert clip_benchmark.main(["eval", "--model", str(weights), *options.split()]) == 0
    assert sys.argv == before
    for language in LANGUAGES:
        found = json.loads((tmp_path / f"found-{language}.json").read_text())
        own = own_recalls(model, scenes.images, scenes.captions[language], list(range(len(scenes.images))))
        assert found["metrics"] == pytest.approx(named(own), abs=1e-6)


def test_it_loads_the_registered_type(weights: Path) -> None:
    register()
    register()
    towers, transform, tokenizer = load_clip("x2kit", str(weights), "", None, "cpu")  # type: ignore[arg-type]
    with torch.no_grad():
        shown, read = towers.encode_image(transform(picture(0))[None]), towers.encode_text(tokenizer("cat"))
    assert shown.shape == read.shape == (1, 16)


def test_a_wrong_use_is_refused_before_measuring(weights: Path) -> None:
    with pytest.raises(X2KitError, match="pretrained: found 'laion400m_e32'"):
        load_x2kit(str(weights), "laion400m_e32")
    with pytest.raises(X2KitError, match=r"pass --output FILE.json: names of models contain slashes"):
        clip_benchmark.main(["eval", "--model", str(weights), "--dataset", "crossmodal3600"])


def test_without_the_package_the_command_says_how_to_install_it() -> None:
    code = (
        "import sys, runpy; sys.modules['clip_benchmark'] = None; sys.argv = ['x', 'eval'];"
        "runpy.run_module('x2kit.adapters.clip_benchmark', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: clip_benchmark.models cannot be imported")
    assert done.stderr.rstrip().endswith("pip install clip-benchmark")
    assert "Traceback" not in done.stderr
