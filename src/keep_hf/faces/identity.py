"""Who is it: an embedding of a face whose cosine with another tells whether two faces are of one person.

Any recognition network in the ONNX format that was trained on faces in ArcFace's alignment does: 112x112 pixels, five
landmarks at fixed places.  The crops of `align` have their own fixed places, so one similarity takes every crop over.
"""

from pathlib import Path

import numpy as np

from .alignment import TEMPLATE, TEMPLATE_SIZE, crop_face
from .onnx_network import OnnxNetwork, check_faces


# Left eye, right eye, nose, left and right mouth corner, as the viewer sees them, in pixels of a 112x112 face.
ARCFACE_TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
ARCFACE_SIZE = 112


def _crop_to_arcface() -> np.ndarray:
    """The similarity, of shape `(2, 3)`, from a 512x512 crop to ArcFace's alignment by least squares."""
    # With points as complex numbers a similarity is z -> turn * z + shift.
    crop, face = (points @ (1, 1j) for points in (TEMPLATE, ARCFACE_TEMPLATE))
    centred = crop - crop.mean()
    turn = np.vdot(centred, face) / np.vdot(centred, centred)
    shift = face.mean() - turn * crop.mean()
    return np.array([(turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag)])


CROP_TO_ARCFACE = _crop_to_arcface()


class FaceIdentity(OnnxNetwork):
    """A face recognition network, run by OpenCV.

    Args:
        model_file (`str` or `Path`):
            ONNX file of a network from a picture, of shape `(1, 3, 112, 112)`, to a vector.
        mean (`tuple[float, float, float]`, defaults to `(127.5, 127.5, 127.5)`):
            What is taken from red, green and blue, in levels of 255.  This and the next two are ArcFace's own.
        scale (`float`, defaults to 1 / 127.5):
            Factor after that.
        channel_order (`"rgb"` or `"bgr"`, defaults to `"rgb"`):
            In which order the network takes the channels.

    Raises:
        ValueError: If the file does not exist, cannot be loaded, or is of another kind, or the order is no order.
    """

    kind = "face recognition"
    settings_file = "identity.json"

    def __init__(
        self,
        model_file: str | Path,
        mean: tuple[float, float, float] = (127.5, 127.5, 127.5),
        scale: float = 1 / 127.5,
        channel_order: str = "rgb",
    ) -> None:
        super().__init__(model_file, ARCFACE_SIZE, mean=tuple(mean), scale=scale, channel_order=channel_order)

    def embed(self, faces: list[np.ndarray]) -> np.ndarray:
        """Embed faces; the product of two rows is the cosine of the angle between the two.

        Args:
            faces (`list[np.ndarray]`, each of shape `(size, size, 3)`):
                RGB crops of `align`, uint8, of any size.

        Returns:
            `np.ndarray` of shape `(n, d)`, float32: rows of length 1.

        Raises:
            ValueError: If a face is no square picture.
        """
        check_faces(faces)
        embeddings = np.zeros((len(faces), len(self.trial)), np.float32)
        for i, face in enumerate(faces):
            to_template = np.diag([TEMPLATE_SIZE / len(face), TEMPLATE_SIZE / len(face), 1])
            embeddings[i] = self.run(crop_face(face, CROP_TO_ARCFACE @ to_template, ARCFACE_SIZE))
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
