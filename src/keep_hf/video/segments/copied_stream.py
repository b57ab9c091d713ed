"""A stream whose packets are copied without encoding them again."""

import math
from fractions import Fraction

import av
from av.container import OutputContainer
from av.stream import Disposition, Stream

from .running_times import SHORTEST_STEP, RunningTimes


class CopiedStream:
    """A stream whose packets are copied.

    Args:
        stream (`Stream`): Stream of the source.
        output (`OutputContainer`): Container to add a stream to.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.
    """

    def __init__(self, stream: Stream, output: OutputContainer, start: Fraction) -> None:
        # PyAV would look for an encoder of a video stream.
        options = {"opaque": True} if stream.type == "video" else {}
        self.target, self.start = output.add_stream_from_template(stream, **options), start
        self.damaged: list[float] = []  # packets are not decoded
        self.is_data = stream.type == "data"
        self._times = RunningTimes(stream.type in ("subtitle", "data"), stream.type == "video")

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Shift the times of a packet to the start of the output."""
        if packet.size == 0:  # the end of the stream
            packets = self._times.finish()
        else:
            shift = round(self.start / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            if self.is_data and not packet.duration:  # in MP4, the last packet would not be in the stream
                packet.duration = math.ceil(SHORTEST_STEP / packet.time_base)
            packets = self._times.repair(packet)
        for each in packets:
            each.stream = self.target
        return packets


class CopiedCover:
    """A cover image, of which one packet is copied."""

    def __init__(self, stream: Stream, output: OutputContainer) -> None:
        self.target = output.add_stream_from_template(stream, opaque=True)
        self.target.disposition = Disposition.attached_pic
        self.damaged: list[float] = []
        self._is_written = False

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Place the image at the beginning."""
        if packet.size == 0 or self._is_written:
            return []
        self._is_written = True
        packet.pts = packet.dts = 0
        packet.stream = self.target
        return [packet]
