"""Draw the batch of a training step as an HTML page: images, boxes, patches, tokens, positives. Imports torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from x2kit.data.config import DataConfig, StreamConfig
from x2kit.data.pipeline.batch import Batch, MaskedTexts, PairedRows, ParallelRows, Rows, TaskRows
from x2kit.data.transforms.view import unit_floats
from x2kit.evaluation.report.markup import Markup, join, tag
from x2kit.evaluation.report.page import Section, draw_facts, draw_page
from x2kit.evaluation.report.record_fields import draw_fields
from x2kit.evaluation.report.visible import visible_unit
from x2kit.model.regions import patch_mask
from x2kit.plugin.facts import ImageSpec, VisionFacts
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import Texts
from x2kit.plugin.tokenizers import Tokenizer

_SMALL = 96
"""Images up to this many pixels a side are stored as PNG, larger ones as JPEG."""
_SHOWN_VALUES = 8
"""Values of a target that are drawn."""
_ABOUT = {
    "images": "An image, or the sampled frames of a video, after crop, flip and augmentation, and its text.",
    "boxes": "The box of each text in its image. Patches outside the box are dimmed: they are masked in "
    "attention. A text of the whole image has no box.",
    "parallel": "Two texts of equal meaning.",
    "texts": "Texts without images.",
}


class _Tokens(NamedTuple):
    """Draw token ids as readable text."""

    tokenizer: Tokenizer

    def name(self, id_: int) -> str:
        special = {value: f"[{name.upper()}]" for name, value in self.tokenizer.special._asdict().items()}
        return special.get(id_) or self.tokenizer.decode([id_]) or f"#{id_}"

    def draw(self, ids: Sequence[int], kept: int, masked: dict[int, tuple[int, int]]) -> Markup:
        """Draw the tokens of a text; a masked one with the token that the model sees instead."""
        starts = self.tokenizer.starts_word(ids[:kept])
        return tag(
            "div",
            [self._token(id_, masked.get(place), starts[place]) for place, id_ in enumerate(ids[:kept])],
            class_="tokens",
            dir="auto",
        )

    def _token(self, id_: int, masked: tuple[int, int] | None, starts_word: bool) -> Markup:
        kind = "token" if starts_word else "token piece"
        if masked is None:
            return tag("span", self.name(id_), class_=kind)
        seen, label = masked
        hover = f"seen: {self.name(seen)}; to predict: {self.name(label)}"
        return tag(
            "span",
            tag("s", self.name(label)),
            " ",
            tag("b", self.name(seen)),
            class_=f"{kind} masked",
            title=hover,
        )


def draw_sheet(
    batch: Batch,
    data: DataConfig,
    tokenizer: Tokenizer,
    vision: VisionFacts,
    title: str,
    steps: int,
    rows: int,
    records: Mapping[str, Sequence[Record]] = MappingProxyType({}),
) -> str:
    """Draw the page of a step.

    Args:
        batch: of the step.
        data: the recipe's.
        tokenizer: that made the batch.
        vision: facts of the vision encoder.
        title: of the page.
        steps: of the whole run.
        rows: maximum number of rows drawn of each stream.
        records: of the rows of tasks that compute their own losses, to draw their fields.
    Returns: self-contained HTML.
    """
    grid = vision.grid
    sheet = _Sheet(batch, _Tokens(tokenizer), vision, rows, records)
    sections = [
        Section(
            f"stream-{name}",
            name,
            _about(data.streams[name]),
            sheet.draw(name, drawn, data.streams[name]),
        )
        for name, drawn in batch.streams.items()
    ]
    absent = [name for name in data.streams if name not in batch.streams]
    all_images = len(batch.images) - sum(batch.videos) if batch.images is not None else 0
    facts = [f"{all_images} images", f"{len(batch.videos)} videos", f"patches {grid[0]} × {grid[1]}"]
    if vision.image.value_range is not None or vision.image.channels not in (1, 3):
        facts.append(f"images of {vision.image.channels} channels, with stretched contrast")
    facts += [f"{name} is absent: no loss is active, or no row" for name in absent]
    if batch.broken:
        facts.append(f"{len(batch.broken)} broken records were skipped")
    about = (
        "The batch of this step; rows are numbered as in the batch. A masked token is struck out, followed in bold by "
        "the token that the model sees."
    )
    sections += [_broken(batch)] if batch.broken else []
    for name in batch.streams:
        stream = data.streams[name]
        on = [*stream.losses_on(batch.step, steps), *stream.objectives_on(batch.step, steps)]
        facts.append(f"{name}: losses {', '.join(on)}")
    return draw_page(title, about, "; ".join(facts), sections)


class _Sheet:
    def __init__(
        self,
        batch: Batch,
        tokens: _Tokens,
        vision: VisionFacts,
        rows: int,
        records: Mapping[str, Sequence[Record]],
    ) -> None:
        self._batch, self._tokens, self._rows, self._records = batch, tokens, rows, records
        self._spec, self._grid = vision.image, vision.grid
        self._addresses: dict[int, str] = {}

    def draw(self, name: str, rows: Rows, config: StreamConfig) -> Markup:
        """Draw the rows of a stream, up to the maximum."""
        group = None if not isinstance(rows, PairedRows | ParallelRows) else rows.group.tolist()
        texts = _texts(rows)[0]
        total = len(texts.ids)
        shown = range(min(total, self._rows))
        fused = getattr(rows, "fused", None)
        facts = draw_facts(
            {
                "rows": f"{total}" if total <= self._rows else f"{total}, first {self._rows} shown",
                "records": str(len(self._batch.records.get(name, []))),
                "tokens": f"texts padded to {texts.ids.shape[1]}, "
                f"{1 - texts.mask.float().mean().item():.0%} padding",
                "fusion encoder": None
                if fused is None
                else f"the first {fused} rows; the others serve as negatives only",
                "positives": None if group is None else _positives(config, group),
            }
        )
        records = self._records.get(name, ())
        cards = [self._card(row, rows, group, fused, records[row] if records else None) for row in shown]
        wide = " pairs" if not isinstance(rows, PairedRows | TaskRows) else ""
        return join(facts, tag("div", cards, class_=f"cards{wide}"))

    def _card(
        self, row: int, rows: Rows, group: list[int] | None, fused: int | None, record: Record | None
    ) -> Markup:
        parts: list[Markup | None] = []
        if isinstance(rows, PairedRows):
            parts.append(self._images(row, rows))
        if isinstance(rows, TaskRows):
            parts += [self._stage(number) for number in rows.images[row].tolist()]
        parts.append(_heading(row, group, fused))
        if isinstance(rows, ParallelRows):
            parts.append(self._text(row, rows.first, rows.masked_first))
            parts.append(self._text(row, rows.second, None))
        elif isinstance(rows, TaskRows):
            parts += [self._text(row, texts, None) for texts in rows.texts]
            parts.append(draw_fields(record) if record is not None else None)
            parts += [_target(name, values[row]) for name, values in rows.targets.items()]
        else:
            parts.append(self._text(row, rows.texts, rows.masked))
        return tag("figure", parts, class_="card")

    def _text(self, row: int, texts: Texts, masked: MaskedTexts | None) -> Markup:
        found: dict[int, tuple[int, int]] = {}
        if masked is not None and row < len(masked.ids):
            pairs = zip(masked.positions[row].tolist(), masked.labels[row].tolist(), strict=True)
            found = {place: (int(masked.ids[row, place]), label) for place, label in pairs if label >= 0}
        mask = texts.mask if texts.positions is None else texts.mask.diagonal(dim1=1, dim2=2)
        return self._tokens.draw(texts.ids[row].tolist(), int(mask[row].sum()), found)

    def _images(self, row: int, rows: PairedRows) -> Markup:
        overlay = None
        if rows.regions is not None and not bool(rows.regions.whole[row]):
            overlay = self._region(rows.regions.bbox[row])
        return self._stage(int(rows.images[row]), overlay)

    def _stage(self, first: int, overlay: Markup | None = None) -> Markup:
        """Draw an image with an overlay, or the frames of a video."""
        videos = self._batch.videos
        all_images = 0 if self._batch.images is None else len(self._batch.images) - sum(videos)
        if first >= all_images:  # frames of videos follow all images
            video = first - all_images
            start = all_images + sum(videos[:video])
            frames = [self._image(number) for number in range(start, start + videos[video])]
            return tag("div", frames, class_="frames")
        return tag("div", self._image(first), overlay, class_="stage")

    def _image(self, number: int) -> Markup:
        if number not in self._addresses:
            images = self._batch.images
            assert images is not None  # PairedRows have images
            self._addresses[number] = _address(images[number], self._spec)
        return tag("img", src=self._addresses[number], alt=f"image {number}", loading="lazy")

    def _region(self, bbox: Tensor) -> Markup:
        rows, columns = self._grid
        seen = patch_mask(bbox[None], self._grid)[0].view(rows, columns).tolist()
        dim = [
            tag("rect", x=float(x), y=float(y), width=1.0, height=1.0, class_="unseen")
            for y in range(rows)
            for x in range(columns)
            if not seen[y][x]
        ]
        # the viewBox is in patches; percentages keep more than the one decimal of `number`
        x, y, w, h = bbox.tolist()
        box = [
            tag(
                "rect",
                x=f"{100 * (x - w / 2):.3f}%",
                y=f"{100 * (y - h / 2):.3f}%",
                width=f"{100 * w:.3f}%",
                height=f"{100 * h:.3f}%",
                class_=kind,
            )
            for kind in ("halo", "truth")
        ]
        return tag(
            "svg",
            dim,
            box,
            viewBox=f"0 0 {columns} {rows}",
            preserveAspectRatio="none",
            role="img",
            aria_label="the box, with the patches outside dimmed",
        )


def _about(stream: StreamConfig) -> str:
    if stream.layout is not None:
        return _ABOUT[stream.layout]
    name = stream.task.component_name()
    return f"Rows of the task {name}: images after crop, flip and augmentation, texts, and targets."


def _texts(rows: Rows) -> Sequence[Texts]:
    if isinstance(rows, ParallelRows):
        return rows.first, rows.second
    return rows.texts if isinstance(rows, TaskRows) else (rows.texts,)


def _target(name: str, value: Tensor) -> Markup:
    """Draw a target of a row; long ones by their shape."""
    shown = f"{value.tolist()}" if value.numel() <= _SHOWN_VALUES else f"{list(value.shape)}"
    return tag("div", f"{name}: {shown}", class_="quiet")


def _heading(row: int, group: list[int] | None, fused: int | None) -> Markup:
    others = [] if group is None else [n for n, one in enumerate(group) if one == group[row] and n != row]
    positives = f"also positive: {', '.join(map(str, others))}" if others else None
    only = "negative only" if fused is not None and row >= fused else None
    return tag(
        "figcaption",
        tag("b", f"row {row}"),
        tag("span", positives, class_="right") if positives else None,
        tag("span", only, class_="quiet") if only else None,
    )


def _positives(config: StreamConfig, group: list[int]) -> str:
    sizes = [group.count(one) for one in set(group)]
    several = sum(size for size in sizes if size > 1)
    rule = {"row": "the row itself", "text": "rows of equal text", "image": "rows of one image"}
    return f"{rule[config.positives]}: {several} of {len(group)} rows have more than one; all other rows are negatives"


def _broken(batch: Batch) -> Section:
    rows = [
        tag(
            "tr",
            tag("th", fault.stream),
            tag("td", fault.record),
            tag("td", fault.reason),
            tag("td", fault.message),
        )
        for fault in batch.broken
    ]
    head = tag("tr", [tag("th", name) for name in ("stream", "record", "reason", "message")])
    table = tag("table", tag("thead", head), tag("tbody", rows))
    about = "Broken records drawn for this step; other records replaced them."
    return Section("broken", "broken records", about, tag("div", table, class_="scroll"))


def _address(image: Tensor, spec: ImageSpec) -> str:
    """Encode an image [C, S, S], uint8 or in [0, 1], as a data URL; large ones as JPEG to keep the file small."""
    one_image = visible_unit(unit_floats(image).permute(1, 2, 0).cpu().numpy(), spec)
    kind = "PNG" if max(one_image.size) <= _SMALL else "JPEG"
    packed = io.BytesIO()
    one_image.save(packed, kind, quality=90) if kind == "JPEG" else one_image.save(packed, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(packed.getvalue()).decode('ascii')}"
