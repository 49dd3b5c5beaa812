"""Register text encoders of transformers: Bert, XLMRoberta, and any other through AutoModel."""

from __future__ import annotations

from x2kit.plugin import Registry, hookimpl
from x2kit_transformers.config import HuggingFaceText
from x2kit_transformers.official import Bert, CclmText, XLMRoberta

__all__ = ["Bert", "CclmText", "HuggingFaceText", "XLMRoberta", "x2kit_register"]

x2kit_api = "1"


@hookimpl
def x2kit_register(registry: Registry) -> None:
    """Register the text encoders."""
    for component in (Bert, XLMRoberta, CclmText, HuggingFaceText):
        registry.add(component)
