"""Small ONNX files for tests, written field by field."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.float16): 10, np.dtype(np.float64): 11}
Operator = tuple[str, Sequence[str], str, dict[str, Any]]  # operator, inputs, output, attributes


def integer(value: int) -> bytes:
    value %= 1 << 64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return integer(field << 3) + integer(value)


def content(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return integer(field << 3 | 2) + integer(len(value)) + value


def tensor(name: str, value: np.ndarray, packed: bool = False) -> bytes:
    """A tensor with raw data, or with its values in the field of their type."""
    kind = TYPES[value.dtype]
    if packed:
        dims = content(1, b"".join(map(integer, value.shape)))
        field = {1: 4, 7: 7, 10: 5, 11: 10}[kind]
        integers = value.view(np.uint16) if kind == 10 else value
        data = b"".join(map(integer, integers.ravel().tolist())) if kind in (7, 10) else value.tobytes()
        return dims + number(2, kind) + content(8, name) + content(field, data)
    dims = b"".join(number(1, size) for size in value.shape)
    return dims + number(2, kind) + content(8, name) + content(9, value.tobytes())


def attribute(name: str, value: Any) -> bytes:
    head = content(1, name)
    if isinstance(value, np.ndarray):
        return head + content(5, tensor("", value)) + number(20, 4)
    if isinstance(value, float):
        return head + integer(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1)
    if isinstance(value, str):
        return head + content(4, value) + number(20, 3)
    if isinstance(value, int):
        return head + number(3, value) + number(20, 2)
    return head + b"".join(number(8, item) for item in value) + number(20, 7)


def described_value(name: str, shape: Sequence[int]) -> bytes:
    sizes = b"".join(content(1, number(1, size) if size else content(2, "any")) for size in shape)
    return content(1, name) + content(2, content(1, number(1, 1) + content(2, sizes)))


def write_onnx(
    path: Path,
    nodes: Sequence[Operator],
    weights: dict[str, np.ndarray],
    outputs: Sequence[str],
    shape: Sequence[int] = (1, 3, 16, 16),
    packed: bool = False,
) -> Path:
    """Write a network with one input, `"image"`."""
    graph = b""
    for op, inputs, output, attributes in nodes:
        fields = b"".join(content(1, name) for name in inputs) + content(2, output) + content(4, op)
        graph += content(1, fields + b"".join(content(5, attribute(*item)) for item in attributes.items()))
    graph += b"".join(content(5, tensor(name, value, packed)) for name, value in weights.items())
    graph += content(11, described_value("image", shape))
    graph += b"".join(content(12, described_value(output, [])) for output in outputs)
    path.write_bytes(number(1, 8) + content(7, graph) + content(8, number(2, 13)))
    return path


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) / 2


def conv(inputs: str, output: str, name: str, **attributes: Any) -> Operator:
    return ("Conv", (inputs, f"{name}.weight", f"{name}.bias"), output, attributes)


def write_embedding_network(path: Path, size: int = 112, width: int = 8, scale: float = 1.0) -> Path:
    """A network of two convolutions that maps an image to a vector."""
    nodes = [
        conv("image", "a", "stem", strides=[2, 2], pads=[1, 1, 1, 1]),
        ("Relu", ["a"], "b", {}),
        ("GlobalAveragePool", ["b"], "c", {}),
        ("Flatten", ["c"], "d", {}),
        ("Gemm", ["d", "fc.weight", "fc.bias"], "vector", {"transB": 1}),
    ]
    weights = {
        "stem.weight": random(4, 3, 3, 3), "stem.bias": random(4, seed=1),
        "fc.weight": random(width, 4, seed=2) * scale, "fc.bias": np.full(width, 0.5, np.float32),
    }  # fmt: skip
    return write_onnx(path, nodes, weights, ["vector"], (1, 3, size, size))


def write_yunet(path: Path) -> Path:
    """A network with the outputs of YuNet, small and not trained; it finds many faces in noise."""
    nodes, weights = [], {}

    def add_conv(source: str, output: str, channels: int, side: int, **attributes: Any) -> None:
        in_channels = 3 if source == "image" else 8
        weights[f"{output}.weight"] = random(channels, in_channels, side, side, seed=len(weights)) / 8
        weights[f"{output}.bias"] = random(channels, seed=len(weights))
        nodes.append(conv(source, output, output, **attributes))

    weights["levels"] = np.array(1 / 64, np.float32)
    nodes.append(("Mul", ["image", "levels"], "scaled", {}))
    source = "scaled"
    for stride in (2, 4, 8, 16, 32):
        name = f"stage_{stride}"
        weights[f"{name}.weight"] = random(8, 3 if stride == 2 else 8, 3, 3, seed=stride)
        weights[f"{name}.bias"] = random(8, seed=stride + 1)
        nodes.append(conv(source, f"{name}_raw", name, strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(("Relu", [f"{name}_raw"], name, {}))
        source = name
    for kind, channels in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
        for stride in (8, 16, 32):
            name = f"{kind}_{stride}"
            add_conv(f"stage_{stride}", f"{name}_map", channels, 1)
            nodes.append(("Transpose", [f"{name}_map"], f"{name}_last", {"perm": [0, 2, 3, 1]}))
            weights[f"{name}_shape"] = np.array([1, -1, channels])
            is_score = kind in ("cls", "obj")
            nodes.append(("Reshape", [f"{name}_last", f"{name}_shape"], f"{name}_flat" if is_score else name, {}))
            if is_score:
                nodes.append(("Sigmoid", [f"{name}_flat"], name, {}))
    outputs = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    return write_onnx(path, nodes, weights, outputs, (1, 3, 0, 0))
