"""The recursion of KEEP over a clip: the one implementation that both the pipeline and the training run.

Everything that does not depend on the previous output (flow, observation, gain) is computed for all frames of the
clip at once; the loop does the rest, frame by frame.

Legend: b clips, t frames, c channels, h w pixels; n tokens of the code grid.
"""

from dataclasses import dataclass

import torch
from torch import nn

from .autoencoder import Features
from .flow import GMFlow, warp
from .kalman import KalmanGainNetwork, KalmanState, update
from .vq import KeepVQModel


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
        features (`list[dict[str, torch.Tensor]]`): The decoder's features of every frame at the cross-frame sizes.
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
        max_batch (`int`, *optional*, defaults to 8): Frames that the encoder sees at once; bounds memory, changes no
            result.
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
        b, t = frames.shape[:2]
        # Frames that were (h, w, c) arrive channels last, where torch's GroupNorm on CPU is 20 times less accurate.
        frames = frames.contiguous()

        # The previous frame of every frame that has one: flow from the frame to it.
        flows = None
        if self.flow is not None:
            seen = frames if state is None else torch.cat([state.frame[:, None], frames], dim=1)
            with torch.no_grad():
                flows = self.flow.flow_between_frames(seen)

        # Observation and gain
        pieces = [self.vq.encode_lq(piece) for piece in frames.flatten(0, 1).split(self.max_batch)]
        observed = torch.cat([latents for latents, _ in pieces]).unflatten(0, (b, t))
        crop_features = {
            size: torch.cat([features[size] for _, features in pieces]).unflatten(0, (b, t)) for size in pieces[0][1]
        }
        gains = None if self.kalman is None else self.kalman(observed)

        outputs, logits, latents, predicted, features = [], [], [], [], []
        for i in range(t):
            # predict: z_pred = E_hq(warp(y[t-1])); update: z = (1 - K) z_obs + K z_pred
            z, z_predicted = observed[:, i], None
            if state is not None and gains is not None and flows is not None:
                flow = flows[:, i - t]  # there are t flows or t - 1: count from the end
                z_predicted = self.vq.encode_hq(warp(state.output.detach(), flow))
                z = update(z, z_predicted, gains[:, i])

            frame_logits = self.vq.predict_codes(z)
            frame_codes = frame_logits.argmax(-1) if codes is None else codes[:, i]
            output, frame_features = self.vq.decode(
                self.vq.lookup(frame_codes, z).detach(),
                {size: feature[:, i] for size, feature in crop_features.items()},
                fidelity,
                None if state is None else state.features,
            )
            state = KalmanState(frames[:, i], output, frame_features)
            outputs.append(output)
            logits.append(frame_logits)
            latents.append(z)
            predicted.append(z_predicted)
            features.append(frame_features)

        assert state is not None
        return RecursionOutput(
            frames=torch.stack(outputs, dim=1),
            logits=torch.stack(logits, dim=1),
            state=state,
            observed=observed,
            predicted=predicted,
            latents=torch.stack(latents, dim=1),
            gains=gains,
            flows=flows,
            features=features,
        )
