"""Identity: an embedding of a face; the cosine of two embeddings is high if the faces are of one person.

Any face recognition network in the ONNX format can be used that was trained on faces in the alignment of ArcFace:
112 x 112 pixels, with five landmarks at fixed places.  The landmarks of our aligned crops have fixed places, too, so
that one similarity transform moves every crop to the alignment of ArcFace.
"""

from typing import Any

import numpy as np
from diffusers.configuration_utils import register_to_config

from .alignment import TEMPLATE, TEMPLATE_SIZE, crop_face
from .crop_network import CropNetwork, check_faces


# Left eye, right eye, nose, left and right mouth corner, as the viewer sees them, in pixels of a 112x112 face.
ARCFACE_TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
ARCFACE_SIZE = 112


def _crop_to_arcface() -> np.ndarray:
    """Return the least squares similarity transform `(2, 3)` from a 512 x 512 crop to the alignment of ArcFace."""
    # With points as complex numbers, a similarity transform is z -> turn * z + shift.
    crop, face = (points @ (1, 1j) for points in (TEMPLATE, ARCFACE_TEMPLATE))
    centred = crop - crop.mean()
    turn = np.vdot(centred, face) / np.vdot(centred, centred)
    shift = face.mean() - turn * crop.mean()
    return np.array([(turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag)])


CROP_TO_ARCFACE = _crop_to_arcface()


class FaceIdentity(CropNetwork):
    """A face recognition network, loaded from an ONNX file or from a saved copy.

    Args:
        graph, outputs:
            See [`OnnxNetwork`]; the network maps images of shape `(b, 3, 112, 112)` to vectors.
        mean (`tuple[float, float, float]`, defaults to `(127.5, 127.5, 127.5)`):
            Subtracted from red, green and blue, in levels of 255.  The defaults are those of ArcFace.
        scale (`float`, defaults to 1 / 127.5):
            Factor after the subtraction.
        channel_order (`"rgb"` or `"bgr"`, defaults to `"rgb"`):
            Order of the channels that the network expects.

    Raises:
        ValueError: If the channel order is invalid.
    """

    purpose, default_size = "face recognition", ARCFACE_SIZE

    @register_to_config
    def __init__(
        self,
        graph: list[dict[str, Any]],
        outputs: list[int],
        mean: tuple[float, float, float] = (127.5, 127.5, 127.5),
        scale: float = 1 / 127.5,
        channel_order: str = "rgb",
    ) -> None:
        super().__init__(graph, outputs, mean, scale, channel_order)

    def embed(self, faces: list[np.ndarray]) -> np.ndarray:
        """Compute the embeddings of faces.

        Args:
            faces (`list[np.ndarray]`, each of shape `(size, size, 3)`):
                Aligned crops, RGB, uint8, of any sizes; see [`crop_face`].

        Returns:
            `np.ndarray` of shape `(n, d)`, float32: rows of length 1; the dot product of two rows is their similarity,
            from -1 to 1.

        Raises:
            ValueError: If a face is not a square RGB image.
        """
        check_faces(faces)
        crops = []
        for face in faces:
            to_template = np.diag([TEMPLATE_SIZE / len(face), TEMPLATE_SIZE / len(face), 1])
            crops.append(crop_face(face, CROP_TO_ARCFACE @ to_template, ARCFACE_SIZE))
        embeddings = self.read(crops)
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
