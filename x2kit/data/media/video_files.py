"""Decode frames of video files by number with PyAV. Imports no torch.

The packets are scanned once, undecoded, for the number of frames and their presentation times, also at a variable frame
rate. Each selected frame is then decoded from the key frame before it. Memory holds the selected frames alone, at any
length of the video.
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
"""Seconds by which a file may be shorter than its header says; more means that it is truncated."""
FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,mxf,nut,ivf,gif,m4v,h264,hevc,mpegvideo"
"""Supported containers and raw streams; no playlists, which make FFmpeg open other files and URLs."""
_BEFORE_ALL = -(2**62)
_BUFFER = 2**18


class _Packets(NamedTuple):
    """Facts from the packets of a video stream; times are in the unit of the stream.

    Attributes:
        frames: number of frames.
        times: presentation time of each frame, in order; None if unknown.
        keys: presentation time and seek time of each key frame, in order.
        complete: whether the file is as long as its header says.
    """

    frames: int
    times: list[int] | None
    keys: list[tuple[int, int]]
    complete: bool


def decode_frames(file: BinaryIO, choose: Callable[[int], Sequence[int]], name: str) -> list[Image.Image]:
    """Decode selected frames of a video file, rotated for display.

    Args:
        file: seekable file.
        choose: maps the number of frames to frame numbers in ascending order, with optional repetitions.
        name: name of the file for messages.
    Raises: DataError for a file without a video, a damaged or truncated one, and frames above the pixel limit.
    """
    try:
        with _open(file) as container:
            packets = _scan_packets(container, _video_stream(container, name))
        if not packets.complete:
            raise DataError(
                f"{name} is truncated: it ends after {packets.frames} frames", reason=Reason.VIDEO_UNREADABLE
            )
        wanted = list(choose(packets.frames))
        with _open(file) as container:  # reopened: some formats cannot seek to the start
            found = _decode(container, _video_stream(container, name), packets, sorted(set(wanted)), name)
    except DataError:
        raise
    except Exception as error:  # FFmpeg raises nearly any error on damaged bytes
        raise DataError(f"{name} is not a readable video: {error}", reason=Reason.VIDEO_UNREADABLE) from error
    return [found[number] for number in wanted]


def _open(file: BinaryIO) -> InputContainer:
    import av

    file.seek(0)
    return av.open(file, "r", options={"format_whitelist": FORMATS}, buffer_size=_BUFFER)


def _video_stream(container: InputContainer, name: str) -> VideoStream:
    if not container.streams.video:
        kinds = ", ".join(stream.type for stream in container.streams) or "none"
        raise DataError(
            f"{name} has no video stream; its streams are {kinds}", reason=Reason.VIDEO_UNREADABLE
        )
    stream = container.streams.video[0]
    codec: Any = stream.codec_context  # None for an unknown codec, as in a file without its index
    if codec is None or not (codec.width and codec.height):
        raise DataError(
            f"{name} is truncated or has an unknown codec: its frames have no size",
            reason=Reason.VIDEO_UNREADABLE,
        )
    if Image.MAX_IMAGE_PIXELS is not None and codec.width * codec.height > Image.MAX_IMAGE_PIXELS:
        raise DataError(
            f"frames of {name} have {codec.width} x {codec.height} pixels, more than {Image.MAX_IMAGE_PIXELS}",
            reason=Reason.IMAGE_TOO_LARGE,
        )
    codec.thread_count = 1  # the loader has its workers
    return stream


def _scan_packets(container: InputContainer, stream: VideoStream) -> _Packets:
    times: list[int | None] = []
    keys: list[tuple[int, int]] = []
    end, damaged = 0.0, False
    for packet in container.demux():
        if not packet.size:  # end of a stream
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
    else:  # containers without a frame count may have a duration
        started = (container.start_time or 0) / 1e6
        complete = end - started + END_SLACK >= (container.duration or 0) / 1e6
    known = sorted(time for time in times if time is not None)
    timed = len(known) == len(times) == len(set(known))
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        timed = False  # AVI has one time a packet, which FFmpeg assigns to other frames
    return _Packets(len(times), known if timed else None, sorted(keys), complete and not damaged)


def _decode(
    container: InputContainer, stream: VideoStream, packets: _Packets, wanted: Sequence[int], name: str
) -> dict[int, Image.Image]:
    """Decode the frames of ascending numbers."""
    found: dict[int, Image.Image] = {}
    # without presentation times, frames are counted from the first
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
    """Decoder of frames by ascending presentation time; seeks if a key frame lies between two of them."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, keys: Sequence[tuple[int, int]]
    ) -> None:
        self._container, self._stream = container, stream
        self._key_times = [time for time, _ in keys]
        self._seek_times = [time for _, time in keys]
        self._frames: Iterator[VideoFrame] | None = None
        self._position = 0

    def frame(self, time: int) -> VideoFrame | None:
        """Return the frame at a time after the previous ones; None if the file ends before it."""
        key = bisect_right(self._key_times, time) - 1
        if self._frames is None or (key >= 0 and self._key_times[key] > self._position):
            first = self._seek(self._seek_times[key] if key >= 0 else _BEFORE_ALL)
            if first is None or first.pts is None or first.pts > time:
                # with close key frames, the demuxer may seek to the next one
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
