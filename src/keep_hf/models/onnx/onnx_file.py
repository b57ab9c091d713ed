"""ONNX files: the graph of a network and its weights.

An ONNX file is a protobuf message (onnx.proto3 of the ONNX project). A message is a sequence of fields. Each begins
with its number and its wire type; the value is an integer of variable length, 4 or 8 bytes, or a length and as many
bytes, which can be a text, an array or another message. Only the fields of networks for inference are read here, for
which a dependency would be too much.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch


DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}
# Fields of a tensor with its values, if they are not in `raw_data`: float_data, int32_data, int64_data, double_data
FLOATS, INTEGERS, DOUBLES = 4, (5, 7), 10


@dataclass
class Node:
    """An operation of a graph.

    Args:
        op (`str`): Name of the operator, such as `"Conv"`.
        inputs, outputs (`list[str]`): Names of values; the name of an input that is left out is empty.
        attributes (`dict[str, Any]`): Numbers, texts, lists of them, and tensors.
    """

    op: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]


@dataclass
class Graph:
    """A network as its file describes it.

    Args:
        nodes (`list[Node]`): Operations in an order in which they can be run.
        weights (`dict[str, torch.Tensor]`): Constant values by name.
        inputs (`dict[str, list[int]]`): Shapes by name, without those of the weights; a size that is not fixed is 0.
        outputs (`list[str]`): Names of the values that the network outputs.
    """

    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    inputs: dict[str, list[int]] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)


class Message:
    """A protobuf message: the values of every field, in their order.

    Args:
        content (`memoryview`): Bytes of the message.
    """

    def __init__(self, content: memoryview) -> None:
        self.fields: dict[int, list[Any]] = {}
        for number, value in _read_fields(content):
            self.fields.setdefault(number, []).append(value)

    def text(self, number: int) -> str:
        return bytes(self.fields.get(number, [b""])[-1]).decode()

    def texts(self, number: int) -> list[str]:
        return [bytes(value).decode() for value in self.fields.get(number, [])]

    def integer(self, number: int) -> int:
        return self.fields.get(number, [0])[-1]

    def integers(self, number: int) -> list[int]:
        """A repeated field; its values are in fields of their own, or packed into one."""
        numbers: list[int] = []
        for value in self.fields.get(number, []):
            numbers += [value] if isinstance(value, int) else _read_integers(value)
        return numbers

    def floats(self, number: int, kind: type = np.float32) -> np.ndarray:
        return np.frombuffer(b"".join(self.fields.get(number, [])), kind)

    def messages(self, number: int) -> list["Message"]:
        return [Message(value) for value in self.fields.get(number, [])]


def read_onnx(path: str | Path) -> Graph:
    """Read an ONNX file.

    Args:
        path (`str` or `Path`): File.

    Returns:
        [`Graph`]

    Raises:
        ValueError: If the file does not exist, is damaged or is no ONNX file.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {str(path)!r}: pass the path of an .onnx file.")
    try:
        (content,) = Message(memoryview(path.read_bytes())).messages(7)
        graph = _read_graph(content)
    except (ValueError, TypeError, IndexError, KeyError, struct.error) as error:
        raise ValueError(f"{path} is damaged, or not an ONNX file with its weights ({error}).") from error
    if not graph.nodes or not graph.outputs:
        raise ValueError(f"{path} is damaged, or not an ONNX file with its weights (it has no operations).")
    return graph


def _read_graph(content: Message) -> Graph:
    graph = Graph(outputs=[output.text(1) for output in content.messages(12)])
    for node in content.messages(1):
        attributes = {attribute.text(1): _read_attribute(attribute) for attribute in node.messages(5)}
        graph.nodes.append(Node(node.text(4), node.texts(1), node.texts(2), attributes))
    graph.weights = {tensor.text(8): _read_tensor(tensor) for tensor in content.messages(5)}
    for value in content.messages(11):
        if value.text(1) not in graph.weights:
            ((shape,),) = ([tensor.messages(2)[0] for tensor in kind.messages(1)] for kind in value.messages(2))
            graph.inputs[value.text(1)] = [size.integer(1) for size in shape.messages(1)]
    return graph


def _read_attribute(attribute: Message) -> Any:
    kind = attribute.integer(20)
    if kind == 1:
        return float(attribute.floats(2)[0])
    if kind == 2:
        return attribute.integer(3)
    if kind == 3:
        return attribute.text(4)
    if kind == 4:
        return _read_tensor(attribute.messages(5)[0])
    if kind == 6:
        return attribute.floats(7).tolist()
    if kind == 7:
        return attribute.integers(8)
    raise ValueError(f"attributes of type {kind} are not supported")


def _read_tensor(tensor: Message) -> torch.Tensor:
    if tensor.integer(14):
        raise ValueError("the weights are in another file")
    if tensor.integer(2) not in DTYPES:
        raise ValueError(f"tensors of type {tensor.integer(2)} are not supported")
    dtype = np.dtype(DTYPES[tensor.integer(2)])
    if 9 in tensor.fields:
        values = np.frombuffer(tensor.fields[9][-1], dtype)
    elif dtype == np.float32:
        values = tensor.floats(FLOATS)
    elif dtype == np.float64:
        values = tensor.floats(DOUBLES, np.float64)
    else:
        integers = [value for number in INTEGERS for value in tensor.integers(number)]
        # Without raw data, the bits of a 16-bit float are an integer.
        values = np.array(integers, np.uint16).view(dtype) if dtype == np.float16 else np.array(integers, dtype)
    return torch.from_numpy(values.reshape(tensor.integers(1)).copy())


def _read_fields(content: memoryview) -> Iterator[tuple[int, Any]]:
    position = 0
    while position < len(content):
        key, position = _read_integer(content, position)
        wire_type = key & 7
        if wire_type == 0:
            value, position = _read_integer(content, position)
            yield key >> 3, value
            continue
        if wire_type == 2:
            length, position = _read_integer(content, position)
        elif wire_type in (1, 5):
            length = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire_type}")
        if length > len(content) - position:
            raise ValueError("it ends too early")
        yield key >> 3, content[position : position + length]
        position += length


def _read_integers(content: memoryview) -> list[int]:
    numbers, position = [], 0
    while position < len(content):
        number, position = _read_integer(content, position)
        numbers.append(number)
    return numbers


def _read_integer(content: memoryview, position: int) -> tuple[int, int]:
    """Read 7 bits of every byte, the lowest first, until a byte below 128; return the position after it, too."""
    number = shift = 0
    while True:
        byte = content[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number - (1 << 64) if number >= 1 << 63 else number, position
