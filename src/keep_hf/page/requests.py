"""What a user asks of the page, and what the page returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..options import AUTO, RestorationOptions
from .comparison import FacePath


PREVIEW_SECONDS = 3.0
# Choices of the page -> constant rate factor of x264 for the result.
QUALITIES = {"small file": 26, "good": 20, "best": 16}


@dataclass(frozen=True)
class RestorationRequest:
    """A part of a video to restore, and how.

    Args:
        start, end (`float`, *optional*): The part, in seconds; the whole video by default.
        people (`tuple[int, ...]`, *optional*): Numbers of the people to restore; all faces by default.
        fidelity, strength, upscale: See [`RestorationOptions`].
        quality (`str`, *optional*, defaults to `"good"`): Of the file: `"small file"`, `"good"` or `"best"`.
        person_strength: See [`RestorationOptions`], with the numbers of `people`.

    Raises:
        ValueError: If `quality` is none of these.
    """

    start: float = 0.0
    end: float = float("inf")
    people: tuple[int, ...] = ()
    fidelity: float = 1.0
    strength: float | str = AUTO
    upscale: int = 1
    quality: str = "good"
    person_strength: Mapping[int, float | str] | None = None

    def __post_init__(self) -> None:
        if self.quality not in QUALITIES:
            raise ValueError(f"quality must be one of {', '.join(QUALITIES)}, got {self.quality!r}.")

    @property
    def names_people(self) -> bool:
        """Whether the result depends on the numbers of people."""
        return bool(self.people or self.person_strength)

    def options(self, frame_rate: float = 25.0) -> RestorationOptions:
        """The options of the pipeline.

        Raises:
            ValueError: If one of them has a value that is not allowed.
        """
        return RestorationOptions(
            faces=self.people or "all",
            fidelity=self.fidelity,
            strength=self.strength,
            person_strength=self.person_strength,
            upscale=self.upscale,
            frame_rate=frame_rate,
        )

    def describe(self) -> dict[str, Any]:
        """All values, for the JSON report."""
        end = None if self.end == float("inf") else self.end
        return vars(self) | {"end": end, "people": list(self.people) or "all"}


@dataclass(frozen=True)
class RestoredPart:
    """The files of a finished restoration.

    Attributes:
        before (`Path`): The part, not restored.
        after (`Path`): The part, restored.
        both (`Path`): Both side by side.
        report (`Path`): The report, as JSON.
        num_frames (`int`): Number of frames of the part.
        num_people (`int`): Number of tracks that were restored.
        faces (`tuple[FacePath, ...]`): Where the restored faces are, the most important one first.
        page (`Path`, *optional*): The report as a page, see [`complete_report`].
    """

    before: Path
    after: Path
    both: Path
    report: Path
    num_frames: int
    num_people: int
    faces: tuple[FacePath, ...] = ()
    page: Path | None = None
