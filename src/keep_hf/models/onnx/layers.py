"""The layers of networks from ONNX files: those of torch, and the few operators that torch has no layer for.

A layer is described by its kind, a key of `LAYERS`, and by the arguments of its class.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from ..fast_paths import is_plain, takes_fast_path


class Convolution(nn.Conv2d):
    """A convolution, and ReLU after it if `relu` is true.

    On a CPU, oneDNN computes both in one pass.  With one thread torch would otherwise choose slower kernels for 1 x 1
    convolutions, which are most of the work in networks for mobile devices.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: list[int],
        stride: list[int],
        padding: list[int],
        dilation: list[int],
        groups: int,
        bias: bool,
        relu: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            (kernel_size[0], kernel_size[1]),
            (stride[0], stride[1]),
            (padding[0], padding[1]),
            (dilation[0], dilation[1]),
            groups,
            bias,
        )
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if takes_fast_path(x, self.weight.dtype) and is_plain(self.weight):
            activation = "relu" if self.relu else "none"
            return torch.ops.mkldnn._convolution_pointwise(
                x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups, activation, [], ""
            )
        x = super().forward(x)
        return F.relu(x) if self.relu else x


class Affine(nn.Module):
    """A factor and a summand for every channel: batch normalization with fixed statistics."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight + self.bias


class Constant(nn.Module):
    """A fixed value."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))

    def forward(self) -> torch.Tensor:
        # A copy: offloading empties the parameter after the call.
        return self.value.clone()


class Elementwise(nn.Module):
    """Add, subtract, multiply or divide two values."""

    def __init__(self, function: str) -> None:
        super().__init__()
        self.function = FUNCTIONS[function]

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.function(a, b)


class Concatenate(nn.Module):
    """Join values along a dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return torch.cat(values, self.dim)


class Reshape(nn.Module):
    """Give every item of the batch another shape."""

    def __init__(self, shape: list[int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, *self.shape)


class Permute(nn.Module):
    """Change the order of the dimensions."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(self.dims)


FUNCTIONS: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
}
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "affine": Affine,
    "average_pool": nn.AvgPool2d,
    "clamp": nn.Hardtanh,
    "concatenate": Concatenate,
    "constant": Constant,
    "convolution": Convolution,
    "elementwise": Elementwise,
    "global_average_pool": nn.AdaptiveAvgPool2d,
    "linear": nn.Linear,
    "max_pool": nn.MaxPool2d,
    "pad": nn.ZeroPad2d,
    "permute": Permute,
    "prelu": nn.PReLU,
    "relu": nn.ReLU,
    "reshape": Reshape,
    "sigmoid": nn.Sigmoid,
    "upsample": nn.Upsample,
}
