"""Checks of optimisers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from x2kit.plugin.training import OptimizerConfig, ParameterGroup
from x2kit.testing.claims import claim
from x2kit.testing.subjects import SEED, Subject

SHAPES: Mapping[str, tuple[int, ...]] = {
    "matrix": (8, 6),
    "wide": (4, 10),
    "embedding": (12, 6),
    "kernel": (3, 2, 2, 2),
    "bias": (8,),
    "temperature": (),
}
"""Parameters of a model by name: two hidden matrices, then others."""
MATRICES = ("matrix", "wide")
LATE = "kernel"
"""Has gradients in some steps only, as a parameter of a loss that starts later."""
RATE, STEPS = 0.01, 60


class OptimizerSubject(Subject):
    """An optimiser, and parameters in groups as a run has them."""

    component: OptimizerConfig

    def parameters(self) -> dict[str, nn.Parameter]:
        """Draw the parameters, of standard deviation 1."""
        draw = self.generator()
        return {name: nn.Parameter(torch.randn(shape, generator=draw)) for name, shape in SHAPES.items()}

    def groups(
        self, parameters: Mapping[str, nn.Parameter], rates: Mapping[str, float] | None = None
    ) -> list[ParameterGroup]:
        """Group parameters by kind, rate and decay: matrices and embeddings decay, biases do not."""
        found: dict[tuple[bool, float, float], ParameterGroup] = {}
        for name, parameter in parameters.items():
            rate = RATE if rates is None else rates[name]
            decay = 0.1 if parameter.ndim > 1 else 0.0
            matrix = name in MATRICES
            group = found.setdefault(
                (matrix, rate, decay),
                ParameterGroup(params=[], names=[], lr=rate, peak=rate, weight_decay=decay, matrices=matrix),
            )
            group["params"].append(parameter)
            group["names"].append(name)
        return list(found.values())

    def start(self, rates: Mapping[str, float] | None = None) -> tuple[dict[str, nn.Parameter], Optimizer]:
        """Build an optimiser of new parameters."""
        parameters = self.parameters()
        return parameters, self.component.build(self.groups(parameters, rates))


def set_gradients(parameters: Mapping[str, nn.Parameter], step: int, left_out: Sequence[str] = ()) -> None:
    """Set the gradients of ½ Σ (p - 0.1)² with noise that depends on the step; some parameters get none."""
    draw = torch.Generator().manual_seed(SEED + step)
    for name, parameter in parameters.items():
        noise = torch.randn(parameter.shape, generator=draw)
        parameter.grad = None if name in left_out else parameter.detach() - 0.1 + 0.1 * noise


def update(parameters: Mapping[str, nn.Parameter], optimizer: Optimizer, steps: range) -> None:
    """Make some steps; the first two give no gradient to one parameter, and the first has rate 0."""
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(step, 1)
        set_gradients(parameters, step, (LATE,) if step < 2 else ())
        optimizer.step()


def it_opens_as_an_optimiser(subject: OptimizerSubject) -> None:
    """`check` accepts the settings; `build` returns a `torch.optim.Optimizer` whose groups keep all keys."""
    subject.component.check()
    parameters, optimizer = subject.start()
    claim(
        isinstance(optimizer, Optimizer),
        f"build() gives {type(optimizer).__name__}, no torch.optim.Optimizer",
    )
    given = {name: group for group in subject.groups(parameters) for name in group["names"]}
    found: dict[str, dict[str, Any]] = {}
    for group in optimizer.param_groups:
        lost = [key for key in ParameterGroup.__annotations__ if key not in group]
        claim(not lost, f"a group of the optimiser has lost {', '.join(lost)}")
        for name, parameter in zip(group["names"], group["params"], strict=True):
            claim(parameter is parameters[name], f"names and params of a group differ at {name}")
            claim(name not in found, f"{name} is in two groups")
            found[name] = group
    missing = [name for name in given if name not in found]
    claim(not missing, f"no group has {', '.join(missing)}")
    for name, group in found.items():
        for key in ("weight_decay", "matrices"):
            now, before = group[key], given[name][key]
            claim(now == before, f"{key} of the group of {name} is {now}, it was {before}")


def it_lowers_a_loss(subject: OptimizerSubject) -> None:
    """Some steps bring every parameter nearer to the minimum of a quadratic loss, and stay finite."""
    parameters, optimizer = subject.start()
    before = {name: (parameter.detach() - 0.1).square().sum() for name, parameter in parameters.items()}
    update(parameters, optimizer, range(STEPS))
    for name, parameter in parameters.items():
        claim(bool(parameter.isfinite().all()), f"{name} is not finite after {STEPS} steps")
        after = (parameter.detach() - 0.1).square().sum()
        claim(bool(after < before[name]), f"{name} is farther from the minimum after {STEPS} steps")


def each_group_has_its_rate(subject: OptimizerSubject) -> None:
    """Parameters with the rate 0 stay, others move: the rate of each group is read at every step."""
    still = ("wide", "bias")
    parameters, optimizer = subject.start({name: 0.0 if name in still else RATE for name in SHAPES})
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    update(parameters, optimizer, range(4))
    for name, parameter in parameters.items():
        moved = not torch.equal(parameter, before[name])
        claim(
            moved != (name in still), f"{name} with the rate {0.0 if name in still else RATE} {_moves(moved)}"
        )


def _moves(moved: bool) -> str:
    return "moves" if moved else "does not move"


def parameters_without_gradient_stay(subject: OptimizerSubject) -> None:
    """A parameter without a gradient, whose losses are off, is neither updated nor decayed."""
    parameters, optimizer = subject.start()
    before = parameters[LATE].detach().clone()
    update(parameters, optimizer, range(2))
    claim(torch.equal(parameters[LATE], before), "a parameter without a gradient moves")


def a_resumed_run_is_exact(subject: OptimizerSubject) -> None:
    """State saved after some steps, of tensors and plain values, continues with the very same updates."""
    straight, optimizer = subject.start()
    update(straight, optimizer, range(3))
    saved = _through_a_file(
        {"model": {name: p.detach() for name, p in straight.items()}, "optimizer": optimizer.state_dict()}
    )
    update(straight, optimizer, range(3, 6))
    resumed, other = subject.start()
    for name, parameter in resumed.items():
        parameter.data.copy_(saved["model"][name])
    groups = other.state_dict()["param_groups"]
    for group, before in zip(groups, saved["optimizer"]["param_groups"], strict=True):
        group.update({key: before[key] for key in subject.component.counters})
    other.load_state_dict({"state": saved["optimizer"]["state"], "param_groups": groups})
    update(resumed, other, range(3, 6))
    for name, parameter in straight.items():
        claim(
            torch.equal(parameter, resumed[name]),
            f"{name} differs after a resume; keep state in `state`, and name counts in groups in `counters`",
        )


def _through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """Write and read a checkpoint, which holds tensors and plain values only."""
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    found: dict[str, Any] = torch.load(stream, weights_only=True)
    return found


def it_keeps_what_it_says(subject: OptimizerSubject) -> None:
    """`state_size` is the number of values in the state of each parameter, apart from scalars."""
    parameters, optimizer = subject.start()
    update(parameters, optimizer, range(4))
    for name, parameter in parameters.items():
        kept = [v for v in optimizer.state[parameter].values() if isinstance(v, Tensor) and v.ndim]
        found = sum(value.numel() for value in kept)
        said = subject.component.state_size(tuple(parameter.shape), name in MATRICES)
        claim(
            not parameter.ndim or found == said,
            f"it keeps {found} values for a parameter {list(parameter.shape)}, state_size() says {said}",
        )


def shards_are_updated_like_whole_parameters(subject: OptimizerSubject) -> None:
    """With the claim `sharding` "elementwise", halves of a parameter are updated as the whole."""
    if subject.component.sharding != "elementwise":
        return
    whole, optimizer = subject.start()
    update(whole, optimizer, range(4))
    parameters = subject.parameters()
    halves = {
        name: nn.Parameter(p.detach()[: max(1, len(p) // 2)]) for name, p in parameters.items() if p.ndim
    }
    other = subject.component.build(subject.groups(halves))
    for step in range(4):
        set_gradients(parameters, step, (LATE,) if step < 2 else ())
        for name, half in halves.items():
            gradient = parameters[name].grad
            # The gradient of the quadratic loss depends on the parameter, so take that of the half as it is now.
            noise = None if gradient is None else gradient - parameters[name].detach()
            half.grad = None if noise is None else half.detach() + noise[: len(half)]
        for group in other.param_groups:
            group["lr"] = group["peak"] * min(step, 1)
        other.step()
    for name, half in halves.items():
        claim(
            torch.allclose(half, whole[name][: len(half)], rtol=1e-5, atol=1e-6),
            f'half of {name} is updated differently from the whole; set sharding to "none", which refuses fsdp',
        )


def a_skipped_update_changes_nothing(subject: OptimizerSubject) -> None:
    """An optimiser that sets `_step_supports_amp_scaling` skips its update if `found_inf` is not 0."""
    parameters, optimizer = subject.start()
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return
    update(parameters, optimizer, range(3))
    before = _through_a_file(
        {"p": {name: p.detach() for name, p in parameters.items()}, **optimizer.state_dict()}
    )
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.found_inf = torch.ones(())  # type: ignore[attr-defined]
    optimizer.step()
    del optimizer.found_inf  # type: ignore[attr-defined]
    same = all(torch.equal(p, before["p"][name]) for name, p in parameters.items())
    claim(same, "with found_inf 1 its parameters change")
    for number, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            kept = before["state"][number][key]
            equal = torch.equal(value, kept) if isinstance(value, Tensor) else value == kept
            claim(equal, f"with found_inf 1 its state {key} changes")


def the_weights_to_measure_come_and_go(subject: OptimizerSubject) -> None:
    """An optimiser with `train` and `eval` is built in training mode, and its switches can follow each other."""
    parameters, optimizer = subject.start()
    if not (hasattr(optimizer, "train") and hasattr(optimizer, "eval")):
        return
    update(parameters, optimizer, range(4))
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    optimizer.eval()
    optimizer.train()
    for name, parameter in parameters.items():
        claim(
            torch.allclose(parameter, before[name], rtol=1e-4, atol=1e-5),
            f"{name} differs after eval() and train()",
        )


def it_leaves_random_numbers_alone(subject: OptimizerSubject) -> None:
    """The random state of torch is not changed: the draws of a step depend on its number alone."""
    parameters, optimizer = subject.start()
    before = torch.get_rng_state()
    update(parameters, optimizer, range(3))
    claim(torch.equal(before, torch.get_rng_state()), "it changes the state of torch's random numbers")


LAWS = (
    it_opens_as_an_optimiser,
    it_lowers_a_loss,
    each_group_has_its_rate,
    parameters_without_gradient_stay,
    a_resumed_run_is_exact,
    it_keeps_what_it_says,
    shards_are_updated_like_whole_parameters,
    a_skipped_update_changes_nothing,
    the_weights_to_measure_come_and_go,
    it_leaves_random_numbers_alone,
)
