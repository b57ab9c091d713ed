"""LPIPS: both backbones against the published equations in numpy, the files they are built from, wrong input."""

import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from safetensors.torch import save_file

from keep_hf.models.lpips import LPIPS


# The published networks, layer by layer: number and (out, in, kernel) of convolutions, stride, padding; side of pools.
ALEX = [
    ("conv", 0, (64, 3, 11), 4, 2), "relu", "tap", ("pool", 3),
    ("conv", 3, (192, 64, 5), 1, 2), "relu", "tap", ("pool", 3),
    ("conv", 6, (384, 192, 3), 1, 1), "relu", "tap",
    ("conv", 8, (256, 384, 3), 1, 1), "relu", "tap",
    ("conv", 10, (256, 256, 3), 1, 1), "relu", "tap",
]  # fmt: skip
VGG = [
    ("conv", 0, (64, 3, 3), 1, 1), "relu", ("conv", 2, (64, 64, 3), 1, 1), "relu", "tap", ("pool", 2),
    ("conv", 5, (128, 64, 3), 1, 1), "relu", ("conv", 7, (128, 128, 3), 1, 1), "relu", "tap", ("pool", 2),
    ("conv", 10, (256, 128, 3), 1, 1), "relu", ("conv", 12, (256, 256, 3), 1, 1), "relu",
    ("conv", 14, (256, 256, 3), 1, 1), "relu", "tap", ("pool", 2),
    ("conv", 17, (512, 256, 3), 1, 1), "relu", ("conv", 19, (512, 512, 3), 1, 1), "relu",
    ("conv", 21, (512, 512, 3), 1, 1), "relu", "tap", ("pool", 2),
    ("conv", 24, (512, 512, 3), 1, 1), "relu", ("conv", 26, (512, 512, 3), 1, 1), "relu",
    ("conv", 28, (512, 512, 3), 1, 1), "relu", "tap",
]  # fmt: skip
GRAPHS = {"alex": ALEX, "vgg": VGG}
TAPS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


def write_files(folder, backbone, seed=0):
    """Files in the form of the public ones, with random weights that preserve the scale of the features."""
    generator = torch.Generator().manual_seed(seed)
    features = {}
    for step in GRAPHS[backbone]:
        if step[0] == "conv":
            _, number, (out_channels, in_channels, kernel), _, _ = step
            shape = (out_channels, in_channels, kernel, kernel)
            spread = (2 / (in_channels * kernel**2)) ** 0.5
            features[f"features.{number}.weight"] = torch.randn(shape, generator=generator) * spread
            features[f"features.{number}.bias"] = torch.randn(out_channels, generator=generator) * 0.1
    # The files of torchvision contain the classifier, too.
    features["classifier.6.weight"] = torch.zeros(10, 16)
    linear = {
        f"lin{i}.model.1.weight": torch.rand((1, channels, 1, 1), generator=generator)
        for i, channels in enumerate(TAPS[backbone])
    }
    paths = folder / f"{backbone}.pth", folder / f"{backbone}_linear.safetensors"
    torch.save(features, paths[0])
    save_file(linear, paths[1])
    return paths, features, linear


def numpy_distance(backbone, features, linear, image1, image2):
    """The distance of two images (h, w, 3) with levels in [-1, 1], in float64."""
    taps = []
    for image in (image1, image2):
        x = (image - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
        tapped = []
        for step in GRAPHS[backbone]:
            if step == "relu":
                x = np.where(x > 0, x, 0.0)
            elif step == "tap":
                tapped.append(x / (np.sqrt((x * x).sum(axis=2))[:, :, None] + 1e-10))
            elif step[0] == "pool":
                windows = sliding_window_view(x, (step[1], step[1]), axis=(0, 1))
                x = windows[::2, ::2].max(axis=(3, 4))
            else:
                _, number, (_, _, kernel), stride, padding = step
                weight, bias = (features[f"features.{number}.{kind}"].double().numpy() for kind in ("weight", "bias"))
                padded = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
                windows = sliding_window_view(padded, (kernel, kernel), axis=(0, 1))[::stride, ::stride]
                x = np.tensordot(windows, weight, axes=((2, 3, 4), (1, 2, 3))) + bias
        taps.append(tapped)
    distance = 0.0
    for i, (tap1, tap2) in enumerate(zip(*taps, strict=True)):
        channel_weights = linear[f"lin{i}.model.1.weight"].double().numpy().reshape(-1)
        distance += np.mean(((tap1 - tap2) ** 2) @ channel_weights)
    return distance


@pytest.fixture(scope="module", params=["alex", "vgg"])
def network(request, tmp_path_factory):
    paths, features, linear = write_files(tmp_path_factory.mktemp("weights"), request.param)
    return request.param, LPIPS.from_checkpoints(*paths), features, linear


@torch.no_grad()
def test_both_backbones_follow_the_published_equations(network):
    backbone, lpips, features, linear = network
    assert lpips.config.backbone == backbone
    assert not lpips.training
    images = torch.rand(2, 2, 3, 38, 47, generator=torch.Generator().manual_seed(1)) * 2 - 1
    distances = lpips(images[0], images[1])
    assert distances.shape == (2,)
    for i, distance in enumerate(distances):
        pair = [image[i].permute(1, 2, 0).double().numpy() for image in images]
        expected = numpy_distance(backbone, features, linear, *pair)
        assert expected > 0.05
        np.testing.assert_allclose(distance, expected, rtol=1e-4)


@torch.no_grad()
def test_distance_is_0_for_equal_images_and_grows_with_noise(network):
    lpips = network[1]
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 3, 48, 48, generator=generator) * 2 - 1
    noise = torch.randn(image.shape, generator=generator)
    assert lpips(image, image.clone()).item() == 0
    near, far = (lpips(image, image + noise * level).item() for level in (0.05, 0.5))
    assert 0 < near < far
    assert lpips(image + noise * 0.05, image).item() == pytest.approx(near)


@torch.no_grad()
def test_save_and_load_is_exact(network, tmp_path):
    backbone, lpips = network[:2]
    lpips.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["diffusion_pytorch_model.safetensors"]
    loaded = LPIPS.from_pretrained(tmp_path)
    assert loaded.config.backbone == backbone
    images = torch.rand(2, 1, 3, 32, 32)
    torch.testing.assert_close(loaded(*images), lpips(*images), rtol=0, atol=0)


def test_gradients_reach_the_image(network):
    lpips = network[1]
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)
    lpips(image, torch.rand(1, 3, 32, 32)).sum().backward()
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().max() > 0


def test_errors_name_the_file_that_does_not_fit(tmp_path):
    (alex, linear), _, weights = write_files(tmp_path, "alex")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth is neither AlexNet nor VGG16.*conv1\.weight"):
        LPIPS.from_checkpoints(tmp_path / "other.pth", linear)
    torch.save({"features.0.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"neither AlexNet nor VGG16.*\(64, 3, 7, 7\)"):
        LPIPS.from_checkpoints(tmp_path / "wide.pth", linear)
    # A deeper VGG has the same first layer.
    vgg19 = {"features.0.weight": torch.zeros(64, 3, 3, 3), "features.34.weight": torch.zeros(1)}
    torch.save(vgg19, tmp_path / "vgg19.pth")
    with pytest.raises(ValueError, match=r"vgg19\.pth does not fit.*1 are unexpected \['features\.34\.weight'\]"):
        LPIPS.from_checkpoints(tmp_path / "vgg19.pth", linear)
    save_file({name: value for name, value in weights.items() if "lin2" not in name}, tmp_path / "four.safetensors")
    with pytest.raises(ValueError, match=r"four\.safetensors .* missing \['lin2\.model\.1\.weight'\]"):
        LPIPS.from_checkpoints(alex, tmp_path / "four.safetensors")
    vgg_linear = {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1) for i, c in enumerate(TAPS["vgg"])}
    save_file(vgg_linear, tmp_path / "vgg_linear.safetensors")
    with pytest.raises(ValueError, match=r"lin1\.model\.1\.weight must have the shape \(1, 192, 1, 1\), not \(1, 128"):
        LPIPS.from_checkpoints(alex, tmp_path / "vgg_linear.safetensors")
    save_file({name: value - 0.5 for name, value in weights.items()}, tmp_path / "negative.safetensors")
    with pytest.raises(ValueError, match=r"negative\.safetensors does not hold .* lin0.* not be negative"):
        LPIPS.from_checkpoints(alex, tmp_path / "negative.safetensors")
    with pytest.raises(ValueError, match="no checkpoint file"):
        LPIPS.from_checkpoints(tmp_path / "none.pth", linear)


def test_wrong_shapes_are_rejected(network):
    lpips = network[1]
    with pytest.raises(ValueError, match="differ in shape"):
        lpips(torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 40))
    for shape in ((1, 1, 32, 32), (3, 32, 32), (1, 3, 31, 64)):
        with pytest.raises(ValueError, match="at least 32"):
            lpips(torch.zeros(shape), torch.zeros(shape))


def test_unknown_backbone_is_rejected():
    with pytest.raises(ValueError, match="'squeeze'"):
        LPIPS("squeeze")
