"""Conversion of published checkpoints: tables of names, and sizes that are read from the weights.

Supported checkpoints:

- KEEP release v0.1.0: a bare state dict with `cross_fuse` and `fuse_convs_dict`;
- KEEP release v1.0.0: under `params_ema`, with `cfa` and `cft` in place of these names;
- the Asian model: as v1.0.0, with SFT at 32, 64, 128 and 256;
- CodeFormer: one encoder, no Kalman filter, no flow;
- GMFlow alone: under `model`.

The weights do not show the numbers of attention heads.  They are the published ones unless the caller passes others.
"""

import re
from typing import TypeVar

from diffusers import ModelMixin

from .checkpoint_files import StateDict
from .flow.gmflow import GMFlow
from .kalman import KalmanGainNetwork
from .vq import KeepVQModel


Model = TypeVar("Model", bound=ModelMixin)

# Published name -> ours. All rules are applied, in this order. The `blocks.N` of encoders and generator are numbered
# across all levels: `encoder_blocks` and `generator_blocks` list our names in that order.
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
VQ_NAMES: list[tuple[str, str]] = [
    (r"^encoder\.", "lq_encoder."),
    (r"^generator\.", "decoder."),
    (r"\.([qkv])\.", r".attention.to_\1."),
    (r"\.proj_out\.", ".attention.to_out."),
    (r"(resnets\.\d+|resnet\d|encode_enc)\.conv_out\.", r"\1.shortcut."),
    (r"^quantize\.embedding\.", "codebook."),
    (r"^position_emb$", "code_transformer.position"),
    (r"^feat_emb\.", "code_transformer.linear_in."),
    (r"^ft_layers\.", "code_transformer.layers."),
    (r"\.self_attn\.out_proj\.", ".attention.to_out."),
    (r"\.self_attn\.", ".attention."),
    (r"^idx_pred_layer\.0\.", "code_transformer.norm_out."),
    (r"^idx_pred_layer\.1\.", "code_transformer.to_logits."),
    (r"^(?:fuse_convs_dict|cft)\.", "feature_fusion."),
    (r"\.encode_enc\.", ".encode."),
    (r"\.(scale|shift)\.0\.", r".\1_in."),
    (r"\.(scale|shift)\.2\.", r".\1_out."),
    (r"^(?:cross_fuse|cfa)\.", "cross_frame."),
    (r"^(cross_frame\.\d+)\.attn\.", r"\1.attention."),
    (r"^(cross_frame\.\d+)\.ff\.", r"\1.feedforward."),
    (r"\.to_out\.0\.", ".to_out."),
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
    parts: dict[str, StateDict] = {"flow": {}, "kalman": {}, "vq": {}}
    for key, value in state_dict.items():
        if key.startswith("flownet.model."):
            parts["flow"][key.removeprefix("flownet.model.")] = value
        elif key.startswith("kalman_filter."):
            parts["kalman"][key.removeprefix("kalman_filter.")] = value
        else:
            parts["vq"][key] = value
    if "backbone.conv1.weight" in state_dict:
        return {"flow": convert_flow(state_dict)}
    if "generator.blocks.0.weight" not in state_dict:
        raise ValueError(
            "This is not a checkpoint of KEEP, CodeFormer or GMFlow: it has neither 'generator.blocks.0.weight' nor "
            f"'backbone.conv1.weight'. Its first keys are {list(state_dict)[:5]}."
        )
    components: dict[str, ModelMixin] = {"vq": convert_vq(parts["vq"], **config)}
    if parts["kalman"] or parts["flow"]:
        # The published constructor takes one number of heads for the code transformer and the gain network.
        components["kalman"] = convert_kalman(parts["kalman"], components["vq"].config.transformer_num_heads)
        components["flow"] = convert_flow(parts["flow"])
    return components


def convert_flow(state_dict: StateDict) -> GMFlow:
    """Build GMFlow from its published state dict, whose first key is `backbone.conv1.weight`."""
    _require(
        state_dict, ["backbone.conv1.weight", "backbone.conv2.weight", "transformer.layers.0.self_attn.q_proj.weight"]
    )
    flow = GMFlow(
        backbone_channels=[state_dict[f"backbone.layer{i}.0.conv1.weight"].shape[0] for i in (1, 2, 3)],
        feature_channels=state_dict["backbone.conv2.weight"].shape[0],
        num_layers=_count(state_dict, r"transformer\.layers\.(\d+)\."),
    )
    return _load(flow, {_rename(key, FLOW_NAMES): value for key, value in state_dict.items()})


def convert_kalman(state_dict: StateDict, num_heads: int = 8) -> KalmanGainNetwork:
    """Build the gain network from the published weights under `kalman_filter.`, given without this prefix."""
    query = "uncertainty_estimator.0.attn1.to_q.weight"
    _require(state_dict, [query])
    inner, channels = state_dict[query].shape
    kalman = KalmanGainNetwork(
        latent_channels=channels,
        num_heads=num_heads,
        head_dim=inner // num_heads,
        num_uncertainty_layers=_count(state_dict, r"uncertainty_estimator\.(\d+)\."),
        num_gain_layers=_count(state_dict, r"kalman_gain_calculator\.(\d+)\.conv1\."),
    )
    return _load(kalman, {_rename(key, KALMAN_NAMES): value for key, value in state_dict.items()})


def convert_vq(state_dict: StateDict, **config: int | bool) -> KeepVQModel:
    """Build the face model from the published encoders, transformer, codebook, generator and fusion blocks."""
    _require(state_dict, ["encoder.blocks.0.weight", "position_emb", "quantize.embedding.weight", "feat_emb.weight"])
    vq = _build_vq(state_dict, **config)
    num_levels, layers_per_block = len(vq.config.block_out_channels), vq.config.layers_per_block
    layers = {
        "encoder": encoder_blocks(num_levels, layers_per_block),
        "hq_encoder": encoder_blocks(num_levels, layers_per_block),
        "generator": generator_blocks(num_levels, layers_per_block),
    }
    converted: StateDict = {}
    for key, value in state_dict.items():
        block = re.match(r"(encoder|hq_encoder|generator)\.blocks\.(\d+)\.", key)
        if block and int(block[2]) < len(layers[block[1]]):
            key = f"{block[1]}.{layers[block[1]][int(block[2])]}.{key[block.end() :]}"
        name = _rename(key, VQ_NAMES)
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            stem, kind = name.rsplit("in_proj_", 1)
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                converted[f"{stem}to_{letter}.{kind}"] = part.clone()
        elif ".attention.to_" in name and value.ndim == 4:
            converted[name] = value[:, :, 0, 0].clone()  # a 1 x 1 convolution is a linear layer
        else:
            converted[name] = value
    return _load(vq, converted)


def _build_vq(state_dict: StateDict, **config: int | bool) -> KeepVQModel:
    """Build the face model that has the sizes of the published weights, with new weights."""
    num_blocks = _count(state_dict, r"encoder\.blocks\.(\d+)\.")
    resnets = [i for i in range(num_blocks) if f"encoder.blocks.{i}.conv1.weight" in state_dict]
    downsamples = [i for i in range(num_blocks) if f"encoder.blocks.{i}.conv.weight" in state_dict]
    if not resnets or not downsamples:
        raise ValueError("The checkpoint is incomplete: its encoder has no residual block or no downsampling.")
    # The last residual block before every downsampling, and the one in the middle block, have the width of the level.
    last_resnets = [*(i - 1 for i in downsamples), resnets[-1]]
    last_weights = [f"encoder.blocks.{i}.conv2.weight" for i in last_resnets]
    _require(state_dict, last_weights)
    num_codes, latent_channels = state_dict["quantize.embedding.weight"].shape
    num_tokens, transformer_channels = state_dict["position_emb"].shape
    cross_frame_sizes = _sizes(state_dict, r"(?:cross_fuse|cfa)\.(\d+)\.")
    cross_frame_num_heads = config.pop("cross_frame_num_heads", 4)
    cross_frame_width = 256 * cross_frame_num_heads
    if cross_frame_sizes:
        dialect = "cfa" if any(key.startswith("cfa.") for key in state_dict) else "cross_fuse"
        cross_frame_width = state_dict[f"{dialect}.{cross_frame_sizes[0]}.attn.to_q.weight"].shape[0]
    single_frame = "hq_encoder.blocks.0.weight" not in state_dict
    settings = {
        "sample_size": int(num_tokens**0.5) * 2 ** (len(last_resnets) - 1),
        "block_out_channels": [state_dict[key].shape[0] for key in last_weights],
        "layers_per_block": downsamples[0] - 1,
        "latent_channels": latent_channels,
        "num_codes": num_codes,
        "transformer_channels": transformer_channels,
        "transformer_num_heads": 8,
        "transformer_num_layers": _count(state_dict, r"ft_layers\.(\d+)\."),
        "fusion_sizes": _sizes(state_dict, r"(?:fuse_convs_dict|cft)\.(\d+)\."),
        "cross_frame_sizes": cross_frame_sizes,
        "cross_frame_num_heads": cross_frame_num_heads,
        "cross_frame_head_dim": cross_frame_width // cross_frame_num_heads,
        "has_hq_encoder": not single_frame,
        "adain": single_frame,  # as in the published script of CodeFormer
    }
    return KeepVQModel(**(settings | config))


def encoder_blocks(num_levels: int, layers_per_block: int) -> list[str]:
    """Our names of the layers of an encoder, in the order of the published `blocks`."""
    names = ["conv_in"]
    for i in range(num_levels):
        for j in range(layers_per_block):
            names.append(f"levels.{i}.resnets.{j}")
            if i == num_levels - 1:
                names.append(f"levels.{i}.attentions.{j}")
        if i < num_levels - 1:
            names.append(f"downsamples.{i}")
    return [*names, "middle.resnet1", "middle.attention", "middle.resnet2", "norm_out", "conv_out"]


def generator_blocks(num_levels: int, layers_per_block: int) -> list[str]:
    """Our names of the layers of the decoder, in the order of the published `blocks`."""
    names = ["conv_in", "middle.resnet1", "middle.attention", "middle.resnet2"]
    for i in range(num_levels):
        for j in range(layers_per_block):
            names.append(f"levels.{i}.resnets.{j}")
            if i == 0:
                names.append(f"levels.{i}.attentions.{j}")
        if i < num_levels - 1:
            names.append(f"upsamples.{i}")
    return [*names, "norm_out", "conv_out"]


def _rename(key: str, names: list[tuple[str, str]]) -> str:
    for pattern, replacement in names:
        key = re.sub(pattern, replacement, key)
    return key


def _count(state_dict: StateDict, pattern: str) -> int:
    numbers = [int(match[1]) for key in state_dict if (match := re.match(pattern, key))]
    return max(numbers, default=-1) + 1


def _sizes(state_dict: StateDict, pattern: str) -> list[int]:
    return sorted({int(match[1]) for key in state_dict if (match := re.match(pattern, key))})


def _require(state_dict: StateDict, keys: list[str]) -> None:
    missing = [key for key in keys if key not in state_dict]
    if missing:
        raise ValueError(f"The checkpoint is incomplete: {missing} are missing.")


def _load(model: Model, state_dict: StateDict) -> Model:
    """Load the weights by our names; raise `ValueError` if they are not exactly those of the model."""
    expected = model.state_dict()
    missing = sorted(expected.keys() - state_dict.keys())
    unexpected = sorted(state_dict.keys() - expected.keys())
    reshaped = [
        f"{key} {tuple(state_dict[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected.keys() & state_dict.keys()
        if expected[key].shape != state_dict[key].shape
    ]
    if missing or unexpected or reshaped:
        problems = [
            f"{len(keys)} {what}: {', '.join(keys[:6])}{', ...' if len(keys) > 6 else ''}"
            for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
            if keys
        ]
        raise ValueError(f"The checkpoint does not fit {type(model).__name__} (by our names): {'; '.join(problems)}.")
    model.load_state_dict({key: value.float() for key, value in state_dict.items()})
    return model.eval()
