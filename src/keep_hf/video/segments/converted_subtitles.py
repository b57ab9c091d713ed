"""Subtitles that are converted from one text format to another."""

from fractions import Fraction
from typing import cast

import av
from av.container import OutputContainer
from av.subtitles.stream import SubtitleStream

from .running_times import RunningTimes


class ConvertedSubtitles:
    """Subtitles that are converted from one text format to another.

    Args:
        stream (`SubtitleStream`): Stream of the source.
        output (`OutputContainer`): Container to add a stream to.
        encoder (`str`): FFmpeg's name of the encoder.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.

    Attributes:
        damaged (`list[float]`): Times in seconds, in the new file, of subtitles that cannot be converted.
    """

    def __init__(self, stream: SubtitleStream, output: OutputContainer, encoder: str, start: Fraction) -> None:
        stream.codec_context.open(strict=False)
        self.target = cast(SubtitleStream, output.add_stream(encoder))
        self.target.codec_context.subtitle_header = stream.codec_context.subtitle_header
        self.target.codec_context.time_base = Fraction(1, 1000)
        self.source, self.start = stream, start
        self.damaged: list[float] = []
        self._times = RunningTimes(is_sparse=True, has_reordering=False)

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Decode a packet and encode its subtitles."""
        time = packet.dts if packet.pts is None else packet.pts
        if packet.size == 0 or time is None:  # text without a time cannot be shown
            return []
        time -= round(self.start / packet.time_base)
        try:
            subtitles = self.source.codec_context.decode2(packet)
            if not subtitles:
                return []
            encoded = self.target.codec_context.encode_subtitle(subtitles)
        except av.FFmpegError:
            self.damaged.append(float(time * packet.time_base))
            return []
        encoded.pts = encoded.dts = time
        encoded.duration, encoded.time_base = packet.duration, packet.time_base
        packets = self._times.repair(encoded)
        for each in packets:
            each.stream = self.target
        return packets
