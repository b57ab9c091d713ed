"""A perceptual loss from a face recognition network: what makes a face this person's, at four scales.

The network is dlib's residual network of 29 layers (Davis King, CC0), in the quantized form that the npm package
`@vladmandic/face-api` carries (MIT): the files `face_recognition_model.bin` and
`face_recognition_model-weights_manifest.json`.  Fetch them with

    npm pack @vladmandic/face-api && tar xzf vladmandic-face-api-*.tgz package/model

It learns nothing here.  Whoever measures identity afterwards should do so with another network.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


MODEL = "face_recognition_model"
SIDE = 150
# Mean levels of red, green and blue that dlib takes off; it then divides by 256.
MEAN = (122.782, 117.001, 104.298)
# Blocks of a stage: the first of each but the first stage halves the size.
STAGES = (
    ("conv32_1", "conv32_2", "conv32_3"),
    ("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    ("conv128_down", "conv128_1", "conv128_2"),
    ("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)


class FaceFeatures(nn.Module):
    """Distance of two faces in the features of dlib's face recognition network.

    Args:
        folder (`Path`): Has the two files named above.

    Raises:
        ValueError: If they are not there or not of this network.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        weights = read_weights(Path(folder))
        try:
            self.entry = convolution(weights, "conv32_down", stride=2)
            self.stages = nn.ModuleList(
                nn.ModuleList(ResidualBlock(weights, name) for name in names) for names in STAGES
            )
            self.register_buffer("embedding", weights["fc"])
        except KeyError as error:
            raise ValueError(f"{folder} holds no {MODEL} of face-api: there is no {error}.") from error
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.requires_grad_(False)

    def forward(self, made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The mean over the stages of the distance of unit vectors, plus one minus the cosine of the embeddings.

        Args:
            made, wanted (`torch.Tensor` of shape `(b, 3, h, w)`): Aligned faces in [-1, 1].

        Returns:
            `torch.Tensor`: one number from 0 to 6.
        """
        of_made = self.features(made)
        with torch.no_grad():
            of_wanted = self.features(wanted)
        distances = [
            (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean()
            for a, b in zip(of_made, of_wanted, strict=True)
        ]
        # Of unit vectors, half the squared distance is one minus the cosine.
        return sum(distances[:-1]) / len(STAGES) + distances[-1] / 2

    def features(self, faces: torch.Tensor) -> list[torch.Tensor]:
        """The features after each stage, `(b, c, h, w)`, and the embedding, `(b, 128)`."""
        levels = (faces + 1) * 127.5
        levels = F.interpolate(levels, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        hidden = F.max_pool2d(F.relu(self.entry((levels - self.mean) / 256)), 3, stride=2)
        features = []
        for stage in self.stages:
            for block in stage:
                hidden = block(hidden)
            features.append(hidden)
        return [*features, hidden.mean((2, 3)) @ self.embedding]


class ResidualBlock(nn.Module):
    """relu(f(x) + x); where f halves the size, x is averaged over 2 x 2, and zeros stand for the channels it lacks."""

    def __init__(self, weights: dict[str, torch.Tensor], name: str) -> None:
        super().__init__()
        self.halves = "down" in name
        self.first = convolution(weights, f"{name}/conv1", stride=2 if self.halves else 1)
        self.second = convolution(weights, f"{name}/conv2")

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        change = self.second(F.relu(self.first(hidden)))
        if self.halves:
            hidden = F.avg_pool2d(hidden, 2)
        # Sizes differ by a pixel where they were odd or no border was added.
        height, width = (max(a, b) for a, b in zip(hidden.shape[2:], change.shape[2:], strict=True))
        channels = change.shape[1]
        hidden = F.pad(
            hidden, (0, width - hidden.shape[3], 0, height - hidden.shape[2], 0, channels - hidden.shape[1])
        )
        change = F.pad(change, (0, width - change.shape[3], 0, height - change.shape[2]))
        return F.relu(hidden + change)


def convolution(weights: dict[str, torch.Tensor], name: str, stride: int = 1) -> nn.Conv2d:
    """A convolution and the scale and offset of every channel that follow it, as one; no border where it halves."""
    kernel = weights[f"{name}/conv/filters"].permute(3, 2, 0, 1)
    scale, offset = weights[f"{name}/scale/weights"], weights[f"{name}/scale/biases"]
    out_channels, in_channels, size, _ = kernel.shape
    layer = nn.Conv2d(in_channels, out_channels, size, stride, padding=0 if stride > 1 else size // 2)
    with torch.no_grad():
        layer.weight.copy_(kernel * scale[:, None, None, None])
        layer.bias.copy_(weights[f"{name}/conv/bias"] * scale + offset)
    return layer


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a TensorFlow.js weights manifest: floats, or bytes that stand for levels between two values."""
    manifest, data = folder / f"{MODEL}-weights_manifest.json", folder / f"{MODEL}.bin"
    for path in (manifest, data):
        if not path.is_file():
            raise ValueError(f"There is no {path}: the head of training/face_features.py says where to get it.")
    content = data.read_bytes()
    weights, start = {}, 0
    for entry in (entry for group in json.loads(manifest.read_text()) for entry in group["weights"]):
        levels = entry.get("quantization")
        kind = np.dtype(np.uint8 if levels else np.float32)
        end = start + int(np.prod(entry["shape"])) * kind.itemsize
        if end > len(content):
            raise ValueError(f"{data} is damaged: it ends after {len(content)} bytes, in {entry['name']}.")
        values = np.frombuffer(content[start:end], kind).astype(np.float32).reshape(entry["shape"])
        weights[entry["name"]] = torch.from_numpy(values * levels["scale"] + levels["min"] if levels else values)
        start = end
    return weights
