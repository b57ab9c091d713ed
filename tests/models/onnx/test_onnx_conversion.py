"""Every operator gives what OpenCV computes; networks do not depend on the batch, and are saved and loaded."""

import cv2
import numpy as np
import pytest
import torch

from keep_hf.models.onnx.conversion import Converter
from keep_hf.models.onnx.network import OnnxNetwork
from keep_hf.models.onnx.onnx_file import read_onnx
from onnx_files import conv, random, write_onnx


STEM = conv("image", "stem", "stem", pads=[1, 1, 1, 1])
WEIGHTS = {
    "stem.weight": random(4, 3, 3, 3), "stem.bias": random(4), "deep.weight": random(4, 1, 3, 5),
    "deep.bias": random(4), "fc.weight": random(1024, 6), "fc.transposed": random(6, 1024), "fc.bias": random(6),
    "scale": random(4, seed=1), "shift": random(4, seed=2), "mean": random(4, seed=3),
    "variance": random(4, seed=4) ** 2 + 0.1, "slopes": random(4, 1, 1), "constant": random(1, 4, 1, 1),
    "two": np.array(2.0, np.float32), "low": np.array(-0.25, np.float32), "high": np.array(0.5, np.float32),
    "factors": np.array([1, 1, 2, 2], np.float32), "empty": np.zeros(0, np.float32), "sizes": np.array([1, 4, 48, 48]),
    "pads": np.array([0, 0, 1, 2, 0, 0, 3, 0]), "zero": np.array(0), "last": np.array([1]),
    "square": np.array([-1, 1024]), "sides": np.array([2, 3]),
}  # fmt: skip
NORM = ["scale", "shift", "mean", "variance"]
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
POOL = ("MaxPool", ["stem"], "pooled", {"kernel_shape": [2, 2]})
FLAT = ("Flatten", ["stem"], "flat_stem", {})
OPERATORS = {
    "conv": [conv("stem", "y", "deep", group=4, strides=[2, 1], pads=[1, 4, 1, 4], dilations=[1, 2])],
    "conv and relu": [("Relu", ["stem"], "y", {})],
    "conv without bias": [("Conv", ["stem", "deep.weight"], "y", {"group": 4})],
    "conv, norm and relu": [("BatchNormalization", ["stem", *NORM], "n", {"epsilon": 0.01}), ("Relu", ["n"], "y", {})],
    # The convolution is used twice: nothing may be joined with it.
    "conv used twice": [("Relu", ["stem"], "r", {}), ("Add", ["stem", "r"], "y", {})],
    "norm alone": [POOL, ("BatchNormalization", ["pooled", *NORM], "y", {})],
    "prelu": [("PRelu", ["stem", "slopes"], "y", {})],
    "clip": [("Clip", ["stem", "low", "high"], "y", {})],
    "clip below": [("Clip", ["stem", "low"], "y", {})],
    "sigmoid": [("Sigmoid", ["stem"], "y", {})],
    "add": [("Add", ["stem", "constant"], "y", {})],
    "subtract": [("Sub", ["constant", "stem"], "y", {})],
    "multiply": [("Sigmoid", ["stem"], "s", {}), ("Mul", ["stem", "s"], "y", {})],
    "divide": [("Div", ["stem", "two"], "y", {})],
    "max pool": [("MaxPool", ["stem"], "y", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})],
    "max pool, ceil": [("MaxPool", ["stem"], "y", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1})],
    "average pool": [("AveragePool", ["stem"], "y", {"kernel_shape": [4, 4], "strides": [4, 4]})],
    "average pool, padded": [("AveragePool", ["stem"], "y", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})],
    "global average pool": [("GlobalAveragePool", ["stem"], "y", {})],
    "pad": [("Pad", ["stem", "pads"], "y", {})],
    "resize": [("Resize", ["stem", "empty", "factors"], "y", NEAREST)],
    "upsample": [("Upsample", ["stem", "factors"], "y", {"mode": "nearest"})],
    "concat": [("Relu", ["stem"], "r", {}), ("Concat", ["stem", "r"], "y", {"axis": 1})],
    "transpose": [("Transpose", ["stem"], "y", {"perm": [0, 2, 3, 1]})],
    "gemm": [FLAT, ("Gemm", ["flat_stem", "fc.weight", "fc.bias"], "y", {})],
    "gemm, transposed": [FLAT, ("Gemm", ["flat_stem", "fc.transposed", "fc.bias"], "y", {"transB": 1, "alpha": 0.5})],
    "reshape": [("Reshape", ["stem", "square"], "y", {})],
    "squeeze": [("GlobalAveragePool", ["stem"], "p", {}), ("Squeeze", ["p", "sides"], "y", {})],
    "reshape to a computed shape": [
        ("Shape", ["stem"], "sizes_of_stem", {}),
        ("Gather", ["sizes_of_stem", "zero"], "batch", {"axis": 0}),
        ("Unsqueeze", ["batch", "zero"], "batch_1", {}),
        ("Constant", [], "rest", {"value": np.array([-1])}),
        ("Concat", ["batch_1", "rest"], "shape", {"axis": 0}),
        ("Reshape", ["stem", "shape"], "y", {}),
    ],
    "dropout": [("Dropout", ["stem"], "d", {}), ("Relu", ["d"], "r", {}), ("Add", ["stem", "r"], "y", {})],
}  # fmt: skip


class Network(OnnxNetwork):
    """A network without settings."""

    purpose, default_size = "test", 16


def write(path, nodes):
    used = {name for _, inputs, _, _ in (STEM, *nodes) for name in inputs}
    return write_onnx(path, [STEM, *nodes], {name: WEIGHTS[name] for name in WEIGHTS if name in used}, ["y"])


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_give_what_opencv_computes(tmp_path, name):
    path = write(tmp_path / "a.onnx", OPERATORS[name])
    images = random(3, 3, 16, 16, seed=9)
    reference = cv2.dnn.readNetFromONNX(str(path))
    expected = []
    for image in images:
        reference.setInput(image[None])
        expected.append(reference.forward().copy())
    network = Network.from_single_file(path)
    for recorded in (True, False):  # torch without and with the fast kernels
        with torch.set_grad_enabled(recorded):
            (found,) = network.run(torch.from_numpy(images))
        np.testing.assert_allclose(found.detach(), np.concatenate(expected).reshape(found.shape), atol=2e-5)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("Erf", ["stem"], "y", {})], "operator Erf is not supported"),
        ([conv("stem", "y", "deep", group=4, pads=[0, 0, 1, 1])], "equal padding on opposite sides"),
        ([("Resize", ["stem", "", "factors"], "y", {"mode": "linear"})], "repeated pixels"),
        ([("Pad", ["stem", "pads"], "y", {"mode": "reflect"})], "zeros around the image"),
        ([("Reshape", ["stem", "last"], "y", {})], "cannot be used"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, nodes, message):
    path = write(tmp_path / "a.onnx", nodes)
    with pytest.raises(ValueError, match=rf"a\.onnx cannot be used as a test network: .*{message}|{message}"):
        Network.from_single_file(path)


def test_fixed_sizes_of_the_file_are_used(tmp_path):
    nodes = [("Resize", ["stem", "", "", "sizes"], "y", {"mode": "nearest"})]
    used = {name: WEIGHTS[name] for name in ("stem.weight", "stem.bias", "sizes")}
    path = write_onnx(tmp_path / "a.onnx", [STEM, *nodes], used, ["y"], (1, 3, 24, 24))
    converter = Converter(read_onnx(path), ["y"], side=16)
    assert converter.layers[-1].arguments == {"scale_factor": 2.0}
    assert converter.shapes == [[4, 48, 48]]


def test_only_what_the_outputs_need_is_converted(tmp_path):
    nodes = [("Erf", ["stem"], "other", {}), ("Relu", ["stem"], "y", {})]
    used = {name: WEIGHTS[name] for name in ("stem.weight", "stem.bias")}
    path = write_onnx(tmp_path / "a.onnx", [STEM, *nodes], used, ["y", "other"])
    assert [layer.kind for layer in Converter(read_onnx(path), ["y"], side=16).layers] == ["convolution"]
