"""A perceptual loss from a face recognition network: it compares what identifies a person, at four scales.

The network is dlib's residual network of 29 layers (Davis King, CC0), in the quantized form of the npm package
`@vladmandic/face-api` (MIT): the files `face_recognition_model.bin` and
`face_recognition_model-weights_manifest.json`. Download them with

    npm pack @vladmandic/face-api && tar xzf vladmandic-face-api-*.tgz package/model

The network is not trained here. To measure the identity of the results, use another network.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


MODEL = "face_recognition_model"
SIDE = 150
# Mean levels of red, green and blue that dlib subtracts; it then divides by 256.
MEAN = (122.782, 117.001, 104.298)
# Names of the blocks of each stage. The first block of every stage but the first halves the size.
STAGES = (
    ("conv32_1", "conv32_2", "conv32_3"),
    ("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    ("conv128_down", "conv128_1", "conv128_2"),
    ("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)


class FaceFeatures(nn.Module):
    """Distance of two faces in the features of dlib's face recognition network.

    Args:
        folder (`Path`): Contains the two files named above.

    Raises:
        ValueError: If a file is missing, damaged or of another network.
    """

    mean: torch.Tensor
    embedding: torch.Tensor

    def __init__(self, folder: Path) -> None:
        super().__init__()
        weights = read_weights(Path(folder))
        try:
            self.entry = convolution(weights, "conv32_down", stride=2)
            self.stages = nn.ModuleList(
                nn.Sequential(*(ResidualBlock(weights, name) for name in names)) for names in STAGES
            )
            self.register_buffer("embedding", weights["fc"])
        except KeyError as error:
            raise ValueError(f"{folder} has no {MODEL} of face-api: there is no {error}.") from error
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.requires_grad_(False)

    def forward(self, restored: torch.Tensor, sharp: torch.Tensor) -> torch.Tensor:
        """The squared distance of the normalized features, averaged over the stages, plus one minus the cosine of the
        embeddings.

        Args:
            restored, sharp (`torch.Tensor` of shape `(b, 3, h, w)`): Aligned faces in [-1, 1].

        Returns:
            `torch.Tensor`: a scalar in [0, 6].
        """
        restored_features = self.features(restored)
        with torch.no_grad():
            sharp_features = self.features(sharp)
        distances = [
            (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1)).square().sum(1).mean()
            for a, b in zip(restored_features, sharp_features, strict=True)
        ]
        # Half the squared distance of unit vectors is one minus the cosine.
        return torch.stack(distances[:-1]).sum() / len(STAGES) + distances[-1] / 2

    def features(self, faces: torch.Tensor) -> list[torch.Tensor]:
        """The features after each stage, `(b, c, h, w)`, and the embedding, `(b, 128)`."""
        levels = (faces + 1) * 127.5
        levels = F.interpolate(levels, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        hidden = F.max_pool2d(F.relu(self.entry((levels - self.mean) / 256)), 3, stride=2)
        features = []
        for stage in self.stages:
            hidden = stage(hidden)
            features.append(hidden)
        return [*features, hidden.mean((2, 3)) @ self.embedding]


class ResidualBlock(nn.Module):
    """relu(f(x) + x). Where f halves the size, x is averaged over 2 x 2 pixels and its missing channels are zero."""

    def __init__(self, weights: dict[str, torch.Tensor], name: str) -> None:
        super().__init__()
        self.halves = "down" in name
        self.first = convolution(weights, f"{name}/conv1", stride=2 if self.halves else 1)
        self.second = convolution(weights, f"{name}/conv2")

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        change = self.second(F.relu(self.first(hidden)))
        if self.halves:
            hidden = F.avg_pool2d(hidden, 2)
        # The sizes differ by one where a side is odd, because the convolution that halves has no padding.
        height, width = (max(a, b) for a, b in zip(hidden.shape[2:], change.shape[2:], strict=True))
        channels = change.shape[1]
        hidden = F.pad(
            hidden, (0, width - hidden.shape[3], 0, height - hidden.shape[2], 0, channels - hidden.shape[1])
        )
        change = F.pad(change, (0, width - change.shape[3], 0, height - change.shape[2]))
        return F.relu(hidden + change)


def convolution(weights: dict[str, torch.Tensor], name: str, stride: int = 1) -> nn.Conv2d:
    """A convolution merged with the scale and offset of every channel that follow it; unpadded if it halves."""
    kernel = weights[f"{name}/conv/filters"].permute(3, 2, 0, 1)
    scale, offset = weights[f"{name}/scale/weights"], weights[f"{name}/scale/biases"]
    out_channels, in_channels, size, _ = kernel.shape
    layer = nn.Conv2d(in_channels, out_channels, size, stride, padding=0 if stride > 1 else size // 2)
    layer.weight = nn.Parameter(kernel * scale[:, None, None, None])
    layer.bias = nn.Parameter(weights[f"{name}/conv/bias"] * scale + offset)
    return layer


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a TensorFlow.js weights manifest: floats, or bytes that encode a range linearly."""
    manifest, data = folder / f"{MODEL}-weights_manifest.json", folder / f"{MODEL}.bin"
    for path in (manifest, data):
        if not path.is_file():
            raise ValueError(f"There is no {path}: training/losses/face_features.py describes how to download it.")
    content = data.read_bytes()
    weights, start = {}, 0
    for entry in (entry for group in json.loads(manifest.read_text()) for entry in group["weights"]):
        encoding = entry.get("quantization")
        dtype = np.dtype(np.uint8 if encoding else np.float32)
        end = start + int(np.prod(entry["shape"])) * dtype.itemsize
        if end > len(content):
            raise ValueError(f"{data} is damaged: it ends after {len(content)} bytes, in {entry['name']}.")
        values = np.frombuffer(content[start:end], dtype).astype(np.float32).reshape(entry["shape"])
        weights[entry["name"]] = torch.from_numpy(values * encoding["scale"] + encoding["min"] if encoding else values)
        start = end
    return weights
