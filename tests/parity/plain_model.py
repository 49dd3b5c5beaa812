"""Naive image-text model, written from the paper's definitions, on tensors of an official checkpoint.

It shares no code with x2kit and has no size in it, so what it computes can be compared with a recording, and can take
the place of one for another number of layers. Dropout is 0.

B rows, L text tokens, N patches, D width, M images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Tensors = dict[str, Tensor]
BERT = "text_encoder.bert"
TIED = {
    "text_encoder.cls.predictions.decoder.weight": f"{BERT}.embeddings.word_embeddings.weight",
    "text_encoder.cls.predictions.decoder.bias": "text_encoder.cls.predictions.bias",
}
HEAD_EPS = 1e-5
"""Of the layer norms in the matching and box heads: torch's default."""
IGNORED = -100


class PlainModel:
    """Losses of batches, as functions of the tensors.

    Args:
        tensors: of a checkpoint; `parameters` are its parameters, tied ones once.
        config: `config.json` of the recording.
    """

    def __init__(self, tensors: Mapping[str, Tensor], config: Mapping[str, Any], dtype: torch.dtype) -> None:
        self.config = config
        self.buffers = {name: value for name, value in tensors.items() if not value.is_floating_point()}
        self.parameters = {
            name: value.to(dtype).requires_grad_()
            for name, value in tensors.items()
            if value.is_floating_point() and name not in TIED
        }
        self.dtype = dtype

    def losses(self, batch: Mapping[str, Tensor], negatives: Mapping[str, Tensor]) -> Tensors:
        """The losses of a stream by official name; `batch` has the recorded inputs without prefix."""
        batch = {name: v.to(self.dtype) if v.is_floating_point() else v for name, v in batch.items()}
        mask, rows = batch["text_atts"].bool(), torch.arange(len(batch["text_ids"]))
        all_images = self.all_images(batch["image"])[batch.get("idx_to_group_img", rows)]
        seen = (
            batch["image_atts"].bool() if "image_atts" in batch else torch.ones(all_images.shape[:2]).bool()
        )
        inside = all_images[:, 1:] * seen[:, 1:, None]
        summary = inside.sum(1, keepdim=True) / seen[:, 1:].sum(1)[:, None, None]
        image = torch.cat([summary, all_images[:, 1:]], 1)
        text = self.text(batch["text_ids"], mask)

        image_feature = F.normalize(self.linear("vision_proj", image[:, 0]), dim=-1)
        text_feature = F.normalize(self.linear("text_proj", text[:, 0]), dim=-1)
        similarity = image_feature @ text_feature.T / self.parameters["temp"]
        itc = (F.cross_entropy(similarity, rows) + F.cross_entropy(similarity.T, rows)) / 2

        texts = torch.cat([rows, rows, negatives["text"]])
        images = torch.cat([rows, negatives["image"], rows])
        fused = self.fuse(text[texts], mask[texts], image[images], seen[images])
        itm = F.cross_entropy(
            self.head("itm_head", fused[:, 0]), (torch.arange(len(texts)) < len(rows)).long()
        )

        masked = self.fuse(self.text(batch["text_ids_masked"], mask), mask, image, seen)
        found = {"loss_itc": itc, "loss_itm": itm, "loss_mlm": self.masked_language(masked, batch)}
        if "target_bbox" in batch:
            everything = torch.ones_like(seen)
            box = self.head("bbox_head", self.fuse(text, mask, all_images, everything)[:, 0]).sigmoid()
            counts = 1 - batch["is_image"].to(self.dtype)
            target = batch["target_bbox"]
            found["loss_bbox"] = ((box - target).abs().sum(1) * counts).sum() / counts.sum()
            found["loss_giou"] = ((1 - giou(corners(box), corners(target))) * counts).sum() / counts.sum()
        return found

    def all_images(self, images: Tensor) -> Tensor:
        """[M, 3, H, W] to [M, 1 + N, D]: the mean of the patches, and the patches."""
        vision, p = self.config["vision"], self.parameters
        eps = vision["layer_norm_eps"]
        patches = F.conv2d(
            images,
            p["vision_encoder.patch_embed.proj.weight"],
            p["vision_encoder.patch_embed.proj.bias"],
            vision["patch_size"],
        )
        summary = p["vision_encoder.cls_token"].expand(len(images), -1, -1)
        x = torch.cat([summary, patches.flatten(2).transpose(1, 2)], 1)
        for number in range(vision["depth"]):
            block = f"vision_encoder.blocks.{number}"
            q_bias, v_bias = p[f"{block}.attn.q_bias"], p[f"{block}.attn.v_bias"]
            bias = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
            qkv = F.linear(self.norm(f"{block}.norm1", x, eps), p[f"{block}.attn.qkv.weight"], bias)
            table = p[f"{block}.attn.relative_position_bias_table"]
            positions = table[self.buffers[f"{block}.attn.relative_position_index"]].permute(2, 0, 1)
            attended = attention(*qkv.chunk(3, -1), vision["num_heads"], positions)
            x = x + p[f"{block}.gamma_1"] * self.linear(f"{block}.attn.proj", attended)
            hidden = F.gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, eps)))
            x = x + p[f"{block}.gamma_2"] * self.linear(f"{block}.mlp.fc2", hidden)
        x = self.norm("vision_encoder.fc_norm", x[:, 1:], eps)
        return torch.cat([x.mean(1, keepdim=True), x], 1)

    def text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, L] to [B, L, D], through the layers below the fusion."""
        table = {
            kind: self.parameters[f"{BERT}.embeddings.{kind}_embeddings.weight"]
            for kind in ("word", "position", "token_type")
        }
        x = table["word"][ids] + table["position"][: ids.shape[1]] + table["token_type"][0]
        x = self.norm(f"{BERT}.embeddings.LayerNorm", x, self.config["text"]["layer_norm_eps"])
        return self.layers(range(self.config["text"]["fusion_start_at"]), x, mask)

    def fuse(self, text: Tensor, mask: Tensor, image: Tensor, seen: Tensor) -> Tensor:
        """[B, L, D] to the same, through the layers of the fusion."""
        first, end = self.config["text"]["fusion_start_at"], self.config["text"]["num_layers"]
        return self.layers(range(first, end), text, mask, image, seen)

    def layers(
        self,
        numbers: Iterable[int],
        x: Tensor,
        mask: Tensor,
        image: Tensor | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        for number in numbers:
            layer = f"{BERT}.encoder.layer.{number}"
            x = self.attend(f"{layer}.attention", x, x, mask)
            if image is not None:
                x = self.attend(f"{layer}.crossattention", x, image, seen)
            hidden = F.gelu(self.linear(f"{layer}.intermediate.dense", x))
            x = self.norm(
                f"{layer}.output.LayerNorm",
                x + self.linear(f"{layer}.output.dense", hidden),
                self.config["text"]["layer_norm_eps"],
            )
        return x

    def attend(self, name: str, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """Attention with the residual and the norm behind it."""
        text = self.config["text"]
        query = self.linear(f"{name}.self.query", x)
        key, value = (self.linear(f"{name}.self.{part}", source) for part in ("key", "value"))
        attended = attention(query, key, value, text["num_heads"], mask=mask)
        x = x + self.linear(f"{name}.output.dense", attended)
        return self.norm(f"{name}.output.LayerNorm", x, text["layer_norm_eps"])

    def masked_language(self, fused: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        places = batch["masked_pos"][:, :, None].expand(-1, -1, fused.shape[-1])
        head, eps = "text_encoder.cls.predictions", self.config["text"]["layer_norm_eps"]
        states = F.gelu(self.linear(f"{head}.transform.dense", fused.gather(1, places)))
        states = self.norm(f"{head}.transform.LayerNorm", states, eps)
        words = self.parameters[f"{BERT}.embeddings.word_embeddings.weight"]
        logits = F.linear(states, words, self.parameters[f"{head}.bias"])
        return F.cross_entropy(logits.flatten(0, 1), batch["masked_ids"].flatten(), ignore_index=IGNORED)

    def head(self, name: str, x: Tensor) -> Tensor:
        hidden = F.gelu(self.norm(f"{name}.1", self.linear(f"{name}.0", x), HEAD_EPS))
        return self.linear(f"{name}.3", hidden)

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"])

    def norm(self, name: str, x: Tensor, eps: float) -> Tensor:
        weight, bias = self.parameters[f"{name}.weight"], self.parameters[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """softmax(QK' / sqrt(D / H) + bias) V; `mask` [B, N] says which of the keys count."""
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def corners(box: Tensor) -> Tensor:
    return torch.cat([box[:, :2] - box[:, 2:] / 2, box[:, :2] + box[:, 2:] / 2], 1)


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised intersection over union (arXiv:1902.09630) of corners [B, 4]."""

    def area(first: Tensor, last: Tensor) -> Tensor:
        return (last - first).clamp_min(0).prod(1)

    overlap = area(torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:]))
    hull = area(torch.minimum(a[:, :2], b[:, :2]), torch.maximum(a[:, 2:], b[:, 2:]))
    union = area(a[:, :2], a[:, 2:]) + area(b[:, :2], b[:, 2:]) - overlap
    return overlap / union - (hull - union) / hull
