"""Networks of tiny sizes in which every layer has an effect, and clips with faces in known places."""

import thread_limits  # noqa: F401  # isort: skip

from collections.abc import Callable

import numpy as np
import pytest
import torch

from keep_hf import Faces, GMFlow, KalmanGainNetwork, KeepPipeline, KeepVQModel
from keep_hf.faces.alignment import TEMPLATE, TEMPLATE_SIZE
from media import gradient


SIZE = 64  # of the crops that the tiny face model restores


def make_components(seed: int = 0) -> dict:
    """Return the networks of a pipeline with random weights."""
    torch.manual_seed(seed)
    components = {
        "vq": KeepVQModel(
            sample_size=SIZE,
            patch_size=2,
            block_out_channels=(16, 32),
            norm_num_groups=8,
            latent_channels=16,
            num_codes=32,
            transformer_channels=32,
            transformer_num_heads=2,
            transformer_num_layers=1,
            fusion_sizes=(16, 32),
            feature_update_sizes=(32,),
            cross_frame_sizes=(16,),
            cross_frame_num_heads=2,
            cross_frame_head_dim=8,
        ),
        "kalman": KalmanGainNetwork(
            latent_channels=16,
            num_heads=2,
            head_dim=8,
            num_uncertainty_layers=1,
            num_gain_layers=1,
            norm_num_groups=8,
        ),
        "flow": GMFlow(
            backbone_channels=(8, 8, 16),
            feature_channels=16,
            num_layers=2,
            feedforward_expansion=2,
            upsampler_channels=16,
        ),
    }
    # Layers that are initialized with zeros have no effect before training, and their errors would not be seen.
    with torch.no_grad():
        vq = components["vq"]
        for block in (vq.feature_fusion, vq.feature_update, vq.cross_frame):
            for parameter in block.parameters():
                parameter.normal_(std=0.1)
    return {name: component.eval() for name, component in components.items()}


class KnownFaces:
    """A detector for tests of other parts: the faces in every frame of a clip are known.

    After the last frame it starts again at the first one, so that a clip can be searched any number of times. There is
    no face in turned frames, which `SceneDetector` passes in one call with different sizes.
    """

    def __init__(self, clip: list[Faces]) -> None:
        self.clip = clip
        self.num_seen = 0

    def detect(self, frames: list[np.ndarray]) -> list[Faces]:
        if len({frame.shape for frame in frames}) > 1:
            return [make_faces() for _ in frames]
        found = [self.clip[(self.num_seen + i) % len(self.clip)] for i in range(len(frames))]
        self.num_seen += len(frames)
        return found


def make_faces(*places: tuple[int, int, int]) -> Faces:
    """Return faces whose aligned crops are the squares (left, top, side)."""
    landmarks = [np.array([(left, top)]) + TEMPLATE * side / TEMPLATE_SIZE for left, top, side in places]
    return Faces(
        np.array([(x, y, x + side, y + side) for x, y, side in places], np.float32).reshape(-1, 4),
        np.array(landmarks, np.float32).reshape(-1, 5, 2),
        np.full(len(places), 0.9, np.float32),
    )


def make_clip(num_frames: int, width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return moving gradients with a fixed texture, RGB, uint8, of shape (t, h, w, 3)."""
    texture = np.random.default_rng(seed).integers(-40, 40, (height, width, 3))
    images = np.stack([gradient(index, width, height) for index in range(num_frames)])
    return np.clip(images + texture, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def components() -> dict:
    return make_components()


@pytest.fixture
def make_pipe(components) -> Callable[..., KeepPipeline]:
    def make(*clip: Faces, **config) -> KeepPipeline:
        detector = KnownFaces(list(clip)) if clip else None
        pipe = KeepPipeline(**components | {"detector": detector} | config)
        pipe.set_progress_bar_config(disable=True)
        return pipe

    return make
