"""Dense landmarks of a face, from a landmark network in the ONNX format on aligned crops.

Any network can be used that takes one square image of a face and outputs its points, x and y in turn, as fractions of
that image.  The defaults are for PFLD with 68 points (Guo et al., 2019), in the usual order: jaw, brows, nose, eyes,
mouth.  They were found by experiment on the faces of twelve people: levels in [0, 1] are clearly right, while the
order of the channels hardly matters.
"""

from pathlib import Path

import numpy as np

from .alignment import TEMPLATE_SIZE, crop_face
from .onnx_network import OnnxNetwork, check_faces


# Left, top, right and bottom of the region that the network reads, in pixels of a 512 x 512 crop: from above the brows
# to below the chin.  Landmark networks are trained on tight boxes: on the whole crop the points of PFLD move more when
# the image is shifted or mirrored.
REGION = (72.0, 136.0, 440.0, 504.0)
INPUT_SIZE = 112


class LandmarkNetwork(OnnxNetwork):
    """A face landmark network, run by OpenCV.

    Args:
        model_file (`str` or `Path`):
            ONNX file of a network that maps an image of shape `(1, 3, input_size, input_size)` to the x and y of its
            points in turn, 0 at the left and upper border of the image and 1 at the right and lower one.
        mean (`tuple[float, float, float]`, defaults to `(0.0, 0.0, 0.0)`):
            Subtracted from red, green and blue, in levels of 255.
        scale (`float`, defaults to 1 / 255):
            Factor after the subtraction.
        channel_order (`"rgb"` or `"bgr"`, defaults to `"bgr"`):
            Order of the channels that the network expects.
        region (`tuple[float, float, float, float]`, defaults to `(72.0, 136.0, 440.0, 504.0)`):
            Left, top, right and bottom of the square of an aligned crop that the network reads, in pixels of a 512 x
            512 crop; it is scaled for crops of other sizes.
        input_size (`int`, defaults to 112):
            Side in pixels of the image that the network reads.

    Raises:
        ValueError: If the file does not exist, cannot be loaded, or is another kind of network, or a setting is
            invalid.
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
        # For an image without a face, landmark networks output about their mean face.
        if len(self.trial) % 2 or self.trial.min() < -0.1 or self.trial.max() > 1.1:
            raise ValueError(
                f"{model_file} is not a {self.kind} network: its output for a grey image is {len(self.trial)} numbers "
                f"from {self.trial.min():.3g} to {self.trial.max():.3g}, but x and y of points are needed, as "
                "fractions of the image."
            )
        self.num_points = len(self.trial) // 2

    def find(self, faces: list[np.ndarray]) -> np.ndarray:
        """Find the landmarks of faces.

        Args:
            faces (`list[np.ndarray]`, each of shape `(size, size, 3)`):
                Aligned crops, RGB, uint8, of any sizes; see [`crop_face`].

        Returns:
            `np.ndarray` of shape `(n, num_points, 2)`, float32: x and y in pixels of each crop, 0 at the centre of its
            first pixel, in the order of the network.

        Raises:
            ValueError: If a face is not a square RGB image.
        """
        points = np.zeros((len(faces), self.num_points, 2), np.float32)
        check_faces(faces)
        for i, face in enumerate(faces):
            left, top, right, _ = np.array(self.settings["region"]) * len(face) / TEMPLATE_SIZE
            # Fractions and the region are measured from borders, pixels from the centre of the first: 1/2 apart.
            shrink = self.settings["input_size"] / (right - left)
            shift = (0.5 - np.array([left, top])) * shrink - 0.5
            matrix = np.array([(shrink, 0, shift[0]), (0, shrink, shift[1])])
            fractions = self.run(crop_face(face, matrix, self.settings["input_size"])).reshape(-1, 2)
            points[i] = fractions * (right - left) + (left, top) - 0.5
        return points
