"""A model in open_clip's form gives the vectors of x2kit, and open_clip's own functions accept it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import ExifTags, Image
from torch.nn import functional as F
from torch.utils.data import DataLoader

from tests.adapters.conftest import Scenes
from tests.inference.conftest import picture
from tests.model.conftest import build
from x2kit.adapters.open_clip import create_model_and_transforms, get_tokenizer
from x2kit.errors import DataError, HeadError, ShapeError, X2KitError
from x2kit.inference import Model, load

ROUNDING = 1e-6
TEXTS = ["Cat, dog", "a dog!", "", "?!", "ein Hund und eine Katze neben einem Haus " * 20]


@torch.no_grad()
def test_vectors_are_those_of_x2kit(weights: Path, scenes: Scenes, model: Model) -> None:
    towers, _, preprocess = create_model_and_transforms(str(weights))
    tokenizer = get_tokenizer(str(weights))
    pixels = torch.stack([preprocess(image) for image in scenes.images[:10]])
    shown, read = towers.encode_image(pixels), towers.encode_text(tokenizer(scenes.captions["de"]))
    for features, expected in (
        (shown, model.embed_images(scenes.images[:10])),
        (read, model.embed_texts(scenes.captions["de"])),
    ):
        assert features.dtype == torch.float32
        torch.testing.assert_close(
            F.normalize(features, dim=-1).numpy(), expected.vectors, atol=ROUNDING, rtol=0
        )
    torch.testing.assert_close(towers.encode_image(pixels, normalize=True), F.normalize(shown, dim=-1))


@torch.no_grad()
def test_any_text_has_a_vector(model: Model) -> None:
    towers, _, _ = create_model_and_transforms(model)
    features = towers.encode_text(get_tokenizer(model)(TEXTS), normalize=True)
    expected = model.embed_texts(TEXTS, allow_empty=True)
    np.testing.assert_allclose(features.numpy(), expected.vectors, atol=ROUNDING)
    assert np.isnan(model.embed_texts(TEXTS).vectors).any(1).tolist() == [False, False, True, True, False]


def test_a_photo_stored_sideways_is_prepared_upright(model: Model, tmp_path: Path) -> None:
    upright, exif = picture(3), Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    _, _, preprocess = create_model_and_transforms(model)
    assert torch.equal(preprocess(tmp_path / "phone.png"), preprocess(upright))


def test_ids_have_one_length_so_that_they_can_be_stacked(model: Model) -> None:
    tokenizer = get_tokenizer(model)
    short, long = tokenizer("cat"), tokenizer(["cat, dog, house", "cat"])
    assert short.shape == (1, tokenizer.context_length)
    assert short.dtype == torch.int64
    assert torch.cat([short, long]).shape == (3, model.module.max_length)
    cut = tokenizer(["cat and dog and house"], context_length=4)
    assert cut[0, 0] == tokenizer.sot_token_id
    assert cut[0, 3] == tokenizer.eot_token_id
    assert get_tokenizer(model, 8)("cat").tolist() == [
        [*tokenizer.encode("cat"), *[tokenizer.pad_token_id] * (8 - len(tokenizer.encode("cat")))]
    ]
    assert tokenizer.decode(short[0]) == "cat"


@torch.no_grad()
def test_padding_changes_nothing(model: Model) -> None:
    towers, _, _ = create_model_and_transforms(model)
    tokenizer = get_tokenizer(model)
    alone = [towers.encode_text(tokenizer(text)) for text in ("cat", "cat, dog, house, tree, sun")]
    together = towers.encode_text(tokenizer(["cat", "cat, dog, house, tree, sun"]))
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-5, rtol=0)
    assert towers.encode_text(tokenizer([])).shape == (0, model.dim)


def test_the_logit_scale_is_the_inverse_temperature(model: Model) -> None:
    towers, _, preprocess = create_model_and_transforms(model)
    assert towers.logit_scale.exp().item() == pytest.approx(1 / model.temperature)
    assert towers.logit_bias is None
    pixels, ids = preprocess(picture(0))[None], get_tokenizer(model)(["cat", "dog"])
    logits, transposed = towers.get_logits(pixels, ids)
    cosines = model.similarity(picture(0), ["cat", "dog"])
    np.testing.assert_allclose(logits.detach(), cosines / model.temperature, atol=1e-4)
    assert torch.equal(transposed, logits.T)
    shown, read, scale = towers(pixels, ids)
    torch.testing.assert_close(scale * shown @ read.T, logits)
    towers.output_dict = True
    assert towers(image=pixels).keys() == {"image_features", "text_features", "logit_scale"}
    assert towers(image=pixels)["text_features"] is None


def test_gradients_reach_both_towers_and_the_temperature(weights: Path) -> None:
    towers, preprocess, _ = create_model_and_transforms(weights)
    shown, read, scale = towers.train()(preprocess(picture(0))[None], get_tokenizer(weights)("cat"))
    (scale * shown @ read.T).sum().backward()
    assert all(tower.proj.weight.grad is not None for tower in (towers.visual, towers.text))
    assert towers.temperature.grad is not None


@torch.no_grad()
def test_half_precision_by_casting_and_by_autocast(weights: Path, scenes: Scenes) -> None:
    images, texts = scenes.images[:4], scenes.captions["en"][:4]
    exact = create_model_and_transforms(weights)
    cast = create_model_and_transforms(weights)[0].bfloat16().eval().to("cpu")
    mixed = create_model_and_transforms(weights, precision="bf16")[0]
    pixels, ids = torch.stack([exact[2](image) for image in images]), get_tokenizer(weights)(texts)
    model = load(weights, "cpu", "bf16")
    expected = model.embed_images(images, batch_size=4).vectors, model.embed_texts(texts).vectors
    for towers, encoded in (
        (cast, (cast.encode_image(pixels.bfloat16(), True), cast.encode_text(ids, True))),
        (mixed, (mixed.encode_image(pixels, True), mixed.encode_text(ids, True))),
    ):
        for features, own in zip(encoded, expected, strict=True):
            tolerance = ROUNDING if towers is mixed else 0.05
            np.testing.assert_allclose(features.numpy(), own, atol=tolerance)


def test_training_images_are_augmented_and_follow_the_seed(model: Model) -> None:
    _, augment, preprocess = create_model_and_transforms(model)
    image = picture(0, (60, 40))
    torch.manual_seed(3)
    first, second = augment(image), augment(image)
    torch.manual_seed(3)
    assert torch.equal(first, augment(image))
    assert not torch.equal(first, second)
    assert torch.equal(preprocess(image), preprocess(image))
    assert first.shape == preprocess(image).shape == (3, 32, 32)


def test_preprocessing_and_tokenizer_work_in_workers(model: Model) -> None:
    _, augment, preprocess = create_model_and_transforms(model)
    tokenizer = get_tokenizer(model)
    again = pickle.loads(pickle.dumps((preprocess, augment, tokenizer)))
    assert torch.equal(again[0](picture(0)), preprocess(picture(0)))
    assert torch.equal(again[2]("cat"), tokenizer("cat"))
    rows = [(preprocess(picture(seed)), tokenizer(text)[0]) for seed, text in enumerate(["cat", "cat, dog"])]
    pixels, ids = next(iter(DataLoader(rows, batch_size=2)))  # type: ignore[arg-type]
    assert (len(pixels), len(ids)) == (2, 2)


class TestFunctionsOfOpenClip:
    """Functions of the installed package, given the adapter."""

    def test_its_transform_by_the_declared_preprocessing(self, model: Model) -> None:
        towers, _, preprocess = create_model_and_transforms(model)
        config = open_clip.transform.PreprocessCfg(**open_clip.model.get_model_preprocess_cfg(towers))
        theirs = open_clip.transform.image_transform_v2(config, is_train=False)
        image = picture(0, (90, 60)).resize((900, 600), Image.Resampling.BICUBIC)
        one_grey_level = 1 / 255 / min(towers.visual.image_std)
        torch.testing.assert_close(theirs(image), preprocess(image), atol=1.5 * one_grey_level, rtol=0)

    def test_its_zero_shot_classifier_is_that_of_classify(self, model: Model, scenes: Scenes) -> None:
        towers, _, preprocess = create_model_and_transforms(model)
        templates, labels = ["a photo of {}", "{}"], ["cat", "dog", "house"]
        classifier = open_clip.build_zero_shot_classifier(towers, get_tokenizer(model), labels, templates)
        pixels = torch.stack([preprocess(image) for image in scenes.images[:5]])
        with torch.no_grad():
            logits = towers.logit_scale.exp() * towers.encode_image(pixels, normalize=True) @ classifier
        for row, found in zip(
            logits.softmax(1).tolist(), model.classify(scenes.images[:5], labels, templates), strict=True
        ):
            own = {each.text: each.probability for each in found.labels}
            assert row == pytest.approx([own[label] for label in labels], abs=1e-4)


def test_a_wrong_use_is_refused(model: Model, weights: Path) -> None:
    towers, _, preprocess = create_model_and_transforms(model)
    tokenizer = get_tokenizer(model)
    with pytest.raises(X2KitError, match=r"pretrained: found 'laion2b'.*says which weights"):
        create_model_and_transforms(str(weights), pretrained="laion2b")
    with pytest.raises(X2KitError, match=r"context_length: expected 3 to .* found 100000"):
        get_tokenizer(model, 100_000)
    with pytest.raises(ShapeError, match=r"images: expected \[B, C, S, S\], found \[3, 32, 32\]"):
        towers.encode_image(preprocess(picture(0)))
    with pytest.raises(ShapeError, match="a row has only padding"):
        towers.encode_text(torch.full((1, 5), tokenizer.pad_token_id))
    with pytest.raises(ShapeError, match="text: expected ids"):
        towers.encode_text(tokenizer("cat")[0])
    with pytest.raises(DataError, match=r"no image at absent\.png"):
        preprocess("absent.png")
    with pytest.raises(DataError, match=r"texts\[0\]: expected a str, found int"):
        tokenizer([3])  # type: ignore[list-item]
    with pytest.raises(HeadError, match="contrastive head"):
        create_model_and_transforms(Model(build(built=["itm", "bbox"]), "without"))
