from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from tests.model import tiny
from x2kit.errors import DataError, ShapeError
from x2kit.model import X2VLM
from x2kit.model.config import HeadsConfig
from x2kit.model.x2vlm import image_context
from x2kit.plugin import Context, VisionFeatures
from x2kit.plugin.toolkit.positions import sinusoid_2d

from .conftest import build

Images = list[Image.Image]
TEXTS = ["a red dog", "the sun and the moon", "Under the GREEN sun!"]


@pytest.fixture
def features(model: X2VLM) -> VisionFeatures:
    return model.encode_images(torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


def test_images_are_normalised_as_the_encoder_declared(model: X2VLM) -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (tiny.SPEC.mean, tiny.SPEC.std))
    expected = model.vision((images - mean) / std)
    found = model.encode_images(images)
    assert_close((found.summary, found.patches), (expected.summary, expected.patches))
    assert [tuple(found.summary.shape), tuple(found.patches.shape), found.grid] == [
        (2, 8),
        (2, 16, 8),
        (4, 4),
    ]


def test_a_region_is_the_mean_of_its_patches(model: X2VLM, features: VisionFeatures) -> None:
    rows = torch.tensor([2, 0, 2])
    bbox = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.25, 0.5, 0.5], [0.875, 0.125, 0.2, 0.2]])
    summary, mask = model.encode_regions(features, rows, bbox)
    patches = features.patches.view(3, 4, 4, 8)
    expected = [patches[2].mean((0, 1)), patches[0, :2, :2].mean((0, 1)), patches[2, 0, 3]]
    assert_close(summary, torch.stack(expected))
    assert mask.sum(1).tolist() == [16, 4, 1]


def test_a_region_may_be_pooled_by_what_the_box_covers(features: VisionFeatures) -> None:
    model = build(region_pooling="overlap")
    bbox = torch.tensor([[0.1875, 0.125, 0.375, 0.25]])  # one patch, and half of the one to its right
    summary, mask = model.encode_regions(features, torch.tensor([1]), bbox)
    patches = features.patches[1]
    assert_close(summary[0], (2 * patches[0] + patches[1]) / 3)
    assert mask.nonzero()[:, 1].tolist() == [0, 1]


def test_positions_are_added_to_the_patches_that_fusion_reads() -> None:
    plain, placed = build(), build(context_positions=0.5)
    assert list(placed.state_dict()) == list(plain.state_dict())  # nothing to learn or to store
    features = plain.encode_images(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    ids, mask = plain.tokenize(TEXTS[:2])
    text = plain.encode_texts(ids, mask)
    context = image_context(features, torch.arange(2))
    moved = context._replace(tokens=features.patches + 0.5 * sinusoid_2d((4, 4), 8))
    assert_close(placed.fuse(text, mask, context), plain.fuse(text, mask, moved))
    assert not torch.allclose(placed.fuse(text, mask, context), plain.fuse(text, mask, context))


def test_texts_as_context_and_texts_alone_get_no_positions() -> None:
    plain, placed = build(), build(context_positions=0.5)
    text = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 16, dtype=torch.bool)
    for context in (None, Context(text, torch.tensor([1, 0]))):
        assert_close(placed.fuse(text, mask, context), plain.fuse(text, mask, context))


def test_positions_need_a_width_divisible_by_4() -> None:
    vision, text = tiny.TinyVision(width=6).build(), tiny.TinyText().build(tiny.TinyTokenizer())
    with pytest.raises(ShapeError) as error:
        X2VLM(vision, text, tiny.TinyFusion().build(8, 6), HeadsConfig(context_positions=1))
    assert (
        str(error.value) == "model.heads.context_positions: the vision width must be a multiple of 4, found 6"
    )


def test_a_given_region_mask_is_used(model: X2VLM, features: VisionFeatures) -> None:
    known = torch.zeros(1, 16, dtype=torch.bool)
    known[0, 7] = True
    summary, mask = model.encode_regions(features, torch.tensor([1]), torch.ones(1, 4), known)
    assert_close(summary[0], features.patches[1, 7])
    assert mask is known


def test_the_common_space_holds_unit_vectors(model: X2VLM, features: VisionFeatures) -> None:
    ids, mask = model.tokenize(TEXTS)
    for vectors in (
        model.project_images(features.summary),
        model.project_texts(model.encode_texts(ids, mask)),
    ):
        assert vectors.shape == (3, 6)
        assert_close(vectors.norm(dim=1), torch.ones(3))


def test_projections_read_position_0(model: X2VLM) -> None:
    tokens = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[:, 1:] = 0
    assert_close(model.project_texts(tokens), model.project_texts(other))
    assert_close(model.itm_logits(tokens), model.itm_logits(other))
    assert_close(model.predict_bbox(tokens), model.predict_bbox(other))


def test_fusing_gives_the_texts_shape(model: X2VLM, features: VisionFeatures) -> None:
    ids, mask = model.tokenize(TEXTS)
    text = model.encode_texts(ids, mask)
    rows = torch.tensor([1, 1, 0])
    assert model.fuse(text, mask, image_context(features, rows)).shape == text.shape
    alone = model.fuse(text, mask, None)
    assert alone.shape == text.shape
    assert not torch.allclose(alone, model.fuse(text, mask, image_context(features, rows)))


def test_an_image_as_context_is_summary_then_all_patches(features: VisionFeatures) -> None:
    context = image_context(features, torch.tensor([2, 2]))
    assert isinstance(context, Context)
    tokens, mask = context.expand()
    assert_close(tokens[1], torch.cat([features.summary[2:], features.patches[2]]))
    assert mask.all()


def test_boxes_are_inside_the_image(model: X2VLM) -> None:
    bbox = model.predict_bbox(100 * torch.randn(20, 3, 8, generator=torch.Generator().manual_seed(0)))
    assert (bbox >= 0).all()
    assert (bbox <= 1).all()


@pytest.mark.parametrize(("value", "kept"), [(0.0, 0.001), (0.2, 0.2), (3.0, 0.5)])
def test_the_temperature_is_clamped(value: float, kept: float) -> None:
    model = build(own_text_temperature=True)
    for temperature in (model.temperature, model.text_temperature):
        torch.nn.init.constant_(temperature, value)
    model.clamp_temperature()
    assert_close((model.temperature.item(), model.text_temperature.item()), (kept, kept))


def test_texts_share_the_temperature_of_images_unless_they_have_their_own() -> None:
    shared, own = build(temperature=0.1), build(temperature=0.1, own_text_temperature=True)
    assert shared.text_temperature is shared.temperature
    assert own.text_temperature is not own.temperature
    assert_close(own.text_temperature.item(), 0.1)
    assert len(list(own.parameters())) == len(list(shared.parameters())) + 1


def test_the_masked_language_head_is_tied_by_default() -> None:
    tied, untied = build(), build(tie_mlm=False)
    assert tied.mlm_head.decoder.weight is tied.text.embedding.weight
    assert untied.mlm_head.decoder.weight is not untied.text.embedding.weight
    assert untied.mlm_head.decoder.weight.shape == (untied.tokenizer.vocab_size, 8)


def test_a_tied_embedding_of_another_width_is_refused() -> None:
    text = tiny.TinyText().build(tiny.TinyTokenizer())
    fusion = tiny.TinyFusion().build(12, 8)
    with pytest.raises(ShapeError) as error:
        X2VLM(tiny.TinyVision().build(), text, fusion)
    assert str(error.value) == (
        "model.heads.tie_mlm: the word embedding has width 8, the fusion encoder 12; set tie_mlm to false"
    )
    X2VLM(tiny.TinyVision().build(), text, fusion, HeadsConfig(tie_mlm=False))


def test_texts_are_cleaned_as_in_training_and_padded(model: X2VLM) -> None:
    ids, mask = model.tokenize(["A red, DOG!", "moon"])
    assert model.tokenizer.decode(ids[0].tolist()) == "a red dog"
    assert mask.tolist() == [[True] * 5, [True] * 3 + [False] * 2]
    assert ids[1, 3:].tolist() == [model.tokenizer.special.pad] * 2


def test_paths_bytes_and_images_are_read_alike(model: X2VLM, images: Images, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    images[0].save(file)
    read = model.read([images[0], file, str(file), file.read_bytes()])
    assert read.shape == (4, 3, 16, 16)
    assert_close(read, read[:1].expand_as(read), rtol=0, atol=0)
    assert_close(read[0, :, 8, 8], torch.tensor([1.0, 0.0, 0.0]))


def test_an_unreadable_image_is_refused(model: X2VLM) -> None:
    with pytest.raises(DataError, match=r"no image at absent\.png"):
        model.read(["absent.png"])
    with pytest.raises(DataError, match="nothing remains of the text"):
        model.tokenize(["..."])
