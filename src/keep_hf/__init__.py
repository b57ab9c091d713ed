"""KEEP: Kalman-inspired feature propagation for video face super-resolution, as Hugging Face components.

from keep_hf import KeepPipeline

pipe = KeepPipeline.from_pretrained("keep-tiny")
pipe.restore_video("in.mp4", "out.mp4")
"""

from diffusers.pipelines.pipeline_loading_utils import ALL_IMPORTABLE_CLASSES, LOADABLE_CLASSES

from .detector import FaceDetector, Faces, YuNet
from .flow import GMFlow
from .identity import FaceIdentity
from .kalman import KalmanGainNetwork, KalmanState
from .pipeline import KeepPipeline, KeepPipelineOutput
from .recursion import KalmanRecursion
from .stream import FaceStream
from .tracks import FaceTrack
from .vq import KeepVQModel


__version__ = "0.1.0"
__all__ = [
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
    "YuNet",
]

# diffusers resolves model_index.json only against libraries it lists; without this, loading from the Hub fails.
LOADABLE_CLASSES["keep_hf"] = {
    name: ["save_pretrained", "from_pretrained"]
    for name in ("FaceDetector", "FaceIdentity", "GMFlow", "KalmanGainNetwork", "KeepVQModel", "YuNet")
}
ALL_IMPORTABLE_CLASSES.update(LOADABLE_CLASSES["keep_hf"])
