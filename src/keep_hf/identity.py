"""Who is it: an embedding of a face whose cosine with another tells whether two faces are of one person.

Any recognition network in the ONNX format that was trained on faces in ArcFace's alignment does: 112x112 pixels, five
landmarks at fixed places.  The crops of `align` have their own fixed places, so one similarity takes every crop over.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from huggingface_hub import snapshot_download

from .align import TEMPLATE, TEMPLATE_SIZE, crop_face


# Left eye, right eye, nose, left and right mouth corner, as the viewer sees them, in pixels of a 112x112 face.
ARCFACE_TEMPLATE = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
ARCFACE_SIZE = 112
SETTINGS_FILE = "identity.json"


def _crop_to_arcface() -> np.ndarray:
    """The similarity, of shape `(2, 3)`, from a 512x512 crop to ArcFace's alignment by least squares."""
    # With points as complex numbers a similarity is z -> turn * z + shift.
    crop, face = (points @ (1, 1j) for points in (TEMPLATE, ARCFACE_TEMPLATE))
    centred = crop - crop.mean()
    turn = np.vdot(centred, face) / np.vdot(centred, centred)
    shift = face.mean() - turn * crop.mean()
    return np.array([(turn.real, -turn.imag, shift.real), (turn.imag, turn.real, shift.imag)])


CROP_TO_ARCFACE = _crop_to_arcface()


class FaceIdentity:
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

    def __init__(
        self,
        model_file: str | Path,
        mean: tuple[float, float, float] = (127.5, 127.5, 127.5),
        scale: float = 1 / 127.5,
        channel_order: str = "rgb",
    ) -> None:
        self.model_file = Path(model_file)
        if not self.model_file.is_file():
            raise ValueError(f"there is no file {str(model_file)!r}: pass the .onnx of a face recognition network.")
        if channel_order not in ("rgb", "bgr"):
            raise ValueError(f'channel_order must be "rgb" or "bgr", got {channel_order!r}.')
        self.settings: dict[str, Any] = {"mean": tuple(mean), "scale": scale, "channel_order": channel_order}
        kind = f"{model_file} is damaged, or no network from one RGB picture of 112x112 to a vector"
        try:
            self.network = cv2.dnn.readNetFromONNX(str(model_file))
            if len(self.network.getUnconnectedOutLayersNames()) != 1:
                raise ValueError(f"{kind}: it has several outputs.")
            # What a network takes shows only when it runs.
            self.dimension = len(self._run(np.zeros((ARCFACE_SIZE, ARCFACE_SIZE, 3), np.uint8)))
        except cv2.error as error:
            raise ValueError(f"{kind}: OpenCV cannot run it.") from error

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> "FaceIdentity":
        """Load the network of an ONNX file, a folder or a repository on the Hub.

        Args:
            name (`str` or `Path`):
                ONNX file, or folder or Hub id with one ONNX file, and with `identity.json` where it was saved by
                [`~FaceIdentity.save_pretrained`].
            kwargs:
                `mean`, `scale` and `channel_order` go before what was saved; the rest, what a diffusers pipeline hands
                to its components, is not used.

        Returns:
            [`FaceIdentity`]

        Raises:
            ValueError: If there is not one ONNX file at that place, or it is not right, see the class.
        """
        given = {key: kwargs[key] for key in ("mean", "scale", "channel_order") if key in kwargs}
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
        embeddings = np.zeros((len(faces), self.dimension), np.float32)
        # One at a time: many files have a batch of 1 built in.
        for i, face in enumerate(faces):
            if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3:
                raise ValueError(f"faces must have the shape (size, size, 3), got {face.shape}: pass aligned crops.")
            to_template = np.diag([TEMPLATE_SIZE / len(face), TEMPLATE_SIZE / len(face), 1])
            embeddings[i] = self._run(crop_face(face, CROP_TO_ARCFACE @ to_template, ARCFACE_SIZE))
        return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)

    def _run(self, picture: np.ndarray) -> np.ndarray:
        values = (picture.astype(np.float32) - np.float32(self.settings["mean"])) * np.float32(self.settings["scale"])
        if self.settings["channel_order"] == "bgr":
            values = values[..., ::-1]
        self.network.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
        return self.network.forward().reshape(-1)
