"""Initialise a model from the weights of another (`model.init_from`). Imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from x2kit.errors import WeightsError
from x2kit.hub.names import NamedWeights
from x2kit.io.run_directory import RECIPE, identifying_file
from x2kit.model.build import TOKENIZER, build_model
from x2kit.model.config import ENCODERS, ModelConfig
from x2kit.model.saving import load, read_model_config, weights_directory
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.encoders import Encoder
from x2kit.plugin.loading.file_modules import file_of
from x2kit.plugin.tokenizers import Tokenizer


def decoder_tensors(model: X2VLM, head: X2VLM) -> dict[str, Tensor]:
    """Derive the decoder's tensors from the text and fusion encoders; see `TextDecoder.begin_from`.

    Args:
        model: with a decoder and loaded encoders.
        head: model that supplies the masked-language head, if it has one; a fine-tuned `model` may lack it.
    """
    mlm_head = head.mlm_head.state_dict() if hasattr(head, "mlm_head") else {}
    return model.decoder.begin_from(_by_official_name(model.text), _by_official_name(model.fusion), mlm_head)


def _by_official_name(encoder: Encoder) -> dict[str, Tensor]:
    """Map official names to an encoder's tensors; empty for an encoder without official checkpoint."""
    if type(encoder).official_names is Encoder.official_names:
        return {}
    state = encoder.state_dict()
    found: dict[str, Tensor] = {}
    for own, names in encoder.official_names().items():
        parts = state[own].chunk(len(names)) if len(names) > 1 else (state[own],)
        found |= dict(zip(names, parts, strict=True))
    return found


Origin = Literal["kept", "resized", "copied", "pretrained", "fresh"]
VOCABULARY = "mlm_head.decoder."
"""Head tensors that depend on the vocabulary, and so on the text encoder."""


@dataclass(frozen=True)
class Initialisation:
    """Origin of every tensor of a model.

    Attributes:
        source: the weights directory, or the name of a published model.
        origin: what the name stood for, see `NamedWeights`.
        origins: tensor name to origin and reason.
        sizes: tensor name to number of values.
        dropped: number of source tensors that the model does not have, by part.
    """

    source: str
    origin: Mapping[str, str]
    origins: dict[str, tuple[Origin, str]]
    sizes: dict[str, int]
    dropped: dict[str, int]

    def kept(self) -> frozenset[str]:
        """Return the tensors that came from the source."""
        return frozenset(name for name, (origin, _) in self.origins.items() if origin in ("kept", "resized"))

    def lines(self) -> Iterator[str]:
        """Yield a table: part, origin, tensors, values, reason."""
        rows: dict[tuple[str, Origin, str], list[int]] = {}
        for name, (origin, reason) in self.origins.items():
            rows.setdefault((_part(name), origin, reason), []).append(self.sizes[name])
        facts = ", ".join(f"{fact} {value}" for fact, value in self.origin.items())
        yield f"initial weights from {self.source}" + (f" ({facts})" if facts else "")
        yield f"{'PART':18s} {'ORIGIN':10s} {'TENSORS':>7s} {'VALUES':>13s}  REASON"
        for (part, origin, reason), sizes in rows.items():
            yield f"{part:18s} {origin:10s} {len(sizes):7d} {sum(sizes):13,d}  {reason}".rstrip()
        for part, count in self.dropped.items():
            yield f"{part:18s} {'dropped':10s} {count:7d} {'':13s}  not in the new model"

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-compatible values."""
        return {
            "source": self.source,
            **self.origin,
            "tensors": {
                name: {"origin": origin, "reason": reason} for name, (origin, reason) in self.origins.items()
            },
            "dropped": self.dropped,
        }


def build_started(
    config: ModelConfig, texts: Iterable[str] | None = None, source: NamedWeights | None = None
) -> tuple[X2VLM, Initialisation | None]:
    """Build the model of a recipe and load the weights of `init_from`, if given.

    Args:
        config: the recipe's `model`.
        texts: as for `build_model`.
        source: weights that `init_from` names (`x2kit.interop.named_weights`); None if it is a path.
    Raises: WeightsError if the source is not a weights directory, or a part to be loaded does not fit.
    """
    if config.init_from is None:
        return build_model(config, texts), None
    source = source or _at_path(config.init_from)
    path = source.directory
    given = _own_files(config)
    replaced = _replaced(config, read_model_config(path / RECIPE, given))
    # Loaded word embeddings need the tokenizer that they were trained with.
    model = build_model(config, texts, tokenizer=build_started_tokenizer(config, texts, source))
    found = _load_source(model, load(path, plugins=given), replaced, config, source)
    model.kept |= found.kept()
    return model, found


def build_started_tokenizer(
    config: ModelConfig, texts: Iterable[str] | None = None, source: NamedWeights | None = None
) -> Tokenizer:
    """Build the tokenizer of `build_started` without the model. Same arguments and errors."""
    if config.init_from is not None:
        path = (source or _at_path(config.init_from)).directory
        if "text" not in _replaced(config, read_model_config(path / RECIPE, _own_files(config))):
            return config.text.build_tokenizer(assets=path / TOKENIZER)
    return config.text.build_tokenizer(texts)


def _at_path(init_from: str) -> NamedWeights:
    path = weights_directory(init_from)
    return NamedWeights(str(path), path, identifying_file(path), {})


def _own_files(config: ModelConfig) -> list[str]:
    """List the file plugins of this model's encoders, which replace the copies in the source directory."""
    files = (file_of(type(getattr(config, part))) for part in ENCODERS)
    return list(dict.fromkeys(str(file) for file in files if file is not None))


def _replaced(config: ModelConfig, stored: ModelConfig) -> dict[str, str]:
    """Map the encoders that do not come from the source to the reason."""
    found: dict[str, str] = {}
    for part in ENCODERS:
        new, old = getattr(config, part), getattr(stored, part)
        if part in config.init_except:
            found[part] = "excluded by model.init_except"
        elif not new.reads_weights_of(old):
            names = new.component_name(), old.component_name()
            found[part] = (
                f"{names[0]} replaces {names[1]}" if len(set(names)) > 1 else f"different {names[0]}"
            )
    return found


def _load_source(
    model: X2VLM, source: X2VLM, replaced: dict[str, str], config: ModelConfig, named: NamedWeights
) -> Initialisation:
    given, own = source.state_dict(), model.state_dict()
    fitted = dict(given)
    for part in ENCODERS:
        if part not in replaced:
            fitted = _fit(part, getattr(model, part), fitted)
    origins: dict[str, tuple[Origin, str]] = {}
    state: dict[str, Tensor] = {}
    for tensor, value in own.items():
        origins[tensor] = origin, _ = _origin(tensor, value, model, given, fitted, replaced, config)
        if origin in ("kept", "resized"):
            state[tensor] = fitted[tensor]
    _require_fit(origins, replaced, named.name)
    model.load_state_dict(state, strict=False)
    if hasattr(model, "decoder") and not hasattr(source, "decoder"):
        copied = decoder_tensors(model, source if "text" not in replaced else model)
        model.decoder.load_state_dict(copied, strict=False)
        origins |= {f"decoder.{tensor}": ("copied", "from the text and fusion encoders") for tensor in copied}
    dropped: dict[str, int] = {}
    for tensor in fitted.keys() - own.keys():
        dropped[_part(tensor)] = dropped.get(_part(tensor), 0) + 1
    sizes = {key: value.numel() for key, value in own.items()}
    return Initialisation(named.name, named.origin, origins, sizes, dropped)


def _origin(
    tensor: str,
    value: Tensor,
    model: X2VLM,
    given: dict[str, Tensor],
    fitted: dict[str, Tensor],
    replaced: dict[str, str],
    config: ModelConfig,
) -> tuple[Origin, str]:
    part, _, rest = tensor.partition(".")
    if part in replaced:
        fresh = rest in getattr(model, part).fresh()
        return ("fresh" if fresh else "pretrained"), replaced[part]
    replaced_head = part not in ENCODERS and ("text" in replaced or "heads" in config.init_except)
    if replaced_head and tensor in model.kept:
        return "pretrained", "in the file of the text encoder"
    if "text" in replaced and tensor.startswith(VOCABULARY):
        if config.heads.tie_mlm and tensor.endswith("weight"):
            return "pretrained", "shared with the word embedding"
        return "fresh", "different vocabulary"
    if part not in ENCODERS and "heads" in config.init_except:
        return "fresh", "excluded by model.init_except"
    if tensor not in fitted:
        return "fresh", "not in the source"
    if fitted[tensor].shape != value.shape:
        return "fresh", f"shape {list(fitted[tensor].shape)} in the source, {list(value.shape)} here"
    resized = tensor in given and given[tensor].shape != value.shape
    return ("resized", "to this image size") if resized else ("kept", "")


def _fit(part: str, encoder: Encoder, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert the source's tensors of an encoder to this one; see `Encoder.fit`."""
    prefix = f"{part}."
    own = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    others = {key: value for key, value in given.items() if not key.startswith(prefix)}
    return others | {f"{prefix}{key}": value for key, value in encoder.fit(own).items()}


def _require_fit(origins: dict[str, tuple[Origin, str]], replaced: dict[str, str], source: str) -> None:
    faults = [
        f"{tensor}: {reason}"
        for tensor, (origin, reason) in origins.items()
        if origin == "fresh" and _part(tensor) in ENCODERS and _part(tensor) not in replaced
    ]
    if faults:
        shown = "\n  ".join(faults[:6]) + (f"\n  and {len(faults) - 6} more" if len(faults) > 6 else "")
        parts = ", ".join(sorted({_part(fault) for fault in faults}))
        raise WeightsError(
            f"model.init_from: {source} does not fit this recipe\n  {shown}\n"
            f"  give model.{parts} the sizes of the source, or exclude it: model.init_except: [{parts}]"
        )


def _part(tensor: str) -> str:
    return tensor.partition(".")[0]
