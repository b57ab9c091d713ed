"""The report of `keep-hf evaluate`: tables in Markdown, and all values as JSON.

The value of a video is that of its whole frames, or the mean over its people, independent of how many frames each is
in.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .results import Evaluation
from .series import AverageMetrics, Metric, average


ARROWS = {"higher": " ↑", "lower": " ↓"}
DECIMALS = {"psnr": 2, "ssim": 4, "lpips": 4, "ids": 4, "akd": 3, "identity_steps": 4, "landmark_jitter": 3}
FLICKER_DECIMALS = 3
# Metrics whose standard deviation over the frames is also a metric, and better if it is lower
SIGMAS = {"ids": "sigma_IDS", "akd": "sigma_AKD", "identity_steps": "Identity jitter"}
DEFINITIONS = {
    "psnr": "of RGB, levels up to 255",
    "ssim": "of RGB, Gaussian window of 11 pixels with sigma 1.5, mean over the channels",
    "lpips": "version 0.1, the sum over five layers",
    "ids": "cosine of the embeddings of the restored face and of the reference",
    "akd": "mean distance between the landmarks of both, in pixels of a face of 512 x 512",
    "flicker": "mean change from frame to frame that motion does not explain",
    "reference_flicker": "the same for the reference; a video far below it is blurred",
    "identity_steps": "cosine of the embeddings of a face and the previous one; its sigma is the identity jitter",
    "landmark_jitter": "root mean square deviation from uniform motion, in pixels of a face of 512 x 512",
}
CONVENTIONS = (
    "Frames are 8-bit RGB as a player shows them, without cropping a border.",
    "Metrics between frames are measured within scenes and within track segments.",
    "sigma: standard deviation over the frames of a person (divided by their number), then the mean over people.",
    "Means: all people of a video have the same weight, and all videos. Infinite values are left out unless all are "
    "infinite.",
)


@dataclass
class Report:
    """The results of several videos, and what they were measured with.

    Args:
        evaluations (`list[Evaluation]`): One per video.
        table (`dict[str, Metric]`): `REFERENCE_METRICS` or `NO_REFERENCE_METRICS`.
        missing (`dict[str, str]`): By metric that could not be computed, what was missing.
        models (`dict[str, str]`): By role, the models that measured and that detected faces.
    """

    evaluations: list[Evaluation]
    table: dict[str, Metric]
    missing: dict[str, str]
    models: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        rows = {kind: [row for _, row in self._rows(kind)] for kind in ("frames", "faces")}
        return {
            "metrics": {
                key: {**metric._asdict(), "missing": self.missing.get(key)} for key, metric in self.table.items()
            },
            "models": self.models,
            "conventions": self.notes(),
            "videos": [evaluation.to_dict() for evaluation in self.evaluations],
            "mean": {kind: average(videos).to_dict() if videos else None for kind, videos in rows.items()},
        }

    def save(self, path: str | os.PathLike) -> None:
        """Write a JSON file in one step."""
        part = Path(path).with_name(Path(path).name + ".part")
        try:
            part.write_text(json.dumps(self.to_dict(), indent=2) + "\n")
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(error.errno, f"{path} cannot be written: {error.strerror}") from error

    def to_markdown(self) -> str:
        """Tables of whole frames and of faces with a row per video and their mean, missing metrics, and notes."""
        blocks = []
        if rows := self._rows("frames"):
            counts = {"Frames": [row.num_frames for _, row in rows]}
            blocks.append("Whole frames\n\n" + self._tabulate(rows, counts))
        if rows := self._rows("faces"):
            counts = {"People": [row.num_videos for _, row in rows], "Faces": [row.num_frames for _, row in rows]}
            blocks.append("Faces\n\n" + self._tabulate(rows, counts))
        lines = [f"- Missing: {self.table[key].label} needs {needs}." for key, needs in self.missing.items()]
        blocks.append("\n".join([*lines, *(f"- {note}" for note in self.notes())]))
        return "\n\n".join(blocks)

    def notes(self) -> list[str]:
        """What the values depend on."""
        notes = [f"Measured with: {', '.join(f'{role} {name}' for role, name in self.models.items())}."]
        for evaluation in self.evaluations:
            for source, size in zip(evaluation.sources, evaluation.sizes, strict=True):
                if size != evaluation.size:
                    small, large = ("{} x {}".format(*sides) for sides in (evaluation.size, size))
                    notes.append(f"{source} was shrunk by area from {large} to {small}.")
            if not evaluation.people:
                notes.append(f"{evaluation.name}: no faces were measured.")
        if any(evaluation.whole and evaluation.people for evaluation in self.evaluations):
            notes.append(
                "Faces are crops of 512 x 512, cut from the restored video and the reference by the same matrices; "
                "pixels outside the frame are the same grey in both."
            )
        notes += CONVENTIONS
        return notes + [
            f"{metric.label}: {DEFINITIONS[key]}." for key, metric in self.table.items() if key not in self.missing
        ]

    def _rows(self, kind: str) -> list[tuple[str, AverageMetrics]]:
        """Name and metrics of every video that has them; of its whole `"frames"` or of its `"faces"`."""
        rows = [(one.name, one.frames if kind == "frames" else one.faces) for one in self.evaluations]
        return [(name, row) for name, row in rows if row is not None]

    def _tabulate(self, rows: list[tuple[str, AverageMetrics]], counts: dict[str, list[int]]) -> str:
        rows = [*rows, ("**Mean**", average(row for _, row in rows))]
        columns = [["Video", *(name for name, _ in rows)]]
        columns += [[name, *map(str, values), str(sum(values))] for name, values in counts.items()]
        for key, metric in self.table.items():
            if rows[0][1].mean[key] is None:
                continue
            unit = f" ({metric.unit})" if metric.unit else ""
            decimals = DECIMALS.get(key, FLICKER_DECIMALS)
            arrow = ARROWS.get(metric.better, "")
            columns.append([f"{metric.label}{unit}{arrow}", *(_format(row.mean[key], decimals) for _, row in rows)])
            if key in SIGMAS:
                columns.append([f"{SIGMAS[key]}{unit} ↓", *(_format(row.sigma[key], decimals) for _, row in rows)])
        return _to_table(columns)


def _format(value: float | None, decimals: int) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.{decimals}f}"


def _to_table(columns: list[list[str]]) -> str:
    """A Markdown table of columns that begin with their heads; the first column is left-aligned, the others right."""
    widths = [max(map(len, column)) for column in columns]
    padded = [
        [cell.rjust(width) if i else cell.ljust(width) for cell in column]
        for i, (column, width) in enumerate(zip(columns, widths, strict=True))
    ]
    head, *rows = ("| " + " | ".join(cells) + " |" for cells in zip(*padded, strict=True))
    rule = ["-" * (width + 1) + ":" if i else ":" + "-" * (width + 1) for i, width in enumerate(widths)]
    return "\n".join([head, f"|{'|'.join(rule)}|", *rows])
