"""Count the useful operations of a step: without padding and without recomputation. Imports torch.

Model FLOPs utilisation (MFU; PaLM, arXiv:2204.02311, appendix B) divides them by the peak of the device. Hardware
utilisation divides the operations that the device executed.

The forward pass is counted as the step runs it. For every call on padded texts the surplus is subtracted: the
difference in operations between a row of the padded length and one of its own length, on the meta device. The backward
pass has twice the operations of the forward pass. Patches outside a region count as useful, as does the padding of
texts that a task's decoder reads.

R rows, L text tokens, N context tokens, M distinct contexts, K masked tokens of a row, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.plugin import Context
from x2kit.training.profiling.costs import BACKWARD, META, FusedAttention, count_operations
from x2kit.training.profiling.ranges import replaced


class UsefulCounter:
    """Count the useful operations of steps; the costs of rows are kept from step to step.

    Args:
        model: that the steps run on; whole or sharded.
        meta: its copy on the meta device, `meta_copy`.
    """

    def __init__(self, model: X2VLM, meta: X2VLM) -> None:
        self._model, self._meta = model, meta
        self._costs: dict[Hashable, int] = {}
        self._calls: list[Callable[[], int]] = []

    def operations(self, forward: Callable[[], object]) -> int:
        """Count the useful operations of a step, forward and backward.

        Args:
            forward: runs the forward pass of the step, all losses included. It is called once, without gradients, so
                that activation checkpointing repeats nothing.
        """
        self._calls.clear()
        with torch.no_grad(), self._padded_calls(), count_operations() as counter:
            forward()
        executed: int = counter.get_total_flops()
        return (1 + BACKWARD) * (executed - sum(surplus() for surplus in self._calls))

    @contextmanager
    def _padded_calls(self) -> Iterator[None]:
        """Note the calls on padded texts; they are counted afterwards, as the counter also sees the meta device."""
        encode, fuse = self._model.encode_texts, self._model.fuse

        def encode_texts(
            ids: Tensor, mask: Tensor, positions: Tensor | None = None, *more: Any, **named: Any
        ) -> Tensor:
            lengths = Counter(_lengths(mask))
            self._calls.append(lambda: self._of_texts(lengths, mask.shape[1], positions is not None))
            return encode(ids, mask, positions, *more, **named)

        def fuse_texts(
            text: Tensor,
            text_mask: Tensor,
            context: Context | None,
            summary_rows: int = 0,
            *more: Any,
            **named: Any,
        ) -> Tensor:
            call = _FusionCall(text.shape, text_mask.ndim, None if context is None else _meta(context))
            texts, contexts = _lengths(text_mask), _context_lengths(context)
            seen = 0 if context is None else context.tokens.shape[1]
            read = (
                [contexts[row] for row in context.rows.tolist()]
                if contexts and context
                else [seen] * len(texts)
            )
            rows = Counter((length, read[row], row < summary_rows) for row, length in enumerate(texts))
            self._calls.append(lambda: self._of_fusion(call, rows, Counter(contexts.values())))
            return fuse(text, text_mask, context, summary_rows, *more, **named)

        with ExitStack() as stack:
            stack.enter_context(replaced(self._model, "encode_texts", encode_texts))
            stack.enter_context(replaced(self._model, "fuse", fuse_texts))
            head = self._model._modules.get("mlm_head")
            if head is not None:
                predict: Callable[..., Tensor] = head.forward

                def predict_masked(fused: Tensor, positions: Tensor) -> Tensor:
                    padding, width = (
                        int((positions == 0).sum()),
                        fused.shape[-1],
                    )  # position 0 is never masked
                    self._calls.append(lambda: padding * self._of_position(width))
                    return predict(fused, positions)

                stack.enter_context(replaced(head, "forward", predict_masked))
            yield

    def _of_texts(self, lengths: Mapping[int, int], padded: int, in_part: bool) -> int:
        """Count the operations on the padding of texts, whose rows are counted by length."""

        def cost(length: int) -> int:
            def encode(rows: int) -> None:
                mask = (rows, length, length) if in_part else (rows, length)
                self._meta.encode_texts(
                    _ids(rows, length), _mask(*mask), _ids(rows, length) if in_part else None
                )

            return self._per_row(("text", length, in_part), encode)

        return sum(
            count * (cost(padded) - cost(length)) for length, count in lengths.items() if length < padded
        )

    def _of_fusion(
        self, call: _FusionCall, rows: Mapping[tuple[int, int, bool], int], contexts: Mapping[int, int]
    ) -> int:
        """Count the operations on the padding of fused texts, and of contexts that are texts.

        Args:
            call: of the fusion encoder.
            rows: counted by their tokens, those of their context, and whether position 0 alone is read.
            contexts: texts counted by their tokens.
        """

        def row(length: int, tokens: int, summary: bool) -> int:
            def fuse(count: int) -> None:
                call.run(self._meta, count, 1, length, tokens, summary)

            return self._per_row((call.key, length, tokens, summary), fuse)

        def context(tokens: int) -> int:
            def fuse(count: int) -> None:
                call.run(self._meta, 1, count, 1, tokens, False)

            return self._per_row((call.key, tokens), fuse)

        padded, seen = call.text[1], 0 if call.context is None else call.context.tokens.shape[1]
        of_rows = sum(
            count * (row(padded, seen, summary) - row(length, tokens, summary))
            for (length, tokens, summary), count in rows.items()
            if (length, tokens) != (padded, seen)
        )
        return of_rows + sum(
            count * (context(seen) - context(tokens)) for tokens, count in contexts.items() if tokens < seen
        )

    def _of_position(self, width: int) -> int:
        """Count the operations of the masked-language head on one position."""

        def predict(positions: int) -> None:
            self._meta.mlm_head(torch.empty(1, 1, width, device=META), _ids(1, positions))

        return self._per_row(("position", width), predict)

    def _per_row(self, key: Hashable, run: Callable[[int], None]) -> int:
        """Return the operations that one more row adds; what all rows share falls out of the difference."""
        if key not in self._costs:
            counts: list[int] = []
            for rows in (1, 2):
                with torch.no_grad(), FusedAttention(), count_operations() as counter:
                    run(rows)
                counts.append(counter.get_total_flops())
            self._costs[key] = counts[1] - counts[0]
        return self._costs[key]


class _FusionCall(NamedTuple):
    """Form of a call of the fusion encoder: shape of the texts [R, L, D], axes of their mask, context on meta."""

    text: torch.Size
    mask_axes: int
    context: Context | None

    @property
    def key(self) -> Hashable:
        """What the cost of a row depends on, besides lengths."""
        if self.context is None:
            return self.text[2], self.mask_axes
        of = self.context
        return (
            self.text[2],
            self.mask_axes,
            of.rows.shape[1:],
            of.mask is None,
            of.lead is None,
            len(of.prepared),
        )

    def run(self, meta: X2VLM, rows: int, contexts: int, length: int, tokens: int, summary: bool) -> None:
        """Fuse rows of one length with one context or several of `tokens` tokens."""
        mask = _mask(rows, length) if self.mask_axes == 2 else _mask(rows, length, length)
        text = torch.empty(rows, length, self.text[2], device=META)
        context = self.context
        if context is not None:
            context = context._replace(
                tokens=_first(context.tokens, contexts)[:, :tokens],
                rows=_first(context.rows, rows),
                mask=None if context.mask is None else _first(context.mask, rows)[..., :tokens],
                lead=None if context.lead is None else _first(context.lead, rows),
                prepared=tuple(_first(keys, contexts)[:, :tokens] for keys in context.prepared),
            )
        meta.fuse(text, mask, context, rows if summary else 0)


def _meta(context: Context) -> Context:
    """Copy the shapes of a context."""
    tokens, rows, mask, lead, prepared = context
    return Context(
        tokens.to(META),
        rows.to(META),
        None if mask is None else mask.to(META),
        None if lead is None else lead.to(META),
        tuple(keys.to(META) for keys in prepared),
    )


def _lengths(mask: Tensor) -> list[int]:
    """Return the tokens of each row of a mask [R, L], or [R, L, L] whose diagonal tells them."""
    return (mask if mask.ndim == 2 else mask.diagonal(dim1=1, dim2=2)).sum(1).tolist()


def _context_lengths(context: Context | None) -> dict[int, int]:
    """Return the tokens of each context that a row reads if they are padded texts; none for images."""
    if context is None or context.lead is not None or context.mask is None:
        return {}
    return dict(zip(context.rows.tolist(), context.mask.sum(-1).tolist(), strict=True))


def _first(tensor: Tensor, count: int) -> Tensor:
    """Return a meta tensor like this one with `count` rows, however many it has."""
    return torch.empty(count, *tensor.shape[1:], dtype=tensor.dtype, device=META)


def _ids(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.int64, device=META)


def _mask(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.bool, device=META)
