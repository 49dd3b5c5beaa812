"""Reading the records of an evaluation, and the records that are refused."""

from __future__ import annotations

import pytest
import torch

from tests.evaluation.stubs import SPEC, Listed, photo
from tests.evaluation.stubs import image as one_image
from x2kit.data.transforms.view import read_image, unit_floats
from x2kit.errors import DataError
from x2kit.tasks.records import (
    Entry,
    RecordReader,
    captions,
    find_languages,
    normalised,
    regions_in,
    texts_in,
)

ENTRY = Entry("photo-7", (200, 100), None, [])


def read(*records: object) -> RecordReader:
    measured = RecordReader(Listed(records), SPEC)  # type: ignore[arg-type]
    measured.drawn = list(measured.images())  # type: ignore[attr-defined]
    return measured


def test_images_equal_those_of_training_without_augmentation() -> None:
    measured = read(photo(0), photo(1))
    assert len(measured) == 2
    assert [entry.size for entry in measured.entries] == [(24, 16), (24, 16)]
    for index, tensor in enumerate(measured.drawn):  # type: ignore[attr-defined]
        torch.testing.assert_close(unit_floats(tensor), read_image(one_image(index), SPEC), rtol=0, atol=0)


def test_a_record_without_an_image_is_refused_with_its_id() -> None:
    with pytest.raises(DataError, match="record photo-3: no image"):
        read(photo(3, image=None))


def test_an_undecodable_image_is_refused_with_its_id_and_reason() -> None:
    with pytest.raises(DataError, match="record photo-3: not a readable image") as caught:
        read(photo(3, image=b"nothing"))
    assert caught.value.reason == "image not readable"


def test_captions_of_one_language_keep_their_image_and_are_cleaned_as_in_training() -> None:
    caption = [{"en": "A Dog, running!", "de": "Hund"}, {"en": "two  dogs"}, {"de": "Hunde"}]
    entries = read(photo(0), photo(1, caption=caption)).entries
    assert captions(entries, "en", False, 40) == (["dog 0", "a dog running", "two dogs"], [0, 1, 1])
    assert captions(entries, "de", False, 40).texts == ["dogchen 0", "hund", "hunde"]
    assert captions(entries, "en", False, 2).texts[1] == "a dog"


def test_a_text_without_language_counts_where_one_language_is_measured() -> None:
    assert texts_in(["a dog", "dogs"], "en", only=True) == ["a dog", "dogs"]


def test_a_text_without_language_is_refused_where_several_are_measured() -> None:
    entries = read(photo(0, caption="a dog")).entries
    with pytest.raises(
        DataError, match=r"record photo-0: the text 'a dog' has no language.*languages '\[en\]'"
    ):
        captions(entries, "en", False, 40)


def test_a_caption_that_cleans_to_nothing_is_refused_with_its_id() -> None:
    entries = read(photo(5, caption={"en": "?!"})).entries
    with pytest.raises(DataError, match="record photo-5: nothing remains"):
        captions(entries, "en", False, 40)


def test_boxes_are_cxcywh_as_shares_of_their_image() -> None:
    assert normalised(ENTRY, [20, 10, 40, 20]) == [0.2, 0.2, 0.2, 0.2]
    boxes = regions_in(read(photo(0)).entries, "en", False, 40)
    assert boxes.texts == ["dog", "cat"]
    assert boxes.bbox[0] == [0.25, 0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    "bbox", [[150, 0, 60, 10], [0, 95, 10, 10], [-5, 0, 10, 10], [0, 0, 0, 10], [0, 0, float("nan"), 1]]
)
def test_a_box_outside_its_image_is_refused_with_its_id(bbox: list[float]) -> None:
    with pytest.raises(
        DataError, match=r"record photo-7: box .* is not inside its image of 200 x 100 pixels"
    ):
        normalised(ENTRY, bbox)


def test_languages_are_found_in_captions_and_regions() -> None:
    region = {"bbox": [0, 0, 1, 1], "caption": {"fr": "le soleil"}}
    source = Listed(
        [photo(0, caption={"de": "Hund"}, regions=[region]), photo(1, caption="dog", regions=None)]
    )
    assert find_languages(source) == ("de", "fr", "und")
