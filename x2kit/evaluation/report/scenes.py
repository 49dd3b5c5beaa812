"""Draw predicted and true boxes on images. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence

from x2kit.evaluation.report.gallery import Thumbnails
from x2kit.evaluation.report.markup import Markup, join, tag
from x2kit.evaluation.report.probe import Guess, Probe

SCENES, REGIONS = 6, 4
"""Number of images of each language, and maximum number of regions of an image."""


def draw_scenes(probe: Probe, codes: Sequence[str], thumbnails: Thumbnails) -> Markup | None:
    """Draw evenly spaced images with regions, the same for each language; None without regions."""
    having = [position for position, entry in enumerate(probe.entries) if entry.regions]
    chosen = list(dict.fromkeys(having[place * len(having) // SCENES] for place in range(SCENES) if having))
    drawn = []
    for code in codes:
        found = probe.boxes(code, chosen, REGIONS)
        if not found:
            continue
        scenes = [
            draw_scene(
                thumbnails[position],
                probe.entries[position].size,
                found[position],
                code,
                probe.grounding.iou,
            )
            for position in chosen
            if position in found
        ]
        drawn += [tag("h3", code), tag("div", scenes, class_="scenes")]
    return join(drawn) if drawn else None


def draw_scene(
    thumbnail: str, size: tuple[int, int], guesses: Sequence[Guess], code: str, limit: float
) -> Markup:
    """Draw an image with its boxes, followed by each region's text and intersection over union.

    Args:
        thumbnail: data URL of the image.
        size: (width, height) of the image in pixels.
        guesses: the regions.
        code: language of their texts.
        limit: intersection over union above which a prediction is a hit.
    """
    width, height = size
    shapes = [
        _rect(bbox, size, kind)
        for guess in guesses
        for bbox, kinds in ((guess.truth, ("halo", "truth")), (guess.predicted, ("halo", "guess")))
        for kind in kinds
    ]
    overlay = tag(
        "svg",
        shapes,
        [_numbers(number, guess, size) for number, guess in enumerate(guesses, 1)],
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label="true and predicted boxes",
    )
    return tag(
        "figure",
        tag("div", tag("img", src=thumbnail, alt=""), overlay, class_="stage"),
        tag(
            "figcaption",
            tag("ul", [_line(number, guess, code, limit) for number, guess in enumerate(guesses, 1)]),
        ),
        class_="scene",
    )


def _line(number: int, guess: Guess, code: str, limit: float) -> Markup:
    found = guess.iou >= limit
    return tag(
        "li",
        tag("span", f"{number}. ", tag("bdi", guess.text, lang=code)),
        tag("span", f"{'✓' if found else '✗'} {guess.iou:.2f}", class_="right" if found else "missed"),
    )


def _rect(bbox: Sequence[float], size: tuple[int, int], kind: str) -> Markup:
    (x, y, w, h), (width, height) = bbox, size
    return tag(
        "rect",
        x=(x - w / 2) * width,
        y=(y - h / 2) * height,
        width=w * width,
        height=h * height,
        class_=kind,
    )


def _numbers(number: int, guess: Guess, size: tuple[int, int]) -> Markup:
    """Draw a region's number at the top left of its true box and the bottom right of the predicted one."""
    width, height = size
    letter = 0.085 * min(size)
    (x, y, w, h), (px, py, pw, ph) = guess.truth, guess.predicted
    return join(
        tag(
            "text",
            str(number),
            x=(x - w / 2) * width + 0.4 * letter,
            y=(y - h / 2) * height + 1.05 * letter,
            font_size=letter,
            class_="number",
        ),
        tag(
            "text",
            str(number),
            x=(px + pw / 2) * width - 0.4 * letter,
            y=(py + ph / 2) * height - 0.35 * letter,
            font_size=letter,
            text_anchor="end",
            class_="number guess",
        ),
    )
