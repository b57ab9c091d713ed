"""A face parser for the tests: a SegFormer of the smallest size with the classes of CelebAMask-HQ, untrained."""

import pytest
import torch


LABELS = ["background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth"]
LABELS += ["u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth"]


def make_segformer():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[4, 4, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
        id2label=dict(enumerate(LABELS)),
        label2id={name: i for i, name in enumerate(LABELS)},
    )
    return transformers.SegformerForSemanticSegmentation(config).eval()
