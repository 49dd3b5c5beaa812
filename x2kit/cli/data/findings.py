"""Report text lengths, languages, boxes and duplicates found by `x2kit data check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections import Counter

    from x2kit.data.validation.check import Check
    from x2kit.data.validation.statistics import SharedContents, TextCounts

PROBLEM_SHARE = 0.05
"""Share of texts above which truncated, unknown or shared ones are a problem."""


class Findings:
    """Collect statistics and problems of a finished check.

    Args:
        check: the finished check.
        languages: expected codes by stream; streams with unknown languages are absent.
        cells: number of patches in an image.
        unit: unit of text lengths, tokens or words.
        row_positives: whether a retrieval task counts equal captions of other records as wrong.
    """

    def __init__(
        self,
        check: Check,
        languages: Mapping[str, Sequence[str]],
        cells: int,
        unit: str,
        row_positives: bool,
    ) -> None:
        self._check, self._languages, self._cells, self._unit = check, languages, cells, unit
        self._row_positives = row_positives
        self._measured = {unit.name for unit in check.units if unit.config is None}

    def problems(self) -> list[str]:
        """List the problems, each with the setting to change."""
        if not self._check.complete:
            return []
        return [
            *self._missing_languages(),
            *(problem for key, counts in self._texts() for problem in self._text_problems(*key, counts)),
            *self._equal_contents(),
        ]

    def _texts(self) -> list[tuple[tuple[str, str], TextCounts]]:
        return sorted(self._check.statistics.texts.items())

    def _missing_languages(self) -> Iterator[str]:
        for stream, codes in self._languages.items():
            without = [code for code in codes if (stream, code) not in self._check.statistics.texts]
            if without and any(name == stream for name, _ in self._check.statistics.texts):
                yield (
                    f"{stream}: no text in {', '.join(without)} in the records checked; correct `languages` or "
                    "`languages_held`, or add texts"
                )

    def _text_problems(self, stream: str, language: str, counts: TextCounts) -> Iterator[str]:
        where, of = f"{stream}, {language}", f"of {counts.total} texts"
        if counts.cut > PROBLEM_SHARE * counts.total:
            yield (
                f"{where}: {counts.cut} {of} are truncated; the longest has {max(counts.lengths)} {self._unit}: raise "
                "max_tokens or max_words"
            )
        if counts.unknown > (0 if stream in self._measured else PROBLEM_SHARE * counts.total):
            yield f"{where}: {counts.unknown} {of} contain only unknown words; use another text encoder"

    def _equal_contents(self) -> Iterator[str]:
        for number, unit in enumerate(self._check.units):
            shared = self._check.captions.within[number]
            total = sum(c.total for (name, _), c in self._texts() if name == unit.name)
            if unit.name in self._measured and self._row_positives and shared > PROBLEM_SHARE * total:
                yield (
                    f"{unit.name}: {shared} captions also belong to other records, which retrieval counts as wrong; "
                    "set positives: text in the task"
                )
        for first, second, count in self._between(self._check.images):
            if second in self._measured and first not in self._measured:
                yield f"{second}: {count} images are also in the training stream {first}; remove them from one"

    def _between(self, shared: SharedContents) -> Iterator[tuple[str, str, int]]:
        units = self._check.units
        for (first, second), count in sorted(shared.between.items()):
            yield units[first].name, units[second].name, count

    def texts_as_json(self, stream: str) -> dict[str, Any]:
        """Count a stream's texts by language."""
        return {
            language: {
                "texts": counts.total,
                f"median_{self._unit}": _quantile(counts.lengths, 0.5),
                f"longest_{self._unit}": max(counts.lengths),
                "cut": counts.cut,
                "unknown": counts.unknown,
            }
            for (name, language), counts in self._texts()
            if name == stream
        }

    def boxes_as_json(self, stream: str) -> dict[str, Any] | None:
        """Summarise number and areas of a stream's boxes; None without boxes."""
        from x2kit.data.validation.statistics import AREAS

        areas = self._check.statistics.areas.get(stream)
        if not areas:
            return None
        below = sum(count for area, count in areas.items() if area * self._cells < AREAS)
        return {
            "boxes": areas.total(),
            "median_area": _quantile(areas, 0.5) / AREAS,
            "smallest_area": min(areas) / AREAS,
            "below_a_patch": below,
        }

    def fields_as_json(self, stream: str) -> dict[str, Any]:
        """Count a stream's fields of tasks; of answers and labels also the values and the most frequent one."""
        statistics = self._check.statistics
        found: dict[str, Any] = {}
        for name, records in sorted(statistics.fields.get(stream, {}).items()):
            found[name] = {"records": records}
            if values := statistics.values.get((stream, name)):
                ((value, count),) = values.most_common(1)
                found[name] |= {"values": len(values), "most_frequent": value, "share": count / records}
        return found

    def equal_as_json(self) -> dict[str, Any]:
        """Count duplicate captions and images within and between streams and evaluation."""
        units = self._check.units
        return {
            what: {
                "within": {units[number].name: count for number, count in sorted(shared.within.items())},
                "between": [
                    {"of": second, "also_in": first, "count": count}
                    for first, second, count in self._between(shared)
                ],
            }
            for what, shared in (("captions", self._check.captions), ("images", self._check.images))
        }

    def tables(self) -> list[Table]:
        """Build the tables for the terminal; empty ones are omitted."""
        texts = Table(
            "stream", "language", "texts", f"median {self._unit}", "longest", "truncated", "unknown"
        )
        for (stream, language), counts in self._texts():
            numbers = (
                counts.total,
                _quantile(counts.lengths, 0.5),
                max(counts.lengths),
                counts.cut,
                counts.unknown,
            )
            texts.add_row(stream, language, *map(str, numbers))
        boxes = Table("stream", "boxes", "median area", "smallest", "below a patch")
        for stream in self._check.drawn:
            if found := self.boxes_as_json(stream):
                boxes.add_row(
                    stream,
                    str(found["boxes"]),
                    f"{found['median_area']:.2%}",
                    f"{found['smallest_area']:.2%}",
                    str(found["below_a_patch"]),
                )
        fields = Table("stream", "field", "records", "values", "most frequent", "share")
        for stream in self._check.drawn:
            for name, counts in self.fields_as_json(stream).items():
                row = [stream, name, str(counts["records"])]
                if "values" in counts:
                    row += [str(counts["values"]), counts["most_frequent"], f"{counts['share']:.2%}"]
                fields.add_row(*row)
        equal = Table("duplicates", "in", "also in", "count")
        for what, found in self.equal_as_json().items():
            for name, count in found["within"].items():
                equal.add_row(what, name, "other records of it", str(count))
            for pair in found["between"]:
                equal.add_row(what, pair["of"], pair["also_in"], str(pair["count"]))
        return [table for table in (texts, boxes, fields, equal) if table.row_count]


def _quantile(counts: Counter[int], share: float) -> int:
    from x2kit.data.validation.statistics import quantile

    return quantile(counts, share)
