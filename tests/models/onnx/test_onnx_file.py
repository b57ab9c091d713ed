"""ONNX files are read as they are written; damaged ones are refused."""

import numpy as np
import pytest

from keep_hf.models.onnx.onnx_file import read_onnx
from onnx_files import random, write_onnx


@pytest.mark.parametrize("packed", [False, True])
def test_all_parts_of_a_graph_are_read(tmp_path, packed):
    weights = {
        "floats": random(2, 3), "doubles": np.array([0.1, -0.2]), "halves": np.array([[1.5]], np.float16),
        "integers": np.array([3, -1, 1 << 40]), "scalar": np.array(7),
    }  # fmt: skip
    attributes = {"alpha": 0.25, "axis": -1, "mode": "linear", "pads": [0, 1, -2], "value": np.array([4.0])}
    nodes = [("Relu", ["image"], "a", {}), ("Some", ["a", "", "floats"], "b", attributes)]
    graph = read_onnx(write_onnx(tmp_path / "a.onnx", nodes, weights, ["a", "b"], (1, 3, 0, 8), packed))
    assert (graph.inputs, graph.outputs) == ({"image": [1, 3, 0, 8]}, ["a", "b"])
    assert [(node.op, node.inputs, node.outputs) for node in graph.nodes] == [
        ("Relu", ["image"], ["a"]),
        ("Some", ["a", "", "floats"], ["b"]),
    ]
    value = graph.nodes[1].attributes.pop("value")
    assert graph.nodes[1].attributes == {key: attributes[key] for key in ("alpha", "axis", "mode", "pads")}
    np.testing.assert_array_equal(value, attributes["value"])
    assert graph.weights.keys() == weights.keys()
    for name, weight in weights.items():
        assert graph.weights[name].numpy().dtype == weight.dtype
        np.testing.assert_array_equal(graph.weights[name], weight)


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no file .*none\.onnx"):
        read_onnx(tmp_path / "none.onnx")
    path = write_onnx(tmp_path / "whole.onnx", [("Relu", ["image"], "a", {})], {"weight": random(50)}, ["a"])
    for name, content in {
        "noise": bytes(range(256)) * 64,
        "text": b"no model",
        "empty": b"",
        "half": path.read_bytes()[:150],
        "bare": write_onnx(tmp_path / "bare.onnx", [], {}, ["a"]).read_bytes(),
    }.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.onnx is damaged, or not an ONNX file"):
            read_onnx(tmp_path / f"{name}.onnx")
