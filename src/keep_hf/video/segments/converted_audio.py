"""An audio stream that is decoded and encoded again."""

from fractions import Fraction
from typing import cast

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer


# Channel layouts that both audio encoders support; others are mixed to stereo.
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
BIT_RATE_PER_CHANNEL = 96_000


class ConvertedAudio:
    """An audio stream that is decoded and encoded again.

    Args:
        stream (`AudioStream`): Stream of the source.
        output (`OutputContainer`): Container to add a stream to.
        encoder (`str`): FFmpeg's name of the encoder.
        start (`Fraction`): Seconds on the clock of the source that correspond to time 0 of the new file.

    Attributes:
        damaged (`list[float]`): Times in seconds, in the new file, of packets that cannot be decoded.
    """

    def __init__(self, stream: AudioStream, output: OutputContainer, encoder: str, start: Fraction) -> None:
        rates = av.Codec(encoder, "w").audio_rates
        rate = stream.rate if rates is None or stream.rate in rates else 48000
        layout = LAYOUTS.get(stream.channels, "stereo")
        bit_rate = BIT_RATE_PER_CHANNEL * av.AudioLayout(layout).nb_channels
        self.target = cast(AudioStream, output.add_stream(encoder, rate=rate, layout=layout, bit_rate=bit_rate))
        self.start = start
        self.damaged: list[float] = []
        self._first: av.AudioFrame | None = None
        self._resampler: av.AudioResampler | None = None
        self._resampled: av.AudioFrame | None = None
        self._next_pts: int | None = None

    def convert(self, packet: av.Packet) -> list[av.Packet]:
        """Decode a packet and encode its samples; an empty one ends the stream."""
        try:
            frames = cast(list[av.AudioFrame], packet.decode())
        except av.FFmpegError:
            self.damaged.append(float((packet.pts or 0) * packet.time_base - self.start))
            frames = []
        packets = []
        for frame in frames:
            for part in self._unify(frame):
                packets += self.target.encode(self._set_time(part))
        if packet.size == 0:
            for part in self._drain():
                packets += self.target.encode(self._set_time(part))
            packets += self.target.encode(None)
        return packets

    def _unify(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """Resample frames that differ from the first: a broadcast may change between stereo and 5.1."""
        self._first = self._first or frame
        if _has_same_format(frame, self._first):
            return [*self._drain(), frame]
        parts = []
        if self._resampled is None or not _has_same_format(frame, self._resampled):
            parts = self._drain()
            self._resampled = frame
            first = self._first
            self._resampler = av.AudioResampler(first.format.name, first.layout.name, first.sample_rate)
        return parts + cast(av.AudioResampler, self._resampler).resample(frame)

    def _drain(self) -> list[av.AudioFrame]:
        resampler, self._resampler, self._resampled = self._resampler, None, None
        return resampler.resample(None) if resampler else []

    def _set_time(self, frame: av.AudioFrame) -> av.AudioFrame:
        # Containers round times by up to a millisecond, and decoders do not know the time of every frame. Samples
        # follow each other without gaps or overlaps unless the audio is interrupted.
        if frame.pts is not None and frame.time_base is not None:
            time = round((frame.pts * frame.time_base - self.start) * frame.sample_rate)
            if self._next_pts is None or time > self._next_pts + frame.sample_rate // 50:
                self._next_pts = time
        self._next_pts = self._next_pts or 0
        frame.pts, frame.time_base = self._next_pts, Fraction(1, frame.sample_rate)
        self._next_pts += frame.samples
        return frame


def _has_same_format(frame: av.AudioFrame, other: av.AudioFrame) -> bool:
    return (frame.format.name, frame.layout.name, frame.sample_rate) == (
        other.format.name,
        other.layout.name,
        other.sample_rate,
    )
