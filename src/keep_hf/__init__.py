"""KEEP: Kalman-inspired feature propagation for video face super-resolution, as Hugging Face components.

from keep_hf import KeepPipeline

pipe = KeepPipeline.from_pretrained("keep-small")
pipe.restore_video("in.mp4", "out.mp4")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .registration import register_with_diffusers
from .version import __version__


# Public names are imported on first use (PEP 562): torch and diffusers take seconds, which `keep-hf --help` and a
# program that only reads videos should not wait for.
if TYPE_CHECKING:
    from .cluster.restore_videos import restore_videos
    from .faces.detection import Faces
    from .faces.detector import FaceDetector
    from .faces.identity import FaceIdentity
    from .faces.tracking.tracks import FaceTrack
    from .faces.yunet import YuNet
    from .hub_dataset.restore_dataset import restore_dataset
    from .models.flow.dis import DISFlow
    from .models.flow.gmflow import GMFlow
    from .models.kalman import KalmanGainNetwork, KalmanState
    from .models.recursion import KalmanRecursion
    from .models.vq import KeepVQModel
    from .pipeline.keep_pipeline import KeepPipeline
    from .pipeline.output import KeepPipelineOutput
    from .restoration.stream import FaceStream
    from .video.reader import VideoReader
    from .video.writer import VideoWriter


__all__ = [
    "DISFlow",
    "FaceDetector",
    "FaceIdentity",
    "FaceStream",
    "FaceTrack",
    "Faces",
    "GMFlow",
    "KalmanGainNetwork",
    "KalmanRecursion",
    "KalmanState",
    "KeepPipeline",
    "KeepPipelineOutput",
    "KeepVQModel",
    "VideoReader",
    "VideoWriter",
    "YuNet",
    "__version__",
    "restore_dataset",
    "restore_videos",
]

_MODULES = {
    "DISFlow": "models.flow.dis",
    "FaceDetector": "faces.detector",
    "FaceIdentity": "faces.identity",
    "FaceStream": "restoration.stream",
    "FaceTrack": "faces.tracking.tracks",
    "Faces": "faces.detection",
    "GMFlow": "models.flow.gmflow",
    "KalmanGainNetwork": "models.kalman",
    "KalmanRecursion": "models.recursion",
    "KalmanState": "models.kalman",
    "KeepPipeline": "pipeline.keep_pipeline",
    "KeepPipelineOutput": "pipeline.output",
    "KeepVQModel": "models.vq",
    "VideoReader": "video.reader",
    "VideoWriter": "video.writer",
    "YuNet": "faces.yunet",
    "restore_dataset": "hub_dataset.restore_dataset",
    "restore_videos": "cluster.restore_videos",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_diffusers(__getattr__)
