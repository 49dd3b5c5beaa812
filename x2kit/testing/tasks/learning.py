"""Checks of the losses of tasks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from x2kit.model.config import HeadsConfig
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.tasks import Task, TaskRow
from x2kit.testing.claims import claim
from x2kit.testing.subjects import SEED
from x2kit.testing.tasks.subject import TaskSubject, if_comparable, if_fused, if_trained

STEPS = 20

DRAWS = 16
"""Draws of a loss that is the reward of samples."""


@if_fused
def missing_heads_are_named(subject: TaskSubject) -> None:
    """`missing_heads` names the setting of a head without which it fails."""
    for what, heads in _without_one(subject.heads):
        missing = subject.component.missing_heads(heads)
        strange = [name for name in missing if name.split(".")[0] not in HeadsConfig.model_fields]
        claim(not strange, f"missing_heads names {', '.join(strange)}, no setting of model.heads")
        error = None if missing else _failure(subject, heads)
        claim(
            error is None,
            f"without model.heads.{what} missing_heads names nothing, and it fails with "
            f"{type(error).__name__}: {error}",
        )


def _without_one(heads: HeadsConfig) -> Iterator[tuple[str, HeadsConfig]]:
    """Remove one head after the other."""
    for name in heads.built:
        built = tuple(other for other in heads.built if other != name)
        yield f"built: {name}", heads.model_copy(update={"built": built})
    for own in heads.extra:
        extra = {other: head for other, head in heads.extra.items() if other != own}
        yield f"extra.{own}", heads.model_copy(update={"extra": extra})
    for setting in ("answers", "decoder_layers"):
        if getattr(heads, setting) is not None:
            yield setting, heads.model_copy(update={setting: None})


def _failure(subject: TaskSubject, heads: HeadsConfig) -> Exception | None:
    task, model = subject.component.build(), subject.model(heads)
    try:
        if subject.component.losses:
            subject.losses(task, model, subject.rows(True, task))
        if subject.predicts_rows:
            subject.predict(task, model, subject.rows(False, task))
    except Exception as error:  # noqa: BLE001 - whatever a missing head makes it raise
        return error
    return None


@if_trained
def losses_are_finite_scalars(subject: TaskSubject) -> None:
    """Each declared loss, and no other, is a finite scalar with a graph, also under autocast with bfloat16."""
    task, model, rows = _training(subject)
    for autocast in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            losses = subject.losses(task, model, rows)
        claim(
            set(losses) == set(subject.component.losses),
            f"loss() gives {', '.join(losses) or 'nothing'}, declared are {', '.join(subject.component.losses)}",
        )
        for name, loss in losses.items():
            where = f"{name}{' under autocast' if autocast else ''}"
            claim(
                isinstance(loss, Tensor) and loss.ndim == 0 and loss.is_floating_point(),
                f"{where} is {_shape(loss)}, expected a floating-point scalar",
            )
            claim(bool(loss.isfinite()), f"{where} is {loss.item()}")
            claim(
                loss.requires_grad, f"{where} has no graph, so nothing learns from it; detach() or no_grad?"
            )


@if_trained
def gradients_reach_the_model(subject: TaskSubject) -> None:
    """Each loss has a gradient at the fused states, and together they have one at each parameter of its heads."""
    task, model, rows = _training(subject)
    reached: set[str] = set()
    for draw in range(DRAWS if subject.samples else 1):  # a reward may equal its baseline in one draw
        torch.manual_seed(draw)
        for name, loss in subject.losses(task, model, rows).items():
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            found = {key: value.grad for key, value in model.named_parameters() if value.grad is not None}
            strange = [key for key, gradient in found.items() if not gradient.isfinite().all()]
            claim(not strange, f"the gradient of {name} is not finite at {', '.join(strange[:5])}")
            fusion = [gradient for key, gradient in found.items() if key.startswith("fusion.")]
            reached.update({name} if any(bool(gradient.any()) for gradient in fusion) else ())
    for name in subject.component.losses:
        claim(name in reached, f"{name} does not depend on the fused states")
    model.zero_grad()
    _sum(subject.losses(task, model, rows)).backward()  # type: ignore[no-untyped-call]
    without = [
        name
        for name, value in model.named_parameters()
        if name.startswith("extra_heads.") and value.requires_grad and value.grad is None
    ]
    claim(not without, f"no gradient reaches {', '.join(without[:5])}; remove what no loss needs")


@if_comparable
def rows_do_not_mix(subject: TaskSubject) -> None:
    """The losses of parts, weighted by their counts, are the loss of the whole, as accumulation and ranks require."""
    task, model = subject.component.build(), subject.model()
    rows = subject.rows(True, task)
    targets = subject.collate(task, model, rows).targets
    parts = [slice(0, 1), slice(1, len(rows))]
    with torch.no_grad():
        whole, *of_parts = (_losses(subject, task, model, rows, part) for part in (slice(None), *parts))
    for name in subject.component.losses:
        counts = task.counts(name, targets)
        counts = torch.ones(len(rows)) if counts is None else counts.float()
        claim(counts.shape == (len(rows),), f"counts() of {name} is {list(counts.shape)}, expected [B]")
        shares = [counts[part].sum() / counts.sum().clamp(min=1) for part in parts]
        found = sum(float(losses[name] * share) for losses, share in zip(of_parts, shares, strict=True))
        claim(
            abs(found - float(whole[name])) <= 1e-4 * max(1.0, abs(float(whole[name]))),
            f"{name} of {len(rows)} rows is {float(whole[name]):.6g}, and {found:.6g} from the means of its parts; let "
            "rows not see each other, or return in counts() what the mean is over",
        )


@if_comparable
def training_lowers_the_loss(subject: TaskSubject) -> None:
    """A few steps on the same rows lower the sum of the losses."""
    task, model = subject.component.build(), subject.model()
    rows = subject.rows(True, task)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    values = []
    for _ in range(STEPS):
        optimiser.zero_grad()
        loss = _sum(_losses(subject, task, model, rows))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        values.append(float(loss.detach()))
    claim(
        values[-1] < values[0],
        f"{STEPS} steps on the same rows raise it from {values[0]:.4g} to {values[-1]:.4g}",
    )


def _losses(
    subject: TaskSubject, task: Task, model: X2VLM, rows: list[TaskRow], part: slice = slice(None)
) -> dict[str, Tensor]:
    """Compute losses with the same random numbers in every call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return subject.losses(task, model, rows, part)


def _training(subject: TaskSubject) -> tuple[Task, X2VLM, list[TaskRow]]:
    task, model = subject.component.build(), subject.model().train()
    return task, model, subject.rows(True, task)


def _sum(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([loss.float() for loss in losses.values()]).sum()


def _shape(value: object) -> str:
    return f"{list(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


LAWS = (
    missing_heads_are_named,
    losses_are_finite_scalars,
    gradients_reach_the_model,
    rows_do_not_mix,
    training_lowers_the_loss,
)
