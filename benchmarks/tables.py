"""What was measured, kept in files, and the tables made of it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from keep_hf.evaluation.series import REFERENCE_METRICS, AverageMetrics, VideoMetrics, average
from keep_hf.faces.alignment import TEMPLATE, TEMPLATE_SIZE


# The measures of the paper's Table 1 and flicker: name, statistic, label with the better way, decimals.
COLUMNS = (
    ("psnr", "mean", "PSNR ↑", 2),
    ("ssim", "mean", "SSIM ↑", 4),
    ("lpips", "mean", "LPIPS ↓", 4),
    ("ids", "mean", "IDS ↑", 4),
    ("akd", "mean", "AKD ↓", 2),
    ("ids", "sigma", "sigma_IDS ↓", 4),
    ("akd", "sigma", "sigma_AKD ↓", 3),
    ("flicker", "mean", "Flicker ↓", 3),
)
STRIP_COLUMNS = 4
# The column of pixels that is followed over time goes through an eye and a corner of the mouth.
PROFILE_COLUMN = float(TEMPLATE[[0, 3], 0].mean()) / TEMPLATE_SIZE


class Results:
    """Files `LEVEL/CLIP/METHOD.json`, each with `METHOD.npz`, the pixels that pictures are made of.

    Args:
        folder (`Path`): Where they lie; it is made.
        settings (`dict[str, Any]`): What all of them depend on, in numbers and text.

    Raises:
        ValueError: If the folder holds results of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "settings.json"
        # Only the first run writes them; several processes write the same.
        if not file.exists():
            write_text(file, json.dumps(settings, indent=2) + "\n")
        made = json.loads(file.read_text())
        if made != settings:
            differing = ", ".join(sorted(key for key in settings | made if settings.get(key) != made.get(key)))
            raise ValueError(
                f"{folder} holds results of other settings ({differing}): give the same, or another folder."
            )

    def _path(self, clip: str, level: str, method: str) -> Path:
        return self.folder / level / clip / f"{method}.json"

    def has(self, clip: str, level: str, method: str, source: str) -> bool:
        """Whether there is this result.

        Args:
            clip, level, method (`str`): Their names.
            source (`str`): What the method depends on beside its name.

        Raises:
            ValueError: If there is one that was made from another source.
        """
        path = self._path(clip, level, method)
        if not path.exists():
            return False
        made = json.loads(path.read_text())["source"]
        if made != source:
            raise ValueError(f"{path} was made by {made!r}, not {source!r}: delete it, or give another folder.")
        return True

    def save(self, clip: str, level: str, method: str, source: str, faces: np.ndarray, measured: VideoMetrics) -> None:
        """Keep a result; it is there as a whole or not at all."""
        path = self._path(clip, level, method)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._save_pixels(path, faces)
        write_text(path, json.dumps({"source": source} | measured.to_dict()) + "\n")

    def load(self, clip: str, level: str, method: str) -> VideoMetrics:
        return VideoMetrics.from_dict(json.loads(self._path(clip, level, method).read_text()))

    def save_truth(self, clip: str, faces: np.ndarray, yaw: np.ndarray | None) -> None:
        """Keep what the pictures show of the truth, and where the face looks, `(t,)` in degrees, if that is known."""
        path = self.folder / "truth" / f"{clip}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._save_pixels(path, faces, **({} if yaw is None else {"yaw": yaw}))

    def truth(self, clip: str) -> dict[str, np.ndarray]:
        """`strip`, `profile` and perhaps `yaw` of the truth."""
        return _load(self.folder / "truth" / f"{clip}.npz")

    def pixels(self, clip: str, level: str, method: str) -> dict[str, np.ndarray]:
        """`strip` (some frames) and `profile` (a column over time, `(h, t, 3)`) of a result."""
        return _load(self._path(clip, level, method).with_suffix(".npz"))

    def _save_pixels(self, path: Path, faces: np.ndarray, **more: np.ndarray) -> None:
        columns = np.linspace(0, len(faces) - 1, min(STRIP_COLUMNS, len(faces))).round().astype(int)
        profile = faces[:, :, round(PROFILE_COLUMN * faces.shape[2])].swapaxes(0, 1)
        part = _part(path.with_suffix(".npz"))
        with open(part, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, strip=faces[columns], profile=profile, **more)
        os.replace(part, path.with_suffix(".npz"))


def write_text(path: Path, text: str) -> None:
    """Write a file that is there as a whole or not at all, whoever else writes it."""
    part = _part(path)
    part.write_text(text)
    os.replace(part, path)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def join(results: Results, clips: list[str], levels: list[str], methods: list[str]) -> dict[str, Any]:
    """Means over the clips, by level and method: [`AverageMetrics`]."""
    return {
        level: {method: average([results.load(clip, level, method) for clip in clips]) for method in methods}
        for level in levels
    }


def levels_table(joint: dict[str, dict[str, AverageMetrics]], missing: dict[str, str]) -> str:
    """The layout of the paper's Table 1: a row for each method, for each level a group of measures.

    Args:
        joint (`dict[str, dict[str, AverageMetrics]]`): By level and method; see [`join`].
        missing (`dict[str, str]`): By the name of a measure that was not made: what it needs.

    Returns:
        `str`: Markdown; measures that were not made are named below.
    """
    levels = list(joint)
    methods = list(joint[levels[0]])
    some = joint[levels[0]][methods[0]]
    columns = [column for column in COLUMNS if some.mean[column[0]] is not None]
    gap = " |" * (len(columns) - 1)
    lines = [
        "| |" + "".join(f" {level} |{gap}" for level in levels),
        "|---|" + "---:|" * len(columns) * len(levels),
        "| |" + "".join(f" {label} |" for _ in levels for _, _, label, _ in columns),
    ]
    for method in methods:
        cells = [
            _number(getattr(joint[level][method], statistic)[key], digits)
            for level in levels
            for key, statistic, _, digits in columns
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += ["", f"{some.num_videos} clips, {some.num_frames} frames. "]
    lines[-1] += "PSNR in dB, IDS as cosine, AKD and sigma_AKD in pixels of a face of 512, flicker in levels of 255"
    flicker = some.mean["reference_flicker"]
    lines[-1] += f" (that of the truth: {flicker:.3f})." if flicker is not None else "."
    lines += [f"Not measured: {REFERENCE_METRICS[key].label}, which needs {needs}." for key, needs in missing.items()]
    return "\n".join(lines) + "\n"


def clips_table(results: Results, clips: list[str], levels: list[str], methods: list[str]) -> str:
    """PSNR and SSIM of every clip: for each level a table with a row for each clip, and their mean (Markdown)."""
    lines = []
    for level in levels:
        heads = [f"{label} {method}" for label in ("PSNR", "SSIM") for method in methods]
        lines += [f"## {level}", "", f"| clip | frames | {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) + 1)]
        measured = {clip: [results.load(clip, level, method) for method in methods] for clip in clips}
        means = {clip: [average([video]) for video in videos] for clip, videos in measured.items()}
        joint = [average(videos) for videos in zip(*measured.values(), strict=True)]
        for name, row in (means | {"**mean**": joint}).items():
            cells = [_number(one.mean[key], digits) for key, digits in (("psnr", 2), ("ssim", 4)) for one in row]
            lines.append(f"| {name} | {row[0].num_frames} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def groups_table(results: Results, groups: dict[str, list[str]], levels: list[str], methods: list[str]) -> str:
    """For whom a method works less well: PSNR, SSIM and IDS as means over the clips of each group (Markdown).

    Args:
        results ([`Results`]): Of all clips that a group names.
        groups (`dict[str, list[str]]`): By name: clips.
        levels, methods (`list[str]`): Those to compare.
    """
    keys = [(key, label, digits) for key, _, label, digits in COLUMNS[:4] if key != "lpips"]
    lines = []
    for level in levels:
        heads = [f"{label.split()[0]} {method}" for _, label, _ in keys for method in methods]
        lines += [f"## {level}", "", f"| group | clips | {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) + 1)]
        for group, clips in groups.items():
            joint = [average([results.load(clip, level, method) for clip in clips]) for method in methods]
            cells = [_number(one.mean[key], digits) for key, _, digits in keys for one in joint]
            lines.append(f"| {group} | {len(clips)} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
