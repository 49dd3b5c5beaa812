"""X2VLM: three encoders and the paper's heads, its regions, saving and loading. Imports torch."""

from x2kit.model.build import build_model
from x2kit.model.saving import load, save_weights
from x2kit.model.x2vlm import X2VLM

__all__ = ["X2VLM", "build_model", "load", "save_weights"]
