"""Where the features of a face are: the points of a landmark network in the ONNX format, on crops of `align`.

Any network does that takes one square picture of a face and gives its points, x and y in turn, as fractions of that
picture.  The defaults are for PFLD with 68 points (Guo et al., 2019), in the usual order of 68: jaw, brows, nose,
eyes, mouth.  They were found by trial on the faces of twelve people: levels in [0, 1] are clearly right, in [-1, 1]
the points stray half as much again; blue before red is better than red before blue by a mere 3 %.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from huggingface_hub import snapshot_download

from .align import TEMPLATE_SIZE, crop_face


# Left, top, right and bottom of what the network is shown, in pixels of a 512x512 crop: from above the brows to below
# the chin.  Landmark networks learn from tight boxes.  When the picture moves by 7 pixels, PFLD's points stray by 1.6
# from moving along, and by 4.5 when it is mirrored; over the whole crop by 2.8 and 6.8 (two frames of each person).
REGION = (72.0, 136.0, 440.0, 504.0)
INPUT_SIZE = 112
SETTINGS_FILE = "landmarks.json"
SETTINGS = ("mean", "scale", "channel_order", "region", "input_size")


class LandmarkNetwork:
    """A face landmark network, run by OpenCV.

    Args:
        model_file (`str` or `Path`):
            ONNX file of a network from a picture, of shape `(1, 3, input_size, input_size)`, to the x and y of its
            points in turn, 0 at the left and upper border of the picture and 1 at the other.
        mean (`tuple[float, float, float]`, defaults to `(0.0, 0.0, 0.0)`):
            What is taken from red, green and blue, in levels of 255.
        scale (`float`, defaults to 1 / 255):
            Factor after that.
        channel_order (`"rgb"` or `"bgr"`, defaults to `"bgr"`):
            In which order the network takes the channels.
        region (`tuple[float, float, float, float]`, defaults to `(72.0, 136.0, 440.0, 504.0)`):
            Left, top, right and bottom of the square of an aligned crop that the network is shown, in pixels of a crop
            of 512; crops of other sizes scale it.
        input_size (`int`, defaults to 112):
            Side in pixels of the picture that the network takes.

    Raises:
        ValueError: If the file does not exist, cannot be loaded, or is of another kind, or a setting is out of range.
    """

    def __init__(
        self,
        model_file: str | Path,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        scale: float = 1 / 255,
        channel_order: str = "bgr",
        region: tuple[float, float, float, float] = REGION,
        input_size: int = INPUT_SIZE,
    ) -> None:
        self.model_file = Path(model_file)
        if not self.model_file.is_file():
            raise ValueError(f"there is no file {str(model_file)!r}: pass the .onnx of a face landmark network.")
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f'channel_order must be "rgb" or "bgr", got {channel_order!r}.')
        left, top, right, bottom = region
        if not (right > left and right - left == bottom - top):
            raise ValueError(f"region must be left, top, right and bottom of a square, got {tuple(region)}.")
        self.settings: dict[str, Any] = {
            "mean": tuple(mean),
            "scale": scale,
            "channel_order": channel_order,
            "region": tuple(region),
            "input_size": input_size,
        }
        kind = f"{model_file} is damaged, or no network from one picture of {input_size}x{input_size} to points"
        try:
            self.network = cv2.dnn.readNetFromONNX(str(model_file))
            if len(self.network.getUnconnectedOutLayersNames()) != 1:
                raise ValueError(f"{kind}: it has several outputs.")
            # What a network takes and gives shows only when it runs.
            output = self._run(np.full((input_size, input_size, 3), 127, np.uint8))
        except cv2.error as error:
            raise ValueError(f"{kind}: OpenCV cannot run it.") from error
        # Where nothing is to be seen, landmark networks give about their mean face.
        if len(output) % 2 or output.min() < -0.1 or output.max() > 1.1:
            raise ValueError(
                f"{kind}: for a grey picture it gives {len(output)} numbers from {output.min():.3g} to "
                f"{output.max():.3g} where x and y of points are needed, as fractions of the picture."
            )
        self.num_points = len(output) // 2

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> "LandmarkNetwork":
        """Load the network of an ONNX file, a folder or a repository on the Hub.

        Args:
            name (`str` or `Path`):
                ONNX file, or folder or Hub id with one ONNX file, and with `landmarks.json` where it was saved by
                [`~LandmarkNetwork.save_pretrained`].
            kwargs:
                `mean`, `scale`, `channel_order`, `region` and `input_size` go before what was saved; the rest, what a
                diffusers pipeline hands to its components, is not used.

        Returns:
            [`LandmarkNetwork`]

        Raises:
            ValueError: If there is not one ONNX file at that place, or it is not right, see the class.
        """
        given = {key: kwargs[key] for key in SETTINGS if key in kwargs}
        if Path(name).suffix == ".onnx":
            return cls(name, **given)
        local = Path(name).is_dir()
        folder = Path(name) if local else Path(snapshot_download(str(name), allow_patterns=["*.onnx", SETTINGS_FILE]))
        files = sorted(folder.glob("*.onnx"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise ValueError(f"{str(name)!r} must hold one .onnx file, found {found}: pass the path of the file.")
        saved = json.loads((folder / SETTINGS_FILE).read_text()) if (folder / SETTINGS_FILE).is_file() else {}
        return cls(files[0], **{**saved, **given})

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Save the ONNX file and the settings, as a diffusers pipeline asks its components; `kwargs` are not used."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.model_file, Path(folder) / self.model_file.name)
        (Path(folder) / SETTINGS_FILE).write_text(json.dumps(self.settings, indent=2) + "\n")

    def find(self, faces: list[np.ndarray]) -> np.ndarray:
        """Find the points of faces.

        Args:
            faces (`list[np.ndarray]`, each of shape `(size, size, 3)`):
                RGB crops of `align`, uint8, of any size.

        Returns:
            `np.ndarray` of shape `(n, points, 2)`, float32: x and y in pixels of the crop that was given, 0 at the
            middle of its first pixel, in the order of the network.

        Raises:
            ValueError: If a face is no square picture.
        """
        points = np.zeros((len(faces), self.num_points, 2), np.float32)
        # One at a time: many files have a batch of 1 built in.
        for i, face in enumerate(faces):
            if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3:
                raise ValueError(f"faces must have the shape (size, size, 3), got {face.shape}: pass aligned crops.")
            left, top, right, _ = np.array(self.settings["region"]) * len(face) / TEMPLATE_SIZE
            # Fractions and the region count from borders, pixels from the middle of the first: 1/2 apart.
            shrink = self.settings["input_size"] / (right - left)
            shift = (0.5 - np.array([left, top])) * shrink - 0.5
            matrix = np.array([(shrink, 0, shift[0]), (0, shrink, shift[1])])
            fractions = self._run(crop_face(face, matrix, self.settings["input_size"])).reshape(-1, 2)
            points[i] = fractions * (right - left) + (left, top) - 0.5
        return points

    def _run(self, picture: np.ndarray) -> np.ndarray:
        values = (picture.astype(np.float32) - np.float32(self.settings["mean"])) * np.float32(self.settings["scale"])
        if self.settings["channel_order"] == "bgr":
            values = values[..., ::-1]
        self.network.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
        return self.network.forward().reshape(-1)
