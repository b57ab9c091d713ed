"""The face detector that labels and cuts training data."""

from functools import cache
from pathlib import Path

from keep_hf.faces.detector import FaceDetector
from keep_hf.faces.yunet import YuNet


@cache
def load_detector(name: str) -> YuNet | FaceDetector:
    """Load a detector by its name, once in a process.

    Args:
        name (`str`): An `.onnx` file of YuNet, a repository on the Hub with one, or a folder of `train_detector.py`.

    Raises:
        ValueError: If there is no detector.
    """
    if (Path(name) / "config.json").is_file():
        return FaceDetector.from_pretrained(name).eval()
    # A missing file must not be searched for on the Hub.
    return YuNet(name) if name.endswith(".onnx") else YuNet.from_pretrained(name)
