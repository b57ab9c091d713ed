"""The recursion of KEEP over the frames of a clip (arXiv 2408.05205, section 3.1, "Kalman Filter Model").

The pipeline and the training share it.  What does not depend on the previous output (flow, observation, gain) is
computed for many frames at once; `step` does the rest, frame by frame.  `forward` restores whole clips.  The pipeline
calls the parts itself, because people appear and disappear between frames, and the gains depend on future frames.

Legend: b clips, t frames, c channels, h w pixels; n tokens of the code grid.
"""

import warnings
from dataclasses import dataclass

import torch
from diffusers.utils.torch_utils import is_compiled_module
from torch import nn

from .autoencoder import Features
from .direct import DirectObservation, Index
from .flow.dis import DISFlow
from .flow.gmflow import GMFlow
from .flow.warp import warp
from .kalman import KalmanGainNetwork, KalmanState, update
from .vq import KeepVQModel


# The most positions in the first layer of a network that are processed at once on a CPU, which is as fast with few
# frames at a time as with many, and needs less memory.
CPU_POSITIONS = 2**18


@dataclass
class Observation:
    """What the networks read from degraded crops; all tensors have the same leading dimensions.

    Attributes:
        latents (`torch.Tensor` of shape `(..., c, grid, grid)`, *optional*): z_obs, the output of the LQ encoder
            (eq. 11); `None` if codes are not used.
        features (`dict[int, torch.Tensor]`): Features of the crops, `(..., c, size, size)` by fusion size.
        direct (`DirectObservation`, *optional*): Features of the direct path, of models that have one.
    """

    latents: torch.Tensor | None
    features: Features
    direct: DirectObservation | None = None

    @classmethod
    def join(cls, observations: list["Observation"]) -> "Observation":
        """Concatenate observations along the first dimension."""
        latents = [observation.latents for observation in observations if observation.latents is not None]
        return cls(
            torch.cat(latents) if latents else None,
            {size: torch.cat([o.features[size] for o in observations]) for size in observations[0].features},
            DirectObservation.join([observation.direct for observation in observations if observation.direct]),
        )

    def unflatten(self, shape: torch.Size) -> "Observation":
        """Divide the first dimension into `shape`."""
        direct = self.direct
        return Observation(
            None if self.latents is None else self.latents.unflatten(0, shape),
            {size: feature.unflatten(0, shape) for size, feature in self.features.items()},
            direct and DirectObservation(direct.features.unflatten(0, shape), direct.log_variance.unflatten(0, shape)),
        )

    def __getitem__(self, index: Index) -> "Observation":
        return Observation(
            None if self.latents is None else self.latents[index],
            {size: feature[index] for size, feature in self.features.items()},
            None if self.direct is None else self.direct[index],
        )


@dataclass
class Step:
    """One restored frame of each of b clips.

    Attributes:
        state (`KalmanState`): For the next frame; `state.output` is the restored frame.
        logits (`torch.Tensor` of shape `(b, n, num_codes)`, *optional*): Of the codes; `None` if they are not used.
        predicted (`torch.Tensor` of shape `(b, c, grid, grid)`, *optional*): z_pred; `None` for the first frame.
        latent (`torch.Tensor` of shape `(b, c, grid, grid)`, *optional*): z after the update.
    """

    state: KalmanState
    logits: torch.Tensor | None = None
    predicted: torch.Tensor | None = None
    latent: torch.Tensor | None = None


@dataclass
class RecursionOutput:
    """Restored clips, and the intermediate results.

    Attributes:
        frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): Restored faces y, RGB around [-1, 1], not clamped.
        logits (`torch.Tensor` of shape `(b, t, n, num_codes)`): Of the codes.
        state (`KalmanState`): For the frame after the last; its tensors keep their gradients.
        observed (`torch.Tensor` of shape `(b, t, c, grid, grid)`): z_obs.
        predicted (`list[torch.Tensor | None]`): z_pred of every frame, `(b, c, grid, grid)`; `None` for a frame
            without a state before it.
        latents (`torch.Tensor` of shape `(b, t, c, grid, grid)`): z after the update.
        gains (`torch.Tensor` of shape `(b, t, 1, grid, grid)`, *optional*): K; `None` for a single-frame model.
        flows (`torch.Tensor` of shape `(b, t or t - 1, 2, h, w)`, *optional*): In pixels, from each frame to the one
            before it; there is one for the first frame only if a state was given.
        features (`list[dict[int, torch.Tensor]]`): Per frame the features of the decoder, `(b, c, size, size)` by
            cross-frame size.
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
    """Restoration of clips by the three networks; the module has no parameters of its own.

    Args:
        vq (`KeepVQModel`): The face model.
        kalman (`KalmanGainNetwork` or `None`): The gain network.  Without it and without `flow` every frame is
            restored on its own, as in CodeFormer.
        flow (`GMFlow`, `DISFlow` or `None`): Optical flow; required with `kalman`.
        max_batch (`int`, *optional*, defaults to 8): The most frames that the encoder processes at once, and twice the
            most pairs that the flow network does.  Bounds the memory and does not change the result.  On CPUs large
            frames are processed one at a time.

    Raises:
        ValueError: If only one of `kalman` and `flow` is given.
    """

    def __init__(
        self,
        vq: KeepVQModel,
        kalman: KalmanGainNetwork | None,
        flow: GMFlow | DISFlow | None,
        max_batch: int = 8,
    ) -> None:
        super().__init__()
        if (kalman is None) != (flow is None):
            raise ValueError("The gain network and the flow network go together: pass both or neither.")
        for name, network in (("vq", vq), ("flow", flow)):
            if is_compiled_module(network):
                warnings.warn(
                    f"torch.compile({name}) compiles only its `forward`; faces are restored with its other methods. "
                    f"Call {name}.compile() in its place.",
                    stacklevel=2,
                )
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
        """Restore clips, or the next part of them.

        Args:
            frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): Degraded face crops, RGB in [-1, 1].
            state (`KalmanState`, *optional*): After the frame before the first one; `None` starts new clips.
            fidelity (`float` or `torch.Tensor` of shape `(b,)`, *optional*, defaults to 1.0): Weight of the crop's
                features in the decoder, 0 to 1.
            codes (`torch.Tensor` of shape `(b, t, n)`, *optional*): Codes to use in place of the most likely ones.

        Raises:
            ValueError: If the frames do not have this shape or the size of the face model.
        """
        if frames.ndim != 5:
            raise ValueError(f"`frames` must have the shape (b, t, 3, h, w), not {tuple(frames.shape)}.")
        t = frames.shape[1]
        flows = None
        if self.flow is not None:
            with torch.no_grad():
                flows = self.flows(frames, None if state is None else state.frame)
        observation = self.observe(frames)
        assert observation.latents is not None
        gains = None if self.kalman is None else self.kalman(observation.latents).gains

        steps, logits, latents = [], [], []
        for i in range(t):
            step = self.step(
                frames[:, i],
                observation[:, i],
                state,
                gain=None if gains is None else gains[:, i],
                flow=None if flows is None or state is None else flows[:, i - t],  # from the end: there are t or t - 1
                fidelity=fidelity,
                codes=None if codes is None else codes[:, i],
            )
            state = step.state
            assert step.logits is not None
            assert step.latent is not None
            steps.append(step)
            logits.append(step.logits)
            latents.append(step.latent)

        assert state is not None
        return RecursionOutput(
            frames=torch.stack([step.state.output for step in steps], dim=1),
            logits=torch.stack(logits, dim=1),
            state=state,
            observed=observation.latents,
            predicted=[step.predicted for step in steps],
            latents=torch.stack(latents, dim=1),
            gains=gains,
            flows=flows,
            features=[step.state.features for step in steps],
        )

    def flows(self, frames: torch.Tensor, previous: torch.Tensor | None) -> torch.Tensor:
        """Flow from every frame to the one before it, in pixels (eq. 12).

        Args:
            frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): Degraded crops.
            previous (`torch.Tensor` of shape `(b, 3, h, w)`, *optional*): The crops before the first ones.

        Returns:
            `torch.Tensor` of shape `(b, t, 2, h, w)`, or `(b, t - 1, 2, h, w)` without `previous`.
        """
        assert self.flow is not None
        if previous is not None:
            frames = torch.cat([previous[:, None], frames], dim=1)
        pairs = self._batch_size(self.max_batch // 2, frames.shape[-2] * frames.shape[-1], frames.device)
        return self.flow.flow_between_frames(frames.contiguous(), batch_size=pairs)

    def uses_codes(self, fidelity: float) -> bool:
        """Whether the codes have a weight: at fidelity 1 a model with a direct path restores without them."""
        return self.vq.direct is None or fidelity < 1

    def observe(self, frames: torch.Tensor, codes: bool = True) -> Observation:
        """Encode degraded crops, a bounded number of them at a time (eq. 11).

        Args:
            frames (`torch.Tensor` of shape `(b, t, 3, h, w)`): RGB in [-1, 1].
            codes (`bool`, *optional*, defaults to `True`): Whether the codes will be used; see `uses_codes`.

        Raises:
            ValueError: If the frames do not have the size of the face model.
        """
        positions = (self.vq.config.sample_size // self.vq.config.patch_size) ** 2
        batch_size = self._batch_size(self.max_batch, positions, frames.device)
        # Frames that were (h, w, c) are channels last in memory. With that, GroupNorm of torch on a CPU is 20 times
        # less accurate.
        batches = frames.contiguous().flatten(0, 1).split(batch_size)
        joined = Observation.join([self._observe_batch(batch, codes) for batch in batches])
        return joined.unflatten(frames.shape[:2])

    def _observe_batch(self, images: torch.Tensor, codes: bool) -> Observation:
        latents, features = self.vq.encode_lq(images) if codes else (None, {})
        return Observation(latents, features, None if self.vq.direct is None else self.vq.observe_direct(images))

    @staticmethod
    def _batch_size(largest: int, positions: int, device: torch.device) -> int:
        return max(1, min(largest, CPU_POSITIONS // positions) if device.type == "cpu" else largest)

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
        """Restore one frame of each of b clips: the part of the recursion that depends on the previous frame.

        Args:
            frame (`torch.Tensor` of shape `(b, 3, h, w)`): Degraded crops x[t].
            observation (`Observation`): Of these crops, with b as the only leading dimension.
            state (`KalmanState` or `None`): After the previous frame; `None` for the first frame of the clips.
            gain (`torch.Tensor` of shape `(b, 1, grid, grid)`, *optional*): K[t], the weight of the prediction.
            flow (`torch.Tensor` of shape `(b, 2, h, w)`, *optional*): From the frame to the one before it.
            fidelity, codes: See `forward`; for this frame.
        """
        restored, direct = None, None
        if observation.direct is not None:
            before, previous = (None, None) if state is None else (state.direct, state.frame)
            restored, direct = self.vq.restore_direct(observation.direct, frame, before, previous, flow)
            if observation.latents is None:
                return Step(KalmanState(frame, restored, {}, direct))

        assert observation.latents is not None
        z, crop_features, predicted = observation.latents, observation.features, None
        if state is not None and gain is not None and flow is not None:
            # Predict (eq. 12) and update (eq. 8).
            predicted, predicted_features = self.vq.encode_hq(warp(state.output.detach(), flow))
            z = update(z, predicted, gain)
            crop_features = self.vq.update_features(crop_features, predicted_features)
        logits = self.vq.predict_codes(z)
        output, features = self.vq.decode(
            self.vq.lookup(logits.argmax(-1) if codes is None else codes, z).detach(),
            crop_features,
            fidelity if restored is None else 0.0,
            None if state is None else state.features,
        )
        if restored is not None:
            # The codes are the prior towards fidelity 0, the direct path is fidelity 1.
            weight = torch.as_tensor(fidelity, dtype=output.dtype, device=output.device).view(-1, 1, 1, 1)
            output = output + weight * (restored - output)
        return Step(KalmanState(frame, output, features, direct), logits, predicted, z)
