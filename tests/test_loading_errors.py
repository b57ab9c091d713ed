"""Damaged models: the message names the model, whatever diffusers raises."""

import math

import pytest
import torch

from keep_hf import FaceDetector
from keep_hf.loading_errors import check_settings, check_weights, report_load_errors


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("b"), RecursionError("c"), ValueError("d")])
def test_errors_name_the_model(error):
    with pytest.raises(ValueError, match=r"^my/model cannot be loaded"), report_load_errors("my/model"):
        raise error


@pytest.mark.parametrize("error", [OSError("no file"), ImportError("no library"), ValueError("my/model is damaged")])
def test_errors_that_say_what_is_missing_are_kept(error):
    with pytest.raises(type(error)) as raised, report_load_errors("my/model"):
        raise error
    assert raised.value is error


class Network:
    def __init__(
        self,
        size: int = 8,
        sizes: tuple[int, ...] = (1, 2),
        num_layers: int = 3,
        threshold: float = 0.5,
        path: str = "a",
    ) -> None:
        pass


@pytest.mark.parametrize(
    "config",
    [
        [],
        None,
        {"size": -1},
        {"size": 1.5},
        {"size": "8"},
        {"size": None},
        {"size": [8]},
        {"sizes": 5},
        {"sizes": [1, -1]},
        {"sizes": ["1"]},
        {"num_layers": 1001},
        {"threshold": math.nan},
        {"threshold": "high"},
    ],
)
def test_configurations_that_no_network_has(config):
    with pytest.raises(ValueError, match=r"^my/model cannot be loaded"):
        check_settings("my/model", config, Network)


def test_a_configuration_may_have_anything_else():
    config = {"size": 0, "num_layers": 1000, "sizes": [], "threshold": 1, "path": None, "other": -1}
    check_settings("my/model", config, Network)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e5m2])
def test_weights_that_are_no_numbers(value, dtype):
    network = torch.nn.Linear(2, 2)
    check_weights("my/model", network.to(dtype))
    network.weight.data[1, 1] = value
    with pytest.raises(ValueError, match="the weight weight of Linear has values that are NaN or infinite"):
        check_weights("my/model", network)


def test_a_network_with_nan_is_not_loaded(tmp_path):
    detector = FaceDetector(block_out_channels=(4, 4, 8, 8, 8), neck_channels=8, close_up_channels=(4, 4, 8, 8))
    detector.head[1].bias.data[0] = math.nan
    detector.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be used: the weight head"):
        FaceDetector.from_pretrained(tmp_path)
