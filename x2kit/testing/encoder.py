"""Checks of all encoders, independent of what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import Dim

from x2kit.testing.claims import claim, claim_close
from x2kit.testing.subjects import EncoderSubject, Traced


def evaluation_is_deterministic(subject: EncoderSubject) -> None:
    """In eval mode the same input gives the same output, bit for bit."""
    encoder = subject.build()
    for one, other in zip(subject.run(encoder), subject.run(encoder), strict=True):
        claim(torch.equal(one, other), "two runs in eval mode differ; is dropout on?")


def the_seed_decides_the_weights(subject: EncoderSubject) -> None:
    """Built twice with the same torch.manual_seed, it has the same weights."""
    one, other = subject.build().state_dict(), subject.build().state_dict()
    differing = [name for name in one if not torch.equal(one[name], other[name])]
    claim(not differing, f"weights differ with the same seed: {', '.join(differing[:5])}")


def calls_leave_nothing_behind(subject: EncoderSubject) -> None:
    """Outputs do not depend on earlier calls, and calls do not change weights."""
    encoder = subject.build()
    before = subject.run(encoder)
    names = {name: value.clone() for name, value in encoder.named_parameters()}
    with torch.no_grad():
        subject.run(encoder, others=True)
    for one, other in zip(before, subject.run(encoder), strict=True):
        claim_close(one, other, "a call changes the output of later calls; keep no state between calls", 1e-6)
    changed = [name for name, value in encoder.named_parameters() if not torch.equal(value, names[name])]
    claim(not changed, f"a call changes its weights: {', '.join(changed[:5])}")


def instances_share_nothing(subject: EncoderSubject) -> None:
    """Two encoders with the same settings are independent: training one does not change the other."""
    one, other = subject.build(), subject.build()
    before = subject.run(other)
    places = {value.data_ptr(): name for name, value in other.state_dict().items() if value.numel()}
    shared = [name for name, value in one.state_dict().items() if value.data_ptr() in places]
    claim(
        not shared,
        f"two encoders share state: {', '.join(shared[:5])}; create it in the constructor, not in the class, "
        "the module or a cache",
    )
    with torch.no_grad():
        for value in one.parameters():
            value.add_(1)
        subject.run(one, others=True)
    for own, after in zip(before, subject.run(other), strict=True):
        claim_close(own, after, "two encoders share state: one changes the output of the other", 1e-6)


def its_inputs_stay_as_they_are(subject: EncoderSubject) -> None:
    """It does not modify its input tensors."""
    encoder = subject.build()
    kept: list[tuple[Tensor, Tensor]] = []

    def remember(_: nn.Module, given: tuple[Any, ...]) -> None:
        kept.extend((tensor, tensor.detach().clone()) for tensor in tensors_in(given))

    encoder.register_forward_pre_hook(remember)
    with torch.no_grad():
        subject.run(encoder)
    changed = [position for position, (now, before) in enumerate(kept) if not torch.equal(now, before)]
    claim(
        not changed,
        f"it modifies its inputs (tensor {', '.join(map(str, changed))}), which other parts read; "
        "use x = x + y, not x += y",
    )


def gradients_reach_every_parameter(subject: EncoderSubject) -> None:
    """The outputs depend on each parameter that is not frozen (requires_grad=False)."""
    encoder = subject.build().train()
    outputs = subject.run(encoder)
    generator = subject.generator()
    loss = torch.stack([(out * torch.randn(out.shape, generator=generator)).sum() for out in outputs]).sum()
    claim(loss.requires_grad, "the outputs have no graph; is it under no_grad?")
    loss.backward()  # type: ignore[no-untyped-call]
    without = [
        name for name, value in encoder.named_parameters() if value.requires_grad and value.grad is None
    ]
    claim(
        not without,
        f"no gradient reaches {', '.join(without[:5])}; remove what the output does not need, or freeze it "
        "with requires_grad_(False)",
    )


def adapted_layers_are_called(subject: EncoderSubject) -> None:
    """`forward` calls each of `adapted_layers`, so that adapters in their place change the output."""
    encoder = subject.build()
    called: set[str] = set()
    for name in encoder.adapted_layers():
        layer = dict(encoder.named_modules()).get(name, encoder)
        claim(isinstance(layer, nn.Linear), f"adapted_layers names {name}, which is no nn.Linear of it")
        layer.register_forward_hook(lambda *_, name=name: called.add(name))
    subject.run(encoder)
    unused = [name for name in encoder.adapted_layers() if name not in called]
    claim(
        not unused,
        f"{', '.join(unused[:5])} is read without a call, so adapters in its place change nothing; leave it out of "
        "adapted_layers",
    )


def it_follows_its_dtype(subject: EncoderSubject) -> None:
    """In float64 it computes in float64, with the same result."""
    single = subject.run(subject.build())
    double = subject.run(subject.build().double(), torch.float64)
    for one, other in zip(single, double, strict=True):
        claim(
            other.dtype == torch.float64,
            f"moved to float64 it returns {other.dtype}; create tensors with dtype= of the input",
        )
        claim_close(one, other, "float64 gives another result than float32", 1e-3)


def it_runs_under_autocast(subject: EncoderSubject) -> None:
    """Forward and backward work in mixed precision with bfloat16."""
    encoder = subject.build()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = subject.run(encoder)
    for one, other in zip(subject.run(encoder), outputs, strict=True):
        claim_close(one, other.float(), "bfloat16 autocast gives another result", 0.15)
    torch.stack([out.float().sum() for out in outputs]).sum().backward()  # type: ignore[no-untyped-call]


def every_tensor_moves_with_it(subject: EncoderSubject) -> None:
    """All its tensors move to another device."""
    encoder = subject.build().to("meta")
    left = sorted({name for name, tensor in _hidden_tensors(encoder) if tensor.device.type != "meta"})
    claim(
        not left,
        f"moved to another device, {', '.join(left[:5])} stays behind; use register_buffer (persistent=False "
        "keeps it out of the weights)",
    )


def _hidden_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            for tensor in tensors_in(value):
                yield f"{prefix}.{name}".lstrip("."), tensor


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested lists, tuples and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def declared_names_exist(subject: EncoderSubject) -> None:
    """`fresh` and `no_decay` name own parameters."""
    encoder = subject.build()
    own = {name for name, _ in encoder.named_parameters()}
    for what in ("fresh", "no_decay"):
        strange = sorted(getattr(encoder, what)() - own)
        claim(not strange, f"{what}() names what is no parameter: {', '.join(strange[:5])}")


def saved_and_loaded_it_is_the_same(subject: EncoderSubject) -> None:
    """`save_assets` and the weights are all that is needed to have it again."""
    encoder = subject.build()
    before = subject.run(encoder)
    with TemporaryDirectory() as name:
        assets = Path(name)
        subject.save(encoder, assets)
        # What safetensors stores must not share memory; tied parameters are the model's business.
        save_file({key: value.clone() for key, value in encoder.state_dict().items()}, assets / "weights")
        again = subject.build(assets, seed=1)
        own, saved = set(again.state_dict()), load_file(assets / "weights")
        claim(
            own == set(saved),
            f"build(assets=...) gives other tensors: missing {sorted(own - set(saved))[:5]}, "
            f"left over {sorted(set(saved) - own)[:5]}",
        )
        again.load_state_dict(saved)
    for one, other in zip(before, subject.run(again), strict=True):
        claim_close(one, other, "saved, built from its assets and loaded, it computes something else", 1e-6)
    for name in ("image_spec", "width", "grid", "max_length"):
        claim(
            getattr(encoder, name, None) == getattr(again, name, None),
            f"{name} is {getattr(again, name, None)} after loading, it was {getattr(encoder, name, None)}; "
            "write what build needs in save_assets",
        )


def it_is_exported_or_says_why_not(subject: EncoderSubject) -> None:
    """`torch.export` traces it with free batch and text length, unless `no_export` gives a reason."""
    if subject.component.no_export() is not None:
        return
    encoder = subject.build()
    traced = Traced(encoder, subject.outputs)
    free = {"batch": Dim("batch", min=1), "length": Dim("length", min=2, max=subject.longest)}
    given = subject.sized(3, 5)
    axes = tuple({place: free[name] for place, name in enumerate(names)} for names in given.values())
    try:
        with torch.no_grad():
            exported = torch.export.export(traced, tuple(given), dynamic_shapes=(axes,)).module()
    except Exception as error:  # the tracer raises any error of the traced code, and many of its own
        raise AssertionError(
            f"torch.export cannot trace it with free batch and text length: {str(error).strip()[:500]}; avoid control "
            "flow on values of tensors and len(x), or return the reason from no_export"
        ) from error
    for rows, length in ((1, 2), (1, 4), (4, 3)):
        inputs = tuple(subject.sized(rows, length))
        for one, other in zip(subject.outputs(encoder, *inputs), exported(*inputs), strict=True):
            claim_close(
                one,
                other,
                f"traced with 3 rows, it computes something else for {rows} rows of {length} tokens; sizes are read "
                "as x.shape[0]",
            )


LAWS = (
    evaluation_is_deterministic,
    calls_leave_nothing_behind,
    instances_share_nothing,
    its_inputs_stay_as_they_are,
    the_seed_decides_the_weights,
    gradients_reach_every_parameter,
    adapted_layers_are_called,
    it_follows_its_dtype,
    it_runs_under_autocast,
    every_tensor_moves_with_it,
    declared_names_exist,
    saved_and_loaded_it_is_the_same,
    it_is_exported_or_says_why_not,
)
