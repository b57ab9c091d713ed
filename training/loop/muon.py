"""Muon for convolutional networks: orthogonal steps for matrices, AdamW for everything else.

A convolution is a matrix from all values under its kernel to its output channels. Its step is the orthogonal matrix
nearest to the averaged gradient, so that rare directions are learned as fast as frequent ones (Jordan et al., 2024).
Its length is scaled by the size of the matrix, so that one learning rate suits both kinds of parameters (Liu et al.,
2025, arXiv 2502.16982).
"""

import torch
from pytorch_optimizer import Muon
from torch import nn


def make_muon(module: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """An optimizer for all parameters of a module that require gradients.

    The weights of convolutions and linear layers are matrices; biases, norms and embeddings are left to AdamW.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    is_matrix = {id(layer.weight) for layer in layers}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if id(parameter) in is_matrix]
    others = [parameter for parameter in trained if id(parameter) not in is_matrix]
    groups = [
        {"params": parameters, "use_muon": parameters is matrices, "weight_decay": weight_decay}
        for parameters in (matrices, others)
        if parameters
    ]
    return Muon(groups, use_adjusted_lr=True, adamw_betas=(0.9, 0.99))
