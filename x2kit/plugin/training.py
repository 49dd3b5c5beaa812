"""Contracts of the components that `training` of a recipe names: optimisers and reporters. Imports no torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    TypeAlias,
    TypedDict,
    runtime_checkable,
)

from x2kit.plugin.components import ComponentConfig, Kind

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

Sharding: TypeAlias = Literal["elementwise", "collective", "none"]
"""How an optimiser updates parameters of which every rank holds a shard (FSDP2): each element from its own gradient and
state; with the collectives of DTensor; or not at all."""


class ParameterGroup(TypedDict):
    """Parameters with one learning rate; a group of `torch.optim.Optimizer.param_groups`.

    Keys:
        params: float32, of any shape; a step may give gradients to some of them only.
        names: names in the model.
        lr: learning rate, set before every step: 0 in the first step of a warm-up.
        peak: largest learning rate; the schedule multiplies it.
        weight_decay: factor of decoupled decay, 0 for biases and norms.
        matrices: whether all are hidden matrices [out, in], see `Encoder.hidden_matrices`; otherwise none is.
    """

    params: list[nn.Parameter]
    names: list[str]
    lr: float
    peak: float
    weight_decay: float
    matrices: bool


class OptimizerConfig(ComponentConfig):
    """Settings of an optimiser, which `training.optimizer` names.

    `sharding` says how it updates sharded parameters; "none" is refused with `training.distribution` fsdp.
    `counters` are keys of groups that the optimiser itself changes, such as a number of updates: plain numbers, which
    checkpoints restore. Other keys of groups are settings, and those of the resumed recipe hold.
    """

    kind: ClassVar[Kind] = "optimizer"
    sharding: ClassVar[Sharding] = "elementwise"
    counters: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        """Raise SettingError for errors that are visible before the run, such as a missing library."""

    def state_size(self, shape: tuple[int, ...], matrix: bool) -> int:
        """Return the number of values that it keeps for a parameter, for estimates of memory; scalars may be left out.

        By default two per element, as AdamW.

        Args:
            shape: of the parameter.
            matrix: whether it is in a group of `matrices`.
        """
        return 2 * prod(shape)

    @abstractmethod
    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Build the optimiser of one run. Import torch here, not with the settings.

        It keeps all state in `state` and `counters`: tensors and plain values, so that `state_dict` resumes it exactly.
        An update that must not be made (`training.non_finite`) is not asked for; to learn that, the run waits for the
        device at every step. An optimiser that sets `_step_supports_amp_scaling`, as torch's fused ones do, is always
        asked and skips the update on the device if its attribute `found_inf`, a scalar, is not 0.
        If it has `train()` and `eval()`, as optimisers without a schedule (arXiv:2405.15682), it is built in training
        mode, and models are validated and exported with the weights of `eval()`.

        Args:
            groups: become its `param_groups`, with all their keys.
        """
        raise NotImplementedError


RunStatus: TypeAlias = Literal["finished", "stopped", "failed"]
"""End of a run: all steps completed; stopped on request after saving; ended by an error."""


class RunFacts(NamedTuple):
    """Description of a run.

    Attributes:
        directory: the run directory.
        recipe: the resolved recipe: plain values by key, including defaults.
        step: number of completed steps: 0 in a new run, that of the checkpoint in a resumed one.
        steps: number of steps of the whole run.
    """

    directory: Path
    recipe: Mapping[str, Any]
    step: int
    steps: int

    @property
    def resumed(self) -> bool:
        """Whether the run is resumed from a checkpoint."""
        return self.step > 0


@runtime_checkable
class Reporter(Protocol):
    """Sends the metrics of one run to another service, from rank 0 only.

    An exception of `start` ends a new run. Later exceptions, and those of `start` in a resumed run, are logged once and
    counted, and training continues: the numbers are in metrics.jsonl anyway. Training waits for every call, so `log`
    must not wait for a network.
    """

    def start(self, run: RunFacts, folder: Path) -> None:
        """Called before the first step.

        Args:
            run: description of the run.
            folder: the reporter's folder in the run directory, for the state it needs to resume: empty in a new run,
                unchanged in a resumed one.
        """
        ...

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Log one line of metrics.jsonl, every `training.log_every` steps.

        Args:
            step: number of completed steps. A resumed run repeats steps that were logged after its checkpoint.
            values: finite numbers by the names of metrics.jsonl, such as loss and STREAM.itc.
        """
        ...

    def end(self, status: RunStatus) -> None:
        """Called last, after the final `log`."""
        ...


class ReporterConfig(ComponentConfig):
    """Settings of a reporter, which sends the metrics of a run to another service."""

    kind: ClassVar[Kind] = "reporter"

    def check(self) -> None:
        """Raise SettingError for errors that are visible before the run, such as a missing library."""

    @abstractmethod
    def build(self) -> Reporter:
        """Build the reporter of one run. Import libraries here, not with the settings."""
        raise NotImplementedError
