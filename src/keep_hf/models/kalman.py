"""The Kalman filter in the latent space of faces: state, gain and update (KEEP, arXiv 2408.05205, section 3).

    observe   z_obs[t]  = E_lq(x[t])                                   eq. 11
    predict   z_pred[t] = E_hq(warp(y[t-1], flow(x[t] -> x[t-1])))     eq. 6, 7 and 12
    update    z[t]      = (1 - K[t]) z_obs[t] + K[t] z_pred[t]         eq. 8 and 9

The gain K is learned and weighs the PREDICTION.  In eq. 8, as in the textbooks, the gain weighs the innovation
z_obs - z_pred, so it is 1 - K here; the published network computes K.

The gains come from the observations of a whole window of frames (section 3.2, "Kalman Filter System").  The network is
not causal: its temporal attention covers past and future frames.

Legend: b clips, t frames, c channels, h w rows and columns of the code grid, n = h * w tokens.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import AttentionMixin, FeedForward
from diffusers.utils import BaseOutput
from torch import nn

from ..built_in import BuiltInWeights
from .autoencoder import Features
from .direct import DirectState
from .layers import Attention, ResidualBlock


@dataclass
class KalmanState:
    """The state of the filter after a frame: what the next frame needs, for a batch of clips.

    Attributes:
        frame (`torch.Tensor` of shape `(b, 3, height, width)`): The degraded crop x[t], RGB in [-1, 1]; the flow of
            the next frame ends there.
        output (`torch.Tensor` of shape `(b, 3, height, width)`): The restored crop y[t], not clamped; the prediction
            of the next frame is warped from it.
        features (`dict[int, torch.Tensor]`): Features of the decoder, `(b, c, size, size)` by cross-frame size.
        direct (`DirectState`, *optional*): State of the filter of the direct path, of models that have one.
    """

    frame: torch.Tensor
    output: torch.Tensor
    features: Features
    direct: DirectState | None = None

    @classmethod
    def join(cls, states: list["KalmanState"]) -> "KalmanState":
        """Concatenate the states of several batches."""
        return cls(
            torch.cat([state.frame for state in states]),
            torch.cat([state.output for state in states]),
            {size: torch.cat([state.features[size] for state in states]) for size in states[0].features},
            DirectState.join([state.direct for state in states if state.direct is not None]),
        )

    def __getitem__(self, clip: int) -> "KalmanState":
        """The state of one clip, as a batch of one."""
        one = slice(clip, clip + 1)
        features = {size: feature[one] for size, feature in self.features.items()}
        return KalmanState(self.frame[one], self.output[one], features, self.direct and self.direct[one])

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as tensors and a dictionary of tensors."""
        direct = None if self.direct is None else vars(self.direct)
        return {"frame": self.frame, "output": self.output, "features": dict(self.features), "direct": direct}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "KalmanState":
        """Rebuild a state from its `state_dict`."""
        direct = None if state["direct"] is None else DirectState(**state["direct"])
        return cls(state["frame"], state["output"], dict(state["features"]), direct)


def update(observed: torch.Tensor, predicted: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Update of the latents (eq. 8): interpolate between observation and prediction.

    Args:
        observed, predicted (`torch.Tensor` of shape `(b, c, h, w)`): z_obs and z_pred.
        gain (`torch.Tensor` of shape `(b, 1, h, w)`): Weight of the prediction in (0, 1).

    Returns:
        `torch.Tensor` of shape `(b, c, h, w)` in the dtype of `observed`; computed in float32 at least.
    """
    gain = gain.float() if observed.dtype.itemsize < 4 else gain
    return ((1 - gain) * observed + gain * predicted).to(observed.dtype)


class UncertaintyBlock(nn.Module):
    """Attention to the first and the previous frame, a feedforward, then attention over time at every position.

    Args:
        channels (`int`): Width of a token.
        num_heads, head_dim (`int`): Heads of both attentions and the width of one.
    """

    def __init__(self, channels: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.spatial_attention = Attention(channels, num_heads, head_dim, bias=False)
        self.norm2 = nn.LayerNorm(channels)
        self.feedforward = FeedForward(channels, activation_fn="geglu")
        self.norm3 = nn.LayerNorm(channels)
        self.temporal_attention = Attention(channels, num_heads, head_dim, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens of a window `(b, t, n, c)` -> tokens of the same shape."""
        # Queries: the frame itself. Keys and values: the first frame of the window and the previous frame.
        query = self.norm1(tokens)
        previous = torch.cat([query[:, :1], query[:, :-1]], dim=1)
        context = torch.cat([query[:, :1].expand_as(query), previous], dim=2)
        query, context = query.flatten(0, 1), context.flatten(0, 1)
        tokens = tokens + self.spatial_attention(query, context, context).view_as(tokens)

        tokens = tokens + self.feedforward(self.norm2(tokens))

        over_time = self.norm3(tokens).transpose(1, 2)  # (b, n, t, c)
        b, n = over_time.shape[:2]
        over_time = over_time.flatten(0, 1)
        over_time = self.temporal_attention(over_time, over_time, over_time)
        return tokens + over_time.unflatten(0, (b, n)).transpose(1, 2)


@dataclass
class KalmanGainOutput(BaseOutput):
    """Output of [`KalmanGainNetwork`].

    Attributes:
        gains (`torch.Tensor` of shape `(b, t, 1, h, w)`): Weights of the predictions, in (0, 1).  The gain of the
            first frame of a clip has no meaning, because there is no prediction for it.
    """

    gains: torch.Tensor


class KalmanGainNetwork(BuiltInWeights, ModelMixin, AttentionMixin, ConfigMixin):
    """Kalman gain network (section 3.2): from the observations of a window to one gain per token of every frame.

    It consists of an uncertainty network (attention blocks) and a gain network (convolutional blocks).

    Args:
        latent_channels (`int`, *optional*, defaults to 256): Width of a latent.
        num_heads (`int`, *optional*, defaults to 8): Heads of the attentions.
        head_dim (`int`, *optional*, defaults to 48): Width of a head.
        num_uncertainty_layers (`int`, *optional*, defaults to 3): Blocks of the uncertainty network.
        num_gain_layers (`int`, *optional*, defaults to 3): Blocks of the gain network.
        norm_num_groups (`int`, *optional*, defaults to 32): Groups of the group norms.
    """

    _gradient_checkpointing_func: Callable[..., torch.Tensor]  # set by `enable_gradient_checkpointing`
    _supports_gradient_checkpointing = True
    _no_split_modules = ("UncertaintyBlock", "ResidualBlock")
    _repeated_blocks = ("UncertaintyBlock", "ResidualBlock")

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 256,
        num_heads: int = 8,
        head_dim: int = 48,
        num_uncertainty_layers: int = 3,
        num_gain_layers: int = 3,
        norm_num_groups: int = 32,
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.uncertainty_layers = nn.ModuleList(
            UncertaintyBlock(latent_channels, num_heads, head_dim) for _ in range(num_uncertainty_layers)
        )
        self.gain_layers = nn.ModuleList(
            ResidualBlock(latent_channels, latent_channels, norm_num_groups) for _ in range(num_gain_layers)
        )
        self.to_gain = nn.Conv2d(latent_channels, 1, 1)

    def forward(self, observed: torch.Tensor, return_dict: bool = True) -> KalmanGainOutput | tuple[torch.Tensor]:
        """Compute the gains of a window.

        Args:
            observed (`torch.Tensor` of shape `(b, t, latent_channels, h, w)`): z_obs of all frames.
            return_dict (`bool`, *optional*, defaults to `True`): Whether to return a [`KalmanGainOutput`].

        Returns:
            [`KalmanGainOutput`] or a tuple of its field, the gains `(b, t, 1, h, w)`.

        Raises:
            ValueError: If the observations have another shape.
        """
        if observed.ndim != 5 or observed.shape[2] != self.config.latent_channels:
            raise ValueError(
                f"The observations must be (b, t, {self.config.latent_channels}, h, w); not {tuple(observed.shape)}."
            )
        b, t, _, h, w = observed.shape
        tokens = observed.flatten(3).transpose(2, 3)  # (b, t, n, c)
        for layer in self.uncertainty_layers:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                tokens = self._gradient_checkpointing_func(layer, tokens)
            else:
                tokens = layer(tokens)
        x = tokens.transpose(2, 3).reshape(b * t, -1, h, w)
        for layer in self.gain_layers:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(layer, x)
            else:
                x = layer(x)
        gains = self.to_gain(x).sigmoid().unflatten(0, (b, t))
        return KalmanGainOutput(gains) if return_dict else (gains,)
