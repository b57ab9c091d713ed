"""The published weights of the face model become those of [`KeepVQModel`], by a table of names."""

import re
from typing import Any

from ..checkpoint_files import StateDict
from .weights import Model, count, load_exactly, rename, require, sizes


# Published name -> ours. All rules are applied, in this order. The `blocks.N` of encoders and generator are numbered
# across all levels: `encoder_blocks` and `generator_blocks` list our names in that order.
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


def build_vq(model_class: type[Model], state_dict: StateDict, **config: int | bool) -> Model:
    """Build the face model from the published encoders, transformer, codebook, generator and fusion blocks.

    Args:
        model_class (`type`): [`KeepVQModel`].
        state_dict (`dict[str, torch.Tensor]`): The published weights, without those of gain and flow network.
        config (*optional*): See [`keep_hf.models.conversion.convert_checkpoint`].

    Raises:
        ValueError: If weights are missing, unexpected or of another shape.
    """
    require(state_dict, ["encoder.blocks.0.weight", "position_emb", "quantize.embedding.weight", "feat_emb.weight"])
    settings = _settings(state_dict, **config)
    num_levels, layers_per_block = len(settings["block_out_channels"]), settings["layers_per_block"]
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
        name = rename(key, VQ_NAMES)
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            stem, kind = name.rsplit("in_proj_", 1)
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                converted[f"{stem}to_{letter}.{kind}"] = part.clone()
        elif ".attention.to_" in name and value.ndim == 4:
            converted[name] = value[:, :, 0, 0].clone()  # a 1 x 1 convolution is a linear layer
        else:
            converted[name] = value
    return load_exactly(model_class(**settings), converted)


def _settings(state_dict: StateDict, **config: int | bool) -> dict[str, Any]:
    """The configuration of the face model that has the sizes of the published weights."""
    num_blocks = count(state_dict, r"encoder\.blocks\.(\d+)\.")
    resnets = [i for i in range(num_blocks) if f"encoder.blocks.{i}.conv1.weight" in state_dict]
    downsamples = [i for i in range(num_blocks) if f"encoder.blocks.{i}.conv.weight" in state_dict]
    if not resnets or not downsamples:
        raise ValueError("The checkpoint is incomplete: its encoder has no residual block or no downsampling.")
    # The last residual block before every downsampling, and the one in the middle block, have the width of the level.
    last_resnets = [*(i - 1 for i in downsamples), resnets[-1]]
    last_weights = [f"encoder.blocks.{i}.conv2.weight" for i in last_resnets]
    require(state_dict, last_weights)
    num_codes, latent_channels = state_dict["quantize.embedding.weight"].shape
    num_tokens, transformer_channels = state_dict["position_emb"].shape
    cross_frame_sizes = sizes(state_dict, r"(?:cross_fuse|cfa)\.(\d+)\.")
    cross_frame_num_heads = config.pop("cross_frame_num_heads", 4)
    cross_frame_width = 256 * cross_frame_num_heads
    if cross_frame_sizes:
        dialect = "cfa" if any(key.startswith("cfa.") for key in state_dict) else "cross_fuse"
        cross_frame_width = state_dict[f"{dialect}.{cross_frame_sizes[0]}.attn.to_q.weight"].shape[0]
    single_frame = "hq_encoder.blocks.0.weight" not in state_dict
    settings: dict[str, Any] = {
        "sample_size": int(num_tokens**0.5) * 2 ** (len(last_resnets) - 1),
        "block_out_channels": [state_dict[key].shape[0] for key in last_weights],
        "layers_per_block": downsamples[0] - 1,
        "latent_channels": latent_channels,
        "num_codes": num_codes,
        "transformer_channels": transformer_channels,
        "transformer_num_heads": 8,
        "transformer_num_layers": count(state_dict, r"ft_layers\.(\d+)\."),
        "fusion_sizes": sizes(state_dict, r"(?:fuse_convs_dict|cft)\.(\d+)\."),
        "cross_frame_sizes": cross_frame_sizes,
        "cross_frame_num_heads": cross_frame_num_heads,
        "cross_frame_head_dim": cross_frame_width // cross_frame_num_heads,
        "has_hq_encoder": not single_frame,
        "adain": single_frame,  # as in the published script of CodeFormer
    }
    return settings | config


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
