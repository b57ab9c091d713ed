"""YuNet, a face detector that OpenCV runs (Wu et al., 2023)."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..downloads.hub import YUNET_REPOSITORY, locate_yunet
from ..downloads.options import DownloadOptions
from .detection import Faces, search_near_and_far


class YuNet:
    """The YuNet face detector, run by OpenCV.

    Args:
        model_file (`str` or `Path`):
            ONNX file of YuNet.
        threshold (`float`, defaults to 0.6):
            Least score of a face, from 0 to 1.

    Raises:
        ValueError: If the file does not exist or cannot be loaded.
    """

    # YuNet loses faces of more than about 500 px or breaks them in two; up to 480 its landmarks were the steadiest.
    near_sides, far_side = (320, 480), 1280

    def __init__(self, model_file: str | Path, threshold: float = 0.6) -> None:
        self.model_file = Path(model_file)
        if not self.model_file.is_file():
            raise ValueError(f"there is no YuNet file {str(model_file)!r}: pass a face_detection_yunet_*.onnx.")
        try:
            self.network = cv2.FaceDetectorYN.create(str(model_file), "", (320, 320), threshold, 0.3, 5000)
        except cv2.error as error:
            raise ValueError(f"OpenCV cannot load {model_file}: it is damaged or not a YuNet file.") from error

    @classmethod
    def from_pretrained(cls, name: str | Path = YUNET_REPOSITORY, **kwargs: Any) -> "YuNet":
        """Load the newest YuNet file of a folder or of a repository on the Hub.

        Args:
            name (`str` or `Path`, defaults to `"opencv/face_detection_yunet"`):
                ONNX file, folder with ONNX files, or Hub id.
            kwargs:
                Options of a download (`cache_dir`, `revision`, `token`, `local_files_only`, `force_download`). Others
                that a diffusers pipeline passes to its components, such as `dtype`, are not used.

        Returns:
            [`YuNet`]

        Raises:
            ValueError: If there is no YuNet file in full precision.
            OSError: If the repository is not in the cache and cannot be downloaded; the message says where to place
                the file.
        """
        if Path(name).is_file():
            return cls(name)
        folder = Path(name)
        if not folder.is_dir():
            folder = locate_yunet(str(name), DownloadOptions.from_arguments(kwargs))
        # File names end in a date such as 2023mar, or in int8 for reduced precision.
        files = sorted(path for path in folder.glob("*.onnx") if "int8" not in path.name)
        if not files:
            raise ValueError(
                f"{str(name)!r} contains no YuNet file in full precision: add a face_detection_yunet_*.onnx."
            )
        return cls(files[-1])

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Copy the ONNX file to a folder; `kwargs`, which a diffusers pipeline passes, are not used."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.model_file, Path(folder) / self.model_file.name)

    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        """Detect the faces in frames.

        Args:
            frames (`list[np.ndarray]`, each of shape `(h, w, 3)`):
                RGB frames, uint8, of any sizes.

        Returns:
            `list[Faces]`: the faces of each frame.
        """
        return search_near_and_far(frames, self._search, self.near_sides, self.far_side)

    def _search(self, images: list[np.ndarray]) -> list[Faces]:
        found = []
        for image in images:
            self.network.setInputSize(image.shape[1::-1])
            rows = self.network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
            rows = np.zeros((0, 15), np.float32) if rows is None else rows
            # A row holds left, top, width, height, five points and the score.  The person's right eye, the first of
            # the points, is the left one for the viewer.
            boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
            found.append(Faces(boxes, rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14]))
        return found
