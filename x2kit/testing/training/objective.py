"""Checks of objectives."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from x2kit.plugin.objectives import Objective, StreamFeatures
from x2kit.testing.claims import claim
from x2kit.testing.subjects import ObjectiveSubject


def it_opens_as_an_objective(subject: ObjectiveSubject) -> None:
    """`build` returns a callable without parameters."""
    objective = subject.component.build()
    claim(
        isinstance(objective, Objective), f"build() gives {type(objective).__name__}, which cannot be called"
    )
    learned = [name for name, _ in objective.named_parameters()] if isinstance(objective, nn.Module) else []
    claim(not learned, f"it has parameters, {', '.join(learned)}, which nothing would train or save")


def the_loss_is_a_finite_scalar(subject: ObjectiveSubject) -> None:
    """The loss is a finite float32 scalar in full and half precision, for every layout of pairs."""
    for layout in subject.layouts:
        for dtype in (torch.float32, torch.bfloat16):
            value = _loss(subject, subject.features(dtype, layout))
            where = f"of a stream of {layout} with {dtype}"
            claim(isinstance(value, Tensor) and value.ndim == 0, f"{where} it is no scalar")
            claim(value.dtype == torch.float32, f"{where} it is {value.dtype}; make its inputs float")
            claim(bool(value.isfinite()), f"{where} it is {value.item()}")


def gradients_reach_the_encoders(subject: ObjectiveSubject) -> None:
    """Gradients reach the features and are finite."""
    features = subject.features()
    value = _loss(subject, features)
    claim(
        value.requires_grad, "the loss has no graph, so nothing learns from it; detach() or no_grad too much?"
    )
    value.backward()  # type: ignore[no-untyped-call]
    found = [leaf.grad for leaf in _leaves(features) if leaf.grad is not None]
    claim(any(bool(gradient.any()) for gradient in found), "all gradients are 0")
    claim(all(bool(gradient.isfinite().all()) for gradient in found), "a gradient is not finite")


def it_is_a_pure_function(subject: ObjectiveSubject) -> None:
    """The same features give the same loss, also from another instance, without random numbers."""
    objective, features = subject.component.build(), subject.features()
    before = torch.get_rng_state()
    first, again = objective(features), objective(features)
    other = subject.component.build()(subject.features())
    claim(
        torch.equal(before, torch.get_rng_state()), "it draws random numbers, which changes those of the step"
    )
    claim(torch.equal(first, again), "two calls on the same features give different losses; it has state")
    claim(torch.equal(first, other), "another instance with the same settings gives another loss")


def the_order_of_rows_does_not_matter(subject: ObjectiveSubject) -> None:
    """The order of rows does not change the loss, since it differs between ranks."""
    features = subject.features()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    rows = ("first", "second", "group", "summary", "images", "teacher")
    given = {name: value for name in rows if (value := getattr(features, name)) is not None}
    moved = features._replace(
        texts=[type(text)(text.tokens[order], text.mask[order]) for text in features.texts],
        **{name: value[order] for name, value in given.items()},
    )
    one, other = _loss(subject, features), _loss(subject, moved)
    claim(
        bool(torch.isclose(one, other, rtol=1e-4, atol=1e-6)),
        f"rows in another order have the loss {other.item():.6g}, it was {one.item():.6g}",
    )


def it_looks_at_what_it_says(subject: ObjectiveSubject) -> None:
    """An objective over pairs uses no features of one rank, or ranks would compute different losses."""
    if subject.component.over == "rows":
        return
    features = subject.features()
    changed = features._replace(
        texts=[type(text)(text.tokens * 3 + 1, text.mask) for text in features.texts],
        summary=None if features.summary is None else features.summary * 3 + 1,
    )
    claim(
        torch.equal(_loss(subject, features), _loss(subject, changed)),
        'it uses texts or summary, which belong to one rank; set `over: ClassVar = "rows"`, or use first and second',
    )


def _loss(subject: ObjectiveSubject, features: StreamFeatures) -> Tensor:
    return subject.component.build()(features)


def _leaves(features: StreamFeatures) -> Iterator[Tensor]:
    yield from (features.first, features.second, *(text.tokens for text in features.texts))
    if features.summary is not None and features.vision is not None:
        yield from (features.summary, features.vision.patches)


LAWS = (
    it_opens_as_an_objective,
    the_loss_is_a_finite_scalar,
    gradients_reach_the_encoders,
    it_is_a_pure_function,
    the_order_of_rows_does_not_matter,
    it_looks_at_what_it_says,
)
