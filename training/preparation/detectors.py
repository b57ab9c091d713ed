"""The face detector that labels and cuts training data."""

import json
from functools import cache
from pathlib import Path

from keep_hf.faces.detector import FaceDetector
from keep_hf.faces.yunet import YuNet


@cache
def load_detector(name: str) -> YuNet | FaceDetector:
    """Load a detector by its name, once in a process.

    Args:
        name (`str`): YuNet: an `.onnx` file, or a folder or a repository on the Hub with it; or a folder of
            `train_detector.py`.

    Raises:
        ValueError: If there is no detector.
    """
    config = Path(name) / "config.json"
    if config.is_file() and json.loads(config.read_text())["_class_name"] == "FaceDetector":
        return FaceDetector.from_pretrained(name).eval()
    return YuNet.from_pretrained(name)
