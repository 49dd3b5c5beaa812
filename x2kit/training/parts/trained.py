"""Freeze and adapt the parts of a model as `training.trainable` says. Imports torch.

Frozen parameters have no gradient, so neither optimiser nor DDP or FSDP handles them. Modules whose parameters are all
frozen stay in evaluation mode (no dropout, fixed running statistics), and a frozen vision or text encoder runs without
a graph. A part that is trained from a later step on is frozen in the same way, except that its parameters are known to
optimiser, DDP and FSDP from the start: gradients that the other parts pass through it are dropped until then. Its
optimiser state is allocated at its first update.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import nn

from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.model.config import ENCODERS
from x2kit.model.lora import Lora, add_lora, lora_names
from x2kit.plugin.encoders import Encoder
from x2kit.plugin.toolkit.stacks import layers_of
from x2kit.training.optim.optimizer import NORMS
from x2kit.training.parts.config import PartConfig, TrainableConfig

HEAD_OF = {
    "vision_proj": "itc",
    "text_proj": "itc",
    "temperature": "temperature",
    "text_temperature": "temperature",
    "itm_head": "itm",
    "mlm_head": "mlm",
    "bbox_head": "bbox",
    "frame_positions": "frames",
    "answer_head": "answers",
}
"""Heads by the first part of their parameter names; encoders and decoder have their own name there."""


def part_of(name: str) -> str:
    """Return the part of a parameter, as in `training.trainable`."""
    start, _, rest = name.partition(".")
    return rest.partition(".")[0] if start == "extra_heads" else HEAD_OF.get(start, start)


def parts_of(model: X2VLM) -> dict[str, dict[str, nn.Parameter]]:
    """Return the parameters of a model by part and name; a shared one once, in the part that comes first."""
    found: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(part_of(name), {})[name] = parameter
    return found


class Late(NamedTuple):
    """A part that is trained from a step on.

    Attributes:
        step: the first step in which it is trained.
        modules: of its parameters.
        parameters: names of those that are trained from then on; FSDP2 replaces the parameters themselves.
    """

    step: int
    modules: frozenset[str]
    parameters: tuple[str, ...]


class TrainedParts(NamedTuple):
    """The frozen modules of a model during a run.

    Attributes:
        frozen: modules that are frozen in all steps.
        late: parts that join later.
    """

    frozen: frozenset[str] = frozenset()
    late: tuple[Late, ...] = ()

    def frozen_in(self, step: int) -> frozenset[str]:
        """Return the modules that are frozen in a step."""
        return self.frozen.union(*(part.modules for part in self.late if step < part.step))

    def begin(self, model: X2VLM, step: int) -> None:
        """Freeze the modules that are frozen in a step, before its forward pass."""
        frozen = self.frozen_in(step)
        if frozen != model.frozen:
            model.frozen = frozen
            model.train()

    def drop_gradients(self, model: X2VLM, step: int) -> None:
        """Drop the gradients of parts that are not yet trained, after the backward pass of a step."""
        for part in self.late:
            if step < part.step:
                for name in part.parameters:
                    model.get_parameter(name).grad = None


def select_trained(model: X2VLM, config: TrainableConfig) -> TrainedParts:
    """Add the adapters of a recipe to a model and freeze the rest, in place.

    Parameters that an encoder froze itself stay frozen.

    Args:
        model: as built or loaded, neither compiled nor sharded.
        config: `training.trainable`.
    Raises: X2KitError, naming the key, for a part with fewer layers than `last_layers`, or without layers to adapt, or
        if nothing is left to train.
    """
    if config.everything:
        return TrainedParts()
    learned = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for part in (*ENCODERS, "decoder"):
        lora = config.of(part).lora
        if lora is not None:
            encoder: Encoder = getattr(model, part)
            layers = tuple(encoder.adapted_layers())
            if not layers:
                raise X2KitError(
                    f"{config.key(part)}.lora: {type(encoder).__name__} declares no layers to adapt"
                )
            add_lora(model, part, Lora(lora.rank, lora.alpha, layers))
    adapters = set(lora_names(model))
    late = []
    parts = parts_of(model)
    for part, parameters in parts.items():
        setting = config.of(part)
        trained = _trained(model, part, config.key(part), setting, parameters)
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in trained and (name in learned or name in adapters))
        if setting.from_step:
            own = tuple(name for name, parameter in parameters.items() if parameter.requires_grad)
            late.append(Late(setting.from_step, frozenset(_roots(model, parameters)), own))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise X2KitError("training.trainable: no parameter of the model is trained; train a part of it")
    found = TrainedParts(frozenset(_frozen_modules(model)), tuple(late))
    model.frozen = found.frozen_in(0)  # the caller sets training mode
    return found


def _trained(
    model: X2VLM, part: str, key: str, setting: PartConfig, parameters: Mapping[str, nn.Parameter]
) -> set[str]:
    """Return the names of the parameters of a part that are trained at some step."""
    if setting.base == "all":
        return set(parameters)
    trained = {name for name in lora_names(model) if name in parameters}
    if setting.base == "norms":
        trained |= {
            f"{name}.{own}" if name else own
            for name, module in model.named_modules()
            if isinstance(module, NORMS)
            for own, _ in module.named_parameters(recurse=False)
        } & set(parameters)
    if setting.last_layers is not None:
        layers = list(layers_of(getattr(model, part))) if part in (*ENCODERS, "decoder") else []
        if setting.last_layers > len(layers):
            raise X2KitError(
                f"{key}.last_layers: {setting.last_layers}, but the part has {len(layers)} layers"
            )
        # In order of registration, which is that of the forward pass: all behind the first of these layers.
        first = next(layers[-setting.last_layers].parameters())
        names = list(parameters)
        start = next(place for place, one in enumerate(parameters.values()) if one is first)
        trained |= {name for name in names[start:] if name not in _bases(model)}
    return trained


def _bases(model: X2VLM) -> set[str]:
    """Return the names of the parameters that adapters change, which stay frozen."""
    return {
        f"{part}.{layer}.base_layer.{own}"
        for part, lora in model.lora.items()
        for layer in lora.layers
        for own in ("weight", "bias")
    }


def _frozen_modules(model: X2VLM) -> Iterator[str]:
    """Yield the outermost modules that have parameters, none of them trained."""

    def inside(module: nn.Module, prefix: str) -> Iterator[str]:
        for name, child in module.named_children():
            flags = [parameter.requires_grad for parameter in child.parameters()]
            if any(flags):
                yield from inside(child, f"{prefix}{name}.")
            elif flags:
                yield prefix + name

    return inside(model, "")


def _roots(model: X2VLM, parameters: Mapping[str, nn.Parameter]) -> Iterator[str]:
    """Yield the outermost modules whose parameters are all of these, by identity."""
    own = {id(parameter) for parameter in parameters.values()}
    children = [(name, child) for name, child in model.named_children()]
    if "extra_heads" in dict(children):
        children += [(f"extra_heads.{name}", child) for name, child in model.extra_heads.named_children()]
    for name, child in children:
        ids = {id(parameter) for parameter in child.parameters()}
        if ids and ids <= own:
            yield name


def trained_parameters(model: X2VLM) -> dict[str, tuple[int, int]]:
    """Count the trained and the frozen parameters of each part; those of a part that joins later are trained."""
    found = {}
    for part, parameters in parts_of(model).items():
        trained = sum(one.numel() for one in parameters.values() if one.requires_grad)
        found[part] = trained, sum(one.numel() for one in parameters.values()) - trained
    return found


def describe(model: X2VLM, config: TrainableConfig) -> str:
    """Describe in one line how much of a model is trained, and what is frozen or joins later."""
    counts = trained_parameters(model)
    trained, fixed = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
    frozen = [part for part, (some, _) in counts.items() if not some]
    partly = [part for part, (some, rest) in counts.items() if some and rest]
    late = [f"{part} from step {config.of(part).from_step}" for part in counts if config.of(part).from_step]
    facts = {"frozen": frozen, "in part": partly, "later": late}
    listed = "".join(f"; {name}: {', '.join(values)}" for name, values in facts.items() if values)
    return f"training.trainable: {trained:,} of {trained + fixed:,} parameters are trained{listed}"
