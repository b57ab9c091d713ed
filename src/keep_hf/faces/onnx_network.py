"""Networks in the ONNX format that OpenCV runs on images of aligned faces: loading, saving, running."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
from huggingface_hub import snapshot_download


Network = TypeVar("Network", bound="OnnxNetwork")


class OnnxNetwork:
    """A network that maps one image `(1, 3, side, side)` to numbers, with the preprocessing of the image.

    Args:
        model_file (`str` or `Path`):
            ONNX file.
        side (`int`):
            Side in pixels of the images that the network reads.
        settings:
            The settings that are saved with the network, by the names of `setting_names`: `mean` and `scale` of the
            levels, `channel_order`, and those of the subclass.

    Attributes:
        kind (`str`): Purpose of the network, for error messages.
        setting_names (`tuple[str, ...]`): Names of the settings.
        settings_file (`str`): Name of the JSON file with the settings.
        trial (`np.ndarray` of shape `(n,)`): Output of the network for a grey image.

    Raises:
        ValueError: If the file does not exist, cannot be loaded or is another kind of network, or the channel order is
            invalid.
    """

    kind: ClassVar[str]
    setting_names: ClassVar[tuple[str, ...]] = ("mean", "scale", "channel_order")
    settings_file: ClassVar[str]

    def __init__(self, model_file: str | Path, side: int, **settings: Any) -> None:
        self.model_file = Path(model_file)
        if not self.model_file.is_file():
            raise ValueError(f"there is no file {str(model_file)!r}: pass the .onnx of a {self.kind} network.")
        if settings["channel_order"] not in ("rgb", "bgr"):
            raise ValueError(f'channel_order must be "rgb" or "bgr", got {settings["channel_order"]!r}.')
        self.settings = settings
        problem = f"{model_file} is damaged, or not a {self.kind} network for one image of {side} x {side}"
        try:
            self.network = cv2.dnn.readNetFromONNX(str(model_file))
            if len(self.network.getUnconnectedOutLayersNames()) != 1:
                raise ValueError(f"{problem}: it has several outputs.")
            # The shapes of input and output are only known when the network runs.
            self.trial = self.run(np.full((side, side, 3), 127, np.uint8))
        except cv2.error as error:
            raise ValueError(f"{problem}: OpenCV cannot run it.") from error

    @classmethod
    def from_pretrained(cls: type[Network], name: str | Path, **kwargs: Any) -> Network:
        """Load a network from an ONNX file, a folder or a repository on the Hub.

        Args:
            name (`str` or `Path`):
                ONNX file, or folder or Hub id with one ONNX file and, if `save_pretrained` wrote it, its settings.
            kwargs:
                Settings, which override the saved ones.  Other options, which a diffusers pipeline passes to its
                components, are not used.

        Returns:
            The network.

        Raises:
            ValueError: If there is not exactly one ONNX file, or the network cannot be used, see the class.
        """
        given = {key: kwargs[key] for key in cls.setting_names if key in kwargs}
        if Path(name).suffix == ".onnx":
            return cls(name, **given)
        patterns = ["*.onnx", cls.settings_file]
        folder = Path(name) if Path(name).is_dir() else Path(snapshot_download(str(name), allow_patterns=patterns))
        files = sorted(folder.glob("*.onnx"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise ValueError(f"{str(name)!r} must contain one .onnx file, found {found}: pass the path of the file.")
        settings = folder / cls.settings_file
        saved = json.loads(settings.read_text()) if settings.is_file() else {}
        return cls(files[0], **{**saved, **given})

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Save the ONNX file and the settings; `kwargs`, which a diffusers pipeline passes, are not used."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.model_file, Path(folder) / self.model_file.name)
        (Path(folder) / self.settings_file).write_text(json.dumps(self.settings, indent=2) + "\n")

    def run(self, image: np.ndarray) -> np.ndarray:
        """Run the network on one image, because many ONNX files have a fixed batch size of 1.

        Args:
            image (`np.ndarray` of shape `(side, side, 3)`): RGB, uint8.

        Returns:
            `np.ndarray` of shape `(n,)`, float32: the output.
        """
        values = (image.astype(np.float32) - np.float32(self.settings["mean"])) * np.float32(self.settings["scale"])
        if self.settings["channel_order"] == "bgr":
            values = values[..., ::-1]
        self.network.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
        return self.network.forward().reshape(-1)


def check_faces(faces: list[np.ndarray]) -> None:
    """Check that faces are square RGB images.

    Raises:
        ValueError: If one of them is not.
    """
    for face in faces:
        if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3:
            raise ValueError(f"faces must have the shape (size, size, 3), got {face.shape}: pass aligned crops.")
