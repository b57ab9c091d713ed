"""KEEP: Kalman-inspired feature propagation for video face super-resolution, as Hugging Face components.

from keep_hf import KeepPipeline

pipe = KeepPipeline.from_pretrained("keep-tiny")
pipe.restore_video("in.mp4", "out.mp4")
"""

from diffusers.pipelines.pipeline_loading_utils import ALL_IMPORTABLE_CLASSES, LOADABLE_CLASSES

from .faces.detector import FaceDetector, Faces, YuNet
from .faces.identity import FaceIdentity
from .faces.tracker import FaceTrack
from .models.flow import GMFlow
from .models.kalman import KalmanGainNetwork, KalmanState
from .models.recursion import KalmanRecursion
from .models.vq import KeepVQModel
from .pipeline import KeepPipeline, KeepPipelineOutput
from .restoration.stream import FaceStream
from .version import __version__


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
    "__version__",
]

# diffusers resolves model_index.json only against libraries it lists; without this, loading from the Hub fails.
LOADABLE_CLASSES["keep_hf"] = {
    name: ["save_pretrained", "from_pretrained"]
    for name in ("FaceDetector", "FaceIdentity", "GMFlow", "KalmanGainNetwork", "KeepVQModel", "YuNet")
}
ALL_IMPORTABLE_CLASSES.update(LOADABLE_CLASSES["keep_hf"])
