"""A network in the ONNX format, run by OpenCV on pictures of aligned faces: what such networks share."""

import json
import shutil
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import cv2
import numpy as np
from huggingface_hub import snapshot_download


Network = TypeVar("Network", bound="OnnxNetwork")


class OnnxNetwork:
    """A network from one picture `(1, 3, side, side)` to numbers, with what must be done to the picture first.

    Args:
        model_file (`str` or `Path`):
            ONNX file.
        side (`int`):
            Of the pictures that the network takes, in pixels.
        settings:
            By the names of `setting_names`; `mean`, `scale` and `channel_order` are among them.

    Attributes:
        trial (`np.ndarray`): What the network gives for a grey picture.

    Raises:
        ValueError: If the file does not exist, cannot be loaded or is of another kind, or the order of the channels
            is none.
    """

    kind: ClassVar[str]
    """What the network is for, to say so in errors."""
    setting_names: ClassVar[tuple[str, ...]] = ("mean", "scale", "channel_order")
    settings_file: ClassVar[str]

    def __init__(self, model_file: str | Path, side: int, **settings: Any) -> None:
        self.model_file = Path(model_file)
        if not self.model_file.is_file():
            raise ValueError(f"there is no file {str(model_file)!r}: pass the .onnx of a {self.kind} network.")
        if settings["channel_order"] not in ("rgb", "bgr"):
            raise ValueError(f'channel_order must be "rgb" or "bgr", got {settings["channel_order"]!r}.')
        self.settings = settings
        kind = f"{model_file} is damaged, or no {self.kind} network from one picture of {side}x{side}"
        try:
            self.network = cv2.dnn.readNetFromONNX(str(model_file))
            if len(self.network.getUnconnectedOutLayersNames()) != 1:
                raise ValueError(f"{kind}: it has several outputs.")
            # What a network takes and gives shows only when it runs.
            self.trial = self.run(np.full((side, side, 3), 127, np.uint8))
        except cv2.error as error:
            raise ValueError(f"{kind}: OpenCV cannot run it.") from error

    @classmethod
    def from_pretrained(cls: type[Network], name: str | Path, **kwargs: Any) -> Network:
        """Load the network of an ONNX file, a folder or a repository on the Hub.

        Args:
            name (`str` or `Path`):
                ONNX file, or folder or Hub id with one ONNX file, and with the settings where it was saved by
                `save_pretrained`.
            kwargs:
                Settings, which go before what was saved; the rest, what a diffusers pipeline hands to its components,
                is not used.

        Raises:
            ValueError: If there is not one ONNX file at that place, or it is not right, see the class.
        """
        given = {key: kwargs[key] for key in cls.setting_names if key in kwargs}
        if Path(name).suffix == ".onnx":
            return cls(name, **given)
        patterns = ["*.onnx", cls.settings_file]
        folder = Path(name) if Path(name).is_dir() else Path(snapshot_download(str(name), allow_patterns=patterns))
        files = sorted(folder.glob("*.onnx"))
        if len(files) != 1:
            found = ", ".join(file.name for file in files) or "none"
            raise ValueError(f"{str(name)!r} must hold one .onnx file, found {found}: pass the path of the file.")
        settings = folder / cls.settings_file
        saved = json.loads(settings.read_text()) if settings.is_file() else {}
        return cls(files[0], **{**saved, **given})

    def save_pretrained(self, folder: str | Path, **kwargs: Any) -> None:
        """Save the ONNX file and the settings, as a diffusers pipeline asks its components; `kwargs` are not used."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.model_file, Path(folder) / self.model_file.name)
        (Path(folder) / self.settings_file).write_text(json.dumps(self.settings, indent=2) + "\n")

    def run(self, picture: np.ndarray) -> np.ndarray:
        """Run the network on one RGB picture `(side, side, 3)`, uint8: many files have a batch of 1 built in."""
        values = (picture.astype(np.float32) - np.float32(self.settings["mean"])) * np.float32(self.settings["scale"])
        if self.settings["channel_order"] == "bgr":
            values = values[..., ::-1]
        self.network.setInput(np.ascontiguousarray(values.transpose(2, 0, 1)[None]))
        return self.network.forward().reshape(-1)


def check_faces(faces: list[np.ndarray]) -> None:
    """Refuse what is no aligned crop."""
    for face in faces:
        if face.ndim != 3 or face.shape[0] != face.shape[1] or face.shape[2] != 3:
            raise ValueError(f"faces must have the shape (size, size, 3), got {face.shape}: pass aligned crops.")
