"""What `evaluate` measured, in the forms in which it is read: over time, as a table, as JSON.

A part is what is measured together: the whole frames of a video, or the face of one person in it.  A part consists of
runs, neighbouring frames of one scene.  A video's value is that of its whole frames, or the mean over its people, each
of whom counts the same, however long they are there.
"""

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .series import JointMeasures, Measure, Series, VideoMeasures, join_videos


ARROWS = {"higher": " ↑", "lower": " ↓"}
DECIMALS = {"psnr": 2, "ssim": 4, "lpips": 4, "ids": 4, "akd": 3, "identity_steps": 4, "landmark_jitter": 3}
FLICKER_DECIMALS = 3
# Measures whose standard deviation over the frames is a measure too, which is better lower.
SIGMAS = {"ids": "sigma_IDS", "akd": "sigma_AKD", "identity_steps": "Identity jitter"}
DEFINITIONS = {
    "psnr": "of RGB, levels up to 255",
    "ssim": "of RGB, Gaussian window of 11 pixels with sigma 1.5, mean over the channels",
    "lpips": "version 0.1, the sum over five layers",
    "ids": "cosine of the embeddings of the restored face and of the reference",
    "akd": "mean distance of the landmarks of both, in pixels of a face of 512",
    "flicker": "mean change from frame to frame that the motion does not explain",
    "reference_flicker": "the same of the reference: to be far below it is to be blurred",
    "identity_steps": "cosine of the embeddings of a face and of the one before; its sigma is the identity jitter",
    "landmark_jitter": "root mean square of what is no steady motion, in pixels of a face of 512",
}
CONVENTIONS = (
    "Frames are RGB of 8 bits as a player shows them, and no border is cut off.",
    "What is measured from frame to frame is measured within scenes, and while a person is there without a break.",
    "sigma: standard deviation over the frames of a person (divided by their number), then the mean over people.",
    "Means: each person counts the same in a video, each video in the mean; what is infinite is left out unless all "
    "is.",
)


@dataclass
class Part:
    """The whole frames of a video, or one person in it.

    Args:
        name (`str`): Number of the person; of whole frames that of the video.
        runs (`list[tuple[int, VideoMeasures]]`): First frame of each run, and what was measured in it.
    """

    name: str
    runs: list[tuple[int, VideoMeasures]] = field(default_factory=list)

    def join(self) -> VideoMeasures:
        """All runs in one."""
        measured = [run for _, run in self.runs]
        measures: dict[str, Series | None] = {}
        for key in measured[0].measures:
            series = [one for run in measured if (one := run.measures[key]) is not None]
            measures[key] = Series([value for one in series for value in one.values]) if series else None
        return VideoMeasures(self.name, sum(run.num_frames for run in measured), measures)

    def over_time(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """A measure for drawing.

        Args:
            key (`str`): One of `COMPARED` or `INSPECTED`.

        Returns:
            `tuple[np.ndarray, np.ndarray]`: Numbers of frames, and values, with NaN where a line has to break; what
            is measured between two frames stands at the later one, between three at the middle one.  Empty where the
            measure is missing.
        """
        times: list[float] = []
        values: list[float] = []
        for first, run in self.runs:
            series = run.measures[key]
            if series is not None and series.values:
                start = first + (run.num_frames - len(series.values) + 1) // 2
                times += [*range(start, start + len(series.values)), start + len(series.values) - 0.5]
                values += [*series.values, float("nan")]
        return np.array(times), np.array(values)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        runs = [{"first_frame": first, "num_frames": run.num_frames} for first, run in self.runs]
        return self.join().to_dict() | {"runs": runs}


@dataclass
class Profile:
    """The middle column of pixels, frame by frame.

    Args:
        person (`int`, *optional*): Of whose face; `None` for that of whole frames.
        columns (`dict[int, tuple[np.ndarray, ...]]`): By the number of the frame the column `(h, 3)` of the restored
            video and, if there is one, of the reference: uint8 RGB.
    """

    person: int | None
    columns: dict[int, tuple[np.ndarray, ...]] = field(default_factory=dict)


@dataclass
class Evaluation:
    """What was measured in one video.

    Args:
        name (`str`): Of the video.
        sources (`list[str]`): Path of the restored video and, if there is one, of the reference.
        sizes (`list[tuple[int, int]]`): Width and height of each.
        size (`tuple[int, int]`): At which they were measured.
        scenes (`list[int]`): First frames.
        num_frames (`int`): Of each.
        whole (`Part`, *optional*): The whole frames; `None` where they are aligned faces.
        people (`list[Part]`): The faces, person by person.
        profile (`Profile`): Of the person who is there for longest, or of the whole frames where nobody is.
    """

    name: str
    sources: list[str]
    sizes: list[tuple[int, int]]
    size: tuple[int, int]
    scenes: list[int]
    num_frames: int
    whole: Part | None
    people: list[Part]
    profile: Profile

    @property
    def frames(self) -> JointMeasures | None:
        """The values of the whole frames."""
        return None if self.whole is None else join_videos([self.whole.join()])

    @property
    def faces(self) -> JointMeasures | None:
        """The values of the faces, the mean over the people; `None` where nobody is."""
        return join_videos(person.join() for person in self.people) if self.people else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "sources": self.sources,
            "sizes": [list(size) for size in self.sizes],
            "measured_size": list(self.size),
            "num_frames": self.num_frames,
            "scenes": self.scenes,
            "frames": None if self.whole is None else self.whole.to_dict(),
            "faces": None if self.faces is None else _name_people(self.faces),
            "people": [person.to_dict() for person in self.people],
        }


@dataclass
class Report:
    """What was measured in some videos, with what.

    Args:
        evaluations (`list[Evaluation]`): One for each video.
        table (`dict[str, Measure]`): `COMPARED` or `INSPECTED`.
        missing (`dict[str, str]`): Measures for which something was not there, with what.
        models (`dict[str, str]`): What measured, and found faces, by its role.
    """

    evaluations: list[Evaluation]
    table: dict[str, Measure]
    missing: dict[str, str]
    models: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        means = {kind: mean_videos(row for _, row in self._rows(kind)) for kind in ("frames", "faces")}
        return {
            "measures": {
                key: {**measure._asdict(), "missing": self.missing.get(key)} for key, measure in self.table.items()
            },
            "models": self.models,
            "conventions": self.notes(),
            "videos": [evaluation.to_dict() for evaluation in self.evaluations],
            "mean": {kind: None if mean is None else mean.to_dict() for kind, mean in means.items()},
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write a JSON file, which appears when it is complete."""
        part = Path(path).with_name(Path(path).name + ".part")
        part.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
        os.replace(part, path)

    def to_markdown(self) -> str:
        """Tables of whole frames and of faces, a row for each video and their mean; what is missing; conventions."""
        blocks = []
        if rows := self._rows("frames"):
            counts = {"Frames": [str(row.num_frames) for _, row in rows]}
            blocks.append("Whole frames\n\n" + self._tabulate(rows, counts))
        if rows := self._rows("faces"):
            counts = {
                "People": [str(row.num_videos) for _, row in rows],
                "Faces": [str(row.num_frames) for _, row in rows],
            }
            blocks.append("Faces\n\n" + self._tabulate(rows, counts))
        lines = [f"- Missing: {self.table[key].label} needs {needs}." for key, needs in self.missing.items()]
        blocks.append("\n".join([*lines, *(f"- {note}" for note in self.notes())]))
        return "\n\n".join(blocks)

    def notes(self) -> list[str]:
        """What the figures depend on."""
        notes = [f"Measured with: {', '.join(f'{role} {name}' for role, name in self.models.items())}."]
        for evaluation in self.evaluations:
            for source, size in zip(evaluation.sources, evaluation.sizes, strict=True):
                if size != evaluation.size:
                    small, large = ("{} x {}".format(*sides) for sides in (evaluation.size, size))
                    notes.append(f"{source} was shrunk by area from {large} to {small}.")
            if not evaluation.people:
                notes.append(f"{evaluation.name}: no face found.")
        if any(evaluation.whole and evaluation.people for evaluation in self.evaluations):
            notes.append(
                "Faces are crops of 512 x 512, cut by the same matrices from restored video and reference; what lies "
                "outside the frame is the same grey in both."
            )
        notes += CONVENTIONS
        return notes + [
            f"{measure.label}: {DEFINITIONS[key]}." for key, measure in self.table.items() if key not in self.missing
        ]

    def _rows(self, kind: str) -> list[tuple[str, JointMeasures]]:
        rows = [(evaluation.name, getattr(evaluation, kind)) for evaluation in self.evaluations]
        return [(name, row) for name, row in rows if row is not None]

    def _tabulate(self, rows: list[tuple[str, JointMeasures]], counts: dict[str, list[str]]) -> str:
        mean = mean_videos(row for _, row in rows)
        assert mean is not None
        rows = [*rows, ("**Mean**", mean)]
        table = [["Video", *(name for name, _ in rows)]]
        table += [[name, *values, str(sum(map(int, values)))] for name, values in counts.items()]
        for key, measure in self.table.items():
            if mean.mean[key] is None:
                continue
            unit = f" ({measure.unit})" if measure.unit else ""
            form = _form(DECIMALS.get(key, FLICKER_DECIMALS))
            arrow = ARROWS.get(measure.better, "")
            table.append([f"{measure.label}{unit}{arrow}", *(form(row.mean[key]) for _, row in rows)])
            if key in SIGMAS:
                table.append([f"{SIGMAS[key]}{unit} ↓", *(form(row.sigma[key]) for _, row in rows)])
        return _markdown(table)


def mean_videos(videos: Iterable[JointMeasures]) -> JointMeasures | None:
    """Mean the values of videos, each of which counts the same.

    Args:
        videos (`Iterable[JointMeasures]`): All measured with the same networks; the people of a video count as one.

    Returns:
        [`JointMeasures`] or `None`: the latter if there are no videos.
    """
    rows = list(videos)
    if not rows:
        return None
    mean, sigma = (
        {
            key: None if value is None else Series([getattr(row, kind)[key] for row in rows]).mean
            for key, value in getattr(rows[0], kind).items()
        }
        for kind in ("mean", "sigma")
    )
    return JointMeasures(len(rows), sum(row.num_frames for row in rows), mean, sigma)


def _name_people(faces: JointMeasures) -> dict[str, Any]:
    """The people of a video were joined as videos are."""
    values = faces.to_dict()
    return {"num_people": values.pop("num_videos"), "num_faces": values.pop("num_frames"), **values}


def _form(decimals: int) -> Callable[[float | None], str]:
    return lambda value: "-" if value is None or np.isnan(value) else f"{value:.{decimals}f}"


def _markdown(columns: list[list[str]]) -> str:
    """A table of columns, the first cell of each its head; the first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in columns]
    padded = [
        [cell.rjust(width) if i else cell.ljust(width) for cell in column]
        for i, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    head, *rows = ("| " + " | ".join(cells) + " |" for cells in zip(*padded, strict=True))
    rule = ["-" * (width + 1) + ":" if i else ":" + "-" * (width + 1) for i, width in enumerate(widths)]
    return "\n".join([head, f"|{'|'.join(rule)}|", *rows])
