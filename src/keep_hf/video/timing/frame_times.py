"""The times at which the frames of a video are displayed."""

from fractions import Fraction


class FrameTimes:
    """Gives each decoded frame its time, in the order of display.

    Args:
        kind (`str`): Which times the file has: `"presentation"`, `"decoding"` (AVI) or `"none"` (raw streams). A
            decoder returns a frame when it has read the packets that the frame depends on, always the same number
            after its own; the decoding time of the last one shows when the frame is due.
        frame_rate (`Fraction`): Frames per second, for frames without a time.
        time_base (`Fraction`): Seconds per unit of the times.
        start (`int`): Time on the clock of the file that corresponds to 0.
        first_dts (`int`): Decoding time of the first packet of the video.
    """

    def __init__(self, kind: str, frame_rate: Fraction, time_base: Fraction, start: int, first_dts: int) -> None:
        self.kind, self.start, self.first_dts = kind, start, first_dts
        self._exact_step = 1 / (frame_rate * time_base)
        self.step = max(1, round(self._exact_step))
        self._delay: int | None = None
        self._count = 0
        self._last: int | None = None

    def next(self, pts: int | None, dts: int | None) -> int:
        """Return the time of the next frame, later than that of the frame before.

        Args:
            pts (`int`, *optional*): Its presentation time in the file.
            dts (`int`, *optional*): Decoding time of the packet with which the decoder returned it.
        """
        stored = {"presentation": pts, "decoding": self._decoding_time(dts), "none": None}[self.kind]
        if stored is not None:
            time = stored - self.start
        elif self.kind == "none" or self._last is None:
            time = round(self._count * self._exact_step)
        else:
            time = self._last + self.step
        if self._last is not None and time <= self._last:
            time = self._last + self.step  # a badly joined or repaired file: timestamps must increase
        self._last = time
        self._count += 1
        return time

    def _decoding_time(self, dts: int | None) -> int | None:
        if dts is None:  # the last frames, which the decoder returns at the end of the file
            return None
        if self._delay is None:
            # Frames that cannot be decoded have no time.
            self._delay = dts - self.first_dts - round(self._count * self._exact_step)
        return dts - self._delay
