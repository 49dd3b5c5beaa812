"""Examples: captions with images, images with captions."""

from __future__ import annotations

import base64
import io
import re

import pytest
import torch
from PIL import Image

from tests.evaluation.stubs import Listed, photo
from x2kit.evaluation.report.gallery import Thumbnails, choose_queries, draw_queries, draw_texts, top_places
from x2kit.evaluation.report.probe import LanguageProbe, PartOfSource, Probe
from x2kit.plugin import ImageSpec


@pytest.fixture
def thumbnails(probe: Probe) -> Thumbnails:
    return Thumbnails(probe.part, ImageSpec(16))


@pytest.fixture
def english(probe: Probe) -> LanguageProbe:
    language = probe.captions("en", trained=True)
    assert language is not None
    return language


def test_as_many_right_as_missed_queries_are_chosen_in_order() -> None:
    assert choose_queries([0, 3, 0, 0, 9, 1], [0, 1, 2, 3, 4, 5], each=2) == [0, 2, 1, 4]


def test_missing_queries_of_one_kind_are_replaced_by_the_other() -> None:
    assert choose_queries([0, 0, 0, 5, 0], [0, 1, 2, 3, 4], each=2) == [0, 1, 2, 3]
    assert choose_queries([4, 2, 7], [0, 1, 2], each=2) == [0, 1, 2]


def test_no_two_queries_of_one_image_are_chosen() -> None:
    assert choose_queries([0, 0, 1, 0], [0, 0, 0, 1], each=1) == [0, 3]


def test_the_five_best_are_followed_by_the_true_one_with_its_rank() -> None:
    scores = torch.tensor([0.9, 0.1, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert top_places(scores, [2], 1) == [(0, 0), (2, 1), (3, 2), (4, 3), (5, 4)]
    assert top_places(scores, [1], 6) == [(0, 0), (2, 1), (3, 2), (4, 3), (5, 4), (1, 6)]


def test_ties_rank_the_true_one_last() -> None:
    assert top_places(torch.tensor([0.5, 0.5, 0.5]), [0], 2) == [(1, 0), (2, 1), (0, 2)]


def test_thumbnails_are_small_images_in_the_page() -> None:
    part = PartOfSource(Listed([photo(0, image=Image.new("RGB", (800, 400), "red"))]))
    address = Thumbnails(part, ImageSpec(16))[0]
    kind, content = address.split(",", 1)
    assert kind == "data:image/png;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (shown.size, shown.convert("RGB").getpixel((5, 5))) == ((192, 96), (255, 0, 0))


def test_every_query_shows_its_true_image_once_with_scores(
    probe: Probe, english: LanguageProbe, thumbnails: Thumbnails
) -> None:
    drawn = draw_queries(probe, english, thumbnails)
    queries = drawn.split('<div class="query">')[1:]
    assert len(queries) == 4
    for query in queries:
        hits = re.findall(
            r'<div class="(hit|hit true)"><img src="(.*?)".*?<b>(\d+)\..*?</b> (-?\d\.\d\d)', query
        )
        assert len(hits) in (5, 6)
        (true,) = [hit for hit in hits if hit[0] == "hit true"]
        written = re.search(r'dir="auto">(.*?)</div>', query)
        assert written is not None
        row = english.written.index(written[1])
        assert true[1] == thumbnails[english.images[row]]
        assert int(true[2]) == english.ranks[row] + 1
        assert ("right" in query) == (english.ranks[row] == 0)
        scores = [float(hit[3]) for hit in hits[:5]]
        assert scores == sorted(scores, reverse=True)


def test_captions_are_escaped(model: object, probe: Probe, thumbnails: Thumbnails) -> None:
    english = probe.captions("en", trained=True)
    assert english is not None
    hostile = english._replace(written=["<script>alert(1)</script>"] * len(english.written))
    assert "<script" not in draw_queries(probe, hostile, thumbnails) + draw_texts(
        probe, [hostile], thumbnails
    )


def test_each_image_lists_its_best_captions_and_marks_the_true_ones(
    probe: Probe, english: LanguageProbe, thumbnails: Thumbnails
) -> None:
    drawn = draw_texts(probe, [english], thumbnails)
    lists = re.findall(r"<ol>(.*?)</ol>", drawn)
    assert len(lists) == 3
    for position, items in zip((0, 3, 6), lists, strict=True):
        best = english.similarity[:, position].topk(5).indices.tolist()
        shown = re.findall(r'<bdi lang="en">(.*?)</bdi>', items)
        assert shown[:5] == [english.written[row] for row in best]
        (true,) = re.findall(r'<li class="true">.*?<bdi lang="en">(.*?)</bdi>', items)
        assert true == english.written[position]


def test_an_image_without_caption_has_a_note(
    probe: Probe, english: LanguageProbe, thumbnails: Thumbnails
) -> None:
    moved = english._replace(images=[position or 1 for position in english.images])
    assert draw_texts(probe, [moved], thumbnails).count("no caption in this language") == 1
