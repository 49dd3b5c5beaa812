"""mteb evaluates a model of x2kit on retrieval between images and texts and on texts, with the recall of x2kit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS
from mteb.models import EncoderProtocol
from torch.utils.data import DataLoader

from tests.adapters.conftest import LANGUAGES, Scenes, own_recalls
from tests.inference.conftest import picture
from tests.model.conftest import build
from x2kit.adapters.mteb import Encoder, load_encoder, model_name
from x2kit.errors import DataError, HeadError, X2KitError
from x2kit.inference import Model, load

ROUNDING = 1e-6
CODES = {"en": ["eng-Latn"], "de": ["deu-Latn"]}


def metadata(name: str, kind: str, category: str, languages: Any) -> mteb.TaskMetadata:
    return mteb.TaskMetadata(
        name=name,
        description="written by a test",
        reference=None,
        dataset={"path": "none", "revision": "none"},
        type=kind,
        category=category,
        modalities=["text"] if category == "t2t" else ["image", "text"],
        eval_splits=["test"],
        eval_langs=languages,
        main_score="cosine_spearman" if kind == "STS" else "hit_rate_at_1",
        date=None,
        domains=None,
        license=None,
        task_subtypes=None,
        annotations_creators=None,
        dialect=None,
        sample_creation=None,
        bibtex_citation=None,
    )


def retrieval(category: str, scenes: Scenes) -> AbsTaskRetrieval:
    """Retrieval of images by captions (t2i), or of captions by images (i2t), by language."""

    class EmojiRetrieval(AbsTaskRetrieval):  # type: ignore[misc]
        metadata = metadata(f"Emoji{category.upper()}", "Any2AnyMultilingualRetrieval", category, CODES)

    names = [f"{number:03}" for number in range(len(scenes.images))]
    shown = Dataset.from_list(
        [{"id": name, "image": image} for name, image in zip(names, scenes.images, strict=True)]
    )
    task = EmojiRetrieval()
    task.dataset = {}
    for language in scenes.captions:
        texts = Dataset.from_list(
            [{"id": n, "text": text} for n, text in zip(names, scenes.captions[language], strict=True)]
        )
        queries, corpus = (texts, shown) if category == "t2i" else (shown, texts)
        split = {"queries": queries, "corpus": corpus, "top_ranked": None}
        task.dataset[language] = {"test": {**split, "relevant_docs": {name: {name: 1} for name in names}}}
    task.data_loaded = True
    return task


def evaluated(encoder: Encoder, task: Any) -> dict[str, dict[str, Any]]:
    """The scores by subset."""
    found = mteb.evaluate(encoder, task, cache=None, show_progress_bar=False, co2_tracker=False)
    return {scores["hf_subset"]: scores for scores in found.task_results[0].scores["test"]}


@pytest.mark.parametrize(("category", "direction"), [("t2i", "text_to_image"), ("i2t", "image_to_text")])
def test_recall_is_that_of_x2kit(
    weights: Path, model: Model, scenes: Scenes, category: str, direction: str
) -> None:
    scores = evaluated(load_encoder(weights, "cpu"), retrieval(category, scenes))
    for language in LANGUAGES:
        captions = scenes.captions[language]
        own = own_recalls(model, scenes.images, captions, list(range(len(captions))))[direction]
        theirs = {f"r{k}": scores[language][f"hit_rate_at_{k}"] for k in (1, 5, 10)}
        assert theirs == pytest.approx(own, abs=ROUNDING)


def test_ties_count_for_the_last_id_there_and_as_misses_here(model: Model) -> None:
    """Two equal images, each with a text: x2kit gives none the first place, mteb the second to both texts."""
    images, texts = [picture(0), picture(0)], ["cat", "dog"]
    task = retrieval("t2i", Scenes(images, {"en": texts, "de": texts}))
    assert own_recalls(model, images, texts, [0, 1])["text_to_image"]["r1"] == 0
    assert evaluated(Encoder(model), task)["en"]["hit_rate_at_1"] == 0.5


def test_similarity_of_sentences_is_the_cosine(model: Model, scenes: Scenes) -> None:
    class Sentences(AbsTaskSTS):  # type: ignore[misc]
        metadata = metadata("EmojiSTS", "STS", "t2t", ["eng-Latn"])
        min_score, max_score = 0, 1

    first, second = scenes.captions["en"][:20], scenes.captions["de"][:20]
    cosines = (model.embed_texts(first).vectors * model.embed_texts(second).vectors).sum(1)
    task = Sentences()
    rows = {"sentence1": first, "sentence2": second, "score": ((1 + cosines) / 2).tolist()}
    task.dataset, task.data_loaded = {"test": Dataset.from_dict(rows)}, True
    assert evaluated(Encoder(model), task)["default"]["cosine_pearson"] == pytest.approx(1, abs=ROUNDING)


def batches(rows: Sequence[dict[str, Any]], size: int = 2) -> Any:
    keys = rows[0].keys()
    return DataLoader(rows, size, collate_fn=lambda some: {key: [row[key] for row in some] for key in keys})  # type: ignore[arg-type]


class TestEncode:
    def test_any_text_has_a_vector(self, model: Model) -> None:
        texts = ["", "?!", "Cat, dog", "word " * 5000]
        found = Encoder(model).encode(batches([{"text": text} for text in texts]), batch_size=2)
        np.testing.assert_allclose(found, model.embed_texts(texts, allow_empty=True).vectors, atol=ROUNDING)
        assert np.isfinite(found).all()

    def test_image_and_text_together_are_the_sum(self, model: Model) -> None:
        images, texts = [picture(0), picture(1), picture(2)], ["cat", "dog", "house"]
        rows = [{"image": image, "text": text} for image, text in zip(images, texts, strict=True)]
        expected = model.embed_images(images).vectors + model.embed_texts(texts).vectors
        np.testing.assert_allclose(Encoder(model).encode(batches(rows)), expected, atol=ROUNDING)

    def test_no_inputs_are_no_rows(self, model: Model) -> None:
        assert Encoder(model).encode([]).shape == (0, model.dim)

    def test_wrong_inputs_are_refused(self, model: Model) -> None:
        encoder = Encoder(model)
        with pytest.raises(DataError, match='expected batches with "text" or "image", found audio'):
            encoder.encode(batches([{"audio": 1}]))
        with pytest.raises(DataError, match=r"1 inputs cannot be encoded; the first is 'images\[1\]'"):
            encoder.encode(batches([{"image": picture(0)}, {"image": b"no image"}]))
        with pytest.raises(X2KitError, match="precision: expected float32, found 'int8'"):
            encoder.encode(batches([{"text": "cat"}]), precision="int8")


class TestModelMeta:
    def test_it_says_what_is_known(self, weights: Path) -> None:
        model = load(weights, "cpu")
        encoder = Encoder(model)
        meta = encoder.mteb_model_meta
        assert isinstance(encoder, EncoderProtocol)
        assert (meta.name, meta.revision) == ("x2kit/small", model.fingerprint)
        assert meta.languages == ["deu-Latn", "eng-Latn"]
        assert meta.n_parameters == sum(each.numel() for each in model.module.parameters())
        assert meta.n_embedding_parameters == model.module.text.token_embedding().weight.numel()
        assert meta.memory_usage_mb == pytest.approx(meta.n_parameters * 4 / 2**20)
        assert (meta.embed_dim, meta.max_tokens) == (16, model.module.max_length)
        assert (meta.license, meta.experiment_kwargs) == (None, None)
        assert meta.modalities == ["text", "image"]

    def test_results_in_another_precision_are_kept_apart(self, weights: Path) -> None:
        assert Encoder(load(weights, "cpu", "bf16")).mteb_model_meta.experiment_kwargs == {
            "precision": "bf16"
        }

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("runs/quickstart", "x2kit/quickstart"),
            ("/data/runs/q42/weights", "x2kit/q42"),
            ("weights", "x2kit/weights"),
            ("hf-hub:someone/model@main", "someone/model"),
            ("official/x2vlm-base", "x2kit/x2vlm-base"),
            (".", "x2kit/model"),
        ],
    )
    def test_names_have_an_organisation(self, name: str, expected: str) -> None:
        assert model_name(name) == expected

    def test_a_model_in_memory_has_no_revision(self) -> None:
        with pytest.raises(X2KitError, match="a model in memory has no weights file"):
            _ = Encoder(Model(build(), "memory")).mteb_model_meta


def test_without_contrastive_head_or_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HeadError, match="contrastive head"):
        load_encoder(Model(build(built=["itm", "bbox"]), "without"))
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(X2KitError, match=r"mteb cannot be imported.*pip install mteb"):
        load_encoder(Model(build(), "tiny"))
