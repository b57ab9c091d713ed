"""Where the features of a face are: the points of a landmark network in the ONNX format, on crops of `align`.

Any network does that takes one square picture of a face and gives its points, x and y in turn, as fractions of that
picture.  The defaults are for PFLD with 68 points (Guo et al., 2019), in the usual order of 68: jaw, brows, nose,
eyes, mouth.  They were found by trial on the faces of twelve people: levels in [0, 1] are clearly right; that blue
comes before red is hardly to be told.
"""

from pathlib import Path

import numpy as np

from .alignment import TEMPLATE_SIZE, crop_face
from .onnx_network import OnnxNetwork, check_faces


# Left, top, right and bottom of what the network is shown, in pixels of a 512x512 crop: from above the brows to below
# the chin.  Landmark networks learn from tight boxes: over the whole crop PFLD's points stray more when the picture is
# shifted or mirrored.
REGION = (72.0, 136.0, 440.0, 504.0)
INPUT_SIZE = 112


class LandmarkNetwork(OnnxNetwork):
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

    kind = "face landmark"
    setting_names = (*OnnxNetwork.setting_names, "region", "input_size")
    settings_file = "landmarks.json"

    def __init__(
        self,
        model_file: str | Path,
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        scale: float = 1 / 255,
        channel_order: str = "bgr",
        region: tuple[float, float, float, float] = REGION,
        input_size: int = INPUT_SIZE,
    ) -> None:
        left, top, right, bottom = region
        if not (right > left and right - left == bottom - top):
            raise ValueError(f"region must be left, top, right and bottom of a square, got {tuple(region)}.")
        super().__init__(
            model_file,
            input_size,
            mean=tuple(mean),
            scale=scale,
            channel_order=channel_order,
            region=tuple(region),
            input_size=input_size,
        )
        # Where nothing is to be seen, landmark networks give about their mean face.
        if len(self.trial) % 2 or self.trial.min() < -0.1 or self.trial.max() > 1.1:
            raise ValueError(
                f"{model_file} is no {self.kind} network: for a grey picture it gives {len(self.trial)} numbers from "
                f"{self.trial.min():.3g} to {self.trial.max():.3g} where x and y of points are needed, as fractions "
                "of the picture."
            )
        self.num_points = len(self.trial) // 2

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
        check_faces(faces)
        for i, face in enumerate(faces):
            left, top, right, _ = np.array(self.settings["region"]) * len(face) / TEMPLATE_SIZE
            # Fractions and the region count from borders, pixels from the middle of the first: 1/2 apart.
            shrink = self.settings["input_size"] / (right - left)
            shift = (0.5 - np.array([left, top])) * shrink - 0.5
            matrix = np.array([(shrink, 0, shift[0]), (0, shrink, shift[1])])
            fractions = self.run(crop_face(face, matrix, self.settings["input_size"])).reshape(-1, 2)
            points[i] = fractions * (right - left) + (left, top) - 0.5
        return points
