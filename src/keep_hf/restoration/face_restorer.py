"""Restore the faces of a stream of frames: KEEP's recursion for every track segment.

Frames are processed in blocks, which start again in every scene. Crops, optical flow, observations and gains are
computed for a block at a time; the rest of the recursion goes frame by frame, with all faces of a frame in one batch,
each with a Kalman state of its own.

A block is restored as soon as its gains are known; [`keep_hf.restoration.gains`] decides how long a block is, and
whether it waits for the next one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..allocator import BatchSize
from ..faces.follower import FollowedFrame
from ..models.kalman import KalmanState
from ..models.recursion import KalmanRecursion, Observation
from ..state_version import check_state_version
from ..stopwatch import Stopwatch
from ..video.pixels import to_images, to_levels
from .auto_strength import Judgement
from .block import Block, ObservedSegment, observe_block
from .compositor import FaceCompositor, FacePair, FacePaste
from .gains import Gains


STATE_VERSION = 2


@dataclass
class RestoredFrame:
    """A restored frame.

    Attributes:
        followed (`FollowedFrame`): The input frame and its faces.
        image (`np.ndarray` of shape `(h, w, 3)`): The output, RGB, uint8.
        pairs (`dict[int, FacePair]`): The crop and the restored face, by the number of the track.
        pastes (`list[FacePaste]`, *optional*): See [`Composition`].
        judgements (`dict[int, Judgement]`): How much of the restored face was used, by the number of the track.
    """

    followed: FollowedFrame
    image: np.ndarray
    pairs: dict[int, FacePair]
    pastes: list[FacePaste] | None
    judgements: dict[int, Judgement]


class FaceRestorer:
    """Restores the faces of frames whose faces have been found.

    Args:
        recursion ([`KalmanRecursion`]): The networks.
        compositor ([`FaceCompositor`]): Blends the restored faces into the frames.
        gains ([`Gains`]): Computes the gains of a block, and decides how long a block is.
        fidelity (`float`): Weight of the features of the crop in the decoder, from 0 to 1.
        aligned (`bool`): The frames are the crops.
        device (`torch.device`): The device of the networks.
        batch_size (`int`): Largest number of faces in one batch of the recursion; bounds memory. It is halved, with a
            warning, when the memory of the GPU does not suffice.
        is_exact (`bool`, *optional*, defaults to `False`): Also return the restored faces without rounding them to 8
            bits.

    Raises:
        ValueError: While frames are restored, if the networks return NaN or infinity.
    """

    def __init__(
        self,
        recursion: KalmanRecursion,
        compositor: FaceCompositor,
        *,
        gains: Gains,
        fidelity: float,
        aligned: bool,
        device: torch.device,
        batch_size: int,
        is_exact: bool = False,
    ) -> None:
        self.recursion, self.compositor, self.gains = recursion, compositor, gains
        self.fidelity, self.aligned, self.device = fidelity, aligned, device
        self.batch_size = BatchSize(batch_size, "faces")
        self.observed_at_once = BatchSize(recursion.max_batch, "frames of a face")
        self.is_exact = is_exact
        self.watch = Stopwatch()

        self.filling: list[FollowedFrame] = []  # frames of the next block
        self.waiting: Block | None = None  # observed, but not restored: its gains need the block after it
        self.states: dict[int, KalmanState] = {}  # after the last restored frame, by track segment

    @property
    def latency(self) -> int:
        """The largest number of frames that are held after a step."""
        return (2 if self.gains.waits else 1) * self.gains.block_length - 1

    def step(self, frame: FollowedFrame) -> Iterator[RestoredFrame]:
        """Take the next frame, and yield the frames that are restored by then, in order. `flush` ends a scene."""
        self.filling.append(frame)
        if len(self.filling) == self.gains.block_length:
            yield from self._end_block()

    def flush(self) -> Iterator[RestoredFrame]:
        """End the scene: yield the frames that are left, and drop all state."""
        if self.filling:
            yield from self._end_block()
        if self.waiting:
            yield from self._restore(self.waiting, following={})
        self.waiting, self.states = None, {}
        self.gains.reset()
        self.compositor.reset()

    def _end_block(self) -> Iterator[RestoredFrame]:
        block = self._observe(self.filling, self._previous_crops())
        self.filling = []
        if self.gains.waits:
            waiting, self.waiting = self.waiting, block
            if waiting:
                yield from self._restore(waiting, block.segments)
            return
        yield from self._restore(block, following={})
        if not self.gains.carries_state:
            self.states = {}

    # What does not depend on the previous output: flow and observation (equation 11)

    def _previous_crops(self) -> dict[int, torch.Tensor]:
        """By track segment, the crop `(1, 3, size, size)` of the frame before the block that is filled now."""
        if self.waiting is not None:
            return {number: segment.crops[:, -1] for number, segment in self.waiting.segments.items()}
        return {number: state.frame for number, state in self.states.items()}

    def _observe(self, frames: list[FollowedFrame], previous_crops: Mapping[int, torch.Tensor]) -> Block:
        def observe(batch_size: int) -> Block:
            self.recursion.max_batch = batch_size
            return observe_block(
                self.recursion,
                frames,
                previous_crops,
                aligned=self.aligned,
                codes=self.recursion.uses_codes(self.fidelity),
                device=self.device,
                watch=self.watch,
            )

        return self.observed_at_once.run(observe)

    # What depends on it: prediction (equation 12), update (equation 8) and generation

    def _restore(self, block: Block, following: Mapping[int, ObservedSegment]) -> Iterator[RestoredFrame]:
        with self.watch.time("gains"):
            gains = self.gains.step(block.segments, following)
        for frame in block.frames:
            with self.watch.time("recursion"):
                self.states = self._step(frame, block.segments, gains)
                self._check_outputs(frame.index)
                # The copy to the host waits for the device.
                pairs = {number: self._to_pair(state) for number, state in self.states.items()}
            with self.watch.time("paste"):
                matrices = {number: block.segments[number].matrix(frame.index) for number in pairs}
                composition = self.compositor.compose(frame, pairs, matrices)
            by_track = {face.track_id: pairs[face.segment] for face in frame.faces}
            judgements = {face.track_id: composition.judgements[face.segment] for face in frame.faces}
            yield RestoredFrame(frame, composition.image, by_track, composition.pastes, judgements)

    def _check_outputs(self, frame: int) -> None:
        """Reject what is not a number: it would become black faces in this frame and all after it."""
        if all(torch.isfinite(state.output).all() for state in self.states.values()):
            return
        dtype = str(self.recursion.vq.dtype).removeprefix("torch.")
        raise ValueError(
            f"The networks return NaN or infinity in frame {frame}, computed in {dtype}. Load the pipeline in float32 "
            "or bfloat16; if that does not help, its weights are damaged."
        )

    def _to_pair(self, state: KalmanState) -> FacePair:
        exact = to_levels(state.output[0]) if self.is_exact else None
        return FacePair(to_images(state.frame[0]), to_images(state.output[0]), exact)

    def _step(
        self, frame: FollowedFrame, segments: Mapping[int, ObservedSegment], gains: Mapping[int, torch.Tensor]
    ) -> dict[int, KalmanState]:
        """One step of the recursion for all faces of a frame; returns their new states by track segment."""
        numbers = [face.segment for face in frame.faces]
        started = [number for number in numbers if number in self.states]
        starting = [number for number in numbers if number not in self.states]

        def step(batch_size: int) -> dict[int, KalmanState]:
            states: dict[int, KalmanState] = {}
            for group in (starting, started):  # a batch has a state for all of its faces, or for none
                for start in range(0, len(group), batch_size):
                    batch = {number: segments[number] for number in group[start : start + batch_size]}
                    states |= self._step_batch(frame.index, batch, gains)
            return states

        states = self.batch_size.run(step)
        return {number: states[number] for number in numbers}

    def _step_batch(
        self, frame: int, batch: Mapping[int, ObservedSegment], gains: Mapping[int, torch.Tensor]
    ) -> dict[int, KalmanState]:
        previous = [self.states[number] for number in batch if number in self.states]
        state = flow = None
        if previous:
            state = KalmanState.join(previous)
            if self.recursion.flow is not None:
                flow = torch.cat([segment.flow(frame) for segment in batch.values()])
        gain = [gains[number][:, frame - segment.first_frame] for number, segment in batch.items() if gains]
        step = self.recursion.step(
            torch.cat([segment.crop(frame) for segment in batch.values()]),
            Observation.join([segment.observed(frame) for segment in batch.values()]),
            state,
            gain=torch.cat(gain) if gain else None,
            flow=flow,
            fidelity=self.fidelity,
        )
        return {number: step.state[i] for i, number in enumerate(batch)}

    # Save and resume

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two steps, without images and without what can be computed from them.

        All frames that the steps yield must have been taken. The values are numbers, arrays, tensors, lists and
        dictionaries.
        """
        waiting = self.waiting.frames if self.waiting else []
        return {
            "version": STATE_VERSION,
            "waiting": [frame.state_dict() for frame in waiting],
            "filling": [frame.state_dict() for frame in self.filling],
            "gains": dict(self.gains.memory),
            "states": {number: state.state_dict() for number, state in self.states.items()},
            "compositor": self.compositor.state_dict(),
            "seconds": dict(self.watch.seconds),
        }

    def load_state_dict(self, state: Mapping[str, Any], images: Mapping[int, np.ndarray]) -> None:
        """Continue from the state of a restorer with the same arguments.

        Args:
            state (`Mapping[str, Any]`): From `state_dict`.
            images (`Mapping[int, np.ndarray]`): By index, at least the frames that restorer held.

        Raises:
            ValueError: If the state has another version.
        """
        check_state_version(state, STATE_VERSION, "FaceRestorer")

        def frames(saved: list[Mapping[str, Any]]) -> list[FollowedFrame]:
            return [FollowedFrame.from_state_dict(frame, images[frame["index"]]) for frame in saved]

        self.states = {number: KalmanState.from_state_dict(saved) for number, saved in state["states"].items()}
        self.gains.memory = dict(state["gains"])
        self.compositor.load_state_dict(state["compositor"])
        self.watch.seconds = dict(state["seconds"])
        self.waiting, self.filling = None, frames(state["filling"])
        if state["waiting"]:
            self.waiting = self._observe(frames(state["waiting"]), self._previous_crops())
