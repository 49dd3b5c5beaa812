"""Frames of video files by their number, read with PyAV. Imports no torch.

The packets of a file are looked at once, undecoded, which tells how many frames there are and when each is shown,
whatever the frame rate does. The wanted ones are then decoded, each from the key frame before it, so that neither
the length of a video nor its size decides how much memory it takes: only the wanted frames are held.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from PIL import Image

from x2kit.errors import DataError, Reason

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

END_SLACK = 1.0
"""Seconds by which a file may end before its header says; where more is missing, the file was cut off."""
FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,mxf,nut,ivf,gif,m4v,h264,hevc,mpegvideo"
"""Containers and bare streams that are read; not playlists, which would have FFmpeg open other files and addresses."""
_BEFORE_ALL = -(2**62)
_BUFFER = 2**18


class _Packets(NamedTuple):
    """What the packets of a video stream tell.

    Attributes:
        frames: how many there are.
        times: when each frame is shown, in order, in the stream's unit; None if the file does not tell.
        keys: of each key frame when it is shown, and the time to seek for it, in order.
        complete: whether the file goes as far as its header says.
    """

    frames: int
    times: list[int] | None
    keys: list[tuple[int, int]]
    complete: bool


def decode_frames(file: BinaryIO, choose: Callable[[int], Sequence[int]], name: str) -> list[Image.Image]:
    """Some frames of a video file, turned as the file says they are shown.

    Args:
        file: that can be sought.
        choose: from the number of frames to the numbers that are wanted, in rising order, perhaps more than once.
        name: what messages call the file.
    Raises: DataError for a file without a video, one that is damaged or ends too early, and frames so large that
        the file must be meant to fill the memory.
    """
    try:
        with _opened(file) as container:
            packets = _packets(container, _video_of(container, name))
        if not packets.complete:
            raise DataError(
                f"{name} is cut off: it ends after {packets.frames} frames", reason=Reason.VIDEO_UNREADABLE
            )
        wanted = list(choose(packets.frames))
        with _opened(file) as container:  # anew, for not every format can be sought back to its beginning
            found = _read(container, _video_of(container, name), packets, sorted(set(wanted)), name)
    except DataError:
        raise
    except Exception as error:  # damaged bytes make FFmpeg's demuxers and decoders raise nearly anything
        raise DataError(f"{name} is not a readable video: {error}", reason=Reason.VIDEO_UNREADABLE) from error
    return [found[number] for number in wanted]


def _opened(file: BinaryIO) -> InputContainer:
    import av

    file.seek(0)
    return av.open(file, "r", options={"format_whitelist": FORMATS}, buffer_size=_BUFFER)


def _video_of(container: InputContainer, name: str) -> VideoStream:
    if not container.streams.video:
        kinds = ", ".join(stream.type for stream in container.streams) or "nothing"
        raise DataError(f"{name} has no video stream; it has {kinds}", reason=Reason.VIDEO_UNREADABLE)
    stream = container.streams.video[0]
    codec: Any = stream.codec_context  # None where the codec is unknown, as in a file whose index was cut off
    if codec is None or not (codec.width and codec.height):
        raise DataError(
            f"{name} is cut off or of an unknown codec: its frames have no size",
            reason=Reason.VIDEO_UNREADABLE,
        )
    if Image.MAX_IMAGE_PIXELS is not None and codec.width * codec.height > Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"frames of {name} have {codec.width} x {codec.height} pixels, more than {Image.MAX_IMAGE_PIXELS}",
            reason=Reason.IMAGE_TOO_LARGE,
        )
    codec.thread_count = 1  # the processes that prepare batches are many already
    return stream


def _packets(container: InputContainer, stream: VideoStream) -> _Packets:
    times: list[int | None] = []
    keys: list[tuple[int, int]] = []
    end, damaged = 0.0, False
    for packet in container.demux():
        if not packet.size:  # the end of a stream
            continue
        if packet.pts is not None and packet.time_base is not None:
            end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream is not stream or packet.is_discard:
            continue
        damaged |= packet.is_corrupt
        times.append(packet.pts)
        if packet.is_keyframe and packet.pts is not None:
            keys.append((packet.pts, packet.pts if packet.dts is None else packet.dts))
    if stream.frames:
        complete = len(times) >= stream.frames
    else:  # containers that do not count frames tell how long they are, or nothing
        started = (container.start_time or 0) / 1e6
        complete = end - started + END_SLACK >= (container.duration or 0) / 1e6
    known = sorted(time for time in times if time is not None)
    told = len(known) == len(times) == len(set(known))
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        told = (
            False  # AVI has but one time a packet, and FFmpeg's frames then come with those of other frames
        )
    return _Packets(len(times), known if told else None, sorted(keys), complete and not damaged)


def _read(
    container: InputContainer, stream: VideoStream, packets: _Packets, wanted: Sequence[int], name: str
) -> dict[int, Image.Image]:
    """The frames of these numbers, which rise."""
    found: dict[int, Image.Image] = {}
    # where the file does not tell when a frame is shown, they are counted from the first on
    numbered = enumerate(container.decode(stream)) if packets.times is None else None
    seeking = None if packets.times is None else _Seeking(container, stream, packets.keys)
    for number in wanted:
        frame = None
        if seeking is not None and packets.times is not None:
            frame = seeking.frame(packets.times[number])
        elif numbered is not None:
            frame = next((frame for place, frame in numbered if place == number), None)
        if frame is None or frame.is_corrupt:
            raise DataError(
                f"frame {number} of {packets.frames} of {name} cannot be decoded",
                reason=Reason.VIDEO_UNREADABLE,
            )
        image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
        found[number] = image.rotate(frame.rotation, expand=True) if frame.rotation else image
    return found


class _Seeking:
    """Decodes frames by when they are shown, going on from the last one where no key frame lies between."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, keys: Sequence[tuple[int, int]]
    ) -> None:
        self._container, self._stream = container, stream
        self._shown = [shown for shown, _ in keys]
        self._sought = [sought for _, sought in keys]
        self._frames: Iterator[VideoFrame] | None = None
        self._position = 0

    def frame(self, time: int) -> VideoFrame | None:
        """The frame that is shown at this time, later than those before; None if the file ends before it."""
        key = bisect_right(self._shown, time) - 1
        if self._frames is None or (key >= 0 and self._shown[key] > self._position):
            first = self._seek(self._sought[key] if key >= 0 else _BEFORE_ALL)
            if first is None or first.pts is None or first.pts > time:
                # Where key frames stand close, the demuxer may have gone to the next one.
                first = self._seek(_BEFORE_ALL)
            if first is None or self._reached(first, time):
                return first
        assert self._frames is not None
        return next((frame for frame in self._frames if self._reached(frame, time)), None)

    def _seek(self, to: int) -> VideoFrame | None:
        self._container.seek(to, stream=self._stream)
        self._frames = self._container.decode(self._stream)
        return next(self._frames, None)

    def _reached(self, frame: VideoFrame, time: int) -> bool:
        if frame.pts is not None:
            self._position = frame.pts
        return frame.pts is not None and frame.pts >= time
