"""The networks and the flow estimator that metrics need, and which metrics lack theirs."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from ..faces.identity import FaceIdentity
from ..faces.landmarks import LandmarkNetwork
from ..models.flow.dis import DISFlow
from ..models.flow.gmflow import GMFlow
from ..models.lpips import LPIPS
from .series import Metric


# By metric, the attribute of `Networks` and option of `keep-hf evaluate` that it needs.  PSNR and SSIM are computed
# by scikit-image.
NETWORK_OF = {
    "lpips": "lpips",
    "ids": "identity",
    "akd": "landmarks",
    "flicker": "flow",
    "reference_flicker": "flow",
    "identity_steps": "identity",
    "landmark_jitter": "landmarks",
}


@dataclass(frozen=True)
class Networks:
    """Networks of the metrics; metrics whose network is `None` are left out.

    Args:
        identity ([`FaceIdentity`], *optional*): For IDS.
        landmarks ([`LandmarkNetwork`], *optional*): For AKD.
        lpips ([`LPIPS`], *optional*): For LPIPS.
        flow ([`GMFlow`] or [`DISFlow`], *optional*): For flicker.
    """

    identity: FaceIdentity | None = None
    landmarks: LandmarkNetwork | None = None
    lpips: LPIPS | None = None
    flow: GMFlow | DISFlow | None = None

    @classmethod
    def load(
        cls,
        identity: str | Path | None = None,
        landmarks: str | Path | None = None,
        lpips: str | Path | None = None,
        lpips_weights: str | Path | None = None,
        flow: GMFlow | DISFlow | None = None,
        device: torch.device | str = "cpu",
        cache_dir: str | Path | None = None,
    ) -> "Networks":
        """Load networks from files, folders or the Hub.

        Args:
            identity, landmarks (`str` or `Path`, *optional*): Folder, Hub id or ONNX file.
            lpips (`str` or `Path`, *optional*): Folder or Hub id of an [`LPIPS`], or the file of its backbone.
            lpips_weights (`str` or `Path`, *optional*): File of the channel weights, if `lpips` is a backbone.
            flow ([`GMFlow`] or [`DISFlow`], *optional*): Estimator that is already loaded.
            device (`torch.device` or `str`, defaults to `"cpu"`): Device of the networks.
            cache_dir (`str` or `Path`, *optional*): Folder for downloads; that of huggingface_hub by default.

        Raises:
            ValueError: If a file or folder is missing or contains something else.
        """
        cache = {"cache_dir": cache_dir}
        needs_lpips = lpips is not None or lpips_weights is not None
        return cls(
            identity=None if identity is None else FaceIdentity.from_pretrained(identity, **cache).to(device),
            landmarks=None if landmarks is None else LandmarkNetwork.from_pretrained(landmarks, **cache).to(device),
            lpips=_load_lpips(lpips, lpips_weights, cache_dir).to(device) if needs_lpips else None,
            flow=flow,
        )

    def missing(self, table: dict[str, Metric]) -> dict[str, str]:
        """By metric of a table, what is missing to compute it; metrics that can be computed are left out."""
        missing = {}
        for key, metric in table.items():
            if key not in NETWORK_OF and find_spec("skimage") is None:
                missing[key] = metric.needs
            elif key in NETWORK_OF and getattr(self, NETWORK_OF[key]) is None:
                missing[key] = f"{metric.needs} (--{NETWORK_OF[key]})"
        return missing


def _load_lpips(source: str | Path | None, weights: str | Path | None, cache_dir: str | Path | None) -> LPIPS:
    if source is None or (weights is None and Path(source).is_file()):
        raise ValueError(
            "LPIPS is loaded from a folder or Hub repository (--lpips), or from the file of a backbone (--lpips) and "
            f"the file of the channel weights (--lpips-weights); got {source} and {weights}."
        )
    if weights is not None:
        return LPIPS.from_checkpoints(source, weights)
    return LPIPS.from_pretrained(source, cache_dir=cache_dir)
