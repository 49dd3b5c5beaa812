"""Equal vectors of the plain loop and of x2kit; no test depends on speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import encoding
from tests.benchmarks.encoding import TOLERANCE, Shape, difference, model_of, plain_texts, work

TINY = Shape(images=6, side=32, width=64, layers=1)


def test_vectors_equal_those_of_the_plain_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "IMAGES_AT_ONCE", 4)
    monkeypatch.setattr(encoding, "TEXTS_AT_ONCE", 7)
    given = work(TINY, tmp_path)
    model = model_of(TINY, given.captions, "cpu")
    assert len(set(given.captions)) < len(given.captions)
    assert difference(model, given) < TOLERANCE
    # Vectors that lie close together would be equal whatever was computed.
    texts = plain_texts(model, sorted(set(given.captions)))
    assert np.abs(texts - texts[0])[1:].max(1).min() > 100 * TOLERANCE
