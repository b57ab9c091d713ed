"""Face parsing: a mask of the face in a crop, which keeps hands, microphones and the background out of the paste.

The parser is any `SegformerForSemanticSegmentation` of transformers with the classes of CelebAMask-HQ, such as
`jonathandinu/face-parsing` on the Hub.  transformers loads and saves it, and so does a diffusers pipeline that has it
as a component.

It reads the degraded crop that goes into the restoration, where the published script reads the restored face: what is
in front of a face is visible in the frame only, because the network may have painted a face over it.  But the parsers
were trained on sharp images.  The mask is therefore made of probabilities: where the parser is uncertain, face and
frame are mixed, and no hard border moves from frame to frame.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F


if TYPE_CHECKING:
    from transformers import SegformerForSemanticSegmentation

# As in the published script.  Hair belongs to the face: it is in every training image of a face network, and a sharp
# face within blurred hair would be visible.  What is in front of a face and has no class of its own is background.
FACE_CLASSES = {
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
    "hair", "ear_r",
}  # fmt: skip
# Side in pixels of the images that parsers were trained on; a smaller crop is enlarged to it.
PARSER_SIZE = 512
# Of ImageNet, for RGB in [0, 1]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Standard deviation of the blur of the mask, in sides of the crop
BLUR = 1 / 64


def load_parser(
    name: str | Path, dtype: torch.dtype = torch.float32, cache_dir: str | Path | None = None
) -> "SegformerForSemanticSegmentation":
    """Load a face parser.

    Args:
        name (`str` or `Path`):
            Folder or Hub id, such as `"jonathandinu/face-parsing"`.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`):
            Type of the weights.
        cache_dir (`str` or `Path`, *optional*):
            Folder for downloads; that of huggingface_hub by default.

    Returns:
        `transformers.SegformerForSemanticSegmentation`: the network, to be passed as the component `parser` of a
        [`KeepPipeline`].

    Raises:
        ValueError: If transformers is not installed, or the model is not a SegFormer with the classes of faces.
    """
    if find_spec("transformers") is None:
        raise ValueError("face parsing needs transformers, which is not installed: pip install transformers.")
    from transformers import SegformerForSemanticSegmentation

    loaded: Any = SegformerForSemanticSegmentation.from_pretrained(
        name, dtype=dtype, cache_dir=cache_dir, output_loading_info=True
    )
    parser, loading = loaded
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ValueError(
            f"{str(name)!r} is not a SegFormer for segmentation, {missing[0]} and {len(missing) - 1} more weights are "
            'missing: pass a model such as "jonathandinu/face-parsing".'
        )
    _face_classes(parser)
    return parser


@torch.no_grad()
def face_mask(parser: "SegformerForSemanticSegmentation", crops: list[np.ndarray]) -> list[np.ndarray]:
    """Separate the face in a crop from what is in front of it and around it.

    Args:
        parser (`transformers.SegformerForSemanticSegmentation`):
            Network with the classes of CelebAMask-HQ.
        crops (`list[np.ndarray]`, each of shape `(size, size, 3)`):
            RGB crops, uint8, of one size; they are one batch, so pass a few at a time.

    Returns:
        `list[np.ndarray]`, each of shape `(size, size)`, float32: from 0, not the face, to 1; for [`paste_face`].

    Raises:
        ValueError: If the classes of the network are not those of faces, or the crops differ in size.
    """
    classes = _face_classes(parser)
    if not crops:
        return []
    sizes = {crop.shape for crop in crops}
    if len(sizes) > 1:
        raise ValueError(f"crops must be of one size, got {sorted(sizes)}: pass the crops of one model at a time.")
    images = torch.from_numpy(np.stack(crops)).to(parser.device).permute(0, 3, 1, 2).float() / 255
    images = F.interpolate(images, size=(PARSER_SIZE, PARSER_SIZE), mode="bilinear", antialias=True)
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    logits = parser(((images - mean) / std).to(parser.dtype)).logits.float()
    probabilities = logits.softmax(dim=1)[:, classes].sum(dim=1).cpu().numpy()
    return [_soften(probability, crops[0].shape[0]) for probability in probabilities]


def _soften(probability: np.ndarray, size: int) -> np.ndarray:
    """Blur on the grid of the network, a quarter of its input, then enlarge: the blur leaves no finer detail."""
    blurred = cv2.GaussianBlur(probability, (0, 0), BLUR * len(probability), borderType=cv2.BORDER_REPLICATE)
    return np.clip(cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR), 0, 1)


def _face_classes(parser: "SegformerForSemanticSegmentation") -> list[int]:
    """Return the indices of the classes that belong to the face."""
    indices = {label: int(index) for index, label in (parser.config.id2label or {}).items()}
    missing = sorted(FACE_CLASSES - indices.keys())
    if missing:
        raise ValueError(
            f"this network is not a face parser, the classes {', '.join(missing)} are missing: "
            'pass one with the classes of CelebAMask-HQ, such as "jonathandinu/face-parsing".'
        )
    return [indices[name] for name in sorted(FACE_CLASSES)]
