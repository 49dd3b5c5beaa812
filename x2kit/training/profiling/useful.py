"""Count the useful operations of a step: without padding and without recomputation. Imports torch.

Model FLOPs utilisation (MFU; PaLM, arXiv:2204.02311, appendix B) divides them by the peak of the device. Hardware
utilisation divides the operations that the device executed.

The forward pass is counted as the step runs it, except for its calls on texts, however these pad, pack or group them.
Instead each text counts at its own length, alone in a row, by calls on the meta device. The backward pass has twice the
operations of the forward pass. Patches outside a region count as useful, as does the padding of texts that a task's
decoder reads.

R rows, L text tokens, N context tokens, M distinct contexts, K masked tokens of a row, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from x2kit.model import X2VLM
from x2kit.plugin import Context, VisionFeatures
from x2kit.plugin.tasks import Texts
from x2kit.training.profiling.costs import BACKWARD, META, FusedAttention, count_operations
from x2kit.training.profiling.ranges import replaced
from x2kit.training.step import encoder_passes
from x2kit.training.step.fusion_pass import FusionPass

Call = Callable[[], object]


class UsefulCounter:
    """Count the useful operations of steps; the costs of rows are kept from step to step.

    Args:
        model: that the steps run on; whole or sharded.
        meta: its copy on the meta device, `meta_copy`.
    """

    def __init__(self, model: X2VLM, meta: X2VLM) -> None:
        self._model, self._meta = model, meta
        self._costs: dict[Hashable, int] = {}
        self._useful: list[Callable[[], int]] = []
        self._images: dict[_Form, set[int]] = {}
        self._replaced = 0

    def operations(self, forward: Callable[[], object]) -> int:
        """Count the useful operations of a step, forward and backward.

        Args:
            forward: runs the forward pass of the step, all losses included, by `step_losses`. It is called once,
                without gradients, so that activation checkpointing repeats nothing.
        """
        self._useful.clear()
        self._images.clear()
        self._replaced = 0
        with torch.no_grad(), count_operations() as counter, self._noted_calls(counter):
            forward()
        executed: int = counter.get_total_flops()
        # Counted last, as the counter of the step would see the meta device too.
        on_texts = sum(count() for count in self._useful)
        on_images = sum(self._of_contexts(form, {0: len(rows)}) for form, rows in self._images.items())
        return (1 + BACKWARD) * (executed - self._replaced + on_texts + on_images)

    @contextmanager
    def _noted_calls(self, counter: FlopCounterMode) -> Iterator[None]:
        """Note the texts that are encoded and fused, and the operations that the step executes on them."""
        encode, add = encoder_passes.encode_pieces, FusionPass.add

        def encode_pieces(model: X2VLM, pieces: Mapping[Any, Texts], *more: Any, **named: Any) -> Any:
            for texts in pieces.values():
                rows = Counter(_lengths(texts.mask))
                in_part = texts.positions is not None
                self._useful.append(lambda rows=rows, in_part=in_part: self._of_texts(rows, in_part))  # type: ignore[misc]
            return encode(model, pieces, *more, **named)

        def add_rows(
            fusion: FusionPass,
            key: Any,
            text: Tensor,
            mask: Tensor,
            context: Context | None,
            summary: bool = False,
            *more: Any,
            **named: Any,
        ) -> None:
            form, texts, contexts = _Form.of(text, mask, context), _lengths(mask), _context_lengths(context)
            seen = 0 if context is None or form.images is not None else context.tokens.shape[1]
            numbers = context.rows.tolist() if contexts and context is not None else []
            read = [contexts[number] for number in numbers] or [seen] * len(texts)
            rows = Counter(zip(texts, read, strict=True))
            self._useful.append(lambda: self._of_rows(form, rows, summary))
            if context is not None and form.images is not None:
                self._images.setdefault(form, set()).update(context.rows.flatten().tolist())
            elif context is not None:
                own = Counter(contexts.values()) or Counter({seen: len(context.tokens)})
                self._useful.append(lambda: self._of_contexts(form, own))
            add(fusion, key, text, mask, context, summary, *more, **named)

        def not_counted(function: Callable[..., Any]) -> Callable[..., Any]:
            @wraps(function)
            def call(*arguments: Any, **named: Any) -> Any:
                before = counter.get_total_flops()
                result = function(*arguments, **named)
                self._replaced += counter.get_total_flops() - before
                return result

            return call

        with ExitStack() as stack:
            stack.enter_context(replaced(encoder_passes, "encode_pieces", encode_pieces))
            stack.enter_context(replaced(FusionPass, "add", add_rows))
            for name in ("encode_texts", "fuse"):
                method = not_counted(getattr(self._model, name))
                stack.enter_context(replaced(self._model, name, method))
            head = self._model._modules.get("mlm_head")
            if head is not None:
                predict: Callable[..., Tensor] = head.forward

                def predict_masked(fused: Tensor, positions: Tensor) -> Tensor:
                    padding = int((positions == 0).sum())  # position 0 is never masked
                    width = fused.shape[-1]
                    self._useful.append(lambda: -padding * self._of_position(width))
                    return predict(fused, positions)

                stack.enter_context(replaced(head, "forward", predict_masked))
            yield

    def _of_texts(self, rows: Mapping[int, int], in_part: bool) -> int:
        """Count the operations of the text encoder on rows that are counted by length."""

        def cost(length: int) -> int:
            def encode(count: int) -> Call:
                mask = (count, length, length) if in_part else (count, length)
                positions = _ids(count, length) if in_part else None
                return partial(self._meta.encode_texts, _ids(count, length), _mask(*mask), positions)

            return self._per_row(("text", length, in_part), encode)

        return sum(count * cost(length) for length, count in rows.items())

    def _of_rows(self, form: _Form, rows: Mapping[tuple[int, int], int], summary: bool) -> int:
        """Count the operations of the fusion encoder on rows that are counted by their tokens and their context's."""

        def cost(length: int, tokens: int) -> int:
            def fuse(count: int) -> Call:
                return form.call(self._meta, count, 1, length, tokens, summary)

            return self._per_row((form, length, tokens, summary), fuse)

        return sum(count * cost(*key) for key, count in rows.items())

    def _of_contexts(self, form: _Form, contexts: Mapping[int, int]) -> int:
        """Count the operations on contexts, counted by their tokens: keys and values that are not prepared."""

        def cost(tokens: int) -> int:
            def fuse(count: int) -> Call:
                return form.call(self._meta, 1, count, 1, tokens, False)

            return self._per_row((form, tokens), fuse)

        return sum(count * cost(tokens) for tokens, count in contexts.items())

    def _of_position(self, width: int) -> int:
        """Count the operations of the masked-language head on one position."""

        def predict(positions: int) -> Call:
            states = torch.empty(1, 1, width, device=META)
            return partial(self._meta.mlm_head, states, _ids(1, positions))

        return self._per_row(("position", width), predict)

    def _per_row(self, key: Hashable, build: Callable[[int], Call]) -> int:
        """Return the operations that one more row adds; what all rows share falls out of the difference."""
        if key not in self._costs:
            counts: list[int] = []
            for rows in (1, 2):
                with torch.no_grad(), FusedAttention():
                    call = build(rows)
                    with count_operations() as counter:
                        call()
                counts.append(counter.get_total_flops())
            self._costs[key] = counts[1] - counts[0]
        return self._costs[key]


class _Form(NamedTuple):
    """What the cost of a fused row depends on, besides lengths.

    Attributes:
        width: D of the text.
        mask_axes: 3 for texts that are read in part, else 2.
        images: of a row; () for one, (K,) for K; None without images.
        context_width: D of the context; None for text alone.
    """

    width: int
    mask_axes: int
    images: tuple[int, ...] | None
    context_width: int | None

    @classmethod
    def of(cls, text: Tensor, mask: Tensor, context: Context | None) -> _Form:
        """Describe rows that are added to a fusion pass."""
        if context is None:
            return cls(text.shape[2], mask.ndim, None, None)
        images = None if context.lead is None else tuple(context.rows.shape[1:])
        return cls(text.shape[2], mask.ndim, images, context.tokens.shape[-1])

    def call(self, meta: X2VLM, rows: int, contexts: int, length: int, tokens: int, summary: bool) -> Call:
        """Build a call that fuses rows of one length with some contexts, of `tokens` tokens if these are texts."""
        mask = _mask(rows, length) if self.mask_axes == 2 else _mask(rows, length, length)
        text = torch.empty(rows, length, self.width, device=META)
        context = self._context(meta, rows, contexts, tokens)
        return partial(meta.fuse, text, mask, context, rows if summary else 0)

    def _context(self, meta: X2VLM, rows: int, contexts: int, tokens: int) -> Context | None:
        if self.context_width is None:
            return None
        if self.images is None:
            return Context(torch.empty(contexts, tokens, self.context_width, device=META), _ids(rows))
        grid = meta.vision.grid
        patches = torch.empty(contexts, grid[0] * grid[1], self.context_width, device=META)
        features = VisionFeatures(patches[:, 0], patches, grid)
        prepared = meta.prepare_patches(features)  # not counted here, but in the step itself
        lead = torch.empty(rows, *(self.images or (1,)), self.context_width, device=META)
        return prepared._replace(rows=_ids(rows, *self.images), lead=lead)


def _lengths(mask: Tensor) -> list[int]:
    """Return the tokens of each row of a mask [R, L], or [R, L, L] whose diagonal tells them."""
    return (mask if mask.ndim == 2 else mask.diagonal(dim1=1, dim2=2)).sum(1).tolist()


def _context_lengths(context: Context | None) -> dict[int, int]:
    """Return the tokens of each context that a row reads if they are padded texts; none for images."""
    if context is None or context.lead is not None or context.mask is None:
        return {}
    return dict(zip(context.rows.tolist(), context.mask.sum(-1).tolist(), strict=True))


def _ids(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device=META)


def _mask(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bool, device=META)
