"""Configurations of new networks: `paper` is the published size, `tiny` that of the packaged model."""

from typing import Any


VQ_NETWORKS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tiny": {
        "sample_size": 256,
        "patch_size": 4,
        "layers_per_block": 1,
        "block_out_channels": (48, 96, 128),
        "norm_num_groups": 16,
        "latent_channels": 64,
        "num_codes": 1024,
        "transformer_channels": 192,
        "transformer_num_heads": 6,
        "transformer_num_layers": 4,
        "fusion_sizes": (16, 32, 64),
        "cross_frame_sizes": (16, 32),
        "cross_frame_num_heads": 4,
        "cross_frame_head_dim": 32,
    },
}

KALMAN_NETWORKS: dict[str, dict[str, Any]] = {
    "paper": {},
    "tiny": {
        "latent_channels": 64,
        "num_heads": 4,
        "head_dim": 16,
        "num_uncertainty_layers": 2,
        "num_gain_layers": 2,
        "norm_num_groups": 16,
    },
}
