"""Where in a crop the face is, and not a hand or a microphone in front of it: a mask for the paste.

The parser is any `SegformerForSemanticSegmentation` of transformers with the classes of CelebAMask-HQ, as
`jonathandinu/face-parsing` on the Hub.  transformers loads and saves it, and so does a diffusers pipeline that has it
as a component; here is only what KEEP asks of it.

It should look at the crop that goes into the restoration; the published script has it look at the face that comes out.
What is in front of a face is known to the frame alone: a network that makes faces may have painted over it already.
The price is that parsers were trained on sharp pictures.  The mask is therefore made of probabilities: where the
parser is in doubt, face and frame are mixed, and no hard border moves about from frame to frame.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F


# As in the published script.  Hair counts, around the face and in front of it: it is in every picture that a face
# network learns from, and a sharp face within blurred hair would be seen.  What is in front of a face and has no class
# of its own, the parser calls background.
FACE_CLASSES = {
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
    "hair", "ear_r",
}  # fmt: skip
# The parsers were trained on pictures of this side; a smaller crop is enlarged to it.
PARSER_SIZE = 512
# ImageNet's, for RGB from 0 to 1
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Standard deviation of the blur, in sides of the crop
BLUR = 1 / 64


def load_parser(name: str | Path, dtype: torch.dtype = torch.float32) -> Any:
    """Load a face parser.

    Args:
        name (`str` or `Path`):
            Folder or Hub id, as `"jonathandinu/face-parsing"`.
        dtype (`torch.dtype`, *optional*, defaults to `torch.float32`):
            Of the network.

    Returns:
        `transformers.SegformerForSemanticSegmentation`: the network, ready to be the component `parser` of a
        [`KeepPipeline`].

    Raises:
        ValueError: If transformers is not installed, or the model is no SegFormer or knows no faces.
    """
    if find_spec("transformers") is None:
        raise ValueError("face parsing needs transformers, which is not installed: pip install transformers.")
    from transformers import SegformerForSemanticSegmentation

    parser, loading = SegformerForSemanticSegmentation.from_pretrained(name, dtype=dtype, output_loading_info=True)
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ValueError(
            f"{str(name)!r} is no SegFormer for segmentation, it lacks {missing[0]} and {len(missing) - 1} more "
            'weights: pass one as "jonathandinu/face-parsing".'
        )
    _face_classes(parser)
    return parser


@torch.no_grad()
def face_mask(parser: Any, crops: list[np.ndarray]) -> list[np.ndarray]:
    """Tell the face from what is in front of it and around it.

    Args:
        parser (`transformers.SegformerForSemanticSegmentation`):
            Network with the classes of CelebAMask-HQ.
        crops (`list[np.ndarray]`, each of shape `(size, size, 3)`):
            RGB crops, uint8, of one size; they go through the network together, so pass a few at a time.

    Returns:
        `list[np.ndarray]`, each of shape `(size, size)`, float32: from 0, not the face, to 1; for [`paste_face`].

    Raises:
        ValueError: If the network's classes are not those of faces, or the crops differ in size.
    """
    classes = _face_classes(parser)
    if not crops:
        return []
    sizes = {crop.shape for crop in crops}
    if len(sizes) > 1:
        raise ValueError(f"crops must be of one size, got {sorted(sizes)}: pass those of one model at a time.")
    images = torch.from_numpy(np.stack(crops)).to(parser.device).permute(0, 3, 1, 2).float() / 255
    images = F.interpolate(images, size=(PARSER_SIZE, PARSER_SIZE), mode="bilinear", antialias=True)
    mean, std = (images.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    logits = parser(((images - mean) / std).to(parser.dtype)).logits.float()
    probabilities = logits.softmax(dim=1)[:, classes].sum(dim=1).cpu().numpy()
    return [_soften(probability, crops[0].shape[0]) for probability in probabilities]


def _soften(probability: np.ndarray, size: int) -> np.ndarray:
    """Blur on the network's own grid, a quarter of its input's, then enlarge: the blur leaves nothing finer."""
    blurred = cv2.GaussianBlur(probability, (0, 0), BLUR * len(probability), borderType=cv2.BORDER_REPLICATE)
    return np.clip(cv2.resize(blurred, (size, size), interpolation=cv2.INTER_LINEAR), 0, 1)


def _face_classes(parser: Any) -> list[int]:
    """Numbers of the face's classes among those of the network."""
    names = {label: number for number, label in parser.config.id2label.items()}
    missing = sorted(FACE_CLASSES - names.keys())
    if missing:
        raise ValueError(
            f"this network is no face parser, it knows no {', '.join(missing)}: "
            'pass one with the classes of CelebAMask-HQ, as "jonathandinu/face-parsing".'
        )
    return [names[name] for name in sorted(FACE_CLASSES)]
