"""A directory's own code is never run, whatever its configuration says and whoever would agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from x2kit_transformers.loading import empty_encoder, pretrained_encoder
from x2kit_transformers.tokenizer import HuggingFaceTokenizer

from x2kit.plugin import IdsOnly, SpecialIds, WeightsError

IDS = IdsOnly(8, SpecialIds(0, 1, 2, 3, 4))

READERS: dict[str, Callable[[Path], object]] = {
    "saved encoder": lambda folder: empty_encoder(folder, IDS, None, "cls"),
    "published encoder": lambda folder: pretrained_encoder(str(folder), IDS, None, "cls", {}, None),
    "tokenizer": HuggingFaceTokenizer.load,
}


@pytest.mark.parametrize("reader", READERS)
def test_code_that_lies_beside_weights_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str
) -> None:
    monkeypatch.setattr("builtins.input", lambda *prompt: "y")  # transformers would ask
    folder, marker = tmp_path / "weights", tmp_path / "imported"
    folder.mkdir()
    names = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    config = {"model_type": "evil", "auto_map": names}
    for file in ("config.json", "tokenizer_config.json"):
        (folder / file).write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    with pytest.raises(WeightsError):
        READERS[reader](folder)
    assert not marker.exists()
