"""Decode images and videos in threads, in order, a bounded number ahead. Imports torch.

F frames, C channels, S side of the encoder's input.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from x2kit.data.media.images import ImageLike
from x2kit.data.media.threads import in_threads
from x2kit.data.media.videos import FRAME_LIST
from x2kit.data.pipeline.video_samples import read_video
from x2kit.data.storage.locations import name_of
from x2kit.data.transforms.view import Pixels, whole_image
from x2kit.errors import DataError, Reason
from x2kit.inference.results import InputError
from x2kit.model.device import copied
from x2kit.model.inputs import ImageInput, each_image, eight_bits
from x2kit.plugin.facts import ImageSpec

AHEAD = 128
"""Minimum number of decoded inputs that wait for the model."""


class Decoded(NamedTuple):
    """An image or video as the encoder takes it.

    Attributes:
        pixels: [S, S, C], or frames [F, S, S, C]; uint8, or float32 in [0, 1] if the encoder declares a value range.
        size: (width, height) of the original in pixels.
    """

    pixels: Pixels
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        """Number of images that the encoder sees."""
        return len(self.pixels) if self.pixels.ndim == 4 else 1

    def tensor(self) -> Tensor:
        """Return float32 [C, S, S] or [F, C, S, S] in [0, 1]."""
        return stack_decoded([self], torch.device("cpu"))[0]


@dataclass(frozen=True)
class Input:
    """One of many inputs, decoded or with an error.

    Attributes:
        index: position among the inputs.
        name: its path or URL, else for example "images[3]".
        source: as it was given.
        decoded: None for an unreadable input.
        error: None for a readable input.
    """

    index: int
    name: str
    source: ImageInput
    decoded: Decoded | None
    error: InputError | None

    def require(self) -> Decoded:
        """Return the decoded input. Raises DataError with its name if it is unreadable."""
        if self.decoded is None:
            assert self.error is not None
            raise DataError(f"{self.name}: {self.error.message}", record=self.name)
        return self.decoded


class Reader:
    """Decoder of inputs for one model.

    Args:
        spec: input of the vision encoder.
        frames: frames that the model takes of a video; None for a model without videos.
    """

    def __init__(self, spec: ImageSpec, frames: int | None) -> None:
        self.spec = spec
        self.frames = frames

    def read(self, images: ImageInput | Iterable[ImageInput], workers: int | None = None) -> Iterator[Input]:
        """Decode images and videos in order, in `workers` threads (0: in the caller's).

        Raises: DataError if `images` is neither an image nor an iterable.
        """
        return self.read_numbered(enumerate(each_image(images)), workers)

    def read_numbered(
        self, numbered: Iterable[tuple[int, ImageInput]], workers: int | None = None
    ) -> Iterator[Input]:
        """Decode numbered inputs, as `read`."""
        return in_threads(lambda each: self._read(*each), numbered, AHEAD, workers)

    def read_one(self, image: ImageInput) -> tuple[str, Decoded]:
        """Decode one image or video and return it with its name. Raises DataError if it is unreadable."""
        found = self._read(0, image)
        return found.name, found.require()

    def _read(self, index: int, source: ImageInput) -> Input:
        name = input_name(source, index)
        try:
            return Input(index, name, source, self._decode(source), None)
        except DataError as error:
            return Input(index, name, source, None, InputError(index, name, str(error)))

    def _decode(self, source: ImageInput) -> Decoded:
        eight = self.spec.value_range is None
        if not is_video(source):
            content = eight_bits(source, eight)
            image = ImageLike(content, self.spec.channels, self.spec.value_range, upright=True)
            return Decoded(whole_image(image, self.spec), image.size)
        if self.frames is None:
            raise DataError(
                "a video, but this model has no frame positions (model.heads.frames); pass an image",
                reason=Reason.FIELD_TYPE,
            )
        is_file = isinstance(source, str | Path)
        frames = source if is_file else [eight_bits(frame, eight) for frame in source]
        found = read_video(frames, self.frames, self.spec)
        return Decoded(cast("Pixels", np.stack(found.frames)), found.size)


def input_name(source: ImageInput, index: int) -> str:
    """Return the path or URL of an input, else for example "images[3]"."""
    return str(source) if isinstance(source, str | Path) else f"images[{index}]"


def is_video(source: ImageInput) -> bool:
    """Return whether an input is a video: a file with the ending of one, a list of frames, or an array [F, ...]."""
    if isinstance(source, str | Path):
        name = name_of(str(source)).lower()
        kind = mimetypes.guess_type(name)[0] or ""
        return name.endswith(FRAME_LIST) or kind.startswith("video/")
    if isinstance(source, np.ndarray | Tensor):
        return source.ndim == 4
    return isinstance(source, list | tuple)


def stack_decoded(inputs: Sequence[Decoded], device: torch.device) -> Tensor:
    """Stack inputs of one shape as float32 [B, C, S, S] or [B, F, C, S, S] in [0, 1] on a device."""
    stacked = copied(torch.from_numpy(np.stack([each.pixels for each in inputs])), device).movedim(-1, -3)
    floats = stacked.to(torch.float32, memory_format=torch.contiguous_format)
    return floats.div_(255) if stacked.dtype == torch.uint8 else floats
