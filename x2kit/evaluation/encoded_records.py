"""The pictures of all records, encoded; what else is needed of the records beside them. Imports torch."""

from __future__ import annotations

from itertools import chain

import torch

from x2kit.errors import DataError
from x2kit.evaluation.records import Entry, MeasuredRecords
from x2kit.evaluation.scoring import PictureBank, encode_pictures
from x2kit.evaluation.sharing import own_part
from x2kit.plugin.tasks import TaskContext


def encode_records(
    context: TaskContext, frames: int | None, project: bool = True
) -> tuple[PictureBank, list[Entry]]:
    """Encode the picture or video of every record; each process reads and encodes its own part of them.

    Args:
        context: of the task.
        frames: of a video that are seen; None where no videos are.
        project: compute the unit vectors, for which the model needs its contrastive head.
    Returns: bank and entries of all records, by position, in every process.
    Raises: DataError for a broken record, or if there is none at all.
    """
    total, size = len(context.source), context.batch_size
    if not total:
        raise DataError(f"the split {context.split} has no records")
    batches = torch.split(torch.arange(total), size)
    mine = own_part(torch.tensor([len(batch) for batch in batches]), context.ranks)
    positions = range(mine.start * size, min(mine.stop * size, total))
    records = MeasuredRecords(context.source, context.model.image_spec, frames)
    bank = None
    if positions:
        bank = encode_pictures(
            context.model,
            records.pictures(positions),
            len(positions),
            size,
            lambda done, total: context.progress("pictures", done, total),
            project,
        )
    entries = chain.from_iterable(context.ranks.gather(records.entries))
    return PictureBank.of_all(bank, context.ranks), list(entries)
