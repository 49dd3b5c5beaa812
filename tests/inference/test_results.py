"""Results as JSON, as text and as tables of a notebook."""

from __future__ import annotations

import json

import numpy as np

from x2kit.inference import (
    Answer,
    Box,
    Classification,
    Embeddings,
    Explanation,
    InputError,
    Location,
    Match,
    Ranked,
    Ranking,
    Scored,
    WordMap,
)

BOX = Box((1, 2, 3, 4), (0.1, 0.2, 0.3, 0.4), 0.75)


def test_json_has_the_names_of_the_fields() -> None:
    assert Match("a.png", "a dog", 0.5, None).to_dict() == {
        "image": "a.png",
        "text": "a dog",
        "probability": 0.5,
        "similarity": None,
    }
    location = Location("a.png", "a dog", [BOX], "box head", source=object())
    assert json.loads(json.dumps(location.to_dict())) == {
        "image": "a.png",
        "text": "a dog",
        "boxes": [{"pixels": [1, 2, 3, 4], "relative": [0.1, 0.2, 0.3, 0.4], "probability": 0.75}],
        "method": "box head",
    }


def test_arrays_become_lists_and_nan_becomes_null() -> None:
    vectors = np.array([[0.5, 1.0], [np.nan, np.nan]], np.float16)
    found = Embeddings(vectors, ["a", "b"], [InputError(1, "b", "broken")]).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "vectors": [[0.5, 1.0], [None, None]],
        "names": ["a", "b"],
        "errors": [{"index": 1, "name": "b", "message": "broken"}],
    }


def test_arrays_are_named_by_their_size() -> None:
    heat = np.zeros((2, 3), np.float32)
    assert repr(Embeddings(heat, ["a", "b"])) == "Embeddings(2 x 3, float32, 0 errors)"
    assert repr(WordMap("dog", heat)) == "WordMap('dog', 3 x 2)"
    found = repr(Explanation("a.png", "a dog", heat, [WordMap("dog", heat)], BOX, "attention"))
    assert found.startswith("Explanation('a.png', 'a dog', 3 x 2, words: dog, attention, Box(")


def test_notebooks_show_a_table_with_texts_escaped() -> None:
    ranking = Ranking("<b>dog</b>", [Ranked(0, "<i>.png", 0.123456, None)])
    assert ranking._repr_html_() == (
        "<p>&lt;b&gt;dog&lt;/b&gt;</p><table><tr><th>index</th><th>name</th><th>similarity</th><th>probability</th>"
        "</tr><tr><td>0</td><td>&lt;i&gt;.png</td><td>0.123</td><td></td></tr></table>"
    )
    scored = [Scored(f"label {number}", 0.01) for number in range(30)]
    assert "and 10 more" in Classification("a.png", scored)._repr_html_()
    assert "<td>label 3</td>" in Answer("a.png", "what?", scored)._repr_html_()
    assert "0.100, 0.200" in Location("a.png", "a dog", [BOX])._repr_html_()


def test_a_notebook_names_unreadable_inputs() -> None:
    found = Embeddings(np.zeros((1, 2)), ["x.png"], [InputError(0, "x.png", "no image")])._repr_html_()
    assert "<td>x.png</td><td>no image</td>" in found
