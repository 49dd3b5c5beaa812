from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from x2kit.plugin.facts import Published
from x2kit.publishing.card import Choices, write_card
from x2kit.publishing.facts import Facts
from x2kit.publishing.folder import redacted_contents
from x2kit.publishing.snippet import Snippet
from x2kit.publishing.target import Target

SNIPPET = Snippet("print(1)\n", "x2kit match x.png", "1\n", "0.5\n")


def card(facts: Facts, licence: str | None = None, target: Target | None = None) -> str:
    choices = Choices(licence, {"": "org/data"}, "0.1.0")
    chosen = target or Target(Path("build/tiny"))
    return write_card(facts, chosen, SNIPPET, redacted_contents(facts), choices)


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_metadata_are_those_of_the_hub(facts: Facts) -> None:
    data = ModelCard(card(facts, "apache-2.0")).data
    assert data.language == ["en", "de", "fr"]
    assert (data.license, data.library_name) == ("apache-2.0", "x2kit")
    assert data.datasets == ["org/data"]
    assert data.pipeline_tag == "zero-shot-image-classification"
    assert {"x2kit", "multilingual", "retrieval"} <= {*data.tags}


def test_without_a_licence_the_metadata_have_none_and_the_card_says_so(facts: Facts) -> None:
    text = card(facts)
    assert ModelCard(text).data.license is None
    assert "No licence was chosen" in section(text, "Licence")
    assert "All encoders were trained from random weights" in section(text, "Licence")


def test_published_weights_are_named_with_revision_and_licence(facts: Facts) -> None:
    known = Published("org/beit", True, "0123abc", "mit")
    unknown = Published("bert", False)
    vision, text_part, fusion = facts.parts
    parts = (vision._replace(published=known), text_part._replace(published=unknown), fusion)
    text = card(replace(facts, parts=parts))
    assert "[org/beit](https://huggingface.co/org/beit), revision 0123abc, licence mit" in text
    assert "bert (a local file), revision not recorded, licence not recorded" in text
    assert "- vision, org/beit: mit\n- text, bert: not recorded" in section(text, "Licence")
    assert ModelCard(text).data.base_model == ["org/beit"]


def test_data_is_named_by_source_and_fingerprint(facts: Facts) -> None:
    row = "| photos | ImageText | JsonLines | files=[coco/train.jsonl] | en, de | `3b36ccd2bb0377ca` |"
    assert row in section(card(facts), "Training data")


def test_languages_are_grouped_by_their_training(facts: Facts) -> None:
    languages = section(card(facts), "Languages")
    assert "- trained with images: en, de\n" in languages
    assert "Measured without any training data in the language: fr." in languages


def test_hardware_and_hours_are_those_of_the_run(facts: Facts) -> None:
    training = section(card(facts), "Training")
    assert "2 × A Graphics Card; A Processor, 8 cores; 4 threads; Linux" in training
    assert "2.0 hours of training steps" in training
    assert "secret-kernel" not in training


def test_the_weights_of_the_last_step_and_selected_ones_are_told_apart(facts: Facts) -> None:
    assert "those of the last step, 40; no validation selected them" in card(facts)
    chosen = {
        "step": 20,
        "metric": "retrieval.mean_recall",
        "split": "validation",
        "value": 0.5,
        "validations": 4,
    }
    assert "step 20, selected by retrieval.mean_recall on split validation (0.5)" in card(
        replace(facts, selection=chosen)
    )


def test_the_example_and_its_output_are_shown(facts: Facts) -> None:
    use = section(card(facts), "Use")
    assert "```python\nprint(1)\n```" in use
    assert "```text\n1\n```" in use
    assert "```bash\nx2kit match x.png\n```" in use


def test_plugins_that_a_reader_needs_are_named(facts: Facts) -> None:
    assert f"- file `tiny.py`, {facts.plugins[0].detail}" in section(card(facts), "Use")


def test_limits_say_what_is_weak_and_what_was_not_measured(facts: Facts) -> None:
    limits = section(card(facts), "Limits")
    assert "- evaluation.json: grounding is at chance level in xx." in limits
    assert "weakest in de (50.0 %), best in en (70.0 %)" in limits
    assert "One training run: the variation between seeds is not known." in limits
    assert "The licence of the training data is not recorded." in limits


def test_a_trained_language_that_was_not_measured_is_a_limit(facts: Facts) -> None:
    (stream,) = facts.streams
    more = stream._replace(languages=("en", "de", "ja"))
    limits = section(card(replace(facts, streams=(more,))), "Limits")
    assert "- Trained, but not measured in: ja." in limits


@pytest.mark.parametrize(
    ("target", "first"),
    [
        (None, "x2kit train tiny/recipe.yaml --run-dir runs/tiny --plugin tiny.py"),
        (
            Target(None, "org/tiny", "v2"),
            "hf download org/tiny --revision v2 --local-dir tiny\nx2kit train tiny/recipe.yaml",
        ),
    ],
)
def test_the_commands_reproduce_training_and_evaluation(
    facts: Facts, target: Target | None, first: str
) -> None:
    reproduce = section(card(facts, target=target), "Reproduce")
    assert first in reproduce
    assert "x2kit evaluate runs/tiny --split test" in reproduce
    assert "- `data.streams.photos.source.init_args.files`" in reproduce


def test_weights_without_a_run_say_what_is_not_recorded(facts: Facts) -> None:
    bare = replace(facts, streams=(), versions={}, metrics=(), results={}, missing=("hours",))
    text = card(bare)
    assert "Not measured." in section(text, "Results")
    assert "in the format of x2kit" in text
    assert "random" not in section(text, "Model")
    assert "not recorded: these are weights without a run" in section(text, "Training")
    assert "cannot be repeated" in section(text, "Reproduce")
    assert "Not recorded: hours." in section(text, "Card")
