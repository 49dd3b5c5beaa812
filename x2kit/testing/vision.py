"""Checks of vision encoders."""

from __future__ import annotations

import torch

from x2kit.testing.claims import SEEN, claim, claim_close, claim_differs, claim_shape, difference
from x2kit.testing.subjects import ROWS, VisionSubject


def facts_are_true(subject: VisionSubject) -> None:
    """`describe` returns the facts of the encoder."""
    facts, encoder = subject.component.describe(), subject.build()
    for what, said in (("image_spec", facts.image), ("width", facts.width), ("grid", tuple(facts.grid))):
        found = getattr(encoder, what, None)
        found = tuple(found) if what == "grid" and found is not None else found
        claim(found == said, f"describe() says {what} {said}, the encoder has {found}")
    fault = facts.image.fault()
    claim(fault is None, fault or "")


def shapes_are_as_declared(subject: VisionSubject) -> None:
    """Summary [B, D], patches [B, N, D], grid of N patches."""
    facts = subject.component.describe()
    features = subject.build()(subject.images())
    num_patches = facts.grid[0] * facts.grid[1]
    claim_shape("summary", features.summary, (ROWS, facts.width), "[B, D]")
    claim_shape("patches", features.patches, (ROWS, num_patches, facts.width), "[B, N, D]")
    claim(tuple(features.grid) == tuple(facts.grid), f"grid is {features.grid}, described as {facts.grid}")


def images_do_not_mix(subject: VisionSubject) -> None:
    """In eval mode the features of an image do not depend on other images."""
    encoder, images = subject.build(), subject.images()
    together = encoder(images)
    for row in range(ROWS):
        alone = encoder(images[row : row + 1])
        for what in ("summary", "patches"):
            claim_close(
                getattr(together, what)[row],
                getattr(alone, what)[0],
                f"an image alone has another {what} than in a batch",
            )


def images_matter(subject: VisionSubject) -> None:
    """Different images have different summaries and patches."""
    features = subject.build()(subject.images())
    claim_differs(features.summary[0], features.summary[1], "two images have the same summary")
    claim_differs(features.patches[0], features.patches[1], "two images have the same patches")


def the_summary_is_of_the_patches(subject: VisionSubject) -> None:
    """A change anywhere in an image that changes patches also changes the summary."""
    facts, encoder = subject.component.describe(), subject.build()
    rows, columns = facts.grid
    images = subject.images(1)
    before = encoder(images)
    unseen = []
    for row, column in sorted(
        {(0, 0), (0, columns - 1), (rows - 1, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)}
    ):
        painted = images.clone()
        top, left = row * images.shape[2] // rows, column * images.shape[3] // columns
        bottom, right = (row + 1) * images.shape[2] // rows, (column + 1) * images.shape[3] // columns
        painted[:, :, top:bottom, left:right] += 3
        after = encoder(painted)
        moved = difference(before.patches, after.patches) > SEEN
        if moved and difference(before.summary, after.summary) <= SEEN:
            unseen.append(f"({row}, {column})")
    claim(
        not unseen,
        f"the summary does not depend on all patches: a change of the image at {', '.join(unseen)} of the grid changes "
        "the patches only",
    )


def patches_are_row_major(subject: VisionSubject) -> None:
    """What changes in a corner of the image changes that corner of the grid most."""
    facts, encoder = subject.component.describe(), subject.build()
    rows, columns = facts.grid
    if rows < 2 or columns < 2:
        return
    images = subject.images(8)
    height, width = -(-images.shape[2] // rows), -(-images.shape[3] // columns)
    before = encoder(images).patches
    corners = {"top right": (0, columns - 1), "bottom left": (rows - 1, 0)}
    for name, (row, column) in corners.items():
        painted = images.clone()
        top, left = row * images.shape[2] // rows, column * images.shape[3] // columns
        painted[:, :, top : top + height, left : left + width] += 3
        change = (encoder(painted).patches - before).abs().sum(-1).mean(0).view(rows, columns)
        other = next(change[place] for other, place in corners.items() if other != name)
        claim(
            bool(change[row, column] > other),
            f"paint in the {name} corner of the image changes the opposite corner of the grid more; "
            "patches are row by row, from the top left",
        )


def regions_are_pooled_row_by_row(subject: VisionSubject) -> None:
    """`pool_regions` takes each region from its own image, whatever stands beside it."""
    facts, encoder = subject.component.describe(), subject.build()
    features = encoder(subject.images())
    rows = torch.tensor([1, 0, 1])
    mask = torch.zeros(3, facts.grid[0] * facts.grid[1], dtype=torch.bool)
    mask[0] = True
    mask[1, 0] = True
    mask[2, -1] = True
    pooled = encoder.pool_regions(features, rows, mask)
    claim_shape("pool_regions", pooled, (3, facts.width), "[B, D]")
    claim(bool(torch.isfinite(pooled).all()), "pool_regions gives values that are not finite")
    for row in range(3):
        alone = encoder.pool_regions(features, rows[row : row + 1], mask[row : row + 1])
        claim_close(pooled[row], alone[0], "a region pooled alone differs from the same in a batch")
    if mask.shape[1] > 1:
        claim_differs(
            pooled[0], pooled[2], "two regions of an image have the same summary; is the mask used?"
        )


LAWS = (
    facts_are_true,
    shapes_are_as_declared,
    images_do_not_mix,
    images_matter,
    the_summary_is_of_the_patches,
    patches_are_row_major,
    regions_are_pooled_row_by_row,
)
