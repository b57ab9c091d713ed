"""Results of the evaluation of one video: of its whole frames and of the faces in it.

A region is what is measured together: the whole frames of a video, or the face of one person in it.  It consists of
segments, consecutive frames of one scene.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .series import AverageMetrics, Series, VideoMetrics, average


@dataclass
class Region:
    """The whole frames of a video, or the face of one person in it.

    Args:
        name (`str`): Number of the person; for whole frames the name of the video.
        segments (`list[tuple[int, VideoMetrics]]`): First frame and metrics of every segment.
    """

    name: str
    segments: list[tuple[int, VideoMetrics]] = field(default_factory=list)

    def join(self) -> VideoMetrics:
        """The metrics of all segments as those of one video."""
        measured = [segment for _, segment in self.segments]
        metrics: dict[str, Series | None] = {}
        for key in measured[0].metrics:
            series = [one for segment in measured if (one := segment.metrics[key]) is not None]
            metrics[key] = Series([value for one in series for value in one.values]) if series else None
        return VideoMetrics(self.name, sum(segment.num_frames for segment in measured), metrics)

    def over_time(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """The values of a metric over time, for a plot.

        Args:
            key (`str`): A name of `REFERENCE_METRICS` or `NO_REFERENCE_METRICS`.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: Frame numbers and values, with NaN after every segment so that the line is
            interrupted there. A value of two frames has the number of the later one, a value of three that of the
            middle one. Both arrays are empty if the metric is missing.
        """
        times: list[float] = []
        values: list[float] = []
        for first, segment in self.segments:
            series = segment.metrics[key]
            if series is not None and series.values:
                start = first + (segment.num_frames - len(series.values) + 1) // 2
                times += [*range(start, start + len(series.values)), start + len(series.values) - 0.5]
                values += [*series.values, float("nan")]
        return np.array(times), np.array(values)

    def to_dict(self) -> dict[str, Any]:
        """The region for JSON."""
        segments = [{"first_frame": first, "num_frames": segment.num_frames} for first, segment in self.segments]
        return self.join().to_dict() | {"segments": segments}


@dataclass
class Profile:
    """The middle column of pixels of every frame, for a plot over time (as in Fig. 5 of the paper).

    Args:
        person (`int`, *optional*): Number of the person whose face it is; `None` for whole frames.
        columns (`dict[int, tuple[np.ndarray, ...]]`): By frame number, the column `(h, 3)` of the restored video and,
            if there is one, of the reference: RGB, uint8.
    """

    person: int | None
    columns: dict[int, tuple[np.ndarray, ...]] = field(default_factory=dict)


@dataclass
class Evaluation:
    """The result of one video.

    Args:
        name (`str`): Name of the video.
        sources (`list[str]`): Path of the restored video and, if there is one, of the reference.
        sizes (`list[tuple[int, int]]`): Width and height of each.
        size (`tuple[int, int]`): Width and height at which they were measured.
        scenes (`list[int]`): First frame of every scene.
        num_frames (`int`): Number of frames.
        whole (`Region`, *optional*): The whole frames; `None` if they are aligned faces.
        people (`list[Region]`): The face of every person.
        profile (`Profile`): Of the person in the most frames; of the whole frames if there are no faces.
    """

    name: str
    sources: list[str]
    sizes: list[tuple[int, int]]
    size: tuple[int, int]
    scenes: list[int]
    num_frames: int
    whole: Region | None
    people: list[Region]
    profile: Profile

    @property
    def frames(self) -> AverageMetrics | None:
        """The metrics of the whole frames."""
        return None if self.whole is None else average([self.whole.join()])

    @property
    def faces(self) -> AverageMetrics | None:
        """The metrics of the faces, averaged over the people; `None` if there are no faces."""
        return average(person.join() for person in self.people) if self.people else None

    def to_dict(self) -> dict[str, Any]:
        """The result for JSON."""
        faces = None
        if self.faces is not None:
            # The averages are over people instead of videos.
            faces = self.faces.to_dict()
            faces = {"num_people": faces.pop("num_videos"), "num_faces": faces.pop("num_frames"), **faces}
        return {
            "name": self.name,
            "sources": self.sources,
            "sizes": [list(size) for size in self.sizes],
            "measured_size": list(self.size),
            "num_frames": self.num_frames,
            "scenes": self.scenes,
            "frames": None if self.whole is None else self.whole.to_dict(),
            "faces": faces,
            "people": [person.to_dict() for person in self.people],
        }
