"""The self-critical stage: log-probabilities, rewards, frequencies, and what training does to the captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import DataError, X2KitError
from x2kit.model import X2VLM
from x2kit.model.generation.left_to_right import CaptionReader, draw_captions
from x2kit.plugin import VisionFeatures
from x2kit.tasks import Captioning
from x2kit.tasks.captioning import cider_stage
from x2kit.tasks.captioning.cider_stage import (
    CiderStage,
    count_frequencies,
    decode_references,
    encode_references,
    evaluating,
)
from x2kit.tasks.captioning.metric import DocumentFrequencies
from x2kit.tasks.captioning.words import reward_words

REFERENCES = [["a red dog", "the dog"], ["a green cat", "the cat under the sun"]]
PROMPT = [0]


def stage(**settings: Any) -> CiderStage:
    frequencies = DocumentFrequencies.of([[reward_words(text) for text in texts] for texts in REFERENCES] * 4)
    given = {"form": "causal", "prompt": "", "samples": 4, "sample_length": 5, **settings}
    return CiderStage(Captioning(objective="cider", frequencies="a.json", **given), frequencies)


@pytest.fixture
def features(model: X2VLM) -> VisionFeatures:
    return model.encode_images(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("form", ["causal", "insert"])
def test_log_probabilities_are_those_of_the_draws(model: X2VLM, features: VisionFeatures, form: str) -> None:
    model.eval()
    masked = form == "insert"
    drawn = draw_captions(model, features, PROMPT, 3, 5, torch.Generator().manual_seed(0), masked)
    reader = CaptionReader(model, features, 3, masked)
    ids, logs = torch.tensor([PROMPT]).expand(6, -1), []
    for token in drawn.T:
        logs.append(reader(ids, torch.arange(6)).gather(1, token[:, None])[:, 0])
        ids = torch.cat([ids, token[:, None]], 1)
    ended = (drawn == model.tokenizer.special.sep).long()
    kept = (ended.cumsum(1) - ended == 0).float()
    expected = (torch.stack(logs, 1) * kept).sum(1) / kept.sum(1)
    assert_close(
        stage(form=form).log_probability(model, features, PROMPT, drawn), expected, rtol=1e-4, atol=1e-5
    )


def words(model: X2VLM, *texts: str) -> Tensor:
    encoded = [model.tokenizer.encode([text], 40)[0][1:] for text in texts]
    return torch.tensor([[*ids, *[model.tokenizer.special.sep] * (4 - len(ids))] for ids in encoded])


def test_the_reward_counts_the_end_of_a_caption(model: X2VLM) -> None:
    drawn = words(model, "a red dog", "the dog", "a green cat", "cat")
    exact, also, other, part = stage().rewards(model, drawn, REFERENCES).tolist()
    assert min(exact, also, other) > part > 0
    cut = drawn.clone()
    cut[0, 3] = cut[0, 2]  # does not end: the last token is overwritten
    assert stage().rewards(model, cut, REFERENCES)[0].item() == pytest.approx(exact)


@pytest.mark.parametrize("baseline", ["greedy", "samples"])
def test_training_raises_the_reward(model: X2VLM, baseline: str) -> None:
    images = torch.stack([torch.zeros(3, 16, 16), torch.ones(3, 16, 16)])
    torch.manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    cider, reached = stage(baseline=baseline, samples=16), []
    model.train()
    for _ in range(40):
        features = model.encode_images(images)
        loss = cider.loss(model, features, REFERENCES)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with evaluating(model):
            drawn = draw_captions(model, features, PROMPT, 32, 5, torch.Generator().manual_seed(0))
        reached.append(cider.rewards(model, drawn, REFERENCES).mean().item())
    assert sum(reached[-5:]) > 2 * sum(reached[:5])


def test_sampling_leaves_the_mode_of_each_module_and_the_gradients(model: X2VLM) -> None:
    model.train()
    model.vision.eval()  # as a frozen encoder
    before = {name: module.training for name, module in model.named_modules()}
    features = model.encode_images(torch.rand(2, 3, 16, 16))
    stage().loss(model, features, REFERENCES).backward()
    assert {name: module.training for name, module in model.named_modules()} == before
    for part in (model.vision, model.text, model.fusion, model.mlm_head):
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters())


def test_sharded_weights_are_refused(
    model: X2VLM, features: VisionFeatures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cider_stage, "DTensor", torch.nn.Parameter)  # stands for weights of FSDP2
    with pytest.raises(X2KitError, match=r"set training\.distribution to ddp"):
        stage().loss(model, features, REFERENCES)


def test_gradients_reach_the_weights_under_autocast(model: X2VLM) -> None:
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode_images(torch.rand(2, 3, 16, 16))
        loss = stage().loss(model, features, REFERENCES)
    loss.backward()
    without = [name for name, p in model.fusion.named_parameters() if p.grad is None]
    assert without == []


def test_references_survive_as_bytes() -> None:
    encoded = [encode_references(texts) for texts in (["a dog", "ein Hündchen"], ["犬"])]
    longest = max(map(len, encoded))
    padded = torch.tensor([list(text.ljust(longest, b"\0")) for text in encoded], dtype=torch.uint8)
    assert decode_references(padded) == [["a dog", "ein Hündchen"], ["犬"]]


ENTRIES = [
    {"image": "a.jpg", "image_id": 1, "caption": "A dog."},
    {"image": "a.jpg", "image_id": 1, "caption": ["the dog", "a cat"]},
    {"image": "b.jpg", "image_id": 2, "caption": "a cat"},
]


@pytest.mark.parametrize("content", [ENTRIES, {"images": [], "annotations": ENTRIES}])
def test_frequencies_are_counted_by_image(tmp_path: Path, content: object) -> None:
    (tmp_path / "train.json").write_text(json.dumps(content))
    found = count_frequencies(str(tmp_path / "train.json"))
    assert found.documents == 2
    assert (found.counts["dog",], found.counts["a", "cat"], found.counts["<eos>",]) == (1, 2, 2)


@pytest.mark.parametrize("content", ["[]", "{", '[{"caption": "a"}]', '{"images": []}'])
def test_files_without_captions_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.json").write_text(content)
    with pytest.raises(DataError, match=r"frequencies: .*train\.json"):
        count_frequencies(str(tmp_path / "train.json"))
