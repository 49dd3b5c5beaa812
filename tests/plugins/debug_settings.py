"""One small setting of each encoder of x2kit, or several where it stands for many models. All are 16 wide.

A component that is registered and has none here fails `test_matrix.py`.
"""

from __future__ import annotations

from typing import Any

from x2kit_fusion import CrossBert, DoubledCross, LightCross, PreNormCross
from x2kit_openclip import ClipVision, OpenClipVision
from x2kit_timm import BeitV2, Swin, TimmVision, TimmViT
from x2kit_transformers import Bert, CclmText, HuggingFaceText, XLMRoberta

from x2kit.plugin import FusionEncoderConfig, TextEncoderConfig, VisionEncoderConfig
from x2kit.plugin.toolkit.sentencepiece import SentencePiece

WIDTH = 16

_vit: dict[str, Any] = {"image_size": 32, "patch_size": 16, "width": WIDTH, "heads": 2}
_timm: dict[str, Any] = {"embed_dim": WIDTH, "depth": 1, "num_heads": 2}
_text: dict[str, Any] = {
    "layers": 1,
    "width": WIDTH,
    "heads": 2,
    "mlp_ratio": 2.0,
    "max_length": 24,
    "tokenizer": SentencePiece(vocab_size=80),
}
_deberta_v3 = {
    "relative_attention": True,
    "position_buckets": 4,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
}

VISION: dict[str, VisionEncoderConfig] = {
    "BeitV2": BeitV2(**_vit, depth=1),
    "Swin": Swin(image_size=32, width=8, depths=(1, 1), heads=(1, 2), window=2),
    "TimmViT": TimmViT(**_vit, depth=1),
    "TimmVision, Swin v2": TimmVision(
        architecture="swinv2_tiny_window8_256",
        image_size=32,
        arguments={"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2},
    ),
    "TimmVision, ConvNeXt": TimmVision(
        architecture="convnext_tiny",
        image_size=64,
        arguments={"dims": [8, 8, 8, WIDTH], "depths": [1, 1, 1, 1]},
    ),
    "TimmVision, EVA-02": TimmVision(architecture="eva02_base_patch14_224", image_size=28, arguments=_timm),
    "TimmVision, DINOv2": TimmVision(
        architecture="vit_small_patch14_reg4_dinov2", image_size=28, arguments=_timm, summary="cls"
    ),
    "TimmVision, DINOv3": TimmVision(architecture="vit_base_patch16_dinov3", image_size=32, arguments=_timm),
    "TimmVision, SigLIP": TimmVision(
        architecture="vit_base_patch16_siglip_224", image_size=32, arguments=_timm
    ),
    "TimmVision, CLIP": TimmVision(architecture="vit_base_patch16_clip_224", image_size=32, arguments=_timm),
    "ClipVision": ClipVision(**_vit, layers=1),
    "OpenClipVision": OpenClipVision(
        tower="ViT-B-16", image_size=32, vision={"width": WIDTH, "layers": 1, "head_width": 8}
    ),
}
TEXT: dict[str, TextEncoderConfig] = {
    "Bert": Bert(**_text),
    "XLMRoberta": XLMRoberta(**_text),
    "CclmText": CclmText(**_text),
    "HuggingFaceText, RoBERTa": HuggingFaceText(family="roberta", **_text),
    "HuggingFaceText, mBERT": HuggingFaceText(family="bert", **_text),
    "HuggingFaceText, DistilBERT": HuggingFaceText(family="distilbert", **_text),
    "HuggingFaceText, DeBERTa-v3": HuggingFaceText(family="deberta-v2", config=_deberta_v3, **_text),
    "HuggingFaceText, ModernBERT": HuggingFaceText(
        family="modernbert", config={"local_attention": 4}, **_text
    ),
    "HuggingFaceText, E5": HuggingFaceText(family="xlm-roberta", **_text, summary="mean"),
}
FUSION: dict[str, FusionEncoderConfig] = {
    "CrossBert": CrossBert(layers=1, heads=2, mlp_ratio=2.0),
    "DoubledCross": DoubledCross(layers=1, heads=2, mlp_ratio=2.0),
    "PreNormCross": PreNormCross(layers=1, heads=2, mlp_ratio=2.0),
    "LightCross": LightCross(layers=2, heads=2, mlp_ratio=2.0),
}
