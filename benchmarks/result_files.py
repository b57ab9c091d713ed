"""Results of the evaluation on disk: one file per clip, level and method, so that an aborted run can be resumed."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from keep_hf.evaluation.series import VideoMetrics
from keep_hf.faces.alignment import TEMPLATE, TEMPLATE_SIZE


STRIP_COLUMNS = 4
# The column of pixels that is shown over time passes through an eye and a corner of the mouth.
PROFILE_COLUMN = float(TEMPLATE[[0, 3], 0].mean()) / TEMPLATE_SIZE


class Results:
    """Files `LEVEL/CLIP/METHOD.json` with metrics, and `METHOD.npz` with the pixels for plots.

    Args:
        folder (`Path`): Folder of the files, which is created.
        settings (`dict[str, Any]`): Settings that all results depend on, as numbers and text.

    Raises:
        ValueError: If the folder contains results of other settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, settings
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "settings.json"
        # Written by the first run only; parallel processes write the same content.
        if not file.exists():
            write_text(file, json.dumps(settings, indent=2) + "\n")
        existing = json.loads(file.read_text())
        if existing != settings:
            keys = settings | existing
            differing = ", ".join(sorted(key for key in keys if settings.get(key) != existing.get(key)))
            raise ValueError(
                f"{folder} contains results of other settings ({differing}): use the same settings or another folder."
            )

    def _path(self, clip: str, level: str, method: str) -> Path:
        return self.folder / level / clip / f"{method}.json"

    def has(self, clip: str, level: str, method: str, source: str) -> bool:
        """Whether a result exists.

        Args:
            clip, level, method (`str`): Names.
            source (`str`): What the method depends on in addition to its name.

        Raises:
            ValueError: If the result exists but comes from another source.
        """
        path = self._path(clip, level, method)
        if not path.exists():
            return False
        existing = json.loads(path.read_text())["source"]
        if existing != source:
            raise ValueError(f"{path} was made by {existing!r}, not {source!r}: delete it or use another folder.")
        return True

    def save(self, clip: str, level: str, method: str, source: str, faces: np.ndarray, metrics: VideoMetrics) -> None:
        """Write a result; the files appear when they are complete."""
        path = self._path(clip, level, method)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._save_pixels(path, faces)
        write_text(path, json.dumps({"source": source} | metrics.to_dict()) + "\n")

    def load(self, clip: str, level: str, method: str) -> VideoMetrics:
        """Read the metrics of a result."""
        return VideoMetrics.from_dict(json.loads(self._path(clip, level, method).read_text()))

    def save_truth(self, clip: str, faces: np.ndarray, yaw: np.ndarray | None) -> None:
        """Write the pixels of the truth and, if known, the yaw `(t,)` of the face in degrees."""
        path = self.folder / "truth" / f"{clip}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._save_pixels(path, faces, **({} if yaw is None else {"yaw": yaw}))

    def truth(self, clip: str) -> dict[str, np.ndarray]:
        """`strip` and `profile` of the truth, see `pixels`, and its `yaw` if known."""
        return _load(self.folder / "truth" / f"{clip}.npz")

    def pixels(self, clip: str, level: str, method: str) -> dict[str, np.ndarray]:
        """`strip` (some frames, `(n, h, w, 3)`) and `profile` (a column over time, `(h, t, 3)`) of a result."""
        return _load(self._path(clip, level, method).with_suffix(".npz"))

    def _save_pixels(self, path: Path, faces: np.ndarray, **more: np.ndarray) -> None:
        columns = np.linspace(0, len(faces) - 1, min(STRIP_COLUMNS, len(faces))).round().astype(int)
        profile = faces[:, :, round(PROFILE_COLUMN * faces.shape[2])].swapaxes(0, 1)
        part = _part(path.with_suffix(".npz"))
        with open(part, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, strip=faces[columns], profile=profile, **more)
        os.replace(part, path.with_suffix(".npz"))


def write_text(path: Path, text: str) -> None:
    """Write a file in one step, safe against other processes that write the same file."""
    part = _part(path)
    part.write_text(text)
    os.replace(part, path)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)
