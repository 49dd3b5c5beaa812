"""Load recorded models of the official implementation as models of x2kit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from x2kit_fusion import CrossBert
from x2kit_timm import BeitV2
from x2kit_transformers import Bert, XLMRoberta

from x2kit.data.pipeline.batch import Batch, MaskedTexts, PairedRows, ParallelRows, Regions
from x2kit.interop.layout import MLM_OF_STACK, MLM_SEPARATE, PLAIN_TEXT, STACKED_TEXT, Layout, official_names
from x2kit.model import X2VLM
from x2kit.model.config import HeadsConfig
from x2kit.plugin import SpecialIds, Tokenizer
from x2kit.plugin.tasks import Texts

from .deliberate import DELIBERATE
from .evidence import SEEN
from .page import PAGE, page

REFERENCE = Path(os.environ.get("X2KIT_REFERENCE") or Path(__file__).parents[1] / "reference")


class RecordedTokenizer(Tokenizer):
    """The ids of a recording; the texts themselves were not recorded."""

    def __init__(self, text: dict[str, Any]) -> None:
        self.vocab_size = text["vocab_size"]
        self.special = SpecialIds(**{n: text[f"{n}_token_id"] for n in SpecialIds._fields})

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        raise NotImplementedError

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        raise NotImplementedError

    def save(self, directory: Path) -> None:
        raise NotImplementedError


class Recording(NamedTuple):
    """One folder of the reference: its settings, its model, and the official names of the model's tensors."""

    folder: Path
    config: dict[str, Any]
    model: X2VLM
    names: dict[str, tuple[str, ...]]

    def tensors(self, file: str) -> dict[str, Tensor]:
        return load_file(self.folder / f"{file}.safetensors")

    def json(self, file: str) -> dict[str, Any]:
        return json.loads((self.folder / f"{file}.json").read_text())

    def by_official_name(self, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Own tensors, by own names, as the official ones that they are made of; tied ones under all their names."""
        found = {}
        for name, tensor in own.items():
            names = self.names[name]
            parts = [tensor] if len(names) == 1 else tensor.chunk(len(names))
            found |= dict(zip(names, parts, strict=True))
        for tied in self.config["tied"]:
            known = [found[name] for name in tied if name in found]
            found |= {name: known[0] for name in tied if known}
        return found


def vision_of(config: dict[str, Any]) -> BeitV2:
    vision = config["vision"]
    return BeitV2(
        image_size=vision["image_res"],
        patch_size=vision["patch_size"],
        width=vision["embed_dim"],
        depth=vision["depth"],
        heads=vision["num_heads"],
        mlp_ratio=vision["mlp_ratio"],
        init_values=vision["init_values"],
        drop_path=vision["drop_path"],
    )


def official(tensors: dict[str, Tensor], names: tuple[str, ...]) -> Tensor:
    """An own tensor out of the official ones that make it up."""
    return torch.cat([tensors[name] for name in names]) if len(names) > 1 else tensors[names[0]]


def record(
    name: str,
    video: bool = False,
    more: Mapping[str, Tensor] | None = None,
    files: tuple[Path, Path] | None = None,
    **heads: Any,
) -> Recording:
    """A recorded model.

    Args:
        name: folder of the reference.
        video: with its frame positions, which lie in the video batch.
        more: parameters of other heads by official name, and values instead of the model's own.
        files: settings and weights, if not those of the folder.
        heads: settings of `HeadsConfig` for heads that only a task has.
    """
    folder = REFERENCE / name
    settings_file, weights_file = files or (folder / "config.json", folder / "model.safetensors")
    config = json.loads(settings_file.read_text())
    config = config.get(name, config)
    text, cross = config["text"], config.get("cross")
    separate = cross is not None
    layers = text["num_layers"] if separate else text["fusion_start_at"]
    settings = {
        "layers": layers,
        "width": text["hidden_size"],
        "heads": text["num_heads"],
        "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        "dropout": text["dropout"],
        "summary": "cls",
    }
    tokenizer = RecordedTokenizer(text)
    positions = text["max_position_embeddings"]
    text_config = (
        XLMRoberta(**settings, max_length=positions - tokenizer.special.pad - 1)
        if separate
        else Bert(**settings, max_length=positions)
    )
    fusion = cross or {**text, "num_layers": text["num_layers"] - layers}
    fusion_config = CrossBert(
        layers=fusion["num_layers"],
        heads=fusion["num_heads"],
        mlp_ratio=fusion["intermediate_size"] / fusion["hidden_size"],
        layer_norm_eps=fusion["layer_norm_eps"],
        dropout=fusion["dropout"],
    )
    vision = vision_of(config)
    tensors = load_file(weights_file)
    if video:
        batch = load_file(folder / "video_batch.safetensors")
        tensors |= {
            key.removeprefix("param."): value for key, value in batch.items() if key.startswith("param.")
        }
    tensors |= more or {}
    head = config.get("mlm_head", {"layer_norm_eps": text["layer_norm_eps"], "tied_to_embeddings": True})
    model = X2VLM(
        vision.build(),
        text_config.build(tokenizer),
        fusion_config.build(text["hidden_size"], config["vision"]["embed_dim"]),
        HeadsConfig(
            embed_dim=config["embed_dim"],
            temperature=config["temp"],
            tie_mlm=head["tied_to_embeddings"],
            mlm_layer_norm_eps=head["layer_norm_eps"],
            frames=tensors["absolute_frame_pos_embed"].shape[1] if video else None,
            **heads,
        ),
        text_config.build_decoder(tokenizer, heads["decoder_layers"]) if "decoder_layers" in heads else None,
    )
    model._mean.zero_()
    model._std.fill_(1)
    text_prefix = PLAIN_TEXT if separate else STACKED_TEXT
    layout = Layout(text_prefix, not separate, MLM_SEPARATE if separate else MLM_OF_STACK)
    names = official_names(model, layout, 0 if separate else layers)
    model.load_state_dict({own: official(tensors, theirs) for own, theirs in names.items()})
    return Recording(folder, config, model, names)


@pytest.fixture(params=["xvlm", "cclm"])
def recording(request: pytest.FixtureRequest) -> Recording:
    return record(request.param)


def texts_of(batch: dict[str, Tensor], end: str = "") -> Texts:
    return Texts(batch[f"in.text_ids{end}"], batch[f"in.text_atts{end}"].bool())


def masked_of(batch: dict[str, Tensor]) -> MaskedTexts:
    return MaskedTexts(batch["in.text_ids_masked"], batch["in.masked_pos"], batch["in.masked_ids"])


def image_batch(batch: dict[str, Tensor]) -> Batch:
    rows = torch.arange(len(batch["in.text_ids"]))
    stream = PairedRows(rows, texts_of(batch), masked_of(batch), rows)
    return Batch(0, batch["in.image"], {"image": stream}, {}, [])


def region_batch(batch: dict[str, Tensor], all_count: bool = False) -> Batch:
    rows = torch.arange(len(batch["in.text_ids"]))
    whole = batch["in.is_image"].bool()
    regions = Regions(
        batch["in.target_bbox"],
        torch.zeros_like(whole) if all_count else whole,
        batch["in.image_atts"][:, 1:].bool(),
    )
    stream = PairedRows(batch["in.idx_to_group_img"], texts_of(batch), masked_of(batch), rows, regions)
    return Batch(0, batch["in.image"], {"region": stream}, {}, [])


def parallel_batch(batch: dict[str, Tensor]) -> Batch:
    rows = torch.arange(len(batch["in.text_ids"]))
    stream = ParallelRows(texts_of(batch), texts_of(batch, "_2"), masked_of(batch), rows)
    return Batch(0, None, {"para_text": stream}, {}, [])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Write the page of evidence when asked to (`make parity`), from a run in one process that passed."""
    if os.environ.get("X2KIT_WRITE_PARITY") and exitstatus == pytest.ExitCode.OK:
        PAGE.write_text(page(SEEN, DELIBERATE), encoding="utf-8")
