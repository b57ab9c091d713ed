"""Conversion of published checkpoints: tables of names, and sizes that are read from the weights.

Supported checkpoints:

- KEEP release v0.1.0: a bare state dict with `cross_fuse` and `fuse_convs_dict`;
- KEEP release v1.0.0: under `params_ema`, with `cfa` and `cft` in place of these names;
- the Asian model: as v1.0.0, with SFT at 32, 64, 128 and 256;
- CodeFormer: one encoder, no Kalman filter, no flow;
- GMFlow alone: under `model`.

The weights do not show the numbers of attention heads.  They are the published ones unless the caller passes others.
"""

from diffusers import ModelMixin

from .checkpoint_files import StateDict
from .flow.gmflow import GMFlow
from .kalman import KalmanGainNetwork
from .published.vq_weights import build_vq
from .published.weights import count, load_exactly, rename, require, split
from .vq import KeepVQModel


# Published name -> ours. All rules are applied, in this order. `published/vq_weights.py` has those of the face model.
FLOW_NAMES: list[tuple[str, str]] = [
    (r"^backbone\.conv1\.", "backbone.conv_in."),
    (r"^backbone\.conv2\.", "backbone.conv_out."),
    (r"^backbone\.layer1\.(\d)\.", r"backbone.levels.0.blocks.\1."),
    (r"^backbone\.layer2\.(\d)\.", r"backbone.levels.1.blocks.\1."),
    (r"^backbone\.layer3\.(\d)\.", r"backbone.levels.2.blocks.\1."),
    (r"\.downsample\.0\.", ".conv_shortcut."),
    (r"\.cross_attn_ffn\.mlp\.0\.", ".feed_forward.linear_in."),
    (r"\.cross_attn_ffn\.mlp\.2\.", ".feed_forward.linear_out."),
    (r"\.cross_attn_ffn\.norm2\.", ".feed_forward.norm."),
    (r"\.cross_attn_ffn\.", ".cross_attention."),
    (r"\.self_attn\.", ".self_attention."),
    (r"attention\.norm1\.", "attention.norm."),
    (r"attention\.merge\.", "attention.to_out."),
    (r"^feature_flow_attn\.", "propagation."),
    (r"\.q_proj\.", ".to_q."),
    (r"\.k_proj\.", ".to_k."),
    (r"\.v_proj\.", ".to_v."),
    (r"^upsampler\.0\.", "upsampler.conv1."),
    (r"^upsampler\.2\.", "upsampler.conv2."),
]
KALMAN_NAMES: list[tuple[str, str]] = [
    (r"^uncertainty_estimator\.", "uncertainty_layers."),
    (r"\.attn1\.", ".spatial_attention."),
    (r"\.attn_temp\.", ".temporal_attention."),
    (r"\.to_out\.0\.", ".to_out."),
    (r"\.ff\.", ".feedforward."),
    (r"\.norm3\.", ".norm2."),
    (r"\.norm_temp\.", ".norm3."),
    (r"^kalman_gain_calculator\.(\d+)\.(norm|conv)", r"gain_layers.\1.\2"),
    (r"^kalman_gain_calculator\.\d+\.", "to_gain."),
]


def convert_checkpoint(state_dict: StateDict, **config: int | bool) -> dict[str, ModelMixin]:
    """Build the components that a published state dict contains.

    Args:
        state_dict (`dict[str, torch.Tensor]`): From `load_checkpoint`.
        config (*optional*): Settings of [`KeepVQModel`] that the weights do not show, if they differ from the
            published ones: `transformer_num_heads`, `cross_frame_num_heads`, `norm_num_groups`, `adain`.

    Returns:
        `dict[str, ModelMixin]`: `vq`, `kalman` and `flow` for KEEP, `vq` for CodeFormer, `flow` for GMFlow alone.

    Raises:
        ValueError: If it is none of these checkpoints, or weights are missing, unexpected or of another shape.
    """
    if "backbone.conv1.weight" in state_dict:
        return {"flow": convert_flow(state_dict)}
    parts = split(state_dict)
    components: dict[str, ModelMixin] = {"vq": build_vq(KeepVQModel, parts.vq, **config)}
    if parts.kalman or parts.flow:
        # The published constructor takes one number of heads for the code transformer and the gain network.
        components["kalman"] = convert_kalman(parts.kalman, components["vq"].config.transformer_num_heads)
        components["flow"] = convert_flow(parts.flow)
    return components


def convert_flow(state_dict: StateDict) -> GMFlow:
    """Build GMFlow from its published state dict, whose first key is `backbone.conv1.weight`."""
    require(
        state_dict, ["backbone.conv1.weight", "backbone.conv2.weight", "transformer.layers.0.self_attn.q_proj.weight"]
    )
    flow = GMFlow(
        backbone_channels=[state_dict[f"backbone.layer{i}.0.conv1.weight"].shape[0] for i in (1, 2, 3)],
        feature_channels=state_dict["backbone.conv2.weight"].shape[0],
        num_layers=count(state_dict, r"transformer\.layers\.(\d+)\."),
    )
    return load_exactly(flow, {rename(key, FLOW_NAMES): value for key, value in state_dict.items()})


def convert_kalman(state_dict: StateDict, num_heads: int = 8) -> KalmanGainNetwork:
    """Build the gain network from the published weights under `kalman_filter.`, given without this prefix."""
    query = "uncertainty_estimator.0.attn1.to_q.weight"
    require(state_dict, [query])
    inner, channels = state_dict[query].shape
    kalman = KalmanGainNetwork(
        latent_channels=channels,
        num_heads=num_heads,
        head_dim=inner // num_heads,
        num_uncertainty_layers=count(state_dict, r"uncertainty_estimator\.(\d+)\."),
        num_gain_layers=count(state_dict, r"kalman_gain_calculator\.(\d+)\.conv1\."),
    )
    return load_exactly(kalman, {rename(key, KALMAN_NAMES): value for key, value in state_dict.items()})
