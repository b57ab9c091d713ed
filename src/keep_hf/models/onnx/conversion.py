"""Conversion of the graph of an ONNX file into layers.

The graph is run once, for an image of the size that the file names, operator by operator.  What does not depend on the
image becomes a constant; that includes the shapes that exporters of networks compute in the graph.  Every other
operator becomes a layer.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from .layers import LAYERS
from .onnx_file import Graph, Node


@dataclass
class Layer:
    """A layer and where its inputs come from.

    Args:
        kind (`str`): Key of [`LAYERS`].
        inputs (`list[int]`): 0 for the input of the network, `i` for the output of layer `i - 1`.
        arguments (`dict[str, Any]`): Arguments of the class.
        weights (`dict[str, torch.Tensor]`): State dict.
    """

    kind: str
    inputs: list[int]
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return the layer with its weights."""
        module = LAYERS[self.kind](**self.arguments)
        module.load_state_dict(self.weights)
        return module.eval()


class Converter:
    """Convert a graph for images.

    Args:
        graph ([`Graph`]): Network with one input of shape `(b, 3, h, w)`.
        outputs (`list[str]`): Names of the values that the network will output.
        side (`int`): Height and width for which the graph is run, where the file does not name them.

    Attributes:
        layers (`list[Layer]`): The layers in the order in which they are run.
        outputs (`list[int]`): Where the outputs come from, see `Layer.inputs`.
        shapes (`list[list[int]]`): Shapes of the outputs without the batch.

    Raises:
        ValueError: If an operator is not supported.
    """

    def __init__(self, graph: Graph, outputs: list[str], side: int) -> None:
        if len(graph.inputs) != 1 or len(next(iter(graph.inputs.values()))) != 4:
            raise ValueError(f"it must have one input, a batch of images, and has {graph.inputs}")
        ((name, (_, _, height, width)),) = graph.inputs.items()
        nodes = select_nodes(graph, outputs)
        self.num_uses = Counter([value for node in nodes for value in node.inputs] + outputs)
        self.known = dict(graph.weights)
        self.places = {name: 0}
        self.samples = [torch.full((1, 3, max(height, 0) or side, max(width, 0) or side), 0.5)]  # by place
        self.layers: list[Layer] = []
        for node in nodes:
            self._run(node)
        self.outputs = [self.places[output] for output in outputs]
        self.shapes = [list(self.samples[place].shape[1:]) for place in self.outputs]

    @torch.no_grad()
    def _run(self, node: Node) -> None:
        output = node.outputs[0]
        if node.op == "Shape" or all(name in self.known for name in node.inputs if name):
            self.known[output] = self._evaluate(node)
        elif node.op in ("Dropout", "Identity"):
            (source, *_) = node.inputs
            self.places[output] = self.places[source]
            self.num_uses[output] = max(self.num_uses[output], self.num_uses[source])
        elif not self._join_with_convolution(node):
            self._add(self._convert(node), output)

    def _add(self, layer: Layer, output: str) -> None:
        self.samples.append(layer.build()(*(self.samples[place] for place in layer.inputs)))
        self.layers.append(layer)
        self.places[output] = len(self.layers)

    def _sample(self, node: Node) -> torch.Tensor:
        """The first input of a node for the image that the graph is run for."""
        return self.samples[self.places[node.inputs[0]]]

    # Values that do not depend on the image

    def _evaluate(self, node: Node) -> torch.Tensor:
        if node.op == "Constant":
            return node.attributes["value"]
        if node.op == "Shape":
            return torch.tensor(self._sample(node).shape)
        values = [self.known[name] for name in node.inputs]
        if node.op == "Gather":
            return (
                values[0].index_select(node.attributes.get("axis", 0), values[1].reshape(-1)).reshape(values[1].shape)
            )
        if node.op == "Concat":
            return torch.cat(values, node.attributes["axis"])
        if node.op == "Unsqueeze":
            return values[0].reshape(1)
        raise ValueError(f"the operator {node.op} is not supported for shapes and constants")

    # Operators that become layers

    def _join_with_convolution(self, node: Node) -> bool:
        """Let the convolution before it do the work of a node, if nothing else uses the output of the convolution."""
        source = node.inputs[0]
        place = self.places.get(source, 0)
        layer = self.layers[place - 1] if place else None
        if layer is None or layer.kind != "convolution" or self.num_uses[source] > 1 or layer.arguments["relu"]:
            return False
        if node.op == "Relu":
            layer.arguments["relu"] = True
        elif node.op == "BatchNormalization":
            factor, summand = self._normalization(node)
            layer.weights["weight"] = layer.weights["weight"] * factor[:, None, None, None]
            layer.weights["bias"] = layer.weights["bias"] * factor + summand
        else:
            return False
        self.places[node.outputs[0]] = place
        return True

    def _convert(self, node: Node) -> Layer:
        converters = {
            "AveragePool": self._pool,
            "BatchNormalization": self._normalize,
            "Clip": self._clip,
            "Conv": self._convolve,
            "Flatten": self._reshape,
            "Gemm": self._multiply_matrix,
            "MaxPool": self._pool,
            "Pad": self._pad,
            "PRelu": self._prelu,
            "Reshape": self._reshape,
            "Resize": self._upsample,
            "Squeeze": self._reshape,
            "Upsample": self._upsample,
        }
        functions = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide"}
        simple = {"Relu": "relu", "Sigmoid": "sigmoid"}
        if node.op in converters:
            return converters[node.op](node)
        if node.op in functions:
            return Layer("elementwise", self._operands(node), {"function": functions[node.op]})
        if node.op in simple:
            return Layer(simple[node.op], self._operands(node))
        if node.op == "Concat":
            return Layer("concatenate", self._operands(node), {"dim": node.attributes["axis"]})
        if node.op == "GlobalAveragePool":
            return Layer("global_average_pool", self._operands(node), {"output_size": 1})
        if node.op == "Transpose":
            return Layer("permute", self._operands(node), {"dims": node.attributes["perm"]})
        raise ValueError(f"the operator {node.op} is not supported")

    def _operands(self, node: Node) -> list[int]:
        """Places of all inputs of a node; constants become layers."""
        for name in node.inputs:
            if name not in self.places:
                value = self.known[name].float()
                self._add(Layer("constant", [], {"shape": list(value.shape)}, {"value": value}), name)
        return [self.places[name] for name in node.inputs]

    def _convolve(self, node: Node) -> Layer:
        weight = self.known[node.inputs[1]].float()
        out_channels, in_channels, *kernel = weight.shape
        bias = self.known[node.inputs[2]].float() if len(node.inputs) > 2 else torch.zeros(out_channels)
        groups = node.attributes.get("group", 1)
        arguments = {
            "in_channels": in_channels * groups,
            "out_channels": out_channels,
            "kernel_size": kernel,
            "stride": node.attributes.get("strides", [1, 1]),
            "padding": symmetric_padding(node),
            "dilation": node.attributes.get("dilations", [1, 1]),
            "groups": groups,
            "bias": True,
            "relu": False,
        }
        return Layer("convolution", [self.places[node.inputs[0]]], arguments, {"weight": weight, "bias": bias})

    def _normalization(self, node: Node) -> tuple[torch.Tensor, torch.Tensor]:
        scale, shift, mean, variance = (self.known[name].float() for name in node.inputs[1:])
        factor = scale / (variance + node.attributes.get("epsilon", 1e-5)).sqrt()
        return factor, shift - mean * factor

    def _normalize(self, node: Node) -> Layer:
        shape = [-1] + [1] * (self._sample(node).ndim - 2)
        factor, summand = (value.reshape(shape) for value in self._normalization(node))
        weights = {"weight": factor, "bias": summand}
        return Layer("affine", [self.places[node.inputs[0]]], {"shape": list(factor.shape)}, weights)

    def _clip(self, node: Node) -> Layer:
        bounds = [self.known[name].item() if name else None for name in node.inputs[1:]] + [None, None]
        lowest, highest = node.attributes.get("min", bounds[0]), node.attributes.get("max", bounds[1])
        arguments = {
            "min_val": -3.4e38 if lowest is None else lowest,
            "max_val": 3.4e38 if highest is None else highest,
        }
        return Layer("clamp", [self.places[node.inputs[0]]], arguments)

    def _pool(self, node: Node) -> Layer:
        arguments: dict[str, Any] = {
            "kernel_size": node.attributes["kernel_shape"],
            "stride": node.attributes.get("strides", [1, 1]),
            "padding": symmetric_padding(node),
            "ceil_mode": bool(node.attributes.get("ceil_mode", 0)),
        }
        if node.op == "MaxPool":
            return Layer("max_pool", [self.places[node.inputs[0]]], arguments)
        arguments["count_include_pad"] = bool(node.attributes.get("count_include_pad", 0))
        return Layer("average_pool", [self.places[node.inputs[0]]], arguments)

    def _pad(self, node: Node) -> Layer:
        pads = self.known[node.inputs[1]].tolist() if len(node.inputs) > 1 else node.attributes["pads"]
        value = self.known[node.inputs[2]].item() if len(node.inputs) > 2 else node.attributes.get("value", 0)
        if node.attributes.get("mode", "constant") != "constant" or value or any(pads[:2] + pads[4:6]):
            raise ValueError("the operator Pad is only supported for zeros around the image")
        return Layer("pad", [self.places[node.inputs[0]]], {"padding": [pads[3], pads[7], pads[2], pads[6]]})

    def _prelu(self, node: Node) -> Layer:
        slopes = self.known[node.inputs[1]].float().reshape(-1)
        arguments = {"num_parameters": len(slopes)}
        return Layer("prelu", [self.places[node.inputs[0]]], arguments, {"weight": slopes})

    def _multiply_matrix(self, node: Node) -> Layer:
        weight = self.known[node.inputs[1]].float() * node.attributes.get("alpha", 1.0)
        weight = weight if node.attributes.get("transB", 0) else weight.T
        bias = self.known[node.inputs[2]].float() if len(node.inputs) > 2 else torch.zeros(len(weight))
        weights = {"weight": weight, "bias": bias.expand(len(weight)) * node.attributes.get("beta", 1.0)}
        arguments = {"in_features": weight.shape[1], "out_features": weight.shape[0]}
        return Layer("linear", [self.places[node.inputs[0]]], arguments, weights)

    def _reshape(self, node: Node) -> Layer:
        sample = self._sample(node)
        if node.op == "Reshape":
            sizes = [
                sample.shape[i] if size == 0 else size for i, size in enumerate(self.known[node.inputs[1]].tolist())
            ]
            shape = sample.reshape(sizes).shape
        elif node.op == "Flatten":
            shape = sample.flatten(1).shape
        else:
            axes = self.known[node.inputs[1]].tolist() if len(node.inputs) > 1 else node.attributes["axes"]
            shape = sample.squeeze(axes).shape
        if shape[0] != 1:
            raise ValueError(f"the operator {node.op} is not supported for the dimension of the batch")
        return Layer("reshape", [self.places[node.inputs[0]]], {"shape": list(shape[1:])})

    def _upsample(self, node: Node) -> Layer:
        sample = self._sample(node)
        factors = [value for value in map(self.known.get, node.inputs[1:]) if value is not None and value.numel() == 4]
        kind = node.attributes.get("mode", "nearest"), node.attributes.get("coordinate_transformation_mode")
        if kind[0] != "nearest" or kind[1] == "align_corners" or not factors:
            raise ValueError(f"the operator {node.op} is only supported for repeated pixels")
        last = factors[-1].float()
        # Of a Resize with four inputs, the last one are sizes instead of factors.
        factor = last / torch.tensor(sample.shape) if len(node.inputs) == 4 else last
        if factor[:2].tolist() != [1, 1] or factor[2] != factor[3] or factor.frac().any():
            raise ValueError(f"the operator {node.op} is only supported for repeated pixels, with whole factors")
        return Layer("upsample", [self.places[node.inputs[0]]], {"scale_factor": factor[2].item()})


def select_nodes(graph: Graph, outputs: list[str]) -> list[Node]:
    """Return the nodes that outputs depend on, in the order of the graph."""
    needed, nodes = set(outputs), []
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed.update(node.inputs)
            nodes.append(node)
    return nodes[::-1]


def symmetric_padding(node: Node) -> list[int]:
    """Return rows and columns that are added on every side.

    Raises:
        ValueError: If the sides differ.
    """
    top, left, bottom, right = node.attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right) or node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise ValueError(f"the operator {node.op} is only supported with equal padding on opposite sides")
    return [top, left]
