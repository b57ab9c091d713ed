"""The background: tiles without seams with plain networks, and model files through spandrel where it is installed."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from keep_hf.restoration.background import TILE, Background, describe_background, load_background


class Enlarger(nn.Module):
    """Random convolutions with a radius of 12 pixels, then twice the size; it records the shapes of its tiles."""

    scale, device, dtype = 2, torch.device("cpu"), torch.float32

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            *[nn.Conv2d(3, 3, 9, padding=4, padding_mode="zeros") for _ in range(3)], nn.Upsample(scale_factor=2)
        )
        self.tiles = []

    def forward(self, x):
        self.tiles.append(tuple(x.shape))
        return self.layers(x - 0.5).mul(9).sigmoid()


class Uneven(nn.Module):
    """Outputs tiles of alternating brightness."""

    scale, device, dtype = 2, torch.device("cpu"), torch.float32

    def __init__(self):
        super().__init__()
        self.count = 0

    def forward(self, x):
        self.count += 1
        return torch.full((1, 3, x.shape[2] * 2, x.shape[3] * 2), 0.4 + 0.2 * (self.count % 2))


class Copy(nn.Module):
    scale, device, dtype = 1, torch.device("cpu"), torch.float32

    def forward(self, x):
        return x


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(40, 70), (512, 513), (700, 1012)])
def test_tiles_give_the_result_of_the_whole_frame(height, width):
    model, frame = Enlarger(), noise(height, width)
    with torch.no_grad():
        whole = model(torch.from_numpy(frame).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy() * 255
    assert whole.std() > 20
    model.tiles.clear()
    larger = Background(model)(frame)
    assert larger.shape == (2 * height, 2 * width, 3)
    assert larger.dtype == np.uint8
    assert np.abs(larger - whole).max() <= 1
    assert all(tile == (1, 3, min(height, TILE), min(width, TILE)) for tile in model.tiles)


def test_tiles_of_different_brightness_fade_into_each_other():
    larger = Background(Uneven())(noise(700, 700)).astype(int)
    assert larger.max() - larger.min() > 40
    assert max(np.abs(np.diff(larger, axis=axis)).max() for axis in (0, 1)) <= 3


def test_channels_keep_their_order():
    frame = noise(600, 530)
    assert (Background(Copy())(frame) == frame).all()


def brighten(frame):
    return frame + 1


def test_backgrounds_are_identified_by_their_weights_or_their_name():
    assert describe_background(None) is None
    assert describe_background(brighten) == f"{__name__}.brighten"
    same, other = Background(Enlarger()), Background(Enlarger(seed=1))
    assert describe_background(Background(Enlarger())) == describe_background(same) != describe_background(other)
    # spandrel's descriptors are no modules, but hold one.
    assert describe_background(Background(SimpleNamespace(model=Enlarger()))) == describe_background(same)


def test_missing_spandrel_is_reported(monkeypatch):
    monkeypatch.setattr("keep_hf.restoration.background.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install spandrel"):
        load_background("model.pth")


@pytest.fixture
def spandrel():
    return pytest.importorskip("spandrel", reason="spandrel or torchvision is not installed", exc_type=ImportError)


def compact_weights(channels=3, scale=2):
    """A network like realesr-animevideov3: convolutions with PReLU, then a pixel shuffle."""
    torch.manual_seed(0)
    widths = [channels, 16, 16, 16, channels * scale**2]
    weights = {}
    for i, (before, after) in enumerate(pairwise(widths)):
        weights[f"body.{2 * i}.weight"] = torch.randn(after, before, 3, 3) / 12
        weights[f"body.{2 * i}.bias"] = torch.zeros(after)
        if i < 3:
            weights[f"body.{2 * i + 1}.weight"] = torch.full((after,), 0.1)
    return weights


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_file_enlarges(spandrel, wrapped, tmp_path):
    file = tmp_path / ("model.pth" if wrapped else "model.safetensors")
    torch.save({"params": compact_weights()}, file) if wrapped else save_file(compact_weights(), file)
    frame = np.repeat(np.repeat(noise(60, 60), 10, axis=0), 10, axis=1)
    larger = load_background(file)(frame)
    assert larger.shape == (1200, 1200, 3)
    # The network adds its output to the frame, enlarged by nearest neighbours.
    assert np.corrcoef(larger[::2, ::2].ravel(), frame.ravel())[0, 1] > 0.5
    half = load_background(file, dtype=torch.bfloat16)(frame)
    assert np.abs(half.astype(int) - larger).mean() < 2


def test_a_frame_of_odd_size_is_padded_for_the_network(spandrel, tmp_path):
    """RealESRGAN_x2plus folds 2 x 2 pixels into channels, so it takes only multiples of 2."""
    torch.manual_seed(0)
    convolutions = {"conv_first": (12, 8), "conv_last": (8, 3)}
    convolutions |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (8, 8))
    for i in (1, 2, 3):
        for j in range(1, 6):
            convolutions[f"body.0.rdb{i}.conv{j}"] = (8 + 32 * (j - 1), 32 if j < 5 else 8)
    weights = {}
    for name, (before, after) in convolutions.items():
        weights[f"{name}.weight"] = torch.randn(after, before, 3, 3) / 10
        weights[f"{name}.bias"] = torch.zeros(after)
    torch.save({"params_ema": weights}, tmp_path / "model.pth")
    background = load_background(tmp_path / "model.pth")
    assert background.model.size_requirements.multiple_of > 1
    assert background(noise(61, 75)).shape == (122, 150, 3)


def test_a_file_that_is_no_model_for_images_is_refused(spandrel, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint file"):
        load_background(tmp_path / "none.pth")
    (tmp_path / "noise.pth").write_bytes(bytes(range(256)) * 9)
    with pytest.raises(ValueError, match="damaged"):
        load_background(tmp_path / "noise.pth")
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"holds no network that spandrel .* knows"):
        load_background(tmp_path / "other.safetensors")
    save_file(compact_weights(channels=1), tmp_path / "grey.safetensors")
    with pytest.raises(ValueError, match="from 1 to 1 channels"):
        load_background(tmp_path / "grey.safetensors")
