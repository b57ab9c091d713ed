"""Restore the faces of frames in which everybody has been found, while the film streams by.

Frames are worked on in blocks that begin anew in each scene.  Flow, observation and gains are made for a block at a
time; the recursion then goes frame by frame, everybody who is there in one batch, each with a Kalman state of their
own.  The gain network is not causal and sees `gain_window` frames at once.  Two windows hold every frame, and a block
is half a window: the gains go over from the one to the other along the block, so that no border is seen.

    window   |- block 0 -|- block 1 -|
    window               |- block 1 -|- block 2 -|

In official mode the block is a whole window, and the state is dropped after it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch

from ..faces.alignment import colour_offset, crop_face, estimate_alignment, is_grey, paste_face, to_grey
from ..faces.face_parser import face_mask
from ..faces.follower import FollowedFrame
from ..faces.tracking.tracks import PlacedFace
from ..models.kalman import KalmanState
from ..models.recursion import KalmanRecursion, Observation
from ..stopwatch import Stopwatch
from ..video.pixels import to_images, to_tensor


# Limits of is_grey; that for frames after a grey one is wider: near the limit, colour must not come and go.
IS_GREY, STAYS_GREY = 10.0, 12.0
# In which the match of colours, and the mask of what is in front of a face, follow a change
OFFSET_SECONDS, MASK_SECONDS = 0.25, 0.08


@dataclass
class Visit:
    """A person's consecutive frames in a block, observed.

    Attributes:
        first (`int`): Index of the first of them.
        matrices (`list[np.ndarray]`): Map from frame to crop; the identity for aligned frames.
        crops (`torch.Tensor` of shape `(1, n, 3, size, size)`): RGB in [-1, 1].
        observation (`Observation`): Of the crops.
        flows (`torch.Tensor` of shape `(1, n or n - 1, 2, size, size)`, *optional*): To the frame before.
    """

    first: int
    matrices: list[np.ndarray]
    crops: torch.Tensor
    observation: Observation
    flows: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.matrices)


@dataclass
class RestoredFrame:
    """A frame that is done.

    Attributes:
        followed (`FollowedFrame`): What went in.
        image (`np.ndarray`): What came out, RGB, uint8.
        pairs (`dict[int, tuple[np.ndarray, np.ndarray]]`): By person: the crop and the face made of it, uint8.
    """

    followed: FollowedFrame
    image: np.ndarray
    pairs: dict[int, tuple[np.ndarray, np.ndarray]]


@dataclass
class Block:
    """Consecutive frames of one scene, with what was observed in them, by the number of the visit."""

    frames: list[FollowedFrame]
    visits: dict[int, Visit]


class FaceRestorer:
    """The networks at work on everybody in a film.

    Args:
        recursion ([`KalmanRecursion`]): The networks.
        gain_window (`int`): Frames that the gain network sees at once.
        gain_mode (`"stream"` or `"official"`): Whether the state is carried on or dropped after each window.
        fidelity, strength (`float`): See [`KeepPipeline`].
        aligned (`bool`): The frames are the crops.
        upscale (`int`): Factor by which frames are enlarged.
        background (`Callable[[np.ndarray], np.ndarray]`, *optional*): Enlarges frames; see [`RestorationOptions`].
        parser (`transformers.SegformerForSemanticSegmentation`, *optional*): Tells what is in front of a face.
        frame_rate (`float`): Frames per second.
        device (`torch.device`): Where the networks run.
        people_at_once (`int`): People in one batch of the recursion; bounds memory.
    """

    def __init__(
        self,
        recursion: KalmanRecursion,
        *,
        gain_window: int,
        gain_mode: str,
        fidelity: float,
        strength: float,
        aligned: bool,
        upscale: int,
        background: Callable[[np.ndarray], np.ndarray] | None,
        parser: Any,
        frame_rate: float,
        device: torch.device,
        people_at_once: int,
    ) -> None:
        self.recursion = recursion
        self.size = recursion.vq.config.sample_size
        self.carries_state = gain_mode == "stream"
        self.block_length = max(1, gain_window // 2) if self.carries_state else gain_window
        self.fidelity, self.strength, self.aligned = fidelity, strength, aligned
        self.upscale, self.background, self.parser = upscale, background, parser
        self.frame_rate, self.device, self.people_at_once = frame_rate, device, people_at_once

        self.filling: list[FollowedFrame] = []  # of the next block
        self.waiting: Block | None = None  # observed, not restored: its gains need the block that follows
        self.earlier_gains: dict[int, torch.Tensor] = {}  # by visit: of the waiting block, in the window before
        self.states: dict[int, KalmanState] = {}  # by visit: after the last restored frame
        self.grey = False
        self.offsets: dict[int, np.ndarray] = {}  # by visit: of colour, steadied
        self.masks: dict[int, np.ndarray] = {}  # by visit: from the parser, steadied
        self.watch = Stopwatch()

    @property
    def latency(self) -> int:
        """The largest number of frames that are held."""
        return (2 if self.carries_state else 1) * self.block_length

    def step(self, frame: FollowedFrame) -> Iterator[RestoredFrame]:
        """Take the next frame; give those that are restored, in order."""
        if frame.starts_scene:
            yield from self.flush()
        self.filling.append(frame)
        if len(self.filling) == self.block_length:
            yield from self._advance()

    def flush(self) -> Iterator[RestoredFrame]:
        """End the scene: restore the frames that are left, and forget everybody."""
        if self.filling:
            yield from self._advance()
        if self.waiting:
            yield from self._restore(self.waiting, following={})
        self.waiting, self.earlier_gains, self.states = None, {}, {}
        self.grey, self.offsets, self.masks = False, {}, {}

    def _advance(self) -> Iterator[RestoredFrame]:
        block = Block(self.filling, self._observe(self.filling))
        self.filling = []
        if not self.carries_state:
            yield from self._restore(block, following={})
            return
        waiting, self.waiting = self.waiting, block
        if waiting:
            yield from self._restore(waiting, block.visits)

    # What does not need the frame before

    def _observe(self, frames: list[FollowedFrame]) -> dict[int, Visit]:
        places: dict[int, list[tuple[FollowedFrame, PlacedFace]]] = {}
        for frame in frames:
            for face in frame.faces:
                places.setdefault(face.segment, []).append((frame, face))
        visits = {}
        for number, seen in places.items():
            with self.watch.time("align"):
                matrices = [self._matrix(face) for _, face in seen]
                crops = [self._crop(frame.image, matrix) for (frame, _), matrix in zip(seen, matrices, strict=True)]
                tensor = to_tensor(crops, self.device, self.recursion.vq.dtype)[None]
            with self.watch.time("observe"):
                observation = self.recursion.observe(tensor)
            with self.watch.time("flow"):
                flows = None
                if self.recursion.flow is not None:
                    flows = self.recursion.flows(tensor, self._crop_before(number))
            visits[number] = Visit(seen[0][0].index, matrices, tensor, observation, flows)
        return visits

    def _crop_before(self, number: int) -> torch.Tensor | None:
        """The person's crop `(1, 3, size, size)` in the frame before the new block."""
        if not self.carries_state:
            return None
        if self.waiting is None:  # the frame before is restored
            return self.states[number].frame if number in self.states else None
        # A visit has no holes: if it goes on in the new block, it was there in the last frame of the waiting one.
        visit = self.waiting.visits.get(number)
        return None if visit is None else visit.crops[:, -1]

    def _matrix(self, face: PlacedFace) -> np.ndarray:
        return np.eye(2, 3) if self.aligned else estimate_alignment(face.landmarks, self.size)

    def _crop(self, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        if self.aligned:
            return cv2.resize(image, (self.size, self.size), interpolation=cv2.INTER_LINEAR)
        return crop_face(image, matrix, self.size)

    def _gains(self, visits: dict[int, Visit], following: dict[int, Visit]) -> dict[int, torch.Tensor]:
        """Gains `(1, n, 1, grid, grid)` of the visits of a block."""
        if self.recursion.kalman is None:
            return {}
        gains, later_gains = {}, {}
        for number, visit in visits.items():
            window = visit.observation.latents
            if number in following:
                window = torch.cat([window, following[number].observation.latents], dim=1)
            found = self.recursion.kalman(window)
            gains[number], later_gains[number] = found[:, : len(visit)], found[:, len(visit) :]
            if number in self.earlier_gains:
                part = (torch.arange(len(visit), device=found.device) + 0.5) / self.block_length
                part = part[:, None, None, None].to(found.dtype)
                gains[number] = (1 - part) * self.earlier_gains[number] + part * gains[number]
        self.earlier_gains = {number: gains for number, gains in later_gains.items() if number in following}
        return gains

    # What does

    def _restore(self, block: Block, following: dict[int, Visit]) -> Iterator[RestoredFrame]:
        with self.watch.time("gains"):
            gains = self._gains(block.visits, following)
        for frame in block.frames:
            # Only this frame hands states on.
            before, self.states = self.states, {}
            with self.watch.time("recursion"):
                for newcomers in (True, False):
                    numbers = [face.segment for face in frame.faces if (face.segment not in before) == newcomers]
                    for start in range(0, len(numbers), self.people_at_once):
                        some = numbers[start : start + self.people_at_once]
                        self._step(frame.index, {number: block.visits[number] for number in some}, before, gains)
                # The round trip through the host ends the wait for the device.
                pairs = {
                    face.segment: (to_images(state.frame[0]), to_images(state.output[0]))
                    for face in frame.faces
                    for state in [self.states[face.segment]]
                }
            with self.watch.time("paste"):
                result = self._paste(frame, pairs, block.visits)
            yield RestoredFrame(frame, result, {face.track_id: pairs[face.segment] for face in frame.faces})
        if not self.carries_state:
            self.states = {}

    def _step(
        self, index: int, visits: dict[int, Visit], before: dict[int, KalmanState], gains: dict[int, torch.Tensor]
    ) -> None:
        """One step of the recursion for some of the people in a frame: all with a state, or all without."""
        at = [(number, visit, index - visit.first) for number, visit in visits.items()]
        state = KalmanState.join([before[number] for number, _, _ in at]) if at[0][0] in before else None
        observations = [visit.observation[:, i] for _, visit, i in at]
        flow = None
        if self.recursion.flow is not None and state is not None:
            # A visit has a flow for each frame or for all but the first: count from the end.
            flow = torch.cat([visit.flows[:, i - len(visit)] for _, visit, i in at if visit.flows is not None])
        step = self.recursion.step(
            torch.cat([visit.crops[:, i] for _, visit, i in at]),
            Observation(
                torch.cat([observation.latents for observation in observations]),
                {
                    size: torch.cat([observation.features[size] for observation in observations])
                    for size in observations[0].features
                },
            ),
            state,
            gain=torch.cat([gains[number][:, i] for number, _, i in at]) if gains else None,
            flow=flow,
            fidelity=self.fidelity,
        )
        for i, number in enumerate(visits):
            self.states[number] = step.state[i]

    def _paste(
        self, frame: FollowedFrame, pairs: dict[int, tuple[np.ndarray, np.ndarray]], visits: dict[int, Visit]
    ) -> np.ndarray:
        step = max(1, min(frame.image.shape[:2]) // 256)  # the rule is a mean over the frame: a part of it will do
        self.grey = is_grey(frame.image[::step, ::step], STAYS_GREY if self.grey else IS_GREY)
        if self.grey:
            pairs = {number: (crop, to_grey(restored)) for number, (crop, restored) in pairs.items()}
        if self.aligned:
            crop, restored = pairs[frame.faces[0].segment]
            return cv2.addWeighted(restored, self.strength, crop, 1 - self.strength, 0)

        masks: dict[int, np.ndarray] = {}
        if self.parser is not None and pairs:
            found = face_mask(self.parser, [crop for crop, _ in pairs.values()])
            masks = self.masks = self._steady(self.masks, dict(zip(pairs, found, strict=True)), MASK_SECONDS)
        offsets = {number: colour_offset(*pair, masks.get(number)) for number, pair in pairs.items()}
        self.offsets = self._steady(self.offsets, offsets, OFFSET_SECONDS)

        result = self._enlarge(frame.image)
        # The nearest last: faces in front cover those behind.
        for face in sorted(frame.faces, key=lambda face: float((face.box[2:] - face.box[:2]).max())):
            number = face.segment
            matrix = _enlarged(visits[number].matrices[frame.index - visits[number].first], self.upscale)
            strength = self.strength * face.weight
            paste_face(result, pairs[number][1], matrix, strength, self.offsets[number], masks.get(number))
        return result

    def _enlarge(self, image: np.ndarray) -> np.ndarray:
        """A new image, `upscale` times as large."""
        height, width = image.shape[0] * self.upscale, image.shape[1] * self.upscale
        if self.background is not None:
            image = self.background(image)
        if image.shape[:2] == (height, width):
            return image.copy()
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)

    def _steady(
        self, before: dict[int, np.ndarray], now: dict[int, np.ndarray], seconds: float
    ) -> dict[int, np.ndarray]:
        """The exponential mean over time of something measured for everybody who is there, by visit."""
        part = np.float32(1 - np.exp(-1 / (seconds * self.frame_rate)))
        return {n: before[n] + part * (new - before[n]) if n in before else new for n, new in now.items()}

    # Stop and go on

    def state_dict(self) -> dict[str, Any]:
        """All but the frames and what can be computed from them, as [`keep_hf.restoration.state.pack`] takes it.

        To be called between two steps, when all that they gave has been taken.
        """
        held = (self.waiting.frames if self.waiting else []) + self.filling
        return {
            "frames": [(frame.index, frame.faces, frame.starts_scene) for frame in held],
            "num_waiting": len(held) - len(self.filling),
            **{name: getattr(self, name) for name in ("earlier_gains", "states", "grey", "offsets", "masks")},
            "seconds": self.watch.seconds,
        }

    def load_state_dict(self, state: dict[str, Any], images: dict[int, np.ndarray]) -> None:
        """Go on where another restorer, of the same arguments, was; `images` are the frames that it held."""
        frames = [FollowedFrame(index, images[index], *rest) for index, *rest in state["frames"]]
        for name in ("earlier_gains", "states", "grey", "offsets", "masks"):
            setattr(self, name, state[name])
        self.watch.seconds = state["seconds"]
        waiting, self.filling = frames[: state["num_waiting"]], frames[state["num_waiting"] :]
        self.waiting = Block(waiting, self._observe(waiting)) if waiting else None


def _enlarged(matrix: np.ndarray, factor: int) -> np.ndarray:
    """The map from pixels of the enlarged frame to the same crop; pixel centres lie at whole numbers."""
    result = matrix / factor
    result[:, 2] = matrix[:, 2] + matrix[:, :2] @ np.full(2, (1 - factor) / (2 * factor))
    return result
