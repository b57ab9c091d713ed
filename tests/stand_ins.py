"""Stand-ins for the networks of the metrics, with known results, and frames that they measure."""

import numpy as np
import torch

from keep_hf.models.lpips import LPIPS


class Angle:
    """An identity network: the mean level of a face is an angle in degrees."""

    def embed(self, faces):
        angles = np.radians([face.mean() for face in faces])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


class WhitePixels:
    """A landmark network: the landmarks are the white pixels, row by row."""

    def find(self, faces):
        return np.stack([np.argwhere(face[..., 0] == 255)[:, ::-1] for face in faces]).astype(np.float32)


class KnownFlow:
    """A flow network with the same motion everywhere; it keeps the images that it was shown."""

    device = torch.device("cpu")

    def __init__(self, x: float, y: float) -> None:
        self.motion = torch.tensor([float(x), float(y)])
        self.shown: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, frame, previous, return_dict=True):
        self.shown.append((frame, previous))
        return (self.motion[None, :, None, None].expand(1, 2, *frame.shape[2:]),)


def untrained_lpips() -> LPIPS:
    """LPIPS with random weights, those of the channels not negative."""
    torch.manual_seed(0)
    network = LPIPS("alex").eval()
    with torch.no_grad():
        for weights in network.channel_weights:
            weights.weight.abs_()
    return network


def flat(*levels: int, size: int = 16) -> list[np.ndarray]:
    """Frames of one level each."""
    return [np.full((size, size, 3), level, np.uint8) for level in levels]


def white_pixels(*places: tuple[int, int], size: int = 64) -> np.ndarray:
    """A black frame with white pixels at some places (x, y)."""
    face = np.zeros((size, size, 3), np.uint8)
    for x, y in places:
        face[y, x] = 255
    return face
