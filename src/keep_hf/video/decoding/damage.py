"""What was found to be damaged in a source while it was read, for warnings and reports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Damage:
    """Counts of the frames of a source that are damaged, missing or of another size.

    Attributes:
        num_repeated (`int`): Frames that could not be decoded; the last good frame is shown again in their places.
        num_concealed (`int`): Frames in which the decoder filled damaged parts from the frames around them.
        num_left_out (`int`): Frames that could not be decoded before the first good frame.
        num_resized (`int`): Frames of another size than the first, fitted into its size.
        num_read (`int`): Frames that could be read, all of these included.
        num_announced (`int`, *optional*): Frames that a truncated file announces; `None` if it does not contain that.
        first_damaged (`int`, *optional*): Number of the first frame that is repeated or concealed.
        is_cut_off (`bool`): Whether the file ends before its announced end.
        stops_early (`bool`): Whether a part at the end could not be read, although the file is complete.
    """

    num_repeated: int = 0
    num_concealed: int = 0
    num_left_out: int = 0
    num_resized: int = 0
    num_read: int = 0
    num_announced: int | None = None
    first_damaged: int | None = None
    is_cut_off: bool = False
    stops_early: bool = False

    @property
    def num_damaged(self) -> int:
        """Number of frames that could not be decoded without an error."""
        return self.num_repeated + self.num_concealed + self.num_left_out

    @property
    def is_truncated(self) -> bool:
        """Whether frames are missing at the end; sometimes only an index is cut off."""
        return self.stops_early or (self.is_cut_off and self.num_read != self.num_announced)

    def add_repeated(self) -> None:
        """The next frame cannot be decoded, and the last good one takes its place."""
        self.num_repeated += 1
        self._mark()

    def add_concealed(self) -> None:
        """Parts of the next frame were filled by the decoder."""
        self.num_concealed += 1
        self._mark()

    def _mark(self) -> None:
        if self.first_damaged is None:
            self.first_damaged = self.num_read

    def messages(self, path: Path) -> list[str]:
        """One line for each kind of damage, for warnings.

        Args:
            path (`Path`): The source.
        """
        messages, place = [], f"(the first damage is at frame {self.first_damaged})"
        if self.num_repeated:
            messages.append(
                f"{path}: {_frames(self.num_repeated)} could not be decoded {place}; the last good frame is shown "
                "again instead."
            )
        if self.num_concealed:
            messages.append(
                f"{path}: {_frames(self.num_concealed)} with damaged parts {place}; the decoder filled them from "
                "other frames."
            )
        if self.num_left_out:
            messages.append(
                f"{path}: the first {_frames(self.num_left_out)} could not be decoded; the result starts after them."
            )
        if self.num_resized:
            were = "was" if self.num_resized == 1 else "were"
            messages.append(
                f"{path}: the frame size changes; {_frames(self.num_resized)} {were} fitted into the size of the "
                "first frame."
            )
        if self.is_truncated:
            # Fragmented files announce only the frames of their beginning.
            is_known = self.num_announced is not None and self.num_announced > self.num_read
            announced = f"{self.num_announced} frames" if is_known else "more frames"
            kind = "damaged" if self.stops_early else "truncated"
            messages.append(f"{path} is {kind}: it announces {announced}, {self.num_read} could be read.")
        return messages

    def to_dict(self, path: Path) -> dict[str, Any]:
        """The entries of the report.

        Args:
            path (`Path`): The source.
        """
        return {
            "damaged_frames": self.num_damaged,
            "resized_frames": self.num_resized,
            "truncated": self.is_truncated,
            "announced_frames": self.num_announced if self.is_truncated else None,
            "warnings": self.messages(path),
        }


def _frames(number: int) -> str:
    return f"{number} frame" if number == 1 else f"{number} frames"
