"""Define the settings of the parts that a run trains. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from x2kit.model.config import ENCODERS, HeadsConfig
from x2kit.model.lora import INSTALL_PEFT

_OPTIONAL = {"frames": "frames", "answers": "answers", "decoder": "decoder_layers"}
"""Heads by the key of `model.heads` that builds them."""


def head_names(heads: HeadsConfig) -> list[str]:
    """Return the names of the parts of a model besides its encoders."""
    built: list[str] = [*heads.built, *(["temperature"] if "itc" in heads.built else [])]
    built += [name for name, key in _OPTIONAL.items() if getattr(heads, key) is not None]
    return list(dict.fromkeys([*built, *heads.extra]))


class LoraConfig(BaseModel):
    """Low-rank adapters of the linear layers of a part (LoRA, arXiv:2106.09685), by the library peft."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rank: int = Field(8, gt=0, description="rank of the change of each matrix")
    alpha: float = Field(16.0, gt=0, description="the change is multiplied by alpha / rank")


class PartConfig(BaseModel):
    """Which parameters of a part are trained: `parameters`, the last layers and adapters together."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    shorthand: ClassVar[str] = "parameters"
    """The field that a plain word in a recipe sets."""

    parameters: Literal["all", "none", "norms"] | None = Field(
        None,
        description="all, none, or those of the norms (weights and biases); null: none with last_layers or lora, "
        "otherwise all",
    )
    last_layers: int | None = Field(
        None, gt=0, description="also train this number of last layers, and the modules after them"
    )
    lora: LoraConfig | None = Field(
        None,
        description="also train adapters of the linear layers that the encoder declares (needs the extra peft); "
        "{} for the defaults",
    )
    from_step: int = Field(
        0,
        ge=0,
        description="number of steps during which the part is frozen, before it is trained as set above",
    )

    @property
    def base(self) -> Literal["all", "none", "norms"]:
        """The setting `parameters`, or its default."""
        if self.parameters is not None:
            return self.parameters
        return "all" if self.last_layers is None and self.lora is None else "none"

    @property
    def trained(self) -> bool:
        """Whether any parameter of the part is trained at some step."""
        return self.base != "none" or self.last_layers is not None or self.lora is not None

    @model_validator(mode="after")
    def _require_sense(self) -> Self:
        for name in ("last_layers", "lora"):
            if self.parameters == "all" and getattr(self, name) is not None:
                raise ValueError(f"parameters: all contains {name}; remove one of them")
        if self.from_step and not self.trained:
            raise ValueError("from_step: parameters: none trains nothing at any step; remove one of them")
        return self


def _word_is_parameters(value: Any) -> Any:
    return {"parameters": value} if isinstance(value, str) else value


PartSetting = Annotated[PartConfig, BeforeValidator(_word_is_parameters)]


class TrainableConfig(BaseModel):
    """The parameters that a run trains, by part; all by default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vision: PartSetting = Field(PartConfig(), description="the vision encoder")
    text: PartSetting = Field(PartConfig(), description="the text encoder, with its word embedding")
    fusion: PartSetting = Field(PartConfig(), description="the fusion encoder")
    heads: dict[str, PartSetting] = Field(
        {},
        description="the heads by their names in model.heads: itc (both projections), temperature, itm, mlm, bbox, "
        "frames, answers, decoder, and those of model.heads.extra",
    )

    def of(self, part: str) -> PartConfig:
        """Return the settings of an encoder or head."""
        found: PartConfig = getattr(self, part) if part in ENCODERS else self.heads.get(part, PartConfig())
        return found

    def key(self, part: str) -> str:
        """Return the recipe key of a part."""
        return f"training.trainable.{part}" if part in ENCODERS else f"training.trainable.heads.{part}"

    @property
    def everything(self) -> bool:
        """Whether all parameters are trained from the first step on, without adapters."""
        return all(self.of(part) == PartConfig() for part in (*ENCODERS, *self.heads))

    def faults(self, heads: HeadsConfig) -> Iterator[tuple[str, str]]:
        """Yield keys and messages of settings that do not fit the model's heads, or this installation."""
        known = head_names(heads)
        for name in self.heads:
            if name not in known:
                yield self.key(name), f"the model has no head {name}; its heads: {', '.join(known) or 'none'}"
        adapted = [part for part in (*ENCODERS, *self.heads) if self.of(part).lora is not None]
        for part in adapted:
            if part not in (*ENCODERS, "decoder"):
                yield f"{self.key(part)}.lora", f"only {', '.join(ENCODERS)} and decoder have layers to adapt"
        if adapted and find_spec("peft") is None:
            yield f"{self.key(adapted[0])}.lora", f"needs peft, which is not installed: {INSTALL_PEFT}"
        parts = (*ENCODERS, *known)
        if not any(self.of(part).trained and not self.of(part).from_step for part in parts):
            yield "training.trainable", "no part is trained in the first step; train one from step 0 on"
