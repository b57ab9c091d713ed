"""Restored faces back into their frames: colour matching, mask, enlarged background, and the blend by `strength`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..faces.alignment import TEMPLATE_SIZE, colour_offset, crop_face, is_grey, paste_face, to_grey
from ..faces.face_parser import face_mask
from ..faces.follower import FollowedFrame
from ..state_version import check_state_version
from .auto_strength import AutoStrength, Judgement, luma


if TYPE_CHECKING:
    from transformers import SegformerForSemanticSegmentation

# Limits of `is_grey`. The limit after a grey frame is wider, so that colour does not come and go near the limit.
GREY_LIMIT, STILL_GREY_LIMIT = 10.0, 12.0
# Rows and columns that are looked at to decide whether a frame is grey.
GREY_SAMPLES = 256
# Time constants of the smoothing of colour offsets and masks.
OFFSET_SECONDS, MASK_SECONDS = 0.25, 0.08
STATE_VERSION = 3


@dataclass(frozen=True)
class FacePair:
    """A face before and after its restoration.

    Args:
        crop, restored (`np.ndarray` of shape `(size, size, 3)`): RGB, uint8.
        exact (`np.ndarray` of shape `(size, size, 3)`, *optional*): `restored` before it was rounded: float32 in
            levels of 255, for frames with more than 8 bits per colour.
    """

    crop: np.ndarray
    restored: np.ndarray
    exact: np.ndarray | None = None


@dataclass(frozen=True)
class FacePaste:
    """A restored face and its place in a frame: the arguments of [`paste_face`] besides the frame."""

    face: np.ndarray
    matrix: np.ndarray
    strength: float
    offset: np.ndarray | None
    mask: np.ndarray | None
    crop: np.ndarray | None


@dataclass(frozen=True)
class Composition:
    """A frame with its restored faces.

    Args:
        image (`np.ndarray` of shape `(h, w, 3)`): RGB, uint8.
        pastes (`list[FacePaste]`, *optional*): The faces that were pasted into the frame, in this order. `None` if
            more than faces has changed: the frame is a crop, or a network has enlarged the background.
        judgements (`dict[int, Judgement]`): By track segment, the weight of the restored face against the frame.
    """

    image: np.ndarray
    pastes: list[FacePaste] | None
    judgements: dict[int, Judgement]


@dataclass
class SmoothedMeasurements:
    """What is measured in every frame and smoothed over the frames of a scene.

    Attributes:
        is_grey (`bool`): Whether the last frame had no colour.
        colour_offsets (`dict[int, np.ndarray]`): By track segment; see [`colour_offset`].
        masks (`dict[int, np.ndarray]`): By track segment, from the face parser; see [`face_mask`].
    """

    is_grey: bool = False
    colour_offsets: dict[int, np.ndarray] = field(default_factory=dict)
    masks: dict[int, np.ndarray] = field(default_factory=dict)


class FaceCompositor:
    """Blends restored faces into their frames.

    Args:
        aligned (`bool`): The frames are face crops: each is blended with its restored face as a whole.
        strength (`float`, *optional*): Weight of a restored face against the frame, from 0 to 1; `None` for a weight
            that [`AutoStrength`] decides for each face.
        person_strength (`Mapping[int, float | None]`): By the number of a person, a strength other than `strength`.
        upscale (`int`): Factor by which frames are enlarged.
        background (`Callable[[np.ndarray], np.ndarray]`, *optional*): Enlarges a frame; see [`RestorationOptions`].
        parser (`transformers.SegformerForSemanticSegmentation`, *optional*): Segments what is in front of a face,
            which then stays visible.
        frame_rate (`float`): Frames per second, for smoothing.
        adds_corrections (`bool`, *optional*, defaults to `False`): Add the difference of restored face and crop to the
            frame, instead of the restored face: for models whose result is the crop plus a correction.
    """

    def __init__(
        self,
        *,
        aligned: bool,
        strength: float | None,
        person_strength: Mapping[int, float | None],
        upscale: int,
        background: Callable[[np.ndarray], np.ndarray] | None,
        parser: "SegformerForSemanticSegmentation | None",
        frame_rate: float,
        adds_corrections: bool = False,
    ) -> None:
        self.aligned, self.strength, self.person_strength = aligned, strength, person_strength
        self.upscale, self.background, self.parser = upscale, background, parser
        self.frame_rate, self.adds_corrections = frame_rate, adds_corrections
        self.smoothed = SmoothedMeasurements()
        self.auto = AutoStrength(frame_rate, is_direct=adds_corrections)

    def compose(
        self, frame: FollowedFrame, pairs: Mapping[int, FacePair], matrices: Mapping[int, np.ndarray]
    ) -> Composition:
        """Blend the restored faces into a frame.

        Args:
            frame ([`FollowedFrame`]): The frame and its faces.
            pairs (`Mapping[int, FacePair]`): The crop and the restored face of every track segment in the frame.
            matrices (`Mapping[int, np.ndarray]`): The maps `(2, 3)` from pixels of the frame to pixels of the crops.

        Returns:
            [`Composition`] of `(h * upscale, w * upscale)` pixels, or of those of the crop if `aligned`.
        """
        # The mean over a part of the frame decides as well as the mean over all of it.
        step = max(1, min(frame.image.shape[:2]) // GREY_SAMPLES)
        limit = STILL_GREY_LIMIT if self.smoothed.is_grey else GREY_LIMIT
        self.smoothed.is_grey = is_grey(frame.image[::step, ::step], limit)
        coloured = pairs
        if self.smoothed.is_grey:
            # A correction of a frame with a tint has no colour of its own: the tint stays.
            pairs = {segment: self._remove_colour(pair) for segment, pair in pairs.items()}
        judgements = self._judge(frame, pairs, matrices)
        if self.aligned:
            ((segment, pair),) = pairs.items()
            weight = judgements[segment].weight
            image = cv2.addWeighted(pair.restored, weight, pair.crop, 1 - weight, 0)
            tint = cv2.subtract(coloured[segment].crop, pair.crop, dtype=cv2.CV_16S)
            return Composition(cv2.add(image, tint, dtype=cv2.CV_8U), None, judgements)

        masks = self._measure_masks(pairs)
        offsets = {} if self.adds_corrections else self._measure_colour_offsets(pairs, masks)
        image = self._enlarge(frame.image)
        pastes = []
        # The largest faces last: they are in front and cover those behind them.
        for face in sorted(frame.faces, key=lambda face: float((face.box[2:] - face.box[:2]).max())):
            segment = face.segment
            weight = judgements[segment].weight
            if weight == 0:
                continue
            pair = pairs[segment]
            paste = FacePaste(
                pair.restored if pair.exact is None else pair.exact,
                _enlarge_matrix(matrices[segment], self.upscale),
                weight * face.weight,
                offsets.get(segment),
                masks.get(segment),
                pair.crop if self.adds_corrections else None,
            )
            paste_face(image, **vars(paste))
            pastes.append(paste)
        return Composition(image, None if self.background else pastes, judgements)

    def reset(self) -> None:
        """Start a new scene."""
        self.smoothed = SmoothedMeasurements()
        self.auto.reset()

    def _judge(
        self, frame: FollowedFrame, pairs: Mapping[int, FacePair], matrices: Mapping[int, np.ndarray]
    ) -> dict[int, Judgement]:
        """The weight of every restored face, as requested or as far as the face needs it."""
        judgements: dict[int, Judgement] = {}
        measured = {}
        for face in frame.faces:
            segment, pair = face.segment, pairs[face.segment]
            strength = self.person_strength.get(face.track_id, self.strength)
            if strength is not None:
                judgements[segment] = Judgement(strength)
                continue
            crop = seen = luma(pair.crop)
            size = len(pair.crop)
            if size < TEMPLATE_SIZE and not self.aligned:
                # The frame may have more detail than the crop of the network.
                seen = luma(crop_face(frame.image, matrices[segment] * (TEMPLATE_SIZE / size), TEMPLATE_SIZE))
            measured[segment] = (seen, luma(pair.restored) - (crop if self.adds_corrections else seen))
        return judgements | self.auto.judge(measured)

    def _remove_colour(self, pair: FacePair) -> FacePair:
        crop = to_grey(pair.crop) if self.adds_corrections else pair.crop
        return FacePair(crop, to_grey(pair.restored), None if pair.exact is None else to_grey(pair.exact))

    def _measure_masks(self, pairs: Mapping[int, FacePair]) -> dict[int, np.ndarray]:
        if self.parser is not None:
            found = face_mask(self.parser, [pair.crop for pair in pairs.values()])
            masks = dict(zip(pairs, found, strict=True))
            self.smoothed.masks = self._smooth(self.smoothed.masks, masks, MASK_SECONDS)
        return self.smoothed.masks

    def _measure_colour_offsets(
        self, pairs: Mapping[int, FacePair], masks: Mapping[int, np.ndarray]
    ) -> dict[int, np.ndarray]:
        offsets = {
            segment: colour_offset(pair.crop, pair.restored, masks.get(segment)) for segment, pair in pairs.items()
        }
        self.smoothed.colour_offsets = self._smooth(self.smoothed.colour_offsets, offsets, OFFSET_SECONDS)
        return self.smoothed.colour_offsets

    def _smooth(
        self, previous: Mapping[int, np.ndarray], current: Mapping[int, np.ndarray], seconds: float
    ) -> dict[int, np.ndarray]:
        """Exponential moving average with a time constant, for the track segments of the current frame."""
        weight = np.float32(1 - np.exp(-1 / (seconds * self.frame_rate)))
        return {
            segment: previous[segment] + weight * (new - previous[segment]) if segment in previous else new
            for segment, new in current.items()
        }

    def _enlarge(self, image: np.ndarray) -> np.ndarray:
        """A new image, `upscale` times as large."""
        height, width = image.shape[0] * self.upscale, image.shape[1] * self.upscale
        if self.background is not None:
            image = self.background(image)
        if image.shape[:2] == (height, width):
            return image.copy()
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two frames, as numbers, arrays and dictionaries."""
        return {
            "version": STATE_VERSION,
            "is_grey": self.smoothed.is_grey,
            "colour_offsets": dict(self.smoothed.colour_offsets),
            "masks": dict(self.smoothed.masks),
            "auto": self.auto.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the state of a compositor with the same arguments.

        Raises:
            ValueError: If the state has another version.
        """
        check_state_version(state, STATE_VERSION, "FaceCompositor")
        self.smoothed = SmoothedMeasurements(state["is_grey"], dict(state["colour_offsets"]), dict(state["masks"]))
        self.auto.load_state_dict(state["auto"])


def _enlarge_matrix(matrix: np.ndarray, factor: int) -> np.ndarray:
    """The map from pixels of the enlarged frame to the same crop; pixel centres are at whole numbers."""
    result = matrix / factor
    result[:, 2] = matrix[:, 2] + matrix[:, :2] @ np.full(2, (1 - factor) / (2 * factor))
    return result
