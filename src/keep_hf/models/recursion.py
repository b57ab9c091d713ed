"""The recursion of KEEP over a clip: the one implementation that both the pipeline and the training run.

Everything that does not depend on the previous output (flow, observation, gain) is computed for many frames at once;
`step` does the rest, frame by frame.  `forward` restores a whole clip so; the pipeline calls the parts itself, because
people come and go and the gains need to see a little of the future.

Legend: b clips, t frames, c channels, h w pixels; n tokens of the code grid.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .autoencoder import Features
from .flow.gmflow import GMFlow
from .flow.warp import warp
from .kalman import KalmanGainNetwork, KalmanState, update
from .vq import KeepVQModel


# A CPU is as fast with few frames at a time as with many, and uses less memory: as many as have so many positions at
# the first layer of a network.
CPU_POSITIONS = 2**18


@dataclass
class Observation:
    """What the LQ encoder sees in degraded crops; every tensor begins with the same dimensions (clips, frames).

    Attributes:
        latents (`torch.Tensor` of shape `(..., c, grid, grid)`): z_obs.
        features (`dict[int, torch.Tensor]`): Of the crops, at the sizes where the decoder fuses them.
    """

    latents: torch.Tensor
    features: Features

    def __getitem__(self, which: Any) -> "Observation":
        return Observation(self.latents[which], {size: feature[which] for size, feature in self.features.items()})


@dataclass
class Step:
    """One frame of each of b clips, restored.

    Attributes:
        state (`KalmanState`): For the next frame; `state.output` is the restored frame.
        logits (`torch.Tensor` of shape `(b, n, num_codes)`): Of the codes.
        predicted (`torch.Tensor` of shape `(b, c, grid, grid)`, *optional*): z_pred; `None` without a state.
        latent (`torch.Tensor` of shape `(b, c, grid, grid)`): z after the update.
    """

    state: KalmanState
    logits: torch.Tensor
    predicted: torch.Tensor | None
    latent: torch.Tensor


@dataclass
class RecursionOutput:
    """A restored clip and what led to it.

    Attributes:
        frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): Restored faces, RGB around [-1, 1], not clamped.
        logits (`torch.Tensor` of shape `(b, t, n, num_codes)`): Of the codes.
        state (`KalmanState`): For the frame after the last; its tensors keep their gradients.
        observed (`torch.Tensor` of shape `(b, t, c, grid, grid)`): Latents of the crops.
        predicted (`list[torch.Tensor | None]`): Per frame `(b, c, grid, grid)`, `None` where no state came in.
        latents (`torch.Tensor` of shape `(b, t, c, grid, grid)`): Latents after the update.
        gains (`torch.Tensor` of shape `(b, t, 1, grid, grid)`, *optional*): `None` for a single-frame model.
        flows (`torch.Tensor` of shape `(b, t or t - 1, 2, h, w)`, *optional*): In pixels, from each frame to the one
            before; the first frame has one only if a state came in.
        features (`list[dict[int, torch.Tensor]]`): The decoder's features of every frame at the cross-frame sizes.
    """

    frames: torch.Tensor
    logits: torch.Tensor
    state: KalmanState
    observed: torch.Tensor
    predicted: list[torch.Tensor | None]
    latents: torch.Tensor
    gains: torch.Tensor | None
    flows: torch.Tensor | None
    features: list[Features]


class KalmanRecursion(nn.Module):
    """The three networks at work on clips; it owns no parameters of its own.

    Args:
        vq (`KeepVQModel`): The face model.
        kalman (`KalmanGainNetwork`, *optional*): Without it (and without `flow`) every frame stands alone: CodeFormer.
        flow (`GMFlow`, *optional*): Needed with `kalman`.
        max_batch (`int`, *optional*, defaults to 8): Frames that the encoder sees at once, and twice the pairs of them
            that the flow network does; bounds memory, changes no result. On CPUs large frames go one by one.
    """

    def __init__(
        self, vq: KeepVQModel, kalman: KalmanGainNetwork | None, flow: GMFlow | None, max_batch: int = 8
    ) -> None:
        super().__init__()
        if (kalman is None) != (flow is None):
            raise ValueError("The gain network and the flow network go together: give both or none.")
        self.vq = vq
        self.kalman = kalman
        self.flow = flow
        self.max_batch = max_batch

    def forward(
        self,
        frames: torch.Tensor,
        state: KalmanState | None = None,
        fidelity: float | torch.Tensor = 1.0,
        codes: torch.Tensor | None = None,
    ) -> RecursionOutput:
        """Restore clips, or the next piece of them.

        Args:
            frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): Degraded face crops, RGB in [-1, 1].
            state (`KalmanState`, *optional*): Of the frame before the first one; `None` starts new clips.
            fidelity (`float` or `torch.Tensor` of shape `(b,)`, *optional*, defaults to 1.0): Weight of the crop's
                features in the decoder, 0 to 1.
            codes (`torch.Tensor` of shape `(b, t, n)`, *optional*): Codes to use in place of the most likely ones.

        Raises:
            ValueError: If the frames are not of the size of the face model.
        """
        if frames.ndim != 5:
            raise ValueError(f"The frames must be (b, t, 3, h, w); they are {tuple(frames.shape)}.")
        t = frames.shape[1]
        flows = None
        if self.flow is not None:
            with torch.no_grad():
                flows = self.flows(frames, None if state is None else state.frame)
        observation = self.observe(frames)
        gains = None if self.kalman is None else self.kalman(observation.latents)

        steps = []
        for i in range(t):
            step = self.step(
                frames[:, i],
                observation[:, i],
                state,
                gain=None if gains is None else gains[:, i],
                flow=None if flows is None or state is None else flows[:, i - t],  # t or t - 1: count from the end
                fidelity=fidelity,
                codes=None if codes is None else codes[:, i],
            )
            state = step.state
            steps.append(step)

        assert state is not None
        return RecursionOutput(
            frames=torch.stack([step.state.output for step in steps], dim=1),
            logits=torch.stack([step.logits for step in steps], dim=1),
            state=state,
            observed=observation.latents,
            predicted=[step.predicted for step in steps],
            latents=torch.stack([step.latent for step in steps], dim=1),
            gains=gains,
            flows=flows,
            features=[step.state.features for step in steps],
        )

    def flows(self, frames: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
        """Flow from every frame `(b, t, 3, h, w)` to the one before it, in pixels.

        Returns:
            `(b, t, 2, h, w)`, or `(b, t - 1, 2, h, w)` if no `previous` frame `(b, 3, h, w)` tells where the first
            one came from.
        """
        assert self.flow is not None
        seen = frames if previous is None else torch.cat([previous[:, None], frames], dim=1)
        pairs = self._at_once(self.max_batch // 2, seen.shape[-2] * seen.shape[-1], seen.device)
        return self.flow.flow_between_frames(seen.contiguous(), batch_size=pairs)

    def observe(self, frames: torch.Tensor) -> Observation:
        """Encode degraded crops `(b, t, 3, h, w)`, a bounded number of them at a time."""
        positions = (self.vq.config.sample_size // self.vq.config.patch_size) ** 2
        at_once = self._at_once(self.max_batch, positions, frames.device)
        # Frames that were (h, w, c) arrive channels last, where torch's GroupNorm on CPU is 20 times less accurate.
        pieces = [self.vq.encode_lq(piece) for piece in frames.contiguous().flatten(0, 1).split(at_once)]
        shape = frames.shape[:2]
        return Observation(
            torch.cat([latents for latents, _ in pieces]).unflatten(0, shape),
            {size: torch.cat([features[size] for _, features in pieces]).unflatten(0, shape) for size in pieces[0][1]},
        )

    @staticmethod
    def _at_once(most: int, positions: int, device: torch.device) -> int:
        return max(1, min(most, CPU_POSITIONS // positions) if device.type == "cpu" else most)

    def step(
        self,
        frame: torch.Tensor,
        observation: Observation,
        state: KalmanState | None,
        *,
        gain: torch.Tensor | None = None,
        flow: torch.Tensor | None = None,
        fidelity: float | torch.Tensor = 1.0,
        codes: torch.Tensor | None = None,
    ) -> Step:
        """Restore one frame of each of b clips: the part of the recursion that needs the frame before.

        Args:
            frame (`torch.Tensor` of shape `(b, 3, h, w)`): Degraded crops.
            observation (`Observation`): Of these crops, without a dimension of time.
            state (`KalmanState`, *optional*): Of the frame before; `None` where the clips begin.
            gain (`torch.Tensor` of shape `(b, 1, grid, grid)`, *optional*): Weight of the prediction.
            flow (`torch.Tensor` of shape `(b, 2, h, w)`, *optional*): From the frame to the one before.
            fidelity, codes: As of `forward`, for this frame.
        """
        z, crop_features, predicted = observation.latents, observation.features, None
        if state is not None and gain is not None and flow is not None:
            # predict: z_pred = E_hq(warp(y[t-1])); update: z = (1 - K) z_obs + K z_pred
            predicted, predicted_features = self.vq.encode_hq(warp(state.output.detach(), flow))
            z = update(z, predicted, gain)
            crop_features = self.vq.update_features(crop_features, predicted_features)
        logits = self.vq.predict_codes(z)
        output, features = self.vq.decode(
            self.vq.lookup(logits.argmax(-1) if codes is None else codes, z).detach(),
            crop_features,
            fidelity,
            None if state is None else state.features,
        )
        return Step(KalmanState(frame, output, features), logits, predicted, z)
