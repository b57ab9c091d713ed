"""Published checkpoints with small networks: state dicts by the published names."""

import io
import re

import torch

from keep_hf import KeepVQModel
from keep_hf.models.published.vq_weights import encoder_blocks, generator_blocks


# Our names -> the published ones, in blocks of encoders and decoder and elsewhere
IN_BLOCKS = [(r"attention\.to_out\.", "proj_out."), (r"attention\.to_([qkv])\.", r"\1."), (r"shortcut\.", "conv_out.")]
ELSEWHERE = [
    (r"^codebook\.", "quantize.embedding."),
    (r"^code_transformer\.position$", "position_emb"),
    (r"^code_transformer\.linear_in\.", "feat_emb."),
    (r"^code_transformer\.norm_out\.", "idx_pred_layer.0."),
    (r"^code_transformer\.to_logits\.", "idx_pred_layer.1."),
    (r"^code_transformer\.layers\.", "ft_layers."),
    (r"attention\.to_out\.", "self_attn.out_proj."),
    (r"^feature_fusion\.", "fuse_convs_dict."),
    (r"\.encode\.", ".encode_enc."),
    (r"encode_enc\.shortcut\.", "encode_enc.conv_out."),
    (r"\.(scale|shift)_in\.", r".\1.0."),
    (r"\.(scale|shift)_out\.", r".\1.2."),
]


def small_codeformer() -> KeepVQModel:
    """A single-frame model with random weights in which every layer has an effect."""
    torch.manual_seed(0)
    vq = KeepVQModel(
        sample_size=64,
        block_out_channels=(32, 32),
        layers_per_block=1,
        latent_channels=16,
        num_codes=32,
        transformer_channels=32,
        transformer_num_layers=1,
        fusion_sizes=(32,),
        cross_frame_sizes=(),
        has_hq_encoder=False,
        adain=True,
    ).eval()
    with torch.no_grad():
        for parameter in vq.feature_fusion.parameters():
            parameter.normal_(std=0.1)
    return vq


def published_state_dict(vq: KeepVQModel) -> dict[str, torch.Tensor]:
    """The weights of a single-frame model by the published names."""
    sizes = len(vq.config.block_out_channels), vq.config.layers_per_block
    parts = {
        "lq_encoder": ("encoder", encoder_blocks(*sizes)),
        "decoder": ("generator", generator_blocks(*sizes)),
    }
    published = {}
    for key, value in vq.state_dict().items():
        part, _, rest = key.partition(".")
        if part in parts:
            prefix, blocks = parts[part]
            block = next(name for name in blocks if rest.startswith(f"{name}."))
            name = _rename(rest.removeprefix(f"{block}."), IN_BLOCKS)
            is_convolution = "attention.to_" in key and key.endswith("weight")
            name = f"{prefix}.blocks.{blocks.index(block)}.{name}"
            published[name] = value[:, :, None, None] if is_convolution else value
        elif match := re.search(r"attention\.to_q\.(weight|bias)$", key):
            together = [vq.state_dict()[key.replace("to_q", f"to_{letter}")] for letter in "qkv"]
            stem = _rename(key[: match.start()], ELSEWHERE)
            published[f"{stem}self_attn.in_proj_{match[1]}"] = torch.cat(together)
        elif not re.search(r"attention\.to_[kv]\.", key):
            published[_rename(key, ELSEWHERE)] = value
    return {key: value.clone() for key, value in published.items()}


def checkpoint_file(state_dict: dict[str, torch.Tensor]) -> bytes:
    """A checkpoint file as the authors publish it."""
    file = io.BytesIO()
    torch.save({"params_ema": state_dict}, file)
    return file.getvalue()


def _rename(key: str, names: list[tuple[str, str]]) -> str:
    for pattern, replacement in names:
        key = re.sub(pattern, replacement, key)
    return key
