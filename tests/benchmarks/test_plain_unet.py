"""The plain U-Net: it starts as the identity, is trained, and is a method of the evaluation."""

import cv2
import numpy as np
import torch
from safetensors.torch import save_file

from benchmarks import train_plain_unet
from benchmarks.clips import DegradedClip
from benchmarks.methods import load_methods
from benchmarks.plain_unet import PlainUNet
from conftest import make_clip, make_components
from keep_hf import KeepPipeline
from keep_hf.models.direct import DirectPath
from keep_hf.video.pixels import to_images, to_tensor
from portraits import write_labelled_portraits


def test_an_untrained_unet_returns_its_input():
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.equal(PlainUNet(sample_size=64)(images), images)


def test_a_trained_unet_is_a_method(tmp_path):
    PlainUNet(sample_size=128, block_out_channels=(16, 32)).save_pretrained(tmp_path / "initial")
    portraits = write_labelled_portraits(tmp_path / "portraits", [1.0])
    options = ("--data", portraits, "--output", tmp_path, "--initial", tmp_path / "initial")
    steps = ("--steps", 2, "--batch-size", 1, "--workers", 0, "--log-every", 1, "--warmup", 0)
    train_plain_unet.main([str(word) for word in (*options, *steps)])
    (method,) = load_methods([f"unet:{tmp_path / 'unet'}"], KeepPipeline(**make_components()))
    clip = DegradedClip("a", "mild", make_clip(2, 32, 32), 25.0)
    restored = method.restore(clip)
    enlarged = np.stack([cv2.resize(frame, (128, 128), interpolation=cv2.INTER_LINEAR) for frame in clip.frames])
    assert method.name == "unet"
    assert restored.shape == (2, 128, 128, 3)
    assert 0 < np.abs(restored.astype(int) - enlarged).mean() < 20


def test_a_direct_path_is_a_method_frame_by_frame(tmp_path):
    torch.manual_seed(0)
    direct = DirectPath(512, channels=(8, 8, 8, 16), units_per_level=(1, 1, 1, 1))
    torch.nn.init.normal_(direct.conv_out.weight, std=0.01)
    file = tmp_path / "direct.safetensors"
    save_file(direct.state_dict(), file)
    (method,) = load_methods([f"direct:mine={file}"], KeepPipeline(**make_components()))
    frames = make_clip(2, 32, 32)
    restored = method.restore(DegradedClip("a", "mild", frames, 25.0))
    assert (method.name, method.source) == ("mine", str(file))
    for face, frame in zip(restored, frames, strict=True):
        large = to_tensor(cv2.resize(frame, (512, 512), interpolation=cv2.INTER_LINEAR))[None]
        with torch.inference_mode():
            expected = to_images(direct(large)[0])
        np.testing.assert_array_equal(face, expected)
