"""Dense landmarks of a face, from a landmark network in the ONNX format on aligned crops.

Any network can be used that takes one square image of a face and outputs its points, x and y in turn, as fractions of
that image.  The defaults are for PFLD with 68 points (Guo et al., 2019), in the usual order: jaw, brows, nose, eyes,
mouth.  They were found by experiment on the faces of twelve people: levels in [0, 1] are clearly right, while the
order of the channels hardly matters.
"""

from pathlib import Path
from typing import Any

import numpy as np
from diffusers.configuration_utils import register_to_config

from .alignment import TEMPLATE_SIZE, crop_face
from .crop_network import CropNetwork, check_faces


# Left, top, right and bottom of the region that the network reads, in pixels of a 512 x 512 crop: from above the brows
# to below the chin.  Landmark networks are trained on tight boxes: on the whole crop the points of PFLD move more when
# the image is shifted or mirrored.
REGION = (72.0, 136.0, 440.0, 504.0)
INPUT_SIZE = 112


class LandmarkNetwork(CropNetwork):
    """A face landmark network, loaded from an ONNX file or from a saved copy.

    Args:
        graph, outputs:
            See [`OnnxNetwork`]; the network maps images of shape `(b, 3, input_size, input_size)` to the x and y of
            its points in turn, 0 at the left and upper border of the image and 1 at the right and lower one.
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
        ValueError: If the channel order or the region is invalid.
    """

    purpose, default_size = "face landmark", INPUT_SIZE

    @register_to_config
    def __init__(
        self,
        graph: list[dict[str, Any]],
        outputs: list[int],
        mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
        scale: float = 1 / 255,
        channel_order: str = "bgr",
        region: tuple[float, float, float, float] = REGION,
        input_size: int = INPUT_SIZE,
    ) -> None:
        left, top, right, bottom = region
        if not (right > left and right - left == bottom - top):
            raise ValueError(f"region must be left, top, right and bottom of a square, got {tuple(region)}.")
        super().__init__(graph, outputs, mean, scale, channel_order)

    @classmethod
    def from_single_file(cls, path: str | Path, **settings: Any) -> "LandmarkNetwork":
        """Convert an ONNX file, see [`OnnxNetwork.from_single_file`]."""
        network = super().from_single_file(path, **settings)
        # For an image without a face, landmark networks output about their mean face.
        (trial,) = network.read([network.grey_image()])
        if len(trial) % 2 or trial.min() < -0.1 or trial.max() > 1.1:
            raise ValueError(
                f"{path} is not a {cls.purpose} network: its output for a grey image is {len(trial)} numbers from "
                f"{trial.min():.3g} to {trial.max():.3g}, but x and y of points are needed, as fractions of the image."
            )
        return network

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
        check_faces(faces)
        size, region = self.config["input_size"], np.array(self.config["region"])
        # Fractions and the region are measured from borders, pixels from the centre of the first: 1/2 apart.
        regions = np.array([region * len(face) / TEMPLATE_SIZE for face in faces]).reshape(-1, 4)
        corners, sides = regions[:, :2], regions[:, 2] - regions[:, 0]
        crops = []
        for face, corner, side in zip(faces, corners, sides, strict=True):
            shift = (0.5 - corner) * size / side - 0.5
            crops.append(crop_face(face, np.array([(size / side, 0, shift[0]), (0, size / side, shift[1])]), size))
        fractions = self.read(crops)
        points = fractions.reshape(len(faces), fractions.shape[1] // 2, 2) * sides[:, None, None] + corners[:, None]
        return (points - 0.5).astype(np.float32)
